import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.core.ledger import Transfer, in_full
from proxy.storage import batch
from proxy.storage.batch import (
    CALL_ADDED,
    CALL_COLUMNS,
    OPEN_COLUMNS,
    ORDINARY_CALL_COLUMNS,
    Batch,
    Row,
    completed,
    imbalance,
    post,
)
from proxy.storage.sqlite import Durability, open_writer

WALLET, REVENUE, FUNDING = 9, 2, 7


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, 1.0)
    connection.execute("INSERT INTO account (id) VALUES (?)", (WALLET,))
    post(connection, [Transfer(1, 0, "top_up", FUNDING, WALLET, 100, 1.0)])
    yield connection
    connection.close()


def charge(call_id: int, amount: int, wallet: int = WALLET) -> Transfer:
    return Transfer(call_id, 0, "charge", wallet, REVENUE, amount, 2.0)


def open_row(call_id: int, hold: int = 10) -> Row:
    row: dict[str, str | int | None] = dict.fromkeys(OPEN_COLUMNS, 1)
    row |= {"id": call_id, "hold": hold, "model": "m"}
    text = {"endpoint": "chat", "dialect": "openai", "group_name": "g", "client_reference": None}
    return tuple((row | text).values())


def call_row(call_id: int) -> Row:
    row: dict[str, str | int | None] = dict.fromkeys(CALL_COLUMNS, 0)
    text = ("endpoint", "dialect", "model", "group_name", "verdict", "source", "variant")
    return tuple((row | {"id": call_id} | dict.fromkeys(text, "x")).values())


def test_a_row_of_an_older_release_is_completed() -> None:
    row = call_row(5)
    assert completed(row) is row
    for missing in (1, len(CALL_ADDED)):
        assert completed(row[:-missing]) == (*row[:-missing], *CALL_ADDED[-missing:])


def test_an_ordinary_row_of_a_log_stays_as_it_is() -> None:
    row = call_row(5)[: len(ORDINARY_CALL_COLUMNS)]
    assert completed(row) is row


def test_a_charge_is_in_the_file_as_any_other_transfer(connection: sqlite3.Connection) -> None:
    transfers = [
        charge(5, 30),
        charge(6, 20),
        Transfer(6, 2, "forgiven", 4, REVENUE, 7, 2.5),
        Transfer(6, 3, "upstream_cost", 13, 14, 7, 2.5),
        Transfer(8, 0, "refund", REVENUE, WALLET, 5, 3.0, 5),
    ]
    connection.execute("INSERT INTO account (id) VALUES (13), (14)")
    short = [(9, WALLET, 4, 4.0), (10, WALLET, 3, 4.5)]
    post(connection, transfers, short)
    rows = connection.execute("SELECT * FROM transfer WHERE event_id > 1 ORDER BY event_id, line")
    assert rows.fetchall() == [*map(tuple, transfers), *map(in_full, short)]
    balances = connection.execute(
        "SELECT id, balance FROM account WHERE id IN (?, ?) ORDER BY id", (WALLET, REVENUE)
    )
    assert balances.fetchall() == [(REVENUE, 30 + 20 + 7 - 5 + 4 + 3), (WALLET, 100 - 50 + 5 - 7)]
    assert imbalance(connection) == 0


def test_rows_of_a_width_nobody_knows_fail_the_batch(connection: sqlite3.Connection) -> None:
    before = state(connection)
    batch = Batch()
    batch.calls += [call_row(5), call_row(6)[:20]]
    with pytest.raises(AssertionError, match="1 rows are of no form"):
        batch.apply(connection)
    assert state(connection) == before


def state(connection: sqlite3.Connection) -> list[list[tuple[object, ...]]]:
    return [
        connection.execute(f"SELECT * FROM {table}").fetchall()
        for table in ("account", "transfer", "open_call", "call", "attempt", "key_spend")
    ]


def test_any_number_of_rows_is_written_each_once(connection: sqlite3.Connection) -> None:
    most = batch.ROWS_PER_STATEMENT_MAX
    sizes = (1, most - 1, most, most + 1, 2 * most, 2 * most + 3)
    written = 0
    for size in sizes:
        many = Batch()
        many.calls += [call_row(written + number) for number in range(size)]
        many.apply(connection)
        written += size
    ids = connection.execute("SELECT id FROM call ORDER BY id").fetchall()
    assert ids == [(number,) for number in range(written)]


def test_a_batch_writes_every_kind_of_row_in_one_commit(connection: sqlite3.Connection) -> None:
    first = Batch()
    first.opens = {5: open_row(5), 6: open_row(6)}
    assert len(first) == 2
    first.apply(connection)
    second = Batch()
    second.marks[6] = (20, 7, "counted", "{}", 99, 1, 6)
    second.closes.append((5,))
    second.calls.append(call_row(5))
    second.attempts.append((5, 0, 1, 1, 1.0, 200, "served", None, "m", None, 0, 1.0))
    second.transfers += [charge(5, 30), charge(4, 20)]
    second.spends[1] = (1, "total", 0, 50)
    assert len(second) == 6
    second.apply(connection)
    assert not connection.in_transaction
    accounts, transfers, opened, calls, attempts, spends = state(connection)
    assert accounts == [(0, 0), (2, 50), (3, 0), (4, 0), (7, -100), (9, 50)]
    assert [row[0] for row in transfers] == [1, 4, 5]
    assert [(row[0], row[13:]) for row in opened] == [(6, (20, 7, "counted", "{}", 99, 1, 1))]
    assert [row[0] for row in calls] == [5]
    assert [row[:2] for row in attempts] == [(5, 0)]
    assert spends == [(1, "total", 0, 50)]


def overdraft() -> Batch:
    batch = Batch()
    batch.transfers += [charge(5, 60), charge(6, 60)]
    return batch


def charged_twice() -> Batch:
    batch = Batch()
    batch.transfers += [charge(5, 1), charge(5, 1)]
    return batch


def ended_twice() -> Batch:
    batch = Batch()
    batch.calls += [call_row(5), call_row(5)]
    return batch


def no_such_account() -> Batch:
    batch = Batch()
    batch.transfers.append(charge(5, 1, wallet=17))
    return batch


def nothing_to_close() -> Batch:
    batch = Batch()
    batch.closes.append((5,))
    return batch


def nothing_to_mark() -> Batch:
    batch = Batch()
    batch.marks[5] = (0, 0, "none", None, 0, None, 5)
    return batch


@pytest.mark.parametrize("bad", [overdraft, charged_twice, ended_twice])
def test_a_batch_the_schema_refuses_writes_nothing(
    connection: sqlite3.Connection, bad: "type[Batch]"
) -> None:
    before = state(connection)
    batch = bad()
    batch.opens[8] = open_row(8)
    with pytest.raises(sqlite3.IntegrityError):
        batch.apply(connection)
    assert not connection.in_transaction
    assert state(connection) == before


@pytest.mark.parametrize("bad", [no_such_account, nothing_to_close, nothing_to_mark])
def test_a_batch_that_misses_its_row_writes_nothing(
    connection: sqlite3.Connection, bad: "type[Batch]"
) -> None:
    before = state(connection)
    with pytest.raises(AssertionError, match="rows were there to change"):
        bad().apply(connection)
    assert state(connection) == before
