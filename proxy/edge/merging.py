"""Several processes' figures as one page's, so that no sum ever falls.

Rules: counters and histograms add; gauges by their meaning: open calls and memory add, the worst
breaker and the fullest descriptor table stand for all. A process that ended keeps its counters in
a fold, which has no gauges. Whoever asks remembers what it was told: a process that does not
answer in time still counts with what it said last, its gauges apart, and a new keeper, which
knows of no process that ended before it, does not make the sums fall. This module must not know
how states travel.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from proxy.edge.families import LABEL_SETS_MAX, OTHER, SHORT_BOUNDS
from proxy.edge.state import (
    STATE_VERSION,
    Buckets,
    Counted,
    ProcessFigures,
    Series,
    State,
    buckets,
    decode,
    encode,
)

GONE_MAX = 256
"""How many of the latest ended processes a fold can name."""
SILENT_MAX = 256
"""Processes remembered that neither answer nor are known to have ended; the oldest fold away."""

Key = TypeVar("Key")


@dataclass(slots=True)
class Processes:
    """The processes of one role. `cpu_seconds` includes those that ended."""

    cpu_seconds: float = 0.0
    resident_bytes: int = 0
    open_fds: int = 0
    max_fds: int = 0
    running: int = 0

    def add(self, process: ProcessFigures) -> None:
        """Add one that runs."""
        self.resident_bytes += process.resident_bytes
        self.open_fds = max(self.open_fds, process.open_fds)
        self.max_fds = min(self.max_fds, process.max_fds) if self.running else process.max_fds
        self.running += 1


@dataclass(slots=True)
class Merged:
    """The sums over any number of states. `breakers` by channel name."""

    counted: Counted
    streams: int = 0
    breakers: dict[str, int] = field(default_factory=dict)
    resting: dict[str, int] = field(default_factory=dict)
    """The most keys of a channel's pool that rest in any process."""
    processes: dict[str, Processes] = field(default_factory=dict)
    workers: int = 0
    exits: int = 0
    cache_bytes: int = 0
    cache_entries: int = 0

    def add_gauges(self, state: State) -> None:
        """Add everything of a state but what it counted."""
        self.streams += state.streams
        self.cache_bytes += state.cache_bytes
        self.cache_entries += state.cache_entries
        self.exits += state.exits
        for name, number in state.breakers:
            self.breakers[name] = max(number, self.breakers.get(name, 0))
        for name, number in state.resting:
            self.resting[name] = max(number, self.resting.get(name, 0))
        for role, seconds in state.cpu_seconds.items():
            self._role(role).cpu_seconds += seconds
        if state.process is not None:
            self._role(state.role).add(state.process)
        self.workers += state.role in {"worker", "relay"}

    def _role(self, role: str) -> Processes:
        return self.processes.setdefault(role, Processes())


def nothing_counted() -> Counted:
    """Return counters at zero, none of them shared."""
    return Counted(
        commit_wait=buckets(SHORT_BOUNDS),
        loop_lag=buckets(SHORT_BOUNDS),
        retries={"served": 0, "failed": 0, "refused": 0},
        cache={"hit": 0, "miss": 0, "stored": 0, "evicted": 0, "too_large": 0},
    )


def merge(states: Iterable[State]) -> Merged:
    """Return the sums over `states`, which stay as they are."""
    merged = Merged(nothing_counted())
    for state in states:
        add_counted(merged.counted, state.counted)
        merged.add_gauges(state)
    return merged


def only(state: State) -> Merged:
    """Return one process's state as a page shows it, its counters not copied."""
    merged = Merged(state.counted)
    merged.add_gauges(state)
    return merged


def fold(states: Iterable[bytes]) -> bytes:
    """Return the counters of processes that ended, as one state; empty for nothing readable.

    Any of `states` may be such a sum itself, so that whoever keeps them keeps one.
    """
    known = [state for state in map(decode, states) if state is not None]
    return encode(fold_states(known)) if known else b""


def fold_states(states: Iterable[State]) -> State:
    """The same for records. A state without `exits` is one process that has now ended."""
    counted = nothing_counted()
    cpu_seconds: dict[str, float] = {}
    gone: list[str] = []
    first, exits = "", 0
    for state in states:
        add_counted(counted, state.counted)
        for role, seconds in state.cpu_seconds.items():
            cpu_seconds[role] = cpu_seconds.get(role, 0.0) + seconds
        first = first or state.identity
        exits += state.exits or 1
        gone += state.gone or (state.identity,)
    return State(
        version=STATE_VERSION,
        identity=first,
        counted=counted,
        cpu_seconds=cpu_seconds,
        exits=exits,
        gone=tuple(gone[-GONE_MAX:]),
    )


class Remembered:
    """What one asker was told so far: `update` with each answer; `states` adds up to a page."""

    def __init__(self) -> None:
        self._last: dict[str, State] = {}
        self._answered: frozenset[str] = frozenset()
        self._ended: State | None = None
        self._before: State | None = None
        """Processes that ended under keepers before this one."""

    def update(self, told: Iterable[bytes]) -> None:
        """Take in one answer of the keeper: running processes, and at most one fold."""
        known = [state for state in map(decode, told) if state is not None]
        ended = [state for state in known if state.exits]
        self._take_ended(fold_states(ended) if ended else None)
        gone = () if self._ended is None else self._ended.gone
        running = [state for state in known if not state.exits and state.identity not in gone]
        self._answered = frozenset(state.identity for state in running if not self._knew(state))
        for state in running:
            self._last.pop(state.identity, None)  # so that the longest silent come first
            self._last[state.identity] = state
        silent = [name for name in self._last if name not in self._answered]
        for name in silent[: max(0, len(silent) - SILENT_MAX)]:
            self._before = _with(self._before, self._last.pop(name))

    def nobody_answers(self) -> None:
        """There is no keeper: what was counted stays, what was running is not known."""
        self._answered = frozenset()

    def states(self) -> Iterable[State]:
        """Yield what adds up to the page; gauges only of what answered last."""
        for state in (self._before, self._ended):
            if state is not None:
                yield state
        for name, state in self._last.items():
            yield state if name in self._answered else _silent(state)

    def _knew(self, state: State) -> bool:
        """Whether this was told before: the keeper repeats what it knows of a silent process."""
        last = self._last.get(state.identity)
        return last is not None and last.made == state.made

    def _take_ended(self, ended: State | None) -> None:
        old, self._ended = self._ended, ended
        if old is not None and (ended is None or ended.identity != old.identity):
            self._before = _with(self._before, old)  # a keeper that knows nothing of them
        for name in () if ended is None else ended.gone:
            self._last.pop(name, None)


def add_counted(into: Counted, more: Counted) -> None:
    """Add `more` to `into`, label set by label set, within LABEL_SETS_MAX."""
    for request, count in more.requests.items():
        kept = _fitting(into.requests, request, (request[0], OTHER, OTHER, request[3]))
        into.requests[kept] = into.requests.get(kept, 0) + count
    for name, series in more.series.items():
        _add_series(into.series, _fitting(into.series, name, (name[0], OTHER)), series)
    add_counts(into.errors, more.errors)
    add_counts(into.units, more.units)
    add_counts(into.cost, more.cost)
    add_counts(into.upstream_errors, more.upstream_errors)
    add_counts(into.anomalies, more.anomalies)
    add_counts(into.retries, more.retries)
    add_counts(into.cache, more.cache)
    _add_each(into.added, more.added)
    _add_each(into.gaps, more.gaps)
    add_buckets(into.commit_wait, more.commit_wait)
    add_buckets(into.loop_lag, more.loop_lag)


def add_counts(into: dict[Key, int], more: Mapping[Key, int]) -> None:
    """Add counts; a label set beyond LABEL_SETS_MAX is dropped."""
    for key, count in more.items():
        if key in into or len(into) < LABEL_SETS_MAX:
            into[key] = into.get(key, 0) + count


def add_buckets(into: Buckets, more: Buckets) -> None:
    """Add one histogram to another of the same family."""
    into.counts = [mine + other for mine, other in zip(into.counts, more.counts, strict=True)]
    into.total += more.total


def _add_each(into: dict[str, Buckets], more: Mapping[str, Buckets]) -> None:
    for label, row in more.items():
        if label in into:
            add_buckets(into[label], row)
        elif len(into) < LABEL_SETS_MAX:
            into[label] = Buckets(list(row.counts), row.total)


def _add_series(into: dict[tuple[str, str], Series], name: tuple[str, str], more: Series) -> None:
    mine = into.get(name)
    if mine is None:
        zero = Buckets([0] * len(more.duration.counts)), Buckets([0] * len(more.first_byte.counts))
        mine = into[name] = Series(*zero)
    add_buckets(mine.duration, more.duration)
    add_buckets(mine.first_byte, more.first_byte)
    mine.input += more.input
    mine.cache_read += more.cache_read
    mine.cache_write += more.cache_write
    mine.output += more.output


def _fitting(into: Mapping[Key, object], key: Key, other: Key) -> Key:
    return key if key in into or len(into) < LABEL_SETS_MAX else other


def _with(ended: State | None, state: State) -> State:
    return fold_states([state] if ended is None else [ended, state])


def _silent(state: State) -> State:
    return State(
        version=state.version,
        identity=state.identity,
        counted=state.counted,
        cpu_seconds=state.cpu_seconds,
    )
