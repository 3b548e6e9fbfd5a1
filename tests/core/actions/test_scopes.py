import pytest

from proxy.core.actions.scopes import SCOPES_MAX, Level, check_scopes, level_of, permits, scope_of
from proxy.core.actions.table import ACTIONS

LOOK, CHANGE, CREDIT = ACTIONS["key list"], ACTIONS["key set"], ACTIONS["wallet credit"]


def test_levels_rise_with_what_an_action_does() -> None:
    assert [level_of(one) for one in (LOOK, CHANGE, CREDIT)] == list(Level)
    assert scope_of(CHANGE) == "keys:write"
    assert scope_of(CREDIT) == "wallets:confirmed"


@pytest.mark.parametrize(
    ("scopes", "look", "change", "credit"),
    [
        ((), False, False, False),
        (("keys:read",), True, False, False),
        (("keys:write",), True, True, False),
        (("keys:confirmed",), True, True, False),
        (("wallets:write",), False, False, False),
        (("*:read", "wallets:confirmed"), True, False, True),
        (("*:confirmed",), True, True, True),
        (("keys:", "keys", ":write", "keys:all", "*"), False, False, False),
    ],
)
def test_a_scope_permits_its_domain_up_to_its_level(
    scopes: tuple[str, ...], look: bool, change: bool, credit: bool
) -> None:
    assert [permits(scopes, one) for one in (LOOK, CHANGE, CREDIT)] == [look, change, credit]


def test_scopes_are_named_as_they_are() -> None:
    assert check_scopes(("keys:read", "*:write", "keys:read")) == ("keys:read", "*:write")
    for wrong in ((), ("keys",), ("nothing:read",), ("keys:all",), ("*",)):
        with pytest.raises(ValueError, match=r"scope"):
            check_scopes(wrong)
    with pytest.raises(ValueError, match=f"1 to {SCOPES_MAX} scopes"):
        check_scopes([f"keys:{number}" for number in range(SCOPES_MAX + 1)])
