from proxy.core.actions.action import Role
from proxy.core.actions.plans import ACTIONS


def test_people_choose_and_operators_make_plans() -> None:
    roles = {action.name: action.role for action in ACTIONS}
    assert [name for name, role in roles.items() if role is Role.USER] == ["plan choose"]
    assert {action.name for action in ACTIONS if action.step_up} == {"plan set", "plan remove"}
