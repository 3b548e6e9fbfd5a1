from msgspec import UNSET, convert

from proxy.core.actions.action import Role
from proxy.core.actions.keys import ACTIONS, KeySet


def test_people_look_after_their_own_keys() -> None:
    names = {action.name for action in ACTIONS if action.role is Role.USER}
    assert names == {action.name for action in ACTIONS}


def test_what_is_left_out_is_not_what_is_null() -> None:
    assert convert({"key": "1"}, KeySet).budget is UNSET
    assert convert({"key": "1", "budget": None}, KeySet).budget is None
