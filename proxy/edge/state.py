"""What one process has counted, as plain records that travel between processes.

Rules: a counter only grows; a gauge is what it was when the record was made. A record says its
version; one of another version is left out of a sum, never misread. Added fields have defaults,
so that the release before can be read while it is being replaced. This module must not know what
a call is, nor how sums are made (edge/merging.py).
"""

import os
import resource
import time
from bisect import bisect_left
from pathlib import Path

import msgspec
from msgspec import Struct

from proxy.edge.families import DURATION_BOUNDS, FIRST_BYTE_BOUNDS, GAP_BOUNDS, SHORT_BOUNDS

STATE_VERSION = 1
"""Raised when buckets or labels change; processes of two releases meet during an upgrade."""
STATE_BYTES_MAX = 4 << 20
"""Above what LABEL_SETS_MAX label sets come to; more is not a record of ours."""

_PROC = Path("/proc/self")


class Buckets(Struct, array_like=True):
    """One histogram: `counts` has one more slot than its family has bounds; `total` is a sum."""

    counts: list[int]
    total: float = 0.0

    def observe(self, bounds: tuple[float, ...], value: float) -> None:
        """Count one observation; a bucket includes its upper edge, as Prometheus has it."""
        self.counts[bisect_left(bounds, value)] += 1
        self.total += value


def buckets(bounds: tuple[float, ...]) -> Buckets:
    """Return an empty histogram for `bounds`."""
    return Buckets([0] * (len(bounds) + 1))


class Series(Struct, array_like=True):
    """What one (endpoint, model) pair adds up to; one dictionary look-up finds all of it.

    Token counts as billed; seconds.
    """

    duration: Buckets
    first_byte: Buckets
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0


class Counted(Struct, kw_only=True):
    """All that is counted: label values (in the order of the family's labels) to numbers.

    `cost` is nano-USD by channel; `series` is by (endpoint, model); `units` counts audio in
    milliseconds.
    """

    commit_wait: Buckets
    loop_lag: Buckets
    series: dict[tuple[str, str], Series] = {}
    requests: dict[tuple[str, str, str, str], int] = {}
    errors: dict[tuple[str, str], int] = {}
    units: dict[tuple[str, str], int] = {}
    added: dict[str, Buckets] = {}
    gaps: dict[str, Buckets] = {}
    cost: dict[str, int] = {}
    upstream_errors: dict[tuple[str, str], int] = {}
    anomalies: dict[str, int] = {}
    retries: dict[str, int] = {}
    cache: dict[str, int] = {}


class ProcessFigures(Struct, array_like=True, frozen=True):
    """What a process takes of its machine now."""

    resident_bytes: int
    open_fds: int
    max_fds: int


class State(Struct, kw_only=True, frozen=True):
    """One process's figures, or the sums of processes that have ended.

    `identity` is another for every process there ever was. Of ended processes only what is
    counted is left: `exits` of them, the first being `identity` and the latest `gone`.
    `made` is another each time: who is told the same twice knows that nobody answered.
    `breakers`: (channel name, state as in the help of sluice_breaker_state). `resting`: (channel
    name, keys of its pool that rest after a refusal).
    `cpu_seconds` is by role.
    """

    version: int
    identity: str
    counted: Counted
    role: str = ""
    made: int = 0
    streams: int = 0
    breakers: tuple[tuple[str, int], ...] = ()
    resting: tuple[tuple[str, int], ...] = ()
    cpu_seconds: dict[str, float] = {}
    process: ProcessFigures | None = None
    exits: int = 0
    gone: tuple[str, ...] = ()
    cache_bytes: int = 0
    cache_entries: int = 0


class StorageFigures(Struct, frozen=True):
    """Sizes of the ledger's files and what is left of the disk they are on. Bytes."""

    database_bytes: int
    wal_bytes: int
    free_bytes: int


class OpenHolds(Struct, frozen=True):
    """Holds on wallets open now. `held` nano-USD."""

    count: int
    held: int
    oldest_seconds: float


def encode(state: State) -> bytes:
    """Return a record as bytes: one pass in C, a millisecond for thousands of label sets."""
    return _ENCODER.encode(state)


def decode(text: bytes) -> State | None:
    """Return the record, or None if it is not one of this version."""
    if len(text) > STATE_BYTES_MAX:
        return None
    try:
        if _VERSION.decode(text).version != STATE_VERSION:
            return None
        state = _DECODER.decode(text)
    except msgspec.DecodeError:
        return None
    return state if _has_our_buckets(state.counted) else None


def _has_our_buckets(counted: Counted) -> bool:
    """Whether every histogram has the slots of its family, so that sums can rely on it."""
    short = [counted.commit_wait, counted.loop_lag, *counted.added.values()]
    return (
        all(len(row.counts) == len(SHORT_BOUNDS) + 1 for row in short)
        and all(len(row.counts) == len(GAP_BOUNDS) + 1 for row in counted.gaps.values())
        and all(
            len(row.duration.counts) == len(DURATION_BOUNDS) + 1
            and len(row.first_byte.counts) == len(FIRST_BYTE_BOUNDS) + 1
            for row in counted.series.values()
        )
    )


def own_process() -> ProcessFigures:
    """Measure this process. Source: proc(5)."""
    directory = _PROC / "fd"
    pages = int((_PROC / "statm").read_text(encoding="ascii").split()[1])
    return ProcessFigures(
        resident_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
        # Its size since Linux 6.2; before, thousands of names would be read at each scrape.
        open_fds=directory.stat().st_size or sum(1 for _ in directory.iterdir()),
        max_fds=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def own_cpu_seconds() -> float:
    """CPU time of this process, user and system."""
    return time.process_time()


class _Version(Struct):
    version: int


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(State)
_VERSION = msgspec.msgpack.Decoder(_Version)
