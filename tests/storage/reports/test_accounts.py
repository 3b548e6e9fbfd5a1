import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.storage import one_time_links as links
from proxy.storage import sign_ins, teams
from proxy.storage.one_time_links import Purpose
from proxy.storage.people import MEMBER, OWNER, add_person
from proxy.storage.reader import Reader
from proxy.storage.reports import accounts
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import NOW, seed

ANN, BOB = "ann@example.com", "bob@example.com"


def filled(connection: sqlite3.Connection) -> None:
    seed(connection)
    _, wallet = add_person(connection, ANN, "hash", "free", NOW, language="zh")
    add_person(connection, BOB, None, "free", NOW + 1, verified=True)
    teams.join(connection, 2, wallet.id, MEMBER, NOW + 2)
    sign_ins.open_session(connection, "a", 1, NOW, "192.0.2.1", "Firefox")
    sign_ins.open_session(connection, "b", 1, NOW + 5, None, None)
    links.add_token(connection, "verify", Purpose.VERIFY, 1, NOW, NOW + 60)
    for token, email, number in (("team", BOB, wallet.id), ("relay", None, None)):
        links.add_invitation(
            connection, token, email=email, wallet_id=number, role=OWNER, invited_by=1, now=NOW,
            expires_at=NOW + 60,
        )  # fmt: skip


def read(path: Path, test: Callable[[Reader], Awaitable[Any]]) -> None:
    connection = open_writer(path / "a.db", Durability.PROCESS, NOW)
    filled(connection)
    connection.close()

    async def run() -> None:
        reader = await Reader.open(path / "a.db")
        try:
            await test(reader)
        finally:
            await reader.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_who_signs_in_with_what(tmp_path: Path) -> None:
    async def test(reader: Reader) -> None:
        ann = await accounts.credentials(reader, ANN)
        assert ann == accounts.Credentials(1, ANN, "hash", True, None, "zh")
        assert await accounts.credentials_of(reader, 1) == ann
        assert await accounts.credentials(reader, "nobody@example.com") is None
        by = accounts.credentials_by_link
        assert await by(reader, "verify", Purpose.VERIFY, NOW) == ann
        assert await by(reader, "verify", Purpose.PASSWORD, NOW) is None
        assert await by(reader, "verify", Purpose.VERIFY, NOW + 60) is None

    read(tmp_path, test)


def test_sessions_members_and_invitations(tmp_path: Path) -> None:
    async def test(reader: Reader) -> None:
        found = await accounts.sessions(reader, 1, NOW + 6)
        assert [(row.id, row.agent) for row in found] == [("b", None), ("a", "Firefox")]
        assert await accounts.sessions(reader, 2, NOW) == []
        members = await accounts.members(reader, 3)
        assert [(row.email, row.role) for row in members] == [(ANN, OWNER), (BOB, MEMBER)]
        (team,) = await accounts.invitations(reader, 3, NOW)
        (relay,) = await accounts.invitations(reader, None, NOW)
        assert (team.email, relay.email) == (BOB, None)
        assert await accounts.invitations(reader, 3, NOW + 60) == []
        invited = await accounts.invited(reader, "team", NOW)
        assert invited == accounts.Invited(BOB, ANN, OWNER, ANN)
        assert await accounts.invited(reader, "never", NOW) is None

    read(tmp_path, test)


def test_people_are_listed_with_their_wallet_and_when_they_were_here(tmp_path: Path) -> None:
    async def test(reader: Reader) -> None:
        bob, ann = await accounts.people(reader, "", None, 50)
        assert (bob.email, bob.has_password, bob.seen_at) == (BOB, False, None)
        assert (ann.wallet, ann.has_password, ann.seen_at) == (ANN, True, NOW + 5)
        assert [row.email for row in await accounts.people(reader, " ANN", None, 50)] == [ANN]
        assert [row.email for row in await accounts.people(reader, "", bob.id, 1)] == [ANN]
        with pytest.raises(AssertionError):
            await accounts.people(reader, "", None, 0)

    read(tmp_path, test)
