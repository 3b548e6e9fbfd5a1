from proxy.core.actions.action import Role
from proxy.core.actions.payments import ACTIONS


def test_what_a_provider_says_is_no_part_of_the_admin_api() -> None:
    exposed = {action.name for action in ACTIONS if action.exposed}
    assert exposed == {"payment list", "payment notes"}
    inner = {action.name: action.role for action in ACTIONS if not action.exposed}
    assert inner["payment said"] is inner["payment open"] is Role.ADMIN
