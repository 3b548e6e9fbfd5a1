from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import runner, tokens
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions import tokens as actions
from proxy.core.actions.action import Actor, Role, Via
from tests.app.commands.office import Do, in_office

ANN = Actor(Role.USER, "ann@example.com", Via.CONSOLE, person=1)
BOSS = Actor(Role.ADMIN, "boss@example.com", Via.CONSOLE, person=2)


async def people(office: Office) -> None:
    for email in ("ann@example.com", "boss@example.com"):
        row = "INSERT INTO person (email, created_at) VALUES (?, 0)"
        await office.keeper.note(lambda c, e=email, r=row: c.execute(r, (e,)))  # type: ignore[misc]


def test_a_token_is_shown_once_and_has_at_most_its_persons_role(tmp_path: Path) -> None:
    async def test(_do: Do, office: Office) -> str:
        await people(office)

        async def ask(actor: Actor, command: str, **arguments: object) -> Any:
            return await runner.run(office, command, arguments, actor)

        made = await ask(ANN, "token add", name="robot", scopes=["keys:read"])
        assert made["token"].startswith("sa-")
        assert (made["role"], made["scopes"]) == ("user", ("keys:read",))
        with pytest.raises(CommandError) as refused:
            await ask(
                ANN, "token add", name="x", scopes=["keys:all"], role="operator", expires="soon"
            )
        assert refused.value.fields.keys() == {"scopes", "role", "expires"}
        for field, wrong in {"name": {"name": ""}, "expires": {"expires": "2001-01-01"}}.items():
            with pytest.raises(CommandError) as refused:
                await ask(ANN, "token add", **{"name": "x", "scopes": ["*:read"], **wrong})
            assert refused.value.fields.keys() == {field}
        lesser = await ask(
            BOSS, "token add", name="b", scopes=["*:read"], role="user", expires=None
        )
        assert (lesser["role"], lesser["expires"]) == ("user", None)
        assert [row["name"] for row in await ask(ANN, "token list", everybody=True)] == ["robot"]
        rows = await ask(BOSS, "token list", everybody=True)
        assert [(row["name"], row["person"]) for row in rows] == [
            ("b", "boss@example.com"), ("robot", "ann@example.com"),
        ]  # fmt: skip
        with pytest.raises(CommandError, match="there is no token 2"):
            await ask(ANN, "token revoke", number=2)
        await ask(BOSS, "token revoke", number=1)
        (row,) = await ask(ANN, "token list")
        assert row["good"] is False
        secret: str = made["token"]
        return secret

    secret = in_office(tmp_path, test)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file


def test_an_actor_with_scopes_does_what_they_permit(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann")
        robot = Actor(Role.ADMIN, "token 1", Via.API, scopes=("users:read", "keys:write"))
        await runner.run(office, "user list", {}, robot)
        await runner.run(office, "key add", {"user": "ann", "name": "k"}, robot)
        for command, arguments, scope in (
            ("user add", {"name": "x"}, "users:confirmed"),
            ("wallet credit", {"user": "ann", "amount": "1"}, "wallets:confirmed"),
        ):
            with pytest.raises(CommandError, match=f"lacks the scope {scope}"):
                await runner.run(office, command, arguments, robot)
        with pytest.raises(CommandError, match="unknown command"):
            await runner.run(office, "token add", {"name": "x", "scopes": ["*:read"]}, robot)

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert tokens.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
