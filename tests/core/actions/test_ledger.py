from proxy.core.actions.action import Role
from proxy.core.actions.ledger import ACTIONS


def test_detail_leaves_only_for_an_admin() -> None:
    roles = {action.name: action.role for action in ACTIONS}
    assert roles["ledger rollup"] is Role.ADMIN
