import asyncio
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.core.ids import EPOCH_MS
from proxy.storage import space, upkeep
from proxy.storage.ports import KeeperUnavailableError
from proxy.storage.upkeep import Care
from proxy.storage.verify import verify
from tests.storage.test_retention import DAY_ZERO, bill, call_id
from tests.storage.test_verify import spoil
from tests.storage.world import closing, keeper, opening, read

START = EPOCH_MS / 1000
DAY = 86_400.0


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """200 calls on each of the first five days there are."""
    path = tmp_path / "sluice.db"
    ids = itertools.product(range(5), range(200))
    bill(path, [{"id": call_id(day, number), "hold": 1} for day, number in ids])
    return path


def at(day: float) -> Callable[[], float]:
    return lambda: START + day * DAY


def left(path: Path) -> int:
    return int(read(path, "SELECT count(*) FROM call")[0][0])


def test_whole_days_are_kept_and_older_ones_rolled_up(ledger: Path) -> None:
    async def main() -> None:
        books = await keeper(ledger, clock=at(4.9))
        assert await books.upkeep.roll_up(3, 60.0) == (200, (), True)
        assert await books.upkeep.roll_up(3, 60.0) == (0, (), True)
        assert await books.upkeep.roll_up(1, 60.0) == (400, (), True)
        with pytest.raises(ValueError, match="at least one day"):
            await books.upkeep.roll_up(0, 60.0)
        await books.close()
        with pytest.raises(KeeperUnavailableError):
            await books.admit(opening(1))

    asyncio.run(main())
    assert left(ledger) == 400
    assert verify(ledger).problems == ()


def test_a_clock_that_jumps_ahead_rolls_nothing_up(ledger: Path) -> None:
    now = START + 4.5 * DAY

    async def main() -> None:
        books = await keeper(ledger, clock=lambda: now, clock_monotonic=lambda: 0.0)
        jump()
        assert books.upkeep.today() == DAY_ZERO + 4
        assert (await books.upkeep.roll_up(30, 1.0)).calls == 0
        await books.close()

    def jump() -> None:
        nonlocal now
        now += 3_650 * DAY

    asyncio.run(main())
    assert left(ledger) == 1000


def test_a_roll_up_is_bounded_and_goes_on_where_it_stopped(ledger: Path) -> None:
    ticks = itertools.count(0.0, 1.0)

    async def main() -> list[int]:
        books = await keeper(ledger, clock=at(4.9), clock_monotonic=lambda: next(ticks))
        done = await books.upkeep.roll_up(1, 5.0)
        assert not done.done
        rest = await books.upkeep.roll_up(1, 10_000.0)
        assert rest.done
        await books.close()
        return [done.calls, rest.calls]

    first, second = asyncio.run(main())
    assert 0 < first < 600
    assert first + second == 600


def test_it_runs_by_itself_and_says_what_it_did(
    ledger: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    odd = call_id(0, 5)
    spoil(ledger, f"UPDATE call SET output = 99 WHERE id = {odd}")
    monkeypatch.setattr(upkeep, "FIRST_SECONDS", 0.0)
    told = asyncio.Event()

    async def main() -> None:
        books = await keeper(ledger, clock=at(4.9), care=Care(detail_days=2))
        report = books.upkeep._report

        def reported(done: upkeep.RolledUp) -> None:
            report(done)
            told.set()

        monkeypatch.setattr(books.upkeep, "_report", reported)
        await asyncio.wait_for(told.wait(), 30)
        await books.close()

    asyncio.run(main())
    assert "399 calls older than 2 days were rolled up" in caplog.text
    assert "1 old calls do not agree" in caplog.text
    assert left(ledger) == 601


def test_calls_are_served_while_old_ones_leave(ledger: Path) -> None:
    """Every admission and settlement made during a roll-up is there after it."""
    made: list[int] = []

    async def main() -> None:
        books = await keeper(ledger, clock=at(4.9))
        rolling = asyncio.ensure_future(books.upkeep.roll_up(1, 60.0))
        number = call_id(4, 1000)
        while not rolling.done():
            number += 1
            await books.admit(opening(number, hold=1))
            await books.settle(closing(number)).committed
            made.append(number)
        assert (await rolling).calls == 600
        await books.close()

    asyncio.run(main())
    assert len(made) > 10, "a step lets others commit"
    assert left(ledger) == 400 + len(made)
    assert verify(ledger).problems == ()


def test_a_disk_that_fills_up_stops_admission_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = 10_000

    async def main() -> None:
        nonlocal free
        monkeypatch.setattr(space.SpaceWatch, "start", space.SpaceWatch.look)
        books = await keeper(tmp_path / "sluice.db", care=Care(disk_free_bytes_min=8_000))
        monkeypatch.setattr(books.upkeep.space, "_measure", lambda _path: free)
        books.upkeep.space.look()
        await books.admit(opening(1))
        free = 7_999
        books.upkeep.space.look()
        assert "nearly full" in str(books.unready)
        with pytest.raises(KeeperUnavailableError, match="nearly full"):
            await books.admit(opening(2))
        await books.settle(closing(1)).committed
        assert books.upkeep.space.free == 7_999
        free = 9_000
        books.upkeep.space.look()
        assert books.unready is None
        await books.admit(opening(3))
        await books.close()

    asyncio.run(main())
    assert "admitting nothing new" in caplog.text
    assert "enough free space again" in caplog.text


def test_free_space_is_measured_where_the_database_is(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db", care=Care(disk_free_bytes_min=1))
        least, most = 0, shutil.disk_usage(tmp_path).total
        assert least < books.upkeep.space.free <= most
        assert space.free_bytes(tmp_path) > 0
        await books.close()

    asyncio.run(main())
