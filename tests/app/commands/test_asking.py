import asyncio

import pytest
from msgspec import structs

from proxy.app.commands.asking import permit, refusing, understand
from proxy.app.control import CommandError
from proxy.core.actions.action import LOCAL, Actor, Role, Via
from proxy.core.actions.unfit import UnfitError

ROBOT = Actor(Role.ADMIN, "robot", Via.API, scopes=("keys:read",))
ANN = Actor(Role.USER, "ann@example.com", Via.API, person=1, scopes=("*:read",))


async def belongs(person: int, wallet: str) -> str | None:
    return {(1, "ann"): "owner", (1, "team"): "member"}.get((person, wallet))


def asked(actor: Actor, command: str, **arguments: object) -> Actor:
    action, given = understand(command, arguments, actor)
    return asyncio.run(permit(action, given, actor, belongs))


def test_a_role_a_scope_and_a_wallet_have_to_be_there() -> None:
    assert asked(LOCAL, "report margin") is LOCAL
    with pytest.raises(CommandError, match="lacks the scope reports:read"):
        asked(ROBOT, "report margin")
    with pytest.raises(CommandError, match="for the role operator"):
        asked(ANN, "report margin")
    with pytest.raises(CommandError, match="no wallet 'bob' of yours"):
        asked(ANN, "key list", user="bob")
    assert asked(ANN, "key list", user="ann").owner
    assert not asked(ANN, "key list", user="team").owner
    assert asked(structs.replace(ANN, scopes=None), "token list") is not None


def test_what_nobody_knows_and_what_is_the_consoles_own() -> None:
    with pytest.raises(CommandError, match="unknown command 'x'"):
        understand("x", {}, LOCAL)
    with pytest.raises(CommandError, match="unknown command"):
        understand("relay figures", {}, ROBOT)
    with pytest.raises(CommandError, match=r"Expected `int` <= 366 - at `\$.days`") as caught:
        understand("report margin", {"days": 367}, LOCAL)
    assert caught.value.remedy == "sluice report margin --help"


@pytest.mark.parametrize(
    ("error", "message", "fields"),
    [
        (UnfitError({"until": "no day"}), "no day", {"until": "no day"}),
        (ValueError("it cannot be; name another"), "it cannot be", {}),
        (OverflowError("int too big"), "report margin: a number is too large", {}),
    ],
)
def test_arguments_that_cannot_be_are_refused(
    error: Exception, message: str, fields: dict[str, str]
) -> None:
    with pytest.raises(CommandError) as caught, refusing("report margin"):
        raise error
    assert (caught.value.message, caught.value.fields) == (message, fields)
