from proxy.core.actions.action import Role
from proxy.core.actions.catalog import ACTIONS


def test_no_log_shows_a_table_with_upstream_keys() -> None:
    hidden = {action.name: action.secrets for action in ACTIONS if action.secrets}
    assert hidden["catalog apply"] == {"document"}
    assert all(action.role is not Role.USER for action in ACTIONS)
