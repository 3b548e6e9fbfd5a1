"""Every action asked for by everybody who might, as the console and the admin API ask the keeper.

Whatever page or script stands before it: here is decided who may. An action for a role is refused
to every lesser one; one on a wallet, to whoever does not belong to it; and what is named in it, a
key or an invitation, is looked for in that wallet alone. What is refused changes nothing.
"""

import asyncio
import enum
import sqlite3
import types
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.app.commands import runner
from proxy.app.control import CommandError
from proxy.core.actions.action import Action, Actor, OfSelf, Role, Via
from proxy.core.actions.table import ACTIONS
from tests.app.commands.office import DOCUMENT
from tests.edge.console.consoles import World, in_console

ROLES = tuple(Role)
OF_A_WALLET = tuple(
    action
    for action in ACTIONS.values()
    if action.role is Role.USER and not issubclass(action.arguments, OfSelf)
)
OWNERS_ONLY = ("team invite", "team remove", "team revoke", "team role")
"""What a member of a wallet may not do with it, and its owner may."""
KEY_ACTIONS = tuple(action.name for action in OF_A_WALLET if action.name.startswith("key "))
NO_WALLET = "there is no wallet"


@dataclass(frozen=True, slots=True)
class Cast:
    """Ann owns the wallet `ann`, mia belongs to it, bob has another one, `bob`."""

    world: World
    ids: dict[str, int]
    ann_key: int
    ann_invitation: int

    def actor(self, name: str, role: Role = Role.USER, via: Via = Via.CONSOLE) -> Actor:
        return Actor(role, f"{name}@example.com", via, person=self.ids.get(name))

    async def ask(self, actor: Actor, command: str, **arguments: object) -> Any:
        if command in ACTIONS and ACTIONS[command].report:
            return await self.world.reporter.make(command, arguments, actor)
        return await runner.run(self.world.office, command, arguments, actor)

    async def refused(self, actor: Actor, command: str, **arguments: object) -> str:
        """Ask for what must be refused and must change nothing; the reason."""
        before = await self.rows()
        with pytest.raises(CommandError) as caught:
            await self.ask(actor, command, **arguments)
        assert await self.rows() == before, f"{command} was refused and changed something"
        return caught.value.message

    async def rows(self) -> dict[str, list[str]]:
        """Every row of every table but the audit log, which notes refusals too."""
        await self.world.do("ledger flush")
        return await asyncio.to_thread(rows_of, self.world.surroundings.database)


def rows_of(database: Path) -> dict[str, list[str]]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        names = {name for (name,) in tables} - {"audit"}
        return {
            name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}"))) for name in names
        }
    finally:
        connection.close()


def with_cast(tmp_path: Path, test: Callable[[Cast], Awaitable[None]]) -> None:
    async def run(world: World) -> None:
        ids = {
            "ann": await world.person("ann@example.com", wallet="ann"),
            "mia": await world.person("mia@example.com", wallet="ann", rank="member"),
            "bob": await world.person("bob@example.com", wallet="bob"),
        }
        key = await world.do("key add", user="ann", name="of-ann")
        await world.do("key add", user="bob", name="of-bob")
        invitation = await world.do("team invite", user="ann", email="new@example.com")
        number = invitation.get("id", invitation.get("invitation"))
        await test(Cast(world, ids, int(key["id"]), int(number)))

    in_console(tmp_path, run)


def value_of(kind: Any) -> object:
    """Something that an argument of this type takes."""
    origin = typing.get_origin(kind)
    if origin in {types.UnionType, typing.Union}:
        return value_of(typing.get_args(kind)[0])
    if origin is typing.Literal:
        return typing.get_args(kind)[0]
    if origin in {dict, list, tuple} or kind in {dict, list, tuple}:
        return {} if origin is dict or kind is dict else []
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind)).value
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return required(kind)
    return {str: "x", int: 1, float: 1.0, bool: True}.get(kind, "x")


def required(arguments: type[msgspec.Struct]) -> dict[str, object]:
    """Arguments of which only those stand here that must."""
    hints = typing.get_type_hints(arguments)
    return {
        field.name: value_of(hints[field.name])
        for field in msgspec.structs.fields(arguments)
        if field.required
    }


def test_an_action_is_refused_to_every_lesser_role(tmp_path: Path) -> None:
    async def test(cast: Cast) -> None:
        for action in ACTIONS.values():
            for role in ROLES:
                if role.covers(action.role):
                    continue
                for via in (Via.CONSOLE, Via.API):
                    reason = await cast.refused(
                        cast.actor("bob", role, via), action.name, **required(action.arguments)
                    )
                    hidden = via is Via.API and not action.exposed
                    wanted = "unknown command" if hidden else f"for the role {action.role.value}"
                    assert wanted in reason, action.name

    with_cast(tmp_path, test)


def test_what_is_not_exposed_does_not_exist_for_the_admin_api(tmp_path: Path) -> None:
    async def test(cast: Cast) -> None:
        hidden = [action for action in ACTIONS.values() if not action.exposed]
        assert hidden
        for action in hidden:
            reason = await cast.refused(
                cast.actor("bob", Role.ADMIN, Via.API), action.name, **required(action.arguments)
            )
            assert "unknown command" in reason

    with_cast(tmp_path, test)


@pytest.mark.parametrize("wallet", ["ann", "nobody"])
def test_a_wallet_of_others_does_not_exist(tmp_path: Path, wallet: str) -> None:
    async def test(cast: Cast) -> None:
        for action in OF_A_WALLET:
            fields = {field.name for field in msgspec.structs.fields(action.arguments)}
            assert "user" in fields, f"{action.name} is for everybody and names no wallet"
            given = {**required(action.arguments), "user": wallet}
            if "key" in fields:
                given["key"] = str(cast.ann_key)
            for who in ("bob", "nobody"):
                reason = await cast.refused(cast.actor(who), action.name, **given)
                assert NO_WALLET in reason, (action.name, reason)

    with_cast(tmp_path, test)


def test_an_action_on_a_wallet_that_names_none_is_refused(tmp_path: Path) -> None:
    async def test(cast: Cast) -> None:
        for action in OF_A_WALLET:
            field = next(
                one for one in msgspec.structs.fields(action.arguments) if one.name == "user"
            )
            if not field.required:
                given = required(action.arguments)
                assert NO_WALLET in await cast.refused(cast.actor("bob"), action.name, **given)

    with_cast(tmp_path, test)


@pytest.mark.parametrize("command", KEY_ACTIONS)
def test_a_key_of_another_wallet_is_not_found_from_ones_own(tmp_path: Path, command: str) -> None:
    """`key=<id of ann's>` with bob's own wallet, by id and by name."""

    async def test(cast: Cast) -> None:
        if "key" not in required(ACTIONS[command].arguments):
            return
        for name in (str(cast.ann_key), "of-ann"):
            given = {**required(ACTIONS[command].arguments), "user": "bob", "key": name}
            reason = await cast.refused(cast.actor("bob"), command, **given)
            assert "no key" in reason, reason

    with_cast(tmp_path, test)


@pytest.mark.parametrize("command", KEY_ACTIONS)
def test_a_member_reaches_no_key_that_somebody_else_made(tmp_path: Path, command: str) -> None:
    async def test(cast: Cast) -> None:
        if "key" not in required(ACTIONS[command].arguments):
            return
        for name in (str(cast.ann_key), "of-ann"):
            given = {**required(ACTIONS[command].arguments), "user": "ann", "key": name}
            reason = await cast.refused(cast.actor("mia"), command, **given)
            assert "no key" in reason, reason

    with_cast(tmp_path, test)


def test_a_member_sees_the_keys_and_calls_they_made_and_no_other(tmp_path: Path) -> None:
    async def test(cast: Cast) -> None:
        made = await cast.ask(cast.actor("mia"), "key add", user="ann", name="of-mia")
        seen = await cast.ask(cast.actor("mia"), "key list", user="ann")
        assert [one["id"] for one in seen] == [made["id"]]
        assert len(await cast.ask(cast.actor("ann"), "key list", user="ann")) == 2
        assert len(await cast.ask(cast.actor("bob"), "key list", user="bob")) == 1

    with_cast(tmp_path, test)


@pytest.mark.parametrize("command", OWNERS_ONLY)
def test_a_member_does_not_rule_the_team(tmp_path: Path, command: str) -> None:
    async def test(cast: Cast) -> None:
        given = required(ACTIONS[command].arguments) | {"user": "ann"}
        if "email" in given:
            given["email"] = "ann@example.com"
        if "invitation" in given:
            given["invitation"] = cast.ann_invitation
        await cast.refused(cast.actor("mia"), command, **given)

    with_cast(tmp_path, test)


def test_an_invitation_of_another_team_is_not_found_from_ones_own(tmp_path: Path) -> None:
    async def test(cast: Cast) -> None:
        await cast.refused(
            cast.actor("bob"), "team revoke", user="bob", invitation=cast.ann_invitation
        )
        for command in ("team remove", "team role"):
            given = required(ACTIONS[command].arguments) | {"email": "mia@example.com"}
            await cast.refused(cast.actor("bob"), command, **given | {"user": "bob"})

    with_cast(tmp_path, test)


def test_the_least_role_of_what_moves_money_or_rights_is_said_here_again() -> None:
    """Apart from the table, so that a slip in it is seen."""
    for name in (
        "person add",
        "person role",
        "person disable",
        "person delete",
        "person link",
        "ledger rollup",
    ):
        assert ACTIONS[name].role is Role.ADMIN, name
    for name in ("wallet credit", "wallet refund", "wallet adjust", "code make", "price set"):
        assert ACTIONS[name].role.covers(Role.OPERATOR), name
    asked_again = [action.name for action in ACTIONS.values() if action.step_up]
    for name in (
        "wallet credit", "wallet refund", "wallet adjust", "code make", "price set", "person role",
        "price import", "channel add", "channel key add", "catalog apply",
    ):  # fmt: skip
        assert name in asked_again, f"{name} is done without the password"
    assert not [one for one in OF_A_WALLET if one.step_up]


def test_upstream_keys_are_told_to_nobody(tmp_path: Path) -> None:
    """The catalog of these tests has one; no listing, export or log of actions shows it."""
    (secret,) = DOCUMENT["channel"][0]["keys"]

    async def test(cast: Cast) -> None:
        admin = cast.actor("ann", Role.ADMIN)
        for name in ("catalog export", "channel list", "audit list"):
            told = await cast.ask(admin, name, **required(ACTIONS[name].arguments))
            assert secret not in repr(told), name
        shown = await cast.ask(admin, "channel show", name="main")
        assert secret not in repr(shown)
        for one in await asyncio.to_thread(log_of, cast.world.surroundings.database):
            assert secret not in one

    with_cast(tmp_path, test)


def log_of(database: Path) -> list[str]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return [repr(row) for row in connection.execute("SELECT * FROM audit")]
    finally:
        connection.close()


def test_what_a_log_must_not_show_is_named_as_an_argument() -> None:
    """A slip of the pen in `secrets` would be a secret in the log."""

    def fields(action: Action) -> set[str]:
        return {field.name for field in msgspec.structs.fields(action.arguments)}

    for action in ACTIONS.values():
        assert action.secrets <= fields(action), action.name
        loose = fields(action) & {"token", "password", "password_hash", "code", "secret", "keys"}
        assert loose <= action.secrets or not action.audited, f"{action.name} logs {loose}"
