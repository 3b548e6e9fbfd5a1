"""What a marketplace shows: the catalog without its secrets, and how well each model did lately.

Rules: health is what this relay measured of its own calls, by (group, model). Only what the
upstream or the relay is to blame for counts against it: what a caller asked wrongly, left, or
could not pay for counts neither way. A sample is taken evenly over the time, `SLICE_ROWS_MAX` calls
of each slice, so that it costs the same on an idle relay and on a busy one. Both are kept for a
while and made by one caller at a time. This module must not know prices' meaning, nor who asks.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from proxy.core.catalog import Catalog
from proxy.core.entities import UsageSource, Verdict
from proxy.core.ids import first_id_at
from proxy.storage.accounts import COMPLETION_TOTAL
from proxy.storage.reader import Reader
from proxy.storage.snapshots import load_public_catalog
from proxy.storage.sqlite import open_reader

SLICE_ROWS_MAX: Final = 200
SLICES: Final = 60
SPEED_TOKENS_MIN: Final = 16
"""Output below which a call says nothing of how fast tokens come."""
_BLAMED: Final = frozenset(
    {Verdict.UPSTREAM_ERROR, Verdict.UPSTREAM_TRUNCATED, Verdict.TIMEOUT, Verdict.INTERNAL_ERROR}
)
_CALLERS_FAULT: Final = frozenset({400, 404, 413, 415, 422})
"""Statuses of an upstream that are passed on, because the request was wrong."""
_SAMPLE: Final = (
    "SELECT group_name, model, verdict, status, stream, source, ttft_ms, duration_ms, "  # noqa: S608 - constants
    f"{COMPLETION_TOTAL} FROM call WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
)


class Period(NamedTuple):
    """How far back health looks, and how long what it saw is shown. Seconds."""

    seconds: float
    kept_seconds: float


HOUR: Final = Period(3_600.0, 20.0)
DAY: Final = Period(86_400.0, 300.0)


class Health(NamedTuple):
    """How a model did in a group. `calls` are those that say something of the upstream."""

    calls: int
    good: int
    ttft_ms: float | None
    """The median of streams; None without any."""
    tokens_per_second: float | None
    """The median of streams, from the first token on."""

    @property
    def success(self) -> float | None:
        """The share of good calls; None without any call."""
        return self.good / self.calls if self.calls else None


class Measured(NamedTuple):
    """Health by (group, model). `whole`: every call of the time was looked at."""

    by_offer: Mapping[tuple[str, str], Health]
    whole: bool


@dataclass(slots=True)
class _Sample:
    calls: int = 0
    good: int = 0
    firsts: list[float] = field(default_factory=list)
    speeds: list[float] = field(default_factory=list)

    def add(self, cells: tuple[Any, ...]) -> None:
        verdict, status, stream, source, ttft_ms, duration_ms, output = cells
        if source == UsageSource.CACHED:
            return
        if verdict == Verdict.COMPLETE:
            self.good += 1
        elif verdict not in _BLAMED or status in _CALLERS_FAULT:
            return
        self.calls += 1
        if verdict != Verdict.COMPLETE or not stream or ttft_ms is None:
            return
        self.firsts.append(ttft_ms)
        if output >= SPEED_TOKENS_MIN and duration_ms > ttft_ms:
            self.speeds.append(output * 1000.0 / (duration_ms - ttft_ms))

    def health(self) -> Health:
        return Health(
            self.calls,
            self.good,
            median(self.firsts) if self.firsts else None,
            median(self.speeds) if self.speeds else None,
        )


async def measure(reader: Reader, now: float, seconds: float) -> Measured:
    """Look at calls of the last `seconds` before `now` (Unix time). Raises sqlite3.Error."""
    samples: defaultdict[tuple[str, str], _Sample] = defaultdict(_Sample)
    whole = True
    step = seconds / SLICES
    begins = now - seconds
    for number in range(SLICES):
        first = first_id_at(begins + number * step)
        above = first_id_at(begins + (number + 1) * step)
        rows = await reader.rows(_SAMPLE, (first, above, SLICE_ROWS_MAX))
        whole = whole and len(rows) < SLICE_ROWS_MAX
        for group, model, *cells in rows:
            samples[group, model].add(tuple(cells))
    return Measured({offer: one.health() for offer, one in samples.items() if one.calls}, whole)


def read_public_catalog(path: Path) -> Catalog:
    """Read groups, models and channels without keys. Raises sqlite3.Error."""
    connection = open_reader(path)
    try:
        connection.execute("BEGIN")
        return load_public_catalog(connection)
    finally:
        connection.close()


class Market:
    """What pages show of the catalog in the file at `path`; `clock` is Unix time."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._catalog: Catalog | None = None
        self._measured: dict[Period, tuple[float, Measured]] = {}
        self._reading = asyncio.Lock()

    async def catalog(self, reader: Reader) -> Catalog:
        """Return the catalog as it is in the file now. Raises sqlite3.Error."""
        async with self._reading:
            ((version,),) = await reader.rows("SELECT version FROM catalog", ())
            known = self._catalog
            if known is None or known.version != version:
                known = self._catalog = await asyncio.to_thread(read_public_catalog, self._path)
            return known

    async def health(self, reader: Reader, period: Period) -> Measured:
        """Return what was measured, at most `kept_seconds` ago. Raises sqlite3.Error."""
        async with self._reading:
            now = self._clock()
            known = self._measured.get(period)
            if known is None or not 0 <= now - known[0] < period.kept_seconds:
                known = self._measured[period] = (now, await measure(reader, now, period.seconds))
            return known[1]
