from proxy.core.actions.action import Role
from proxy.core.actions.notices import ACTIONS


def test_notices_are_raised_by_the_console_alone() -> None:
    assert all(action.role is Role.ADMIN and not action.exposed for action in ACTIONS)
