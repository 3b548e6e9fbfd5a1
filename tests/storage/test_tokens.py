import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.core.actions.action import Role
from proxy.storage import tokens
from proxy.storage.sqlite import Durability, open_writer
from proxy.storage.tokens import NewToken, add_token, list_tokens, revoke_token
from tests.storage.world import NOW

TOKEN = NewToken("robot", b"d" * 32, "wxyz", Role.OPERATOR, ("keys:read", "*:write"), 1, NOW + 60)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    for email in ("ann@example.com", "bob@example.com"):
        connection.execute("INSERT INTO person (email, created_at) VALUES (?, 0)", (email,))
    yield connection
    connection.close()


def test_a_token_is_listed_for_its_person_and_ends_for_good(
    connection: sqlite3.Connection,
) -> None:
    assert add_token(connection, TOKEN, NOW) == 1
    (row,) = list_tokens(connection, 1, everybody=False)
    assert (row.name, row.last4, row.person) == ("robot", "wxyz", "ann@example.com")
    assert (row.role, row.scopes) == (Role.OPERATOR, ("keys:read", "*:write"))
    assert (row.good(NOW), row.good(NOW + 60)) == (True, False)
    assert list_tokens(connection, 2, everybody=False) == []
    assert list_tokens(connection, None, everybody=False) == []
    assert list_tokens(connection, None, everybody=True) == [row]
    with pytest.raises(ValueError, match="there is no token 1"):
        revoke_token(connection, 1, 2, NOW, anybodys=False)
    revoke_token(connection, 1, 1, NOW + 5, anybodys=False)
    revoke_token(connection, 1, None, NOW + 9, anybodys=True)
    (row,) = list_tokens(connection, 1, everybody=False)
    assert (row.good(NOW), row.revoked_at) == (False, NOW + 5)


def test_what_cannot_be_a_token_is_refused(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="printable"):
        add_token(connection, replace(TOKEN, name=""), NOW)
    with pytest.raises(ValueError, match="in the past; name a later one"):
        add_token(connection, replace(TOKEN, expires_at=NOW), NOW)
    monkeypatch.setattr(tokens, "TOKENS_PER_PERSON_MAX", 1)
    add_token(connection, TOKEN, NOW)
    with pytest.raises(ValueError, match="no more are allowed"):
        add_token(connection, replace(TOKEN, digest=b"e" * 32), NOW)
    add_token(connection, replace(TOKEN, digest=b"e" * 32, expires_at=NOW + 99), NOW + 60)
    add_token(connection, replace(TOKEN, digest=b"f" * 32, person_id=None), NOW)
