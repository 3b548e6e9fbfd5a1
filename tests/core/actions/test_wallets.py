from proxy.core.actions.action import Role
from proxy.core.actions.wallets import ACTIONS


def test_only_the_operator_credits_a_wallet_and_is_asked_again() -> None:
    (credit,) = [action for action in ACTIONS if action.name == "wallet credit"]
    assert (credit.role, credit.step_up) == (Role.OPERATOR, True)


def test_whatever_moves_money_asks_again() -> None:
    moving = {action.name for action in ACTIONS if action.step_up}
    assert moving == {"wallet credit", "wallet refund", "wallet adjust"}
    assert all(action.role is Role.OPERATOR for action in ACTIONS if action.step_up)
