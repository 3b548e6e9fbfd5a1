from proxy.core.actions.action import Role
from proxy.core.actions.models import ACTIONS


def test_prices_are_changed_behind_a_password() -> None:
    assert {action.name for action in ACTIONS if action.step_up} == {
        "model remove",
        "price set",
        "price withdraw",
        "price import",
    }
    assert all(action.role is not Role.USER for action in ACTIONS)
