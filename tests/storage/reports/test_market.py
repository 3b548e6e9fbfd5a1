"""The marketplace's figures are our own measurements, of few rows, and blame who is to blame."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from proxy.core.ids import first_id_at
from proxy.storage.reader import Reader
from proxy.storage.reports import market
from proxy.storage.reports.market import DAY, HOUR, Health, Market, measure
from tests.storage.reports.test_usage_log import ledger, put
from tests.storage.world import NOW

OFFER = ("default", "m")


def reading(path: Path, scene: Callable[[Reader], Awaitable[None]]) -> None:
    async def main() -> None:
        reader = await Reader.open(path / "sluice.db")
        try:
            await scene(reader)
        finally:
            await reader.close()

    asyncio.run(main())


def at(seconds: float, number: int = 0) -> int:
    return first_id_at(NOW + seconds) + number


def test_medians_are_of_streams_and_speed_is_what_came_after_the_first_token(
    tmp_path: Path,
) -> None:
    connection = ledger(tmp_path)
    for number, (first, whole, output) in enumerate(
        [(100, 1100, 50), (200, 2200, 50), (300, 800, 50)]
    ):
        put(connection, [at(-60, number)], ttft_ms=first, duration_ms=whole, output=output)
    put(connection, [at(-50)], ttft_ms=9_000, duration_ms=9_001, stream=0, output=400)
    put(connection, [at(-50, 1)], ttft_ms=250.0, duration_ms=251, output=3)
    put(connection, [at(-50, 2)], ttft_ms=1, duration_ms=2, source="cached")
    put(connection, [at(-50, 3)], group_name="double", ttft_ms=None)

    async def scene(reader: Reader) -> None:
        found = await measure(reader, NOW, 3600)
        assert found.whole
        assert found.by_offer[OFFER] == Health(5, 5, 225.0, 50.0)
        assert found.by_offer["double", "m"] == Health(1, 1, None, None)

    reading(tmp_path, scene)
    connection.close()


@pytest.mark.parametrize(
    ("verdict", "status", "counts"),
    [
        ("upstream_error", 502, True),
        ("upstream_error", 429, True),
        ("upstream_error", 200, True),
        ("upstream_truncated", 502, True),
        ("timeout", 504, True),
        ("internal_error", 500, True),
        ("upstream_error", 400, False),
        ("upstream_error", 422, False),
        ("client_gone", 200, False),
        ("cut_for_balance", 200, False),
        ("cut_for_max_cost", 200, False),
        ("cut_by_shutdown", 200, False),
        ("cut_by_revocation", 200, False),
        ("rejected", 400, False),
    ],
)
def test_only_who_is_to_blame_is_blamed(
    tmp_path: Path, verdict: str, status: int, counts: bool
) -> None:
    connection = ledger(tmp_path)
    put(connection, [at(-2), at(-2, 1), at(-2, 2)])
    put(connection, [at(-1)], verdict=verdict, status=status)

    async def scene(reader: Reader) -> None:
        health = (await measure(reader, NOW, 3600)).by_offer[OFFER]
        assert (health.calls, health.good) == ((4, 3) if counts else (3, 3))
        assert health.success == (0.75 if counts else 1.0)

    reading(tmp_path, scene)
    connection.close()


def test_old_calls_and_those_that_say_nothing_are_no_health(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    put(connection, [at(-4000), at(1)])
    put(connection, [at(-1)], verdict="client_gone", model="left")

    async def scene(reader: Reader) -> None:
        assert (await measure(reader, NOW, 3600)).by_offer == {}
        assert (await measure(reader, NOW, 86_400)).by_offer[OFFER].calls == 1
        assert Health(0, 0, None, None).success is None

    reading(tmp_path, scene)
    connection.close()


def test_a_busy_hour_is_sampled_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market, "SLICE_ROWS_MAX", 5)
    connection = ledger(tmp_path)
    put(connection, [at(-90, number) for number in range(50)])
    put(connection, [at(-30)], model="rare", verdict="timeout")

    async def scene(reader: Reader) -> None:
        found = await measure(reader, NOW, 3600)
        assert not found.whole
        assert found.by_offer[OFFER].calls == 5
        assert found.by_offer["default", "rare"] == Health(1, 0, None, None)

    reading(tmp_path, scene)
    connection.close()


def test_the_sample_is_read_along_the_table(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    plan = connection.execute(f"EXPLAIN QUERY PLAN {market._SAMPLE}", (1, 2, 3)).fetchall()
    assert [row[3] for row in plan] == [
        "SEARCH call USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
    ]
    connection.close()


def test_the_catalog_is_read_again_when_it_changed_and_holds_no_secret(tmp_path: Path) -> None:
    connection = ledger(tmp_path)

    async def scene(reader: Reader) -> None:
        shown = Market(tmp_path / "sluice.db", lambda: NOW)
        first = await shown.catalog(reader)
        assert await shown.catalog(reader) is first
        assert [model.name for model in first.models_for("default")] == ["m", "thinker"]
        assert (dict(first.users), dict(first.keys_by_id)) == ({}, {})
        assert [channel.keys for channel in first.channels.values()] == [()]
        connection.execute("UPDATE channel SET enabled = 0")
        connection.execute("UPDATE catalog SET version = version + 1")
        later = await shown.catalog(reader)
        assert later.version == first.version + 1
        assert later.models_for("default") == ()

    reading(tmp_path, scene)
    connection.close()


def test_health_is_measured_once_for_many_and_anew_when_it_is_old(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    put(connection, [at(-1)])
    now = NOW

    async def scene(reader: Reader) -> None:
        nonlocal now
        shown = Market(tmp_path / "sluice.db", lambda: now)
        found = await asyncio.gather(*[shown.health(reader, HOUR) for _ in range(3)])
        assert found[0] is found[1] is found[2]
        day = await shown.health(reader, DAY)
        assert day is not found[0]
        now += HOUR.kept_seconds
        again = await shown.health(reader, HOUR)
        assert again is not found[0]
        assert await shown.health(reader, DAY) is day
        now -= 1000
        assert await shown.health(reader, HOUR) is not again, "the clock stepped back"

    reading(tmp_path, scene)
    connection.close()


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    connection = ledger(tmp_path)

    async def scene(reader: Reader) -> None:
        shown = Market(tmp_path / "none.db", lambda: NOW)
        with pytest.raises(sqlite3.OperationalError):
            await shown.catalog(reader)

    reading(tmp_path, scene)
    connection.close()
