from proxy.core.actions.action import OfSelf, Role
from proxy.core.actions.teams import ACTIONS


def test_teams_are_their_members_own() -> None:
    assert all(action.role is Role.USER and action.exposed for action in ACTIONS)
    without = {action.name for action in ACTIONS if issubclass(action.arguments, OfSelf)}
    assert without == {"team create", "team join"}
