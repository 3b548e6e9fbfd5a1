from proxy.core.actions.action import Role
from proxy.core.actions.channels import ACTIONS


def test_secrets_go_into_channels_behind_a_password_and_into_no_log() -> None:
    by_name = {action.name: action for action in ACTIONS}
    assert by_name["channel key add"].secrets == {"secret"}
    assert by_name["channel add"].secrets == {"table"}
    assert by_name["channel set"].secrets == {"proxy"}
    assert {action.name for action in ACTIONS if not action.step_up} == {
        "channel list",
        "channel test",
        "channel show",
        "channel switch",
    }
    assert all(action.role is not Role.USER for action in ACTIONS)
