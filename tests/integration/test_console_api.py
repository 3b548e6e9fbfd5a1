"""Every action asked for over the admin API with every kind of token: who is let in is said here.

`CONFIRMED` names what must never be done with less than a confirmed token, money, rights, prices
and secrets, apart from the table of actions; for the rest a look is a look and a change is a change. What is denied
changes no row.
"""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.core.actions.action import Action, OfSelf, Role
from proxy.core.actions.table import ACTIONS
from proxy.edge.console.rates import Rates
from tests.edge.console.consoles import Browser, World, in_console
from tests.integration.test_console_actions import required, rows_of

CONFIRMED = frozenset(
    {
        "wallet credit", "wallet refund", "wallet adjust", "code make",  # money
        "price set", "price import", "price withdraw", "plan set", "group set",  # prices
        "person role", "person add", "person link", "person disable", "person delete",  # rights
        "channel add", "channel set", "channel key add", "catalog apply",  # secrets
    }
)  # fmt: skip
DOMAINS_OF_ONE = {"keys": "key ", "wallets": "wallet ", "channels": "channel "}


@dataclass(frozen=True, slots=True)
class Token:
    """A kind of token: whose role it has, and what it is for."""

    role: Role
    scope: str

    @property
    def named(self) -> str:
        return f"{self.role.value} {self.scope}"

    def opens(self, action: Action) -> bool:
        """Whether this test expects the token to be enough."""
        domain, _, level = self.scope.partition(":")
        if not action.exposed or not self.role.covers(action.role):
            return False
        if domain != "*" and not action.name.startswith(DOMAINS_OF_ONE[domain]):
            return False
        if action.step_up or action.name in CONFIRMED:
            return level == "confirmed"
        return level in {"write", "confirmed"} if action.audited else True


TOKENS = (
    Token(Role.ADMIN, "*:read"),
    Token(Role.ADMIN, "*:write"),
    Token(Role.ADMIN, "keys:confirmed"),
    Token(Role.ADMIN, "wallets:read"),
    Token(Role.OPERATOR, "*:confirmed"),
    Token(Role.OPERATOR, "channels:write"),
    Token(Role.USER, "*:confirmed"),
    Token(Role.USER, "*:read"),
)


async def rows(world: World) -> dict[str, list[str]]:
    await world.do("ledger flush")
    return await asyncio.to_thread(rows_of, world.surroundings.database)


async def ask(who: Browser, token: str, action: Action, **given: object) -> tuple[int, str]:
    path = "/api/v1/actions/" + action.name.replace(" ", "-")
    body = io.BytesIO(json.dumps({**required(action.arguments), **given}).encode())
    said = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    page = await who.ask("POST", path, body, said, follow=False)
    return page.status, page.text


async def bearer(world: World, kind: Token) -> str:
    """A token of that kind; a user's is of ann, who owns the wallet `ann`."""
    person = await world.person(f"{kind.role.value}@example.com", kind.role.value, "ann")
    made = await world.do("token add", name="t", scopes=[kind.scope], role=kind.role.value)
    await world.office.keeper.note(
        lambda c: c.execute("UPDATE api_token SET person_id = ?", (person,))
    )
    return str(made["token"])


@pytest.fixture(autouse=True)
def as_often_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """How often may be asked is tested elsewhere; here tokens of all worlds have the same number."""
    monkeypatch.setattr(Rates, "take", lambda *_: None)


def in_api(tmp_path: Path, test: Callable[[World], Awaitable[None]]) -> None:
    in_console(tmp_path, test)


@pytest.mark.parametrize("kind", TOKENS, ids=lambda kind: kind.named)
def test_a_token_opens_what_it_is_for_and_nothing_else(tmp_path: Path, kind: Token) -> None:
    async def test(world: World) -> None:
        who, token = world.stranger(), await bearer(world, kind)
        await world.do("user add", name="bob", credit="5")
        before = await rows(world)
        for action in ACTIONS.values():
            if not kind.opens(action):
                status, told = await ask(who, token, action)
                wanted = {403} if action.exposed else {404}
                assert status in wanted, (action.name, status, told)
        assert await rows(world) == before, "what was denied changed something"
        for action in ACTIONS.values():
            if kind.opens(action) and not action.audited:
                status, told = await ask(who, token, action)
                assert status in {200, 422}, (action.name, status, told)

    in_api(tmp_path, test)


def test_a_users_token_is_for_their_own_wallet(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        who = world.stranger()
        token = await bearer(world, Token(Role.USER, "*:confirmed"))
        await world.do("user add", name="bob", credit="5")
        before = await rows(world)
        for action in ACTIONS.values():
            if action.role is Role.USER and action.exposed:
                if issubclass(action.arguments, OfSelf):
                    continue
                status, told = await ask(who, token, action, user="bob")
                assert (status, "there is no wallet" in told) == (422, True), (action.name, told)
        assert await rows(world) == before

    in_api(tmp_path, test)


@pytest.mark.parametrize(
    "header",
    [
        "", "Bearer", "Bearer ", "Bearer sa-", "Basic YTpi", "Bearer x", "Bearer " + "x" * 5000,
        "Bearer sa-" + "0" * 40, "bearer\tsa-x", "Token sa-x",
    ],
)  # fmt: skip
def test_what_is_no_token_opens_nothing(tmp_path: Path, header: str) -> None:
    async def test(world: World) -> None:
        who = world.stranger()
        said = {"authorization": header} if header else {}
        page = await who.ask("POST", "/api/v1/actions/user-list", io.BytesIO(b"{}"), said)
        assert page.status == 401
        assert page.headers["www-authenticate"].startswith("Bearer")
        assert "balance" not in page.text

    in_api(tmp_path, test)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE api_token SET revoked_at = 1",
        "UPDATE api_token SET expires_at = 1",
        "UPDATE person SET enabled = 0",
    ],
)
def test_a_token_that_is_over_opens_nothing(tmp_path: Path, change: str) -> None:
    async def test(world: World) -> None:
        who, token = world.stranger(), await bearer(world, Token(Role.ADMIN, "*:confirmed"))
        assert (await ask(who, token, ACTIONS["user list"]))[0] == 200
        await world.office.keeper.note(lambda c: c.execute(change))
        assert (await ask(who, token, ACTIONS["user list"]))[0] == 401

    in_api(tmp_path, test)


def test_a_token_falls_with_its_persons_role(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        who, token = world.stranger(), await bearer(world, Token(Role.ADMIN, "*:confirmed"))
        await world.office.keeper.note(lambda c: c.execute("UPDATE person SET role = 'user'"))
        assert (await ask(who, token, ACTIONS["user list"]))[0] == 403

    in_api(tmp_path, test)
