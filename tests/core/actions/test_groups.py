from proxy.core.actions.action import Role
from proxy.core.actions.groups import ACTIONS


def test_groups_have_prices_in_them() -> None:
    assert {action.name for action in ACTIONS if action.step_up} == {"group set", "group remove"}
    assert all(action.role is not Role.USER for action in ACTIONS)
