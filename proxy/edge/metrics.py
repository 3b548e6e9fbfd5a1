"""How a call's figures become counters without costing the stream.

Rules: a call keeps plain ints and hands them over once, at its end, by `Metrics.observe`, or as
`CallFigures`; nothing here runs per event. Labels are bounded: a model or channel that is not in
the catalog is `other`, and `LABEL_SETS_MAX` bounds what catalogs come to over time.
Live gauges are asked at scrape time. This module must not know how the text is served, nor touch
the event loop.
"""

import os
import platform
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from time import time_ns
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import astuple

import proxy
from proxy.core.cache import ResponseCache
from proxy.core.entities import Attempt, Usage
from proxy.edge.families import (
    AUDIO_SECOND,
    DURATION_BOUNDS,
    FIRST_BYTE_BOUNDS,
    GAP_BOUNDS,
    LABEL_SETS_MAX,
    OTHER,
    SHORT_BOUNDS,
)
from proxy.edge.merging import nothing_counted
from proxy.edge.state import (
    STATE_VERSION,
    Buckets,
    Counted,
    ProcessFigures,
    Series,
    State,
    StorageFigures,
    buckets,
    encode,
    own_cpu_seconds,
    own_process,
)
from proxy.storage.ports import KeeperStatistics

_SERVED: Final = "served"

Label = TypeVar("Label")


class CallFigures(Struct, gc=False):
    """One ended call, in plain numbers: seconds, tokens, nano-USD.

    `code` is the HTTP status the client saw (499 when it left before any); `gap` is the mean time
    between a stream's events. `attempts` are the call's tries at upstreams in order, the last one
    being the one that served, if any did. Money is not here: what was posted is the keeper's to
    say.
    """

    endpoint: str
    model: str = OTHER
    channel_id: int | None = None
    code: int = 200
    error: str | None = None
    duration: float = 0.0
    first_byte: float | None = None
    added: float | None = None
    gap: float | None = None
    usage: Usage | None = None
    attempts: tuple[Attempt, ...] = ()
    retry_refused: bool = False
    anomalies: tuple[str, ...] = ()


@dataclass(slots=True)
class Live:
    """Where gauges come from, asked at each scrape on the event loop; all must be quick.

    `breakers` yields (channel name, state number as in BREAKER's help), `resting` (channel name,
    keys that rest after a refusal). `keeper` may return None while it is not running. `storage` may
    return None where there are no files.
    """

    streams: Callable[[], int] = int
    keeper: Callable[[], KeeperStatistics | None] = lambda: None
    breakers: Callable[[], Iterable[tuple[str, int]]] = tuple
    storage: Callable[[], StorageFigures | None] = lambda: None
    process: Callable[[], ProcessFigures] = own_process
    cache: Callable[[], ResponseCache | None] = lambda: None
    resting: Callable[[], Iterable[tuple[str, int]]] = tuple


class _Row(Struct, gc=False):
    """Where calls of one endpoint, model, channel and status are counted: looked up once a call."""

    request: tuple[str, str, str, str]
    series: Series
    calls: int = 0
    """Those that are not in `Counted.requests` yet."""
    added: Buckets | None = None
    gaps: Buckets | None = None


class Metrics:
    """Adds up ended calls. Not thread-safe: one event loop owns it.

    `role` says what this process is: relay (the only one), worker, keeper or console.
    """

    def __init__(self, live: Live | None = None, role: str = "relay") -> None:
        self.live = Live() if live is None else live
        self.role = role
        self._counted = nothing_counted()
        self.commits_at_once = 0
        """Calls, since `counted` was asked for, whose commit nobody waited for: with a redo log
        nearly all."""
        self._identity = f"{os.getpid()}-{time_ns()}"
        self._models: frozenset[str] = frozenset()
        self._channels: Mapping[int, str] = {}
        self._rows: dict[tuple[str, str, int | None, int], _Row] = {}
        """By what a call says, as long as the catalog is the same."""

    def use_catalog(self, models: Iterable[str], channels: Mapping[int, str]) -> None:
        """From now on these model names and channel ids may be labels; the rest is `other`."""
        self._add_calls()
        self._models = frozenset(models)
        self._channels = dict(channels)
        self._rows.clear()

    @property
    def counted(self) -> Counted:
        """All there is until now; it goes on growing, but for calls, which are added when asked."""
        self._add_calls()
        return self._counted

    def _add_calls(self) -> None:
        requests, waits = self._counted.requests, self._counted.commit_wait.counts
        waits[0] += self.commits_at_once
        self.commits_at_once = 0
        for row in self._rows.values():
            requests[row.request] += row.calls
            row.calls = 0

    def observe_call(self, call: CallFigures) -> None:
        """Add one ended call."""
        self.observe(*astuple(call))

    def observe(
        self,
        endpoint: str,
        model: str,
        channel_id: int | None,
        code: int,
        error: str | None,
        seconds: float,
        first_byte: float | None,
        added: float | None,
        gap: float | None,
        usage: Usage | None,
        attempts: tuple[Attempt, ...],
        retry_refused: bool,  # noqa: FBT001 - by position, as all arguments of every call's objects
        anomalies: tuple[str, ...],
    ) -> None:
        """Do so of one whose figures need no record, which are those of `CallFigures`.

        A few dictionary look-ups and int additions, no strings built.
        """
        said = (endpoint, model, channel_id, code)
        row = self._rows.get(said)
        if row is None:
            row = self._row(endpoint, model, channel_id, code)
            if len(self._rows) >= LABEL_SETS_MAX:
                self._add_calls()
                self._rows.clear()
            self._rows[said] = row
        row.calls += 1
        series = row.series
        durations = series.duration
        durations.counts[bisect_left(DURATION_BOUNDS, seconds)] += 1  # as `observe` does
        durations.total += seconds
        if first_byte is not None:
            series.first_byte.observe(FIRST_BYTE_BOUNDS, first_byte)
        if usage is not None:
            series.input += usage.input_uncached + usage.audio_input + usage.image_input
            if usage.cache_read or usage.cache_read_audio or usage.cache_read_image:
                series.cache_read += usage.cached_total
            if usage.cache_write_5m or usage.cache_write_1h:
                series.cache_write += usage.cache_write_5m + usage.cache_write_1h
            series.output += usage.output + usage.audio_output + usage.image_output
            if usage.images or usage.audio_ms or usage.characters or usage.searches:
                _add_units(self._counted.units, row.request[1], usage)
        if added is not None:
            if row.added is None:
                row.added = _buckets(self._counted.added, endpoint, SHORT_BOUNDS)
            row.added.observe(SHORT_BOUNDS, added)
        if gap is not None:
            if row.gaps is None:
                row.gaps = _buckets(self._counted.gaps, endpoint, GAP_BOUNDS)
            row.gaps.observe(GAP_BOUNDS, gap)
        if attempts and (len(attempts) > 1 or attempts[0].cost or attempts[0].outcome != _SERVED):
            self._observe_attempts(attempts)
        if error is not None or anomalies or retry_refused:
            self._observe_trouble(endpoint, error, anomalies, retry_refused=retry_refused)

    def _row(self, endpoint: str, model: str, channel_id: int | None, code: int) -> _Row:
        """Make the row of calls like this one, its label sets within their bound."""
        counted, requests = self._counted, self._counted.requests
        if model not in self._models:
            model = OTHER
        request = (endpoint, model, self._channel(channel_id), str(code))
        if request not in requests and len(requests) >= LABEL_SETS_MAX:
            model = OTHER
            request = (endpoint, model, OTHER, str(code))
        requests.setdefault(request, 0)
        series = counted.series.get((endpoint, model))
        if series is None:
            series = counted.series[endpoint, model] = Series(
                buckets(DURATION_BOUNDS), buckets(FIRST_BYTE_BOUNDS)
            )
        return _Row(request, series)

    def observe_commit_wait(self, seconds: float) -> None:
        """One terminal frame waited `seconds` for its commit, after its call was settled."""
        self._counted.commit_wait.observe(SHORT_BOUNDS, seconds)

    def observe_loop_lag(self, seconds: float) -> None:
        """One timer fired `seconds` late."""
        self._counted.loop_lag.observe(SHORT_BOUNDS, seconds)

    def state(self) -> bytes:
        """Everything counted and asked, for a page made by another process (edge/state.py)."""
        return encode(self.snapshot())

    def snapshot(self) -> State:
        """Return the same as a record that shares the counters with this object."""
        cache = self.live.cache()
        if cache is not None:
            counts = cache.counts
            self._counted.cache = {
                "hit": counts.hits,
                "miss": counts.misses,
                "stored": counts.stored,
                "evicted": counts.evicted,
                "too_large": counts.too_large,
            }
        return State(
            version=STATE_VERSION,
            identity=self._identity,
            role=self.role,
            made=time_ns(),
            counted=self.counted,
            streams=self.live.streams(),
            breakers=tuple(self.live.breakers()),
            resting=tuple(self.live.resting()),
            cpu_seconds={self.role: own_cpu_seconds()},
            process=self.live.process(),
            cache_bytes=0 if cache is None else cache.size,
            cache_entries=0 if cache is None else len(cache),
        )

    def _channel(self, channel_id: int | None) -> str:
        if channel_id is None:
            return "none"
        return self._channels.get(channel_id, OTHER)

    def _observe_attempts(self, attempts: tuple[Attempt, ...]) -> None:
        counted = self._counted
        for attempt in attempts:
            channel = self._channel(attempt.channel_id)
            if attempt.cost:
                counted.cost[channel] = counted.cost.get(channel, 0) + attempt.cost
            if attempt.outcome != _SERVED:
                _bump(counted.upstream_errors, (channel, attempt.outcome))
        if len(attempts) > 1:
            counted.retries[_SERVED if attempts[-1].outcome == _SERVED else "failed"] += 1

    def _observe_trouble(
        self, endpoint: str, error: str | None, anomalies: tuple[str, ...], *, retry_refused: bool
    ) -> None:
        counted = self._counted
        if error is not None:
            _bump(counted.errors, (endpoint, error))
        for kind in anomalies:
            _bump(counted.anomalies, kind)
        if retry_refused:
            counted.retries["refused"] += 1


def build_labels() -> dict[str, str]:
    """The labels of sluice_build_info."""
    return {
        "version": proxy.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def _bump(counts: dict[Label, int], key: Label, by: int = 1) -> None:
    # Codes and kinds come from enums of ours; the bound is for the day one does not.
    if key in counts or len(counts) < LABEL_SETS_MAX:
        counts[key] = counts.get(key, 0) + by


def _add_units(units: dict[tuple[str, str], int], model: str, usage: Usage) -> None:
    for kind, count in (
        ("image", usage.images),
        (AUDIO_SECOND, usage.audio_ms),
        ("character", usage.characters),
        ("search", usage.searches),
    ):
        if count:
            _bump(units, (kind, model), count)


def _buckets(rows: dict[str, Buckets], label: str, bounds: tuple[float, ...]) -> Buckets:
    found = rows.get(label)
    if found is None:
        found = rows[label] = buckets(bounds)
    return found
