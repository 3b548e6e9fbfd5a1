import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.core.ledger import ADJUSTMENT, FUNDING, REVENUE, Transfer
from proxy.storage.batch import post
from proxy.storage.sqlite import Durability, open_writer
from proxy.storage.till import Event, Moved
from proxy.storage.wallet_changes import (
    Change,
    Charged,
    TopUp,
    add_top_up,
    adjust,
    find_charge,
    refund_call,
    take_fee,
)
from tests.storage.world import NOW, seed

ANN, BOB = 9, 17


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Ann has 700, of which call 3 was charged 50: its detail is gone."""
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    done(
        connection,
        add_top_up(
            connection,
            Event(5, NOW),
            1,
            750,
            "gift",
            "code-a",
        ),
    )
    post(connection, [Transfer(3, 0, "charge", ANN, REVENUE, 50, NOW)])
    yield connection
    connection.close()


def done(connection: sqlite3.Connection, moved: Moved[Any]) -> Any:
    if moved.transfers:
        post(connection, list(moved.transfers))
    return moved.result


def test_a_top_up_is_one_transfer_and_its_repetition_none(connection: sqlite3.Connection) -> None:
    moved = add_top_up(connection, Event(6, NOW), 1, 700, "gift", "code-1")
    assert moved.result == TopUp(6, 1, 700, fresh=True)
    assert moved.transfers == [Transfer(6, 0, "top_up", FUNDING, ANN, 700, NOW)]
    again = add_top_up(connection, Event(7, NOW), 1, 700, "gift", "code-1")
    assert again == Moved(TopUp(6, 1, 700, fresh=False))
    with pytest.raises(ValueError, match="another top-up"):
        add_top_up(connection, Event(8, NOW), 2, 700, "gift", "code-1")


def test_a_call_gets_back_no_more_than_it_was_charged(connection: sqlite3.Connection) -> None:
    some = refund_call(connection, Event(6, NOW), 3, 20, "slow", "r1", "boss")
    assert some.result == Change(6, 1, 20, fresh=True)
    assert some.transfers == [Transfer(6, 0, "refund", REVENUE, ANN, 20, NOW, refers_to=3)]
    done(connection, some)
    assert find_charge(connection, 3) == Charged(1, 50, 20)
    for amount in (31, 0, -1):
        with pytest.raises(ValueError, match=r"0\.00000003 are left"):
            refund_call(connection, Event(7, NOW), 3, amount, "slow", "r2", "boss")
    again = refund_call(connection, Event(7, NOW), 3, 20, "slow", "r1", "boss")
    assert again == Moved(Change(6, 1, 20, fresh=False))
    rest = refund_call(connection, Event(7, NOW), 3, None, "slow", "r2", "boss")
    assert done(connection, rest) == Change(7, 1, 30, fresh=True)
    with pytest.raises(ValueError, match=r"0\.00 are left"):
        refund_call(connection, Event(8, NOW), 3, None, "slow", "r3", "boss")
    assert refund_call(connection, Event(8, NOW), 3, None, "slow", "r2", "b").result.amount == 30
    assert find_charge(connection, 4) is None


def test_a_wallet_is_corrected_both_ways(connection: sqlite3.Connection) -> None:
    up = adjust(connection, Event(6, NOW), 2, 5, "sorry", "a1", "boss")
    assert up.transfers == [Transfer(6, 0, "adjustment", ADJUSTMENT, BOB, 5, NOW)]
    assert done(connection, up) == Change(6, 2, 5, fresh=True)
    down = adjust(connection, Event(7, NOW), 2, -5, "typo", "a2", "boss")
    assert down.transfers == [Transfer(7, 0, "adjustment", BOB, ADJUSTMENT, 5, NOW)]
    done(connection, down)
    again = adjust(connection, Event(8, NOW), 2, -5, "typo", "a2", "boss")
    assert again == Moved(Change(7, 2, -5, fresh=False))


def test_a_fee_is_taken_once(connection: sqlite3.Connection) -> None:
    fee = take_fee(connection, Event(6, NOW), 1, 7, "plan pro", "plan-1-1")
    assert fee.transfers == [Transfer(6, 1, "fee", ANN, REVENUE, 7, NOW)]
    assert done(connection, fee) == Change(6, 1, -7, fresh=True)
    again = take_fee(connection, Event(7, NOW), 1, 7, "plan pro", "plan-1-1")
    assert again == Moved(Change(6, 1, -7, fresh=False))
    with pytest.raises(AssertionError, match="a fee of 0"):
        take_fee(connection, Event(7, NOW), 1, 0, "plan pro", "plan-1-2")


E9 = Event(9, NOW)
Ask = Callable[[sqlite3.Connection], object]
REFUSED: list[tuple[str, Ask]] = [
    ("above 0", lambda c: add_top_up(c, E9, 1, 0, "why", "r")),
    ("above 0", lambda c: add_top_up(c, E9, 1, -1, "why", "r")),
    ("above 0", lambda c: add_top_up(c, E9, 1, 10**18 + 1, "why", "r")),
    ("printable", lambda c: add_top_up(c, E9, 1, 5, "why", "")),
    ("no user 99", lambda c: add_top_up(c, E9, 99, 5, "why", "r")),
    ("charged nothing", lambda c: refund_call(c, E9, 4, 5, "why", "r", "b")),
    ("a reason is needed", lambda c: refund_call(c, E9, 3, 5, " ", "r", "b")),
    ("a reason is needed", lambda c: refund_call(c, E9, 3, 5, "x" * 501, "r", "b")),
    ("a reason is needed", lambda c: refund_call(c, E9, 3, 5, "a\nb", "r", "b")),
    ("printable", lambda c: refund_call(c, E9, 3, 5, "why", "", "b")),
    ("something else", lambda c: refund_call(c, E9, 3, 5, "why", "taken", "b")),
    ("must not be 0", lambda c: adjust(c, E9, 1, 0, "why", "r", "b")),
    ("at most", lambda c: adjust(c, E9, 1, -(10**18) - 1, "why", "r", "b")),
    ("at most", lambda c: adjust(c, E9, 1, 10**18 + 1, "why", "r", "b")),
    ("a reason is needed", lambda c: adjust(c, E9, 1, 5, "", "r", "b")),
    ("no user 99", lambda c: adjust(c, E9, 99, 5, "why", "r", "b")),
    ("something else", lambda c: adjust(c, E9, 2, 5, "why", "taken", "b")),
    ("something else", lambda c: adjust(c, E9, 1, 6, "why", "taken", "b")),
    ("something else", lambda c: take_fee(c, E9, 1, 5, "why", "taken")),
]  # fmt: skip


@pytest.mark.parametrize(("message", "ask"), REFUSED)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    connection: sqlite3.Connection, message: str, ask: Ask
) -> None:
    done(connection, adjust(connection, Event(8, NOW), 1, 5, "why", "taken", "boss"))
    before = list(connection.iterdump())
    with pytest.raises(ValueError, match=message):
        ask(connection)
    assert list(connection.iterdump()) == before


@pytest.mark.parametrize(
    "statement",
    ["UPDATE wallet_change SET amount = 6", "DELETE FROM wallet_change",
     "INSERT OR REPLACE INTO wallet_change SELECT * FROM wallet_change"],
)  # fmt: skip
def test_changes_of_wallets_are_append_only(connection: sqlite3.Connection, statement: str) -> None:
    done(connection, adjust(connection, Event(8, NOW), 1, 5, "why", "taken", "boss"))
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
