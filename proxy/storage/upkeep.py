"""What a keeper does beside its calls: watches the disk, lets old detail leave.

Rules: the roll-up runs on the writer thread a few calls at a time, and takes a small share of that
thread's time, so that no commit waits long for it. "Old" is measured by the earlier of the wall
clock and of what has passed since the start: a clock that jumps ahead deletes nothing. Whatever
fails here is told and never ends the keeper. This module must not know HTTP, nor how to log.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from proxy.storage.ports import KeeperUnavailableError
from proxy.storage.retention import RollUp, Step, first_id_of
from proxy.storage.space import SpaceWatch
from proxy.storage.writer import Writer

DAY_SECONDS = 86_400
FIRST_SECONDS = 60.0
"""After a start there is more urgent work than this."""
PERIOD_SECONDS = 3_600.0
"""Between looks for a day that has become old enough: at most one in 24 finds one."""
WRITER_SHARE = 10
"""The roll-up rests nine times as long as each of its steps took."""
REST_SECONDS_MIN = 0.005


@dataclass(frozen=True, slots=True)
class Care:
    """What an operator asked for. 0 days: detail stays for ever; 0 bytes: the disk may fill up.

    `fallback_plan`: of whoever cannot pay for theirs (storage/renewals.py).
    """

    detail_days: int = 0
    disk_free_bytes_min: int = 0
    fallback_plan: str = ""


NO_CARE = Care()


class RolledUp(NamedTuple):
    """What a roll-up did. `done`: nothing older than the limit is left, but what was `kept`."""

    calls: int
    kept: tuple[int, ...]
    """Calls that disagree with their transfers or price; the first few ids."""
    done: bool


class Upkeep:
    """Runs from `start` to `stop`, on the loop of the keeper."""

    def __init__(
        self,
        writer: Writer,
        path: Path,
        care: Care,
        clock: Callable[[], float],
        clock_monotonic: Callable[[], float],
        *,
        told: Callable[[str], object],
    ) -> None:
        self.space = SpaceWatch(path, care.disk_free_bytes_min, self._space_changed)
        self._writer = writer
        self._care = care
        self._clock = clock
        self._monotonic = clock_monotonic
        self._started = (clock(), clock_monotonic())
        self._told = told
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Watch the disk, and roll up once a day."""
        self.space.start()
        if self._care.detail_days:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Watch and roll up no more; a step under way is finished. Safe to call twice."""
        self.space.stop()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def moment(self) -> float:
        """The time, in Unix seconds, that it is at least."""
        wall, monotonic = self._started
        passed = self._monotonic() - monotonic
        return min(self._clock(), wall + passed)

    def today(self) -> int:
        """The UTC day, counted from 1970, that it is at least."""
        return int(self.moment() // DAY_SECONDS)

    async def roll_up(self, detail_days: int, seconds_max: float) -> RolledUp:
        """Let calls leave that are older than `detail_days` whole days; at most so long.

        Raises ValueError if sums did not come out equal (nothing is changed by that step),
        KeeperUnavailableError.
        """
        if detail_days < 1:
            raise ValueError("at least one day of detail is kept")
        walk = RollUp(first_id_of(self.today() - detail_days))
        calls = 0
        deadline = self._monotonic() + seconds_max
        while self._monotonic() < deadline:
            began = perf_counter()
            step: Step = await self._writer.call(walk.step)
            calls += step.rolled_up
            if step.done:
                return RolledUp(calls, tuple(walk.kept), done=True)
            rest = (perf_counter() - began) * (WRITER_SHARE - 1)
            await asyncio.sleep(max(REST_SECONDS_MIN, rest))
        return RolledUp(calls, tuple(walk.kept), done=False)

    async def flush(self) -> None:
        """Wait until the database file has everything decided before. KeeperUnavailableError."""
        await self._writer.call(lambda _connection: None)

    async def _run(self) -> None:
        delay = FIRST_SECONDS
        while True:
            await asyncio.sleep(delay)
            delay = PERIOD_SECONDS
            try:
                done = await self.roll_up(self._care.detail_days, DAY_SECONDS)
            except ValueError as error:
                self._told(f"old calls were not rolled up: {error}")
            except KeeperUnavailableError:
                return
            else:
                self._report(done)

    def _report(self, done: RolledUp) -> None:
        if done.calls:
            days = self._care.detail_days
            self._told(f"{done.calls} calls older than {days} days were rolled up")
        if done.kept:
            self._told(
                f"{len(done.kept)} old calls do not agree with their transfers or price and were "
                "not rolled up: see `sluice ledger verify`"
            )

    def _space_changed(self, reason: str | None) -> None:
        if reason is None:
            self._told("there is enough free space again: admitting")
        else:
            self._told(f"{reason}: admitting nothing new")
