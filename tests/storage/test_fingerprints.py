"""Another pepper is noticed before it locks anybody out."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.storage.fingerprints import accept_pepper, check_pepper, fingerprint_of
from proxy.storage.secrets import SecretError, key_digest
from proxy.storage.sqlite import Durability, open_writer
from tests.storage import world

FIRST, OTHER = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "sluice.db", Durability.PROCESS, world.NOW)
    yield connection
    connection.close()


def stored(connection: sqlite3.Connection) -> object:
    return connection.execute("SELECT fingerprint FROM pepper_fingerprint").fetchall()


def test_the_first_pepper_is_the_right_one(connection: sqlite3.Connection) -> None:
    assert stored(connection) == []
    world.seed(connection)  # keys of a database made before there were fingerprints
    check_pepper(connection, FIRST)
    assert stored(connection) == [(fingerprint_of(FIRST),)]
    check_pepper(connection, FIRST)
    with pytest.raises(SecretError, match="not the one that 3 client keys were made with"):
        check_pepper(connection, OTHER)
    assert stored(connection) == [(fingerprint_of(FIRST),)], "a refusal changes nothing"


def test_without_keys_nobody_is_locked_out(connection: sqlite3.Connection) -> None:
    check_pepper(connection, FIRST)
    check_pepper(connection, OTHER)
    world.seed(connection)
    with pytest.raises(SecretError, match="pepper accept"):
        check_pepper(connection, FIRST)


def test_another_pepper_can_be_accepted_at_the_price_of_the_keys(
    connection: sqlite3.Connection,
) -> None:
    world.seed(connection)
    assert accept_pepper(connection, FIRST) == 0, "nothing says that they had another one"
    assert accept_pepper(connection, FIRST) == 0
    assert accept_pepper(connection, OTHER) == 3
    check_pepper(connection, OTHER)
    with pytest.raises(SecretError):
        check_pepper(connection, FIRST)


def test_a_fingerprint_says_nothing_of_the_pepper_and_is_no_digest_of_a_key() -> None:
    assert len(fingerprint_of(FIRST)) == 32
    assert fingerprint_of(FIRST) != fingerprint_of(OTHER)
    assert FIRST not in fingerprint_of(FIRST)
    assert fingerprint_of(FIRST) != key_digest(FIRST, "sk-")
