from proxy.core.actions.action import OfSelf, Role
from proxy.core.actions.sign_ins import ACTIONS


def test_people_end_their_own_sessions_and_begin_none() -> None:
    own = {action.name for action in ACTIONS if action.role is Role.USER}
    assert own == {"session revoke", "session revoke all"}
    for action in ACTIONS:
        assert issubclass(action.arguments, OfSelf) == (action.name in own) == action.exposed
