import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.entities import Attempt, Usage, UsageSource, Verdict
from proxy.core.ledger import Transfer, in_full
from proxy.storage.batch import (
    CALL_ADDED,
    CALL_COLUMNS,
    OPEN_COLUMNS,
    ORDINARY_CALL_COLUMNS,
    Batch,
    completed,
    imbalance,
    post,
)
from proxy.storage.billing import Keeper
from proxy.storage.inserts import ROWS_PER_STATEMENT_MAX, Inserts, Row
from proxy.storage.ports import Admission, Progress
from proxy.storage.redo import SUFFIXES
from proxy.storage.sqlite import Durability, open_writer
from proxy.storage.verify import verify
from tests.storage.test_inserts import one_by_one
from tests.storage.world import NOW, USAGE, closing, keeper, opening, read

WALLET, REVENUE, FUNDING = 9, 2, 7
TABLES = ("account", "transfer", "open_call", "call", "attempt", "key_spend")


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
    return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES]


def test_any_number_of_rows_is_written_each_once(connection: sqlite3.Connection) -> None:
    most = ROWS_PER_STATEMENT_MAX
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


USAGES = (USAGE, Usage(3, 4, 5, 6, 7, 2), Usage(images=2, variant="hd"), Usage(calls=0))
ENDS: tuple[dict[str, Any], ...] = (
    {},
    {"charge": 70_000, "finish_reason": "length"},
    {"upstream_model": "other", "channel_id": 2, "charge": 0},
    {"usage": USAGES[1]},
    {"usage": USAGES[2], "source": UsageSource.COUNTED},
    {"verdict": Verdict.CUT_FOR_BALANCE, "charge": 2 * 10**9, "anomalies": ("negative",)},
    {"verdict": Verdict.CLIENT_GONE, "charge": 0, "forgiven": 40_000, "usage": USAGES[3]},
    {"verdict": Verdict.UPSTREAM_ERROR, "charge": 0, "status": 502, "attempts": ()},
    {"source": UsageSource.CACHED, "attempts": (), "charge": 10, "channel_id": None},
    {"answer_id": "resp_1"},
    {"attempts": (
        Attempt(1, 1, NOW, 500, "refused", None, "m-2", Usage(calls=0), 7, 3.0),
        Attempt(1, 1, NOW, 200, "served", "up", "m-2", USAGE, 9, 12.0),
    )},
)  # fmt: skip
STEP = st.tuples(
    st.sampled_from(("plain", "plain", "stream", "mark", "settle", "settle", "undo", "follow")),
    st.integers(0, 50),
    st.integers(0, len(ENDS) - 1),
)


async def act(office: Keeper, open_calls: list[int], number: int, step: Any) -> None:
    """Do one thing of a keeper's work; ids go up and down, as calls do not end in order."""
    kind, pick, which = step
    if kind in {"plain", "stream"}:
        key, user = ((1, 1), (3, 2))[pick % 2]
        changes = ({}, {}, {"client_reference": "mine"}, {"charge_max": 60_000})[which % 4]
        call_id = number ^ 3
        asked = opening(
            call_id, key_id=key, user_id=user, stream=kind == "stream",
            model=("m", "thinker")[pick % 3 == 0], **changes,
        )  # fmt: skip
        if isinstance(await office.admit(asked), Admission):
            open_calls.append(call_id)
    elif kind == "follow":
        await office.catch_up()
    elif open_calls and kind == "mark":
        usage = USAGES[which % 2]
        call_id = open_calls[pick % len(open_calls)]
        office.mark(Progress(call_id, usage, UsageSource.COUNTED, 1_000 + pick, 9, 1))
    elif open_calls:
        call_id = open_calls.pop(pick % len(open_calls))
        if kind == "undo":
            office.undo(call_id)
        else:
            office.settle(closing(call_id, **ENDS[which]))


def play(path: Path, steps: list[Any]) -> list[list[tuple[Any, ...]]]:
    """Play on a keeper, kill it, start again on what is left; returns the ledger of then."""
    options: dict[str, Any] = {"clock": lambda: NOW, "clock_monotonic": lambda: 0.0}
    left = path.parent / f"{path.name}-left"

    async def main() -> None:
        office = await keeper(path, redo=True, **options)
        open_calls: list[int] = []
        for number, step in enumerate(steps, 10**15):
            await act(office, open_calls, number, step)
        for suffix in (*SUFFIXES, "", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{left}{suffix}")
        for call_id in open_calls:
            office.undo(call_id)
        await office.close()
        again = await keeper(left, redo=True, **options)
        await again.close()

    asyncio.run(main())
    # What these calls are charged is made up; that everything adds up is not.
    assert not [each for each in verify(left, quiet=True).problems if "priced" not in each]
    return [sorted(read(left, f"SELECT * FROM {table}"), key=repr) for table in TABLES]


@settings(max_examples=25, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=60))
def test_a_ledger_is_the_same_whether_its_rows_are_written_together_or_alone(
    steps: list[Any],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        together = play(Path(folder) / "together.db", steps)
        with patch.object(Inserts, "insert", one_by_one):
            alone = play(Path(folder) / "alone.db", steps)
    assert together == alone
