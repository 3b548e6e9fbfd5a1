from proxy.core.actions.action import Role
from proxy.core.actions.keys import ACTIONS


def test_people_look_after_their_own_keys() -> None:
    names = {action.name for action in ACTIONS if action.role is Role.USER}
    assert {"key add", "key list", "key disable"} <= names
