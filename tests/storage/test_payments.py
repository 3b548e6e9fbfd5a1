import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.core.actions.payments import Said
from proxy.storage.batch import post
from proxy.storage.payments import (
    OPEN_MAX,
    Begun,
    Outcome,
    Told,
    Word,
    begin,
    list_payments,
    opened,
    told,
)
from proxy.storage.sqlite import Durability, open_writer
from proxy.storage.till import Event
from proxy.storage.verify import verify
from tests.storage.world import NOW, seed


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    yield connection
    connection.close()


def start(connection: sqlite3.Connection) -> Begun:
    return begin(connection, 1, None, "stripe", "usd", 1_000, "1", 10**10, NOW)


def word(begun: Begun, message: str | None = "m1") -> Word:
    return Word(
        "stripe", Said.PAID, "session.completed", message, begun.reference, "cs_1", "usd", 1_000
    )


def tell(connection: sqlite3.Connection, said: Word, event_id: int = 9) -> Told:
    moved = told(connection, Event(event_id, NOW), said)
    if moved.transfers:
        post(connection, list(moved.transfers))
    return moved.result


def test_a_payment_is_credited_once(tmp_path: Path, connection: sqlite3.Connection) -> None:
    begun = start(connection)
    opened(connection, begun.id, "cs_1")
    opened(connection, begun.id, "cs_1")
    assert tell(connection, word(begun)) == Told(Outcome.CREDITED, 1, 10**10)
    for message in ("m1", "m2", None):
        assert tell(connection, word(begun, message), 10).outcome is Outcome.REPEATED
    expired = replace(word(begun, "m3"), said=Said.EXPIRED)
    assert tell(connection, expired).outcome is Outcome.EXPIRED
    (row,) = list_payments(connection, 1)
    assert (row.status, row.session, row.user) == ("paid", "cs_1", "ann")
    assert row.messages.count("repeated") == 1
    assert list_payments(connection, 2) == list_payments(connection, None, before_id=1) == []
    assert verify(tmp_path / "a.db").problems == ()


def test_what_does_not_fit_moves_nothing(connection: sqlite3.Connection) -> None:
    begun = start(connection)
    opened(connection, begun.id, "cs_1")
    good = word(begun, None)
    wrong = {
        Outcome.OTHER_SESSION: [replace(good, session="cs_2"), replace(good, session=None)],
        Outcome.OTHER_AMOUNT: [replace(good, minor=999), replace(good, currency="eur")],
        Outcome.UNKNOWN: [
            replace(good, reference=None), replace(good, reference=f"{begun.id}-0"),
            replace(good, reference="7-7"), replace(good, provider="other"),
        ],
        Outcome.NOTED: [replace(good, said=Said.NOTED)],
    }  # fmt: skip
    before = list(connection.iterdump())
    for outcome, words in wrong.items():
        assert {tell(connection, each).outcome for each in words} == {outcome}
    assert list(connection.iterdump()) == before
    assert tell(connection, good).outcome is Outcome.CREDITED


def test_a_session_belongs_to_one_payment(connection: sqlite3.Connection) -> None:
    first, second = start(connection), start(connection)
    opened(connection, first.id, "cs_1")
    with pytest.raises(ValueError, match="has not just begun"):
        opened(connection, first.id, "cs_2")
    with pytest.raises(ValueError, match="has not just begun"):
        opened(connection, 99, "cs_2")
    with pytest.raises(sqlite3.IntegrityError):
        opened(connection, second.id, "cs_1")


def test_what_cannot_begin_or_be_listed(connection: sqlite3.Connection) -> None:
    for minor, amount in ((0, 5), (5, 0), (5, 10**18 + 1)):
        with pytest.raises(ValueError, match="above 0"):
            begin(connection, 1, None, "stripe", "usd", minor, "1", amount, NOW)
    for _ in range(OPEN_MAX):
        start(connection)
    with pytest.raises(ValueError, match="are open"):
        start(connection)
    begin(connection, 1, None, "stripe", "usd", 1, "1", 1, NOW + 90_000)
    for rows in (0, 1_001):
        with pytest.raises(ValueError, match="rows"):
            list_payments(connection, None, rows_max=rows)


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM payment", "UPDATE payment SET amount = 1", "UPDATE payment SET minor = 1"],
)
def test_what_was_agreed_stays(connection: sqlite3.Connection, statement: str) -> None:
    start(connection)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
