from proxy.core.actions.action import Role
from proxy.core.actions.people import ACTIONS


def test_what_a_password_or_a_link_proves_is_asked_by_the_console_alone() -> None:
    inner = {action.name for action in ACTIONS if not action.exposed}
    assert inner == {
        "person register", "person verify", "person verify again", "person identify",
        "password forget", "password reset", "password set", "password rehash",
        "email change", "email confirm", "account delete",
    }  # fmt: skip
    assert all(action.role is Role.ADMIN for action in ACTIONS if not action.exposed)


def test_no_log_shows_a_hash_or_a_link() -> None:
    for action in ACTIONS:
        for field in action.arguments.__struct_fields__:
            if field in {"token", "password_hash", "earlier_password_hash"}:
                assert field in action.secrets, action.name


def test_who_changes_what_others_may_is_asked_for_a_password() -> None:
    named = {action.name for action in ACTIONS if action.step_up}
    assert {"person add", "person link", "person role", "person disable", "person delete"} <= named
