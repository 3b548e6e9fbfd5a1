"""Margins add up, whether the calls still have their detail or only sums are left."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from proxy.core.ids import first_id_at
from proxy.storage.reader import Reader
from proxy.storage.reports import margin as module
from proxy.storage.reports.margin import OTHERS, By, Margin, Report, margin
from proxy.storage.reports.spans import Days
from tests.storage.reports.ledgers import attempt, call, ledger
from tests.storage.reports.test_usage_log import reading
from tests.storage.test_retention import walk
from tests.storage.world import NOW

DAY = 86_400
TODAY = int(NOW // DAY)
BOTH = Days(TODAY - 1, TODAY)


def refund(connection: sqlite3.Connection, of: int, amount: int) -> None:
    connection.execute(
        "INSERT INTO wallet_change VALUES (?, 1, 'refund', ?, 'sorry', ?, ?, 'ann', ?)",
        (of + (1 << 30), amount, f"refund {of}", of, NOW),
    )


def charge(connection: sqlite3.Connection, of: int, kind: str, line: int, amount: int) -> None:
    connection.execute(
        "INSERT INTO transfer (event_id, line, kind, debit, credit, amount, at) "
        "VALUES (?, ?, ?, 9, 2, ?, ?)",
        (of, line, kind, amount, NOW),
    )


def small_world(path: Path) -> list[int]:
    """Two days: served, retried elsewhere first, refused without a channel, forgiven, refunded."""
    connection = ledger(path)
    connection.execute(
        "INSERT INTO channel (name, dialect, base_url, models, groups, priority, weight, "
        "connect_seconds_max, first_byte_seconds_max, idle_seconds_max, allow_private, "
        "usage_option, terminal, costs) SELECT 'spare', dialect, base_url, models, groups, "
        "priority, weight, connect_seconds_max, first_byte_seconds_max, idle_seconds_max, "
        "allow_private, usage_option, terminal, costs FROM channel"
    )
    used: dict[str, Any] = {"input_uncached": 10, "output": 20, "cache_read": 0, "reasoning": 0}
    ids = [
        call(connection, NOW - DAY, charge=50_000, **used),
        call(connection, NOW - DAY, charge=50_000, channel_id=2, **used),
        call(connection, NOW - DAY, charge=0, channel_id=None, status=402, error_code="no_money",
             verdict="rejected", input_uncached=0, output=0, cache_read=0, reasoning=0),
        call(connection, NOW, charge=0, forgiven=50_000, model="thinker", error_code="upstream",
             **used),
        call(connection, NOW, charge=50_000, group_name="double", **used),
    ]  # fmt: skip
    for one in (ids[0], ids[1], ids[4]):
        charge(connection, one, "charge", 0, 50_000)
    charge(connection, ids[3], "forgiven", 1, 50_000)
    costs = ((ids[0], 1, 1, 30_000), (ids[1], 1, 1, 0), (ids[1], 2, 2, 20_000), (ids[4], 1, 1, 0))
    for of, number, channel, cost in costs:
        outcome = "upstream_error" if (of, number) == (ids[1], 1) else "served"
        attempt(connection, of, number=number, channel_id=channel, cost=cost, outcome=outcome)
        if cost:
            charge(connection, of, "upstream_cost", 5, cost)
    refund(connection, ids[1], 10_000)
    connection.close()
    return ids


def report(path: Path, by: By = By.CHANNEL, days: Days = BOTH) -> Report:
    found: list[Report] = []

    async def scene(reader: Reader) -> None:
        found.append(await margin(reader, days, by))

    reading(path, scene)
    return found[0]


def test_every_sum_is_where_it_belongs(tmp_path: Path) -> None:
    small_world(tmp_path)
    found = report(tmp_path)
    assert found.by_name() == [
        ("main", Margin(3, 1, 100_000, 0, 50_000, 3, 30_000, 1)),
        ("spare", Margin(1, 0, 50_000, 10_000, 0, 1, 20_000, 0)),
        ("", Margin(1, 1, 0, 0, 0, 0, 0, 0)),
    ]
    assert [row.margin for _, row in found.by_name()] == [70_000, 20_000, 0]
    assert found.by_day(BOTH) == [
        (TODAY - 1, Margin(3, 1, 100_000, 10_000, 0, 3, 50_000, 0)),
        (TODAY, Margin(2, 1, 50_000, 0, 50_000, 1, 0, 1)),
    ]
    assert found.total().margin == 90_000


def test_the_same_sums_by_model_and_group(tmp_path: Path) -> None:
    small_world(tmp_path)
    by_model, by_group = report(tmp_path, By.MODEL), report(tmp_path, By.GROUP)
    assert [name for name, _ in by_model.by_name()] == ["m", "thinker"]
    assert [name for name, _ in by_group.by_name()] == ["default", "double"]
    assert by_model.total() == by_group.total() == report(tmp_path).total()
    assert dict(by_group.by_name())["double"].charged == 50_000


def test_one_day_has_its_own_calls_only(tmp_path: Path) -> None:
    small_world(tmp_path)
    today = report(tmp_path, days=Days(TODAY, TODAY))
    assert today.total() == Margin(2, 1, 50_000, 0, 50_000, 1, 0, 1)


def test_sums_stay_when_the_detail_leaves(tmp_path: Path) -> None:
    ids = small_world(tmp_path)
    before = report(tmp_path).total()
    by_day = report(tmp_path).by_day(BOTH)
    moved, kept = walk(tmp_path / "sluice.db", first_id_at(NOW))
    assert (moved, kept) == (3, [])
    after = report(tmp_path)
    assert after.total() == before
    assert after.by_day(BOTH) == by_day
    # Only which channel the refunded call had is no longer known.
    assert dict(after.by_name())[OTHERS] == Margin(refunded=10_000)
    assert ids


def test_a_report_is_made_again_when_detail_left_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_world(tmp_path)
    plain = module._summed
    times: list[int] = []

    async def while_it_leaves(reader: Reader, days: Days, name: str) -> Report:
        found = await plain(reader, days, name)
        if not times:
            walk(tmp_path / "sluice.db", first_id_at(NOW))
        times.append(1)
        return found

    monkeypatch.setattr(module, "_summed", while_it_leaves)
    assert report(tmp_path).total().charged == 150_000
    assert len(times) == 2


def test_more_names_than_are_told_apart_are_summed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_world(tmp_path)
    whole = report(tmp_path).total()
    monkeypatch.setattr(module, "NAMES_MAX", 1)
    few = report(tmp_path)
    assert OTHERS in dict(few.by_name())
    assert few.total() == whole


@pytest.mark.parametrize("days", [Days(5, 4), Days(0, 366)])
def test_too_many_days_or_none_are_refused(tmp_path: Path, days: Days) -> None:
    ledger(tmp_path).close()
    with pytest.raises(ValueError, match="between 1 and 366 days"):
        report(tmp_path, days=days)
