"""Sums by day are the same as those of one reading, cost little when asked again, and say if not all."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from proxy.core.ids import first_id_at
from proxy.storage.reader import Reader
from proxy.storage.reports import day_sums, usage_log
from proxy.storage.reports.day_sums import DAY_SECONDS, DaySums
from proxy.storage.reports.usage_log import Sum, Wanted
from tests.storage.reports.test_usage_log import ledger, put, reading
from tests.storage.world import NOW

TODAY = int(NOW // DAY_SECONDS)


def at(days_ago: int, number: int = 0) -> int:
    return first_id_at((TODAY - days_ago) * DAY_SECONDS + 60) + number


def roll_up(connection: sqlite3.Connection, day: int, **changes: Any) -> None:
    row = {
        "user_id": 1, "day": day, "key_id": 1, "model": "m", "channel_id": 1,
        "group_name": "default", "ended": 100, "errors": 3, "charge": 50, "input_uncached": 8,
        "output": 9,
    } | changes  # fmt: skip
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO rollup ({', '.join(row)}) VALUES ({marks})", (*row.values(),))


def furnish(path: Path) -> sqlite3.Connection:
    connection = ledger(path)
    for days_ago in (0, 1, 2, 5):
        put(connection, [at(days_ago, number) for number in range(3)])
    put(connection, [at(2, 9)], model="thinker", key_id=2, error_code="timeout", verdict="timeout")
    put(connection, [at(2, 20)], user_id=2)
    roll_up(connection, TODAY - 5)
    roll_up(connection, TODAY - 40, model="old")
    roll_up(connection, TODAY - 2, user_id=2)
    return connection


class Counting(Reader):
    """A reader that knows how often it was asked for calls."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.asked = 0

    async def rows(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        self.asked += "GROUP BY" in query
        return await self.reader.rows(query, values)


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"model": "m"}, {"model": "old"}, {"key": 2}, {"group": "default"}, {"failed": True},
        {"verdict": "complete"}, {"since": float((TODAY - 2) * DAY_SECONDS)},
        {"until": float((TODAY - 1) * DAY_SECONDS)}, {"wallet": 2}, {"wallet": 3}, {"person": 7},
    ],
    ids=str,
)  # fmt: skip
def test_they_are_what_one_reading_finds(tmp_path: Path, changes: dict[str, Any]) -> None:
    connection = furnish(tmp_path)
    wanted = Wanted(**({"wallet": 1} | changes))

    async def scene(reader: Reader) -> None:
        days = DaySums()
        expected = await usage_log.sums(reader, wanted)
        for _ in range(2):
            found = await days.sums(reader, wanted, NOW)
            assert (found.total, found.back_to) == (expected.total, None)
            assert found.by_day == expected.by_day
            assert found.by_model == expected.by_model
            assert found.by_key == expected.by_key

    reading(tmp_path, scene)
    connection.close()


def test_days_that_are_over_are_read_once_and_newer_ones_again(tmp_path: Path) -> None:
    connection = furnish(tmp_path)

    async def scene(reader: Reader) -> None:
        days, counting = DaySums(), Counting(reader)
        wanted = Wanted(wallet=1)
        assert (await days.sums(counting, wanted, NOW)).total.calls == 213
        assert counting.asked == 41
        put(connection, [at(0, 50), at(1, 50)])
        assert (await days.sums(counting, wanted, NOW)).total.calls == 215
        assert counting.asked == 43, "today and yesterday"
        late = NOW + 2 * DAY_SECONDS
        assert (await days.sums(counting, wanted, late)).total.calls == 215
        assert (await days.sums(counting, Wanted(wallet=2), NOW)).total.calls == 101
        # Keys may change hands, so what one person's keys spent is never kept.
        before = counting.asked
        for _ in range(2):
            await days.sums(counting, Wanted(wallet=1, person=7), NOW)
        assert counting.asked == before + 2 * 41

    reading(tmp_path, scene)
    connection.close()


def test_a_call_that_is_rolled_up_meanwhile_counts_once(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    put(connection, [at(1), at(1, 1)])

    async def scene(reader: Reader) -> None:
        days = DaySums()
        assert (await days.sums(reader, Wanted(wallet=1), NOW)).total.calls == 2
        connection.execute("DELETE FROM call WHERE id = ?", (at(1),))
        roll_up(connection, TODAY - 1, ended=1, errors=0, charge=7, input_uncached=12, output=5)
        assert (await days.sums(reader, Wanted(wallet=1), NOW)).total == Sum(2, 0, 14, 24, 10)

    reading(tmp_path, scene)
    connection.close()


def test_what_is_too_much_is_said_and_asking_again_goes_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(day_sums, "LOOKED_AT_MAX", 7)
    connection = furnish(tmp_path)

    async def scene(reader: Reader) -> None:
        days, wanted = DaySums(), Wanted(wallet=1, since=float((TODAY - 10) * DAY_SECONDS))
        first = await days.sums(reader, wanted, NOW)
        assert (first.total.calls, first.back_to) == (6, float((TODAY - 1) * DAY_SECONDS))
        monkeypatch.setattr(day_sums, "LOOKED_AT_MAX", 10)
        second = await days.sums(reader, wanted, NOW)
        assert (second.total.calls, second.back_to) == (10, float((TODAY - 4) * DAY_SECONDS))
        third = await days.sums(reader, wanted, NOW)
        assert (third.total.calls, third.back_to) == (113, None)

    reading(tmp_path, scene)
    connection.close()


def test_a_day_that_is_too_busy_and_days_that_are_too_many_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = furnish(tmp_path)

    async def scene(reader: Reader) -> None:
        monkeypatch.setattr(day_sums, "DAY_CALLS_MAX", 3)
        found = await DaySums().sums(reader, Wanted(wallet=1), NOW)
        assert found.back_to == float((TODAY - 1) * DAY_SECONDS)
        monkeypatch.setattr(day_sums, "DAY_CALLS_MAX", 100)
        monkeypatch.setattr(day_sums, "DAYS_MAX", 3)
        found = await DaySums().sums(reader, Wanted(wallet=1), NOW)
        assert (found.total.calls, found.back_to) == (10, float((TODAY - 2) * DAY_SECONDS))

    reading(tmp_path, scene)
    connection.close()


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(day_sums, "KEPT_ROWS_MAX", 5)
    connection = furnish(tmp_path)

    async def scene(reader: Reader) -> None:
        days = DaySums()
        for _ in range(3):
            assert (await days.sums(reader, Wanted(wallet=1), NOW)).total.calls == 213
            assert days._rows <= 5
            assert days._rows == sum(len(rows) + 1 for rows in days._kept.values())

    reading(tmp_path, scene)
    connection.close()


def test_sums_of_all_wallets_are_not_made(tmp_path: Path) -> None:
    ledger(tmp_path).close()

    async def scene(reader: Reader) -> None:
        with pytest.raises(AssertionError, match="a wallet's"):
            await DaySums().sums(reader, Wanted(), NOW)

    reading(tmp_path, scene)
