import asyncio
import itertools
import sqlite3
from contextlib import closing as shut
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.entities import Attempt, Usage, Verdict
from proxy.core.ids import EPOCH_MS
from proxy.storage import retention
from proxy.storage.accounts import list_usage, show_wallet
from proxy.storage.retention import DAY_MS, RollUp, Step, first_id_of, list_days
from proxy.storage.sqlite import Durability, open_writer
from proxy.storage.verify import verify
from tests.storage.test_verify import spoil
from tests.storage.world import NOW, USAGE, USD, closing, keeper, opening, read

DAY_ZERO = EPOCH_MS // DAY_MS
LATE = 1 << 62


def call_id(day: int, number: int) -> int:
    """The id of the `number`th call of the `day`th day that ids can name."""
    return (day * DAY_MS << 22) + number


def bill(path: Path, calls: list[dict[str, Any]]) -> None:
    """End calls: `id`, `key` (1 of user 1, 2 and 3 of user 2), and changes of the closing."""

    async def main() -> None:
        ticks = itertools.count(0.0, 60.0)  # no limit of requests a minute bites
        books = await keeper(path, credit=1000 * USD, clock_monotonic=lambda: next(ticks))
        for each in calls:
            fields = dict(each)
            number, key, hold = fields.pop("id"), fields.pop("key", 1), fields.pop("hold", 1000_000)
            user = 1 if key == 1 else 2
            await books.admit(opening(number, key_id=key, user_id=user, hold=hold))
            books.settle(closing(number, **fields))
        await books.close()

    asyncio.run(main())


def walk(path: Path, before: int, steps_max: int = 10_000) -> tuple[int, list[int]]:
    """Roll up in as many transactions as it takes; calls moved, and those kept."""
    moved = 0
    with shut(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA recursive_triggers = ON")
        rolling = RollUp(before)
        for _ in range(steps_max):
            connection.execute("BEGIN IMMEDIATE")
            step = rolling.step(connection)
            connection.execute("COMMIT")
            moved += step.rolled_up
            if step.done:
                break
    return moved, rolling.kept


def attempt(channel: int, cost: int, usage: Usage = USAGE) -> Attempt:
    return Attempt(channel, 1, NOW, 200, "served", "up", "m-2", usage, cost, 1.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Two days of calls of two users: charged, overrun, forgiven, failed, retried elsewhere."""
    path = tmp_path / "sluice.db"
    bill(path, [
        {"id": call_id(0, 1), "attempts": (attempt(1, 30),)},
        {"id": call_id(0, 2), "key": 2},
        {"id": call_id(0, 3), "key": 3, "attempts": (attempt(1, 5), attempt(1, 7))},
        {"id": call_id(0, 4), "charge": 0, "forgiven": 50_000, "delivered_bytes": 0,
         "error_code": "upstream_error", "verdict": Verdict.UPSTREAM_ERROR},
        {"id": call_id(1, 1), "hold": 0},
        {"id": call_id(1, 2), "charge": 0, "usage": Usage(calls=0), "attempts": (),
         "channel_id": None, "status": 429, "delivered_bytes": 0},
        {"id": call_id(2, 1)},
    ])  # fmt: skip
    return path


def sums(path: Path) -> list[tuple[Any, ...]]:
    """What must be the same before and after."""
    with shut(sqlite3.connect(path)) as connection:
        days = [tuple(row) for row in list_days(connection, 0, None)]
        wallets = [show_wallet(connection, name) for name in ("ann", "bob")]
        transfers = connection.execute("SELECT * FROM transfer ORDER BY 1, 2").fetchall()
    return [*days, *map(tuple, wallets), *transfers]


def test_sums_are_the_same_and_only_old_detail_leaves(ledger: Path) -> None:
    before = sums(ledger)
    assert walk(ledger, first_id_of(DAY_ZERO + 2)) == (6, [])
    assert sums(ledger) == before
    assert read(ledger, "SELECT id FROM call") == [(call_id(2, 1),)]
    assert read(ledger, "SELECT DISTINCT call_id FROM attempt") == [(call_id(2, 1),)]
    report = verify(ledger)
    assert report.problems == ()
    assert (report.calls, report.rolled_up) == (1, 6)
    rows = read(ledger, "SELECT day, user_id, key_id, model, channel_id, group_name, ended, errors, "
                "charge, forgiven, attempts, cost FROM rollup ORDER BY day, user_id, key_id, 5")  # fmt: skip
    zero, one = DAY_ZERO, DAY_ZERO + 1
    assert rows == [
        (zero, 1, 1, "m", 1, "default", 2, 1, 50_000, 50_000, 2, 30),
        (zero, 2, 2, "m", 1, "default", 1, 0, 50_000, 0, 1, 0),
        (zero, 2, 3, "m", 1, "default", 1, 0, 50_000, 0, 2, 12),
        (one, 1, 1, "m", 0, "default", 1, 0, 0, 0, 0, 0),
        (one, 1, 1, "m", 1, "default", 1, 0, 50_000, 0, 1, 0),
    ]


def test_a_late_call_of_a_day_already_rolled_up_joins_its_sums(ledger: Path) -> None:
    walk(ledger, first_id_of(DAY_ZERO + 1))
    bill(ledger, [{"id": call_id(0, 9), "attempts": (attempt(1, 3),)}])
    before = sums(ledger)
    assert verify(ledger).problems == ()
    assert walk(ledger, first_id_of(DAY_ZERO + 1)) == (1, [])
    assert sums(ledger) == before
    assert verify(ledger).problems == ()
    assert walk(ledger, first_id_of(DAY_ZERO + 1)) == (0, [])


WRONG = [
    "UPDATE call SET charge = charge + 1 WHERE id = {}",
    "UPDATE call SET output = 99 WHERE id = {}",
    "UPDATE call SET price_version = 9 WHERE id = {}",
    "UPDATE attempt SET cost = 1 WHERE call_id = {}",
]


@pytest.mark.parametrize("statement", WRONG)
@pytest.mark.parametrize("number", [1, 3])
def test_a_call_that_does_not_add_up_is_kept_as_evidence(
    ledger: Path, statement: str, number: int
) -> None:
    odd = call_id(0, number)
    spoil(ledger, statement.format(odd))
    said = [line for line in verify(ledger).problems if str(odd) in line]
    assert said
    assert walk(ledger, LATE) == (6, [odd])
    assert read(ledger, "SELECT id FROM call") == [(odd,)]
    assert [line for line in verify(ledger).problems if str(odd) in line] == said


SPOILED = [
    ("I5: charges of user 2 rolled up", "UPDATE rollup SET charge = charge + 1 WHERE user_id = 2"),
    ("I5: charges of user 1 rolled up", "DELETE FROM transfer WHERE kind = 'charge' AND debit = 9"),
    ("I5: forgiven rolled up", "UPDATE rollup SET forgiven = forgiven + 1 WHERE errors = 1"),
    ("I5: overrun rolled up", "UPDATE rollup SET overrun = 5 WHERE errors = 1"),
    ("I5: cost at channel 1 rolled up", "UPDATE rollup SET cost = cost + 1 WHERE user_id = 2"),
    ("I5: charges of user", "INSERT INTO transfer SELECT event_id + 100, 0, 'charge', 9, 2, 5, 1, NULL FROM transfer WHERE kind = 'charge' LIMIT 1"),
    ("I14: the trigger rollup_never_shrinks", "DROP TRIGGER rollup_never_shrinks"),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "statement"), SPOILED)
def test_sums_that_were_changed_afterwards_are_noticed(
    ledger: Path, problem: str, statement: str
) -> None:
    walk(ledger, LATE)
    spoil(ledger, statement)
    problems = verify(ledger).problems
    assert any(line.startswith(problem) for line in problems), problems


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE rollup SET charge = charge - 1 WHERE charge > 0",
        "UPDATE rollup SET model = 'x'",
        "DELETE FROM rollup",
        (
            f"INSERT OR REPLACE INTO rollup ({retention._KEYS}, {', '.join(retention._SUMS)}) "
            f"SELECT {retention._KEYS}{', 0' * len(retention._SUMS)} FROM rollup"
        ),
    ],
)
def test_the_schema_itself_lets_sums_only_grow(ledger: Path, statement: str) -> None:
    walk(ledger, LATE)
    with shut(sqlite3.connect(ledger, isolation_level=None)) as connection:
        connection.execute("PRAGMA recursive_triggers = ON")
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)


def test_a_step_whose_sums_differ_is_undone(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sums(ledger)
    wrong = retention._ADD_CALLS.replace("sum(output)", "sum(output + 1)")
    monkeypatch.setattr(retention, "_ADD_CALLS", wrong)

    async def main() -> None:
        books = await keeper(ledger)
        with pytest.raises(ValueError, match="grew by"):
            await books.upkeep.roll_up(1, 60.0)
        assert books.unready is None
        await books.close()

    asyncio.run(main())
    assert sums(ledger) == before
    assert read(ledger, "SELECT count(*) FROM rollup") == [(0,)]


def test_a_deletion_that_takes_more_is_undone(ledger: Path) -> None:
    with shut(sqlite3.connect(ledger, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        with pytest.raises(ValueError, match="the calls sum to"):
            retention._move(connection, call_id(0, 1), call_id(0, 3), 2)
        connection.execute("ROLLBACK")


def test_usage_goes_on_listing_what_has_detail(ledger: Path) -> None:
    walk(ledger, first_id_of(DAY_ZERO + 1))
    with shut(sqlite3.connect(ledger)) as connection:
        assert [row.id for row in list_usage(connection)] == [
            call_id(2, 1), call_id(1, 2), call_id(1, 1)
        ]  # fmt: skip
        days = list_days(connection, DAY_ZERO + 1, "ann")
        assert [(row.day, row.calls) for row in days] == [(DAY_ZERO + 2, 1), (DAY_ZERO + 1, 2)]
        assert [row.user for row in list_days(connection, 0, "bob")] == ["bob"]
        assert list_days(connection, 0, "nobody") == []


def test_days_have_a_first_id() -> None:
    assert first_id_of(0) == 0
    assert first_id_of(DAY_ZERO) == 0
    assert first_id_of(DAY_ZERO + 1) == call_id(1, 0)
    assert Step(0, done=True).done


CALLS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([1, 2, 3]),
        st.integers(0, 2000),
        st.sampled_from(["charged", "forgiven", "nothing"]),
        st.lists(st.integers(0, 9), max_size=3),
        st.booleans(),
    ),
    max_size=20,
)


@settings(max_examples=20)
@given(calls=CALLS, limits=st.lists(st.integers(0, 4), min_size=1, max_size=3), few=st.booleans())
def test_any_calls_rolled_up_in_any_steps_keep_every_sum(
    tmp_path_factory: pytest.TempPathFactory,
    calls: list[tuple[int, int, int, str, list[int], bool]],
    limits: list[int],
    few: bool,
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "sluice.db"
    made = []
    for number, (day, key, output, kind, costs, held) in enumerate(calls):
        usage = Usage(output=output)
        price = 2_000 * output
        made.append({
            "id": call_id(day, number), "key": key, "usage": usage,
            "charge": price if kind == "charged" else 0,
            "forgiven": price if kind == "forgiven" else 0,
            "delivered_bytes": 1 if kind == "charged" else 0,
            "attempts": tuple(attempt(1, cost, usage) for cost in costs),
            "hold": 10_000_000 if held else 0,
        })  # fmt: skip
        if kind == "nothing":
            made[-1]["usage"] = Usage(calls=0)
    bill(path, made)
    before = sums(path)
    for limit in limits:
        walk(path, first_id_of(DAY_ZERO + limit), steps_max=1 if few else 100)
        assert sums(path) == before
        assert verify(path).problems == ()


def test_a_users_days_are_read_by_the_index_of_their_calls(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    for query, values in (
        (retention._OF_USER, (0, 0, 1)),
        (retention._OF_PERSON, (0, 0, 1, 1)),
    ):
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
        assert any("SEARCH call USING INDEX call_by_user" in line for line in plan), plan
        assert not [line for line in plan if line.startswith(("SCAN call", "SCAN rollup"))], plan
    connection.close()
