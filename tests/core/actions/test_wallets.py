from proxy.core.actions.action import Role
from proxy.core.actions.wallets import ACTIONS


def test_only_the_operator_credits_a_wallet_and_is_asked_again() -> None:
    (credit,) = [action for action in ACTIONS if action.name == "wallet credit"]
    assert (credit.role, credit.step_up) == (Role.OPERATOR, True)
