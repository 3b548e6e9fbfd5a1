import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.core.actions.payments import Said
from proxy.storage import refunds
from proxy.storage.batch import post
from proxy.storage.payments import Outcome, Word, begin, list_notes, opened, told
from proxy.storage.sqlite import Durability, open_writer
from proxy.storage.till import Event
from proxy.storage.verify import verify
from tests.storage.world import NOW, seed

CREDIT = 10**10 + 1
EVENTS = iter(range(100, 10_000))


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    yield connection
    connection.close()


def pay(connection: sqlite3.Connection, intent: str = "pi_1", session: str = "cs_1") -> int:
    begun = begin(connection, 1, None, "stripe", "usd", 1_000, "1", CREDIT, NOW)
    opened(connection, begun.id, session)
    word = Word("stripe", Said.PAID, "k", None, begun.reference, session, "usd", 1_000, intent)
    moved = told(connection, Event(next(EVENTS), NOW), word)
    post(connection, list(moved.transfers))
    return begun.id


def back(connection: sqlite3.Connection, minor: int, intent: str = "pi_1") -> Outcome:
    word = Word("stripe", Said.REFUNDED, "k", None, None, None, "usd", minor, intent)
    return told(connection, Event(next(EVENTS), NOW), word).result.outcome


def take(connection: sqlite3.Connection, most: int = CREDIT, intent: str = "pi_1") -> int:
    moved = refunds.take(connection, Event(next(EVENTS), NOW), "stripe", intent, most)
    post(connection, list(moved.transfers))
    return moved.result


def test_parts_add_up_to_the_whole_and_never_beyond(
    tmp_path: Path, connection: sqlite3.Connection
) -> None:
    number = pay(connection)
    assert refunds.find_due(connection, "stripe", "pi_1") is None
    taken = 0
    for minor in (333, 333, 100, 667, 1_000, 999):
        assert back(connection, minor) is Outcome.REFUNDED
        taken += take(connection)
        assert taken <= CREDIT
    assert taken == CREDIT
    assert take(connection) == 0
    rows = connection.execute("SELECT payment_id, sum(amount) FROM payment_debit").fetchall()
    assert rows == [(number, CREDIT)]
    assert verify(tmp_path / "a.db").problems == ()


def test_what_a_wallet_does_not_cover_is_noted_once(connection: sqlite3.Connection) -> None:
    pay(connection)
    back(connection, 1_000)
    assert take(connection, 0) == 0
    assert take(connection, 0) == 0
    assert take(connection, 7) == 7
    outcomes = [one.outcome for one in list_notes(connection)]
    assert outcomes == [refunds.NOT_COVERED] * 2
    assert take(connection) == CREDIT - 7


def test_each_payment_gives_its_own_back(connection: sqlite3.Connection) -> None:
    pay(connection)
    pay(connection, "pi_2", "cs_2")
    assert back(connection, 400, "pi_2") is Outcome.REFUNDED
    assert back(connection, 400, "pi_3") is Outcome.EARLY
    assert take(connection) == take(connection, intent="pi_3") == 0
    assert take(connection, intent="pi_2") == CREDIT * 4 // 10


def test_another_currency_told_before_the_payment_is_not_taken(
    connection: sqlite3.Connection,
) -> None:
    refunds.note(connection, "stripe", "pi_1", "eur", 400)
    refunds.note(connection, "stripe", "pi_1", "usd", 900)
    pay(connection)
    assert take(connection) == 0


@pytest.mark.parametrize(
    "statement", ["UPDATE payment_debit SET amount = 1", "DELETE FROM payment_debit"]
)
def test_what_was_taken_stays_told(connection: sqlite3.Connection, statement: str) -> None:
    pay(connection)
    back(connection, 400)
    take(connection)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
