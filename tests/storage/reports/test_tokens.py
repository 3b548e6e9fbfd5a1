import asyncio
import sqlite3
from pathlib import Path

import pytest

from proxy.core.actions.action import Role
from proxy.storage.reader import Reader
from proxy.storage.reports.tokens import Bearer, find, tokens
from proxy.storage.sqlite import Durability, open_writer
from proxy.storage.tokens import NewToken, add_token
from tests.storage.world import NOW

SCOPES = ("keys:read",)


def bearer(path: Path, digest: bytes, now: float = NOW) -> Bearer | None:
    async def run() -> Bearer | None:
        reader = await Reader.open(path)
        try:
            assert len(await tokens(reader, 1)) == 1
            assert len(await tokens(reader, None, everybody=True)) == 2
            return await find(reader, digest, now)
        finally:
            await reader.close()

    return asyncio.run(asyncio.wait_for(run(), 20))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.db"
    connection = open_writer(path, Durability.PROCESS, NOW)
    connection.execute(
        "INSERT INTO person (email, role, created_at) VALUES ('ann@example.com', 'operator', 0)"
    )
    add_token(connection, NewToken("robot", b"d" * 32, "", Role.OPERATOR, SCOPES, 1, NOW + 60), NOW)
    add_token(connection, NewToken("cron", b"e" * 32, "", Role.ADMIN, SCOPES), NOW)
    connection.close()
    return path


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_who_bears_a_token_is_found_by_its_digest(path: Path) -> None:
    robot = Bearer(1, "token 1 (robot) of ann@example.com", Role.OPERATOR, SCOPES, 1)
    assert bearer(path, b"d" * 32) == robot
    assert bearer(path, b"e" * 32, 9e9) == Bearer(2, "token 2 (cron)", Role.ADMIN, SCOPES, None)
    assert bearer(path, b"x" * 32) is None


@pytest.mark.parametrize(
    "statement",
    ["UPDATE person SET enabled = 0", "UPDATE api_token SET revoked_at = 5"],
)
def test_a_token_dies_with_its_person_or_alone(path: Path, statement: str) -> None:
    assert bearer(path, b"d" * 32, NOW + 60) is None
    change(path, statement)
    assert bearer(path, b"d" * 32) is None


def test_a_token_never_has_more_than_its_persons_role_of_now(path: Path) -> None:
    change(path, "UPDATE person SET role = 'user'")
    found = bearer(path, b"d" * 32)
    assert found is not None
    assert found.role is Role.USER
    change(path, "UPDATE person SET role = 'admin'")
    found = bearer(path, b"d" * 32)
    assert found is not None
    assert found.role is Role.OPERATOR
