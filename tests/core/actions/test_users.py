from proxy.core.actions.action import Role
from proxy.core.actions.users import ACTIONS


def test_users_are_the_operators_business() -> None:
    assert {action.role for action in ACTIONS} == {Role.OPERATOR}
