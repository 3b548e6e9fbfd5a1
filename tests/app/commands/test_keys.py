import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import keys, runner
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions import keys as actions
from proxy.core.actions.action import Actor, Role, Via
from proxy.core.entities import Key
from proxy.storage import teams
from proxy.storage.secrets import key_digest, key_well_formed
from tests.app.commands.office import DOCUMENT, Do, in_office


def test_a_key_is_shown_once_and_only_its_digest_is_kept(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> str:
        await do("user add", name="ann")
        made = await do(
            "key add",
            user="ann",
            name="k",
            budget="3",
            expires="2030-01-31",
            models=["m"],
            networks=["10.0.0.0/8"],
            cache_seconds=60,
        )
        secret: str = made["key"]
        assert key_well_formed(secret)
        key = office.keeper.catalog.key(key_digest(office.secrets.pepper, secret))
        assert key is not None
        assert (key.budget, key.models) == (3_000_000_000, frozenset({"m"}))
        assert key.cache_seconds == 60
        (row,) = await do("key list", user="ann")
        assert row["expires"] == "2030-01-31T00:00:00Z"
        assert row["key"] == f"{secret[:8]}…{secret[-4:]}"
        disabled = await do("key disable", key="k")
        assert disabled["enabled"] is False
        assert not office.keeper.catalog.keys_by_id[made["id"]].enabled
        return secret

    secret = in_office(tmp_path, test)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert secret.encode() not in content, file
            assert b"upstream-secret-canary" not in content, file


def test_a_change_is_answered_when_it_has_spread(tmp_path: Path) -> None:
    async def test(_do: Do, office: Office) -> None:
        spread: list[int] = []
        told: list[str] = []

        async def everywhere(version: int) -> None:
            assert version == office.keeper.catalog.version
            await asyncio.sleep(0)
            spread.append(version)

        wide = replace(office, spread=everywhere)
        for command, arguments in (
            ("user add", {"name": "ann"}),
            ("key add", {"user": "ann", "name": "k"}),
            ("channel add", {"table": {**DOCUMENT["channel"][0], "name": "spare"}}),
            ("catalog apply", {"document": DOCUMENT, "force": True}),
            ("key disable", {"key": "k"}),
        ):
            await runner.run(wide, command, arguments)
            told.append(command)
            assert len(spread) == len(told), command
        assert spread == sorted({*spread})
        await runner.run(wide, "key list", {})
        assert len(spread) == len(told)

    in_office(tmp_path, test)


EVE = Actor(Role.USER, "eve@example.com", Via.CONSOLE, person=2)
OWNER = Actor(Role.USER, "ann@example.com", Via.CONSOLE, person=1)


def team(connection: sqlite3.Connection) -> None:
    """Ann owns the wallet `ann`, Eve is a member of it."""
    for at, (email, role) in enumerate(
        (("ann@example.com", "owner"), ("eve@example.com", "member"))
    ):
        connection.execute("INSERT INTO person (email, created_at) VALUES (?, 0)", (email,))
        connection.execute("INSERT INTO membership VALUES (?, 1, ?, 0)", (at + 1, role))


def test_a_key_is_changed_rotated_and_removed(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann")
        made = await do("key add", user="ann", name="k", budget="3", budget_period="daily")
        pepper, number = office.secrets.pepper, str(made["id"])

        def opens(secret: str) -> Key | None:
            return office.keeper.catalog.key(key_digest(pepper, secret))

        seen = await do("key set", key=number, name="den", concurrency=2, expires="2d")
        assert (seen["name"], seen["concurrency"], seen["budget_usd"]) == ("den", 2, "3.00")
        assert (seen["left_usd"], seen["period"]) == ("3.00", "daily")
        cleared = await do("key set", key="den", budget=None, expires=None)
        assert (cleared["budget_usd"], cleared["left_usd"], cleared["expires"]) == (None,) * 3
        assert cleared["concurrency"] == 2
        assert (await do("key disable", key="den"))["enabled"] is False
        assert (await do("key enable", key="den"))["enabled"] is True
        lent = await do("key lend", key="den", seconds=60)
        rotated = await do("key rotate", key="den", grace="1h")
        shown = await do("key show", key="den")
        assert shown["old_until"] == rotated["old_until"] is not None
        secrets = [made["key"], lent["key"], rotated["key"]]
        assert {one.id for secret in secrets if (one := opens(secret))} == {made["id"]}
        assert len({*secrets}) == 3
        last = await do("key rotate", key="den")
        assert last["old_until"] is None
        assert [opens(secret) for secret in secrets] == [None] * 3
        assert opens(last["key"])
        assert (await do("key remove", key="den"))["removed"] is True
        assert opens(last["key"]) is None
        assert await do("key list") == []
        log = "SELECT arguments FROM audit WHERE action = 'key set' ORDER BY id"
        told = await office.read(lambda c: c.execute(log).fetchall())
        assert told[1] == ('{"key":"den","expires":null,"budget":null}',)

    in_office(tmp_path, test)


@pytest.mark.parametrize(
    ("command", "arguments", "fields"),
    [
        ("key add", {"name": "b", "budget": "x", "expires": "soon"}, {"budget", "expires"}),
        ("key add", {"name": "b", "group": "gold", "networks": ["x"]}, {"group", "networks"}),
        (
            "key set",
            {"key": "k", "models": ["nope"], "expires": "2001-01-01"},
            {"models", "expires"},
        ),
        ("key rotate", {"key": "k", "grace": "8d"}, {"grace"}),
        ("key rotate", {"key": "k", "grace": "long"}, {"grace"}),
        ("key lend", {"key": "k", "seconds": 3601}, {"seconds"}),
    ],
)
def test_a_refusal_names_the_fields(
    tmp_path: Path, command: str, arguments: dict[str, object], fields: set[str]
) -> None:
    async def test(do: Do, _office: Office) -> None:
        await do("user add", name="ann")
        await do("key add", user="ann", name="k")
        with pytest.raises(CommandError) as refused:
            await do(command, user="ann", **arguments)
        assert refused.value.fields.keys() == fields

    in_office(tmp_path, test)


CHANGES: list[tuple[str, dict[str, object]]] = [
    ("key show", {}),
    ("key set", {"name": "mine"}),
    ("key disable", {}),
    ("key enable", {}),
    ("key rotate", {}),
    ("key lend", {}),
    ("key remove", {}),
]


def test_members_have_their_own_keys_and_owners_all(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann")
        await do("user add", name="bob")
        await office.keeper.note(team)
        foreign = await do("key add", user="bob", name="of bob")

        async def ask(actor: Actor, command: str, **arguments: object) -> Any:
            return await runner.run(office, command, {"user": "ann", **arguments}, actor)

        hers = await ask(OWNER, "key add", name="hers")
        mine = await ask(EVE, "key add", name="mine")
        assert [row["name"] for row in await ask(EVE, "key list")] == ["mine"]
        assert [row["name"] for row in await ask(OWNER, "key list")] == ["hers", "mine"]
        before = await do("key list")
        for command, more in CHANGES:
            words = set()
            for other in (str(hers["id"]), "hers", str(foreign["id"]), "of bob", "99"):
                with pytest.raises(CommandError, match="there is no key") as refused:
                    await ask(EVE, command, key=other, **more)
                words.add(refused.value.message.replace(repr(other), "*"))
            assert len(words) == 1, "nobody learns of keys of others"
            with pytest.raises(CommandError, match="there is no wallet 'bob' of yours"):
                await ask(EVE, command, key="of bob", **more, user="bob")
        assert await do("key list") == before
        for actor in (EVE, OWNER):
            for command, more in CHANGES[:-1]:
                await ask(actor, command, key=str(mine["id"]), **more)
        assert (await do("key show", key="mine"))["person"] == "eve@example.com"
        await ask(EVE, "key remove", key="mine")

    in_office(tmp_path, test)


def test_people_have_a_bounded_number_of_keys_in_groups_of_their_plan(
    tmp_path: Path,
) -> None:
    async def test(do: Do, made: Office) -> None:
        office = replace(made, keys_per_person_max=1)
        narrow = {"plan": [{"name": "paygo", "groups": ["vip"]}]}
        both = [{"name": "default"}, {"name": "vip"}]
        await do("catalog apply", document={**DOCUMENT, **narrow, "group": both}, force=True)
        await do("user add", name="ann")
        await office.keeper.note(team)
        with pytest.raises(CommandError, match="your plan is not for the group 'default'"):
            await runner.run(office, "key add", {"user": "ann", "name": "a"}, OWNER)
        await runner.run(office, "key add", {"user": "ann", "name": "a", "group": "vip"}, OWNER)
        with pytest.raises(CommandError, match="no more are allowed"):
            await runner.run(office, "key add", {"user": "ann", "name": "b", "group": "vip"}, OWNER)
        await do("key add", user="ann", name="b")
        with pytest.raises(CommandError, match="your plan"):
            await runner.run(
                office, "key set", {"user": "ann", "key": "a", "group": "default"}, OWNER
            )
        assert (await do("key set", key="a", group="default"))["group"] == "default"
        exported = await do("catalog export")
        assert exported["plan"] == narrow["plan"]
        unknown = {"plan": [{"name": "paygo", "groups": ["gold"]}]}
        with pytest.raises(CommandError, match="the group 'gold', which does not exist"):
            await do("catalog apply", document={**DOCUMENT, **unknown}, force=True)

    in_office(tmp_path, test)


def test_a_group_goes_when_only_deleted_keys_had_it(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        both = [{"name": "default"}, {"name": "vip"}]
        await do("catalog apply", document={**DOCUMENT, "group": both}, force=True)
        await do("user add", name="ann")
        await do("key add", user="ann", name="a", group="vip")
        with pytest.raises(CommandError, match="group 'vip' cannot be removed"):
            await do("catalog apply", document=DOCUMENT, force=True)
        await do("key remove", key="a")
        await do("catalog apply", document=DOCUMENT, force=True)

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert keys.HANDLERS.keys() == {action.name for action in actions.ACTIONS}


def test_what_somebody_above_disabled_is_not_enabled_from_below(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        for email in ("ann@example.com", "bob@example.com"):
            await do("person add", email=email)
        ann = Actor(Role.USER, "ann", Via.CONSOLE, person=1)
        bob = Actor(Role.USER, "bob", Via.CONSOLE, person=2)
        operator = Actor(Role.OPERATOR, "op", Via.CONSOLE, person=3)

        async def run(actor: Actor, action: str, **given: object) -> Any:
            return await runner.run(office, action, {"user": "team", **given}, actor)

        await runner.run(office, "team create", {"name": "team"}, ann)
        (wallet,) = [
            each.id for each in office.keeper.catalog.users.values() if each.name == "team"
        ]
        await office.keeper.note(lambda c: teams.join(c, 2, wallet, "member", 1.0))
        made = await run(bob, "key add", name="of bob")
        named = {"key": str(made["id"])}
        assert (await run(bob, "key disable", **named))["enabled"] is False
        assert (await run(bob, "key enable", **named))["enabled"] is True, "it was their own doing"
        await run(ann, "key disable", **named)
        await run(bob, "key disable", **named)
        with pytest.raises(CommandError, match="an owner of this wallet disabled this key"):
            await run(bob, "key enable", **named)
        assert (await run(ann, "key enable", **named))["enabled"] is True
        await run(operator, "key disable", **named)
        for below in (ann, bob):
            await run(below, "key disable", **named)
            with pytest.raises(CommandError, match="an operator disabled this key"):
                await run(below, "key enable", **named)
        assert (await run(operator, "key enable", **named))["enabled"] is True
        assert (await run(bob, "key disable", **named))["enabled"] is False
        assert (await run(bob, "key enable", **named))["enabled"] is True, "nothing is left of it"

    in_office(tmp_path, test)


def test_nobody_breaks_the_list_of_keys_by_an_expiry(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        await do("user add", name="ann")
        for number, expires in enumerate(("99999999d", "9999-12-31T23:59:59-01:00")):
            with pytest.raises(CommandError, match="is after the year 9999"):
                await do("key add", user="ann", name=f"k{number}", expires=expires)
        assert await do("key list") == []

    in_office(tmp_path, test)
