import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.storage.people import MEMBER, OWNER, membership
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import NOW, seed


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    add = "INSERT INTO person (email, created_at) VALUES (?, ?)"
    connection.executemany(add, [("ann@example.com", NOW), ("bob@example.com", NOW)])
    join = "INSERT INTO membership SELECT ?, id, ?, ? FROM user WHERE name = ?"
    connection.execute(join, (1, OWNER, NOW, "ann"))
    connection.execute(join, (2, MEMBER, NOW, "ann"))
    yield connection
    connection.close()


def test_what_a_person_is_to_a_wallet(connection: sqlite3.Connection) -> None:
    assert membership(connection, 1, "ann") == OWNER
    assert membership(connection, 2, "ann") == MEMBER
    assert membership(connection, 1, "bob") is None
    assert membership(connection, 1, "nobody") is None
    connection.execute("UPDATE person SET enabled = 0 WHERE id = 1")
    assert membership(connection, 1, "ann") is None
