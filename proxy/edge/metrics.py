"""What is measured, and how a call's figures become counters without costing the stream.

Rules: a call keeps plain ints in its own `CallFigures` and hands them over once, at its end, by
`Metrics.observe_call`; nothing here runs per event. Labels are bounded: a model or channel that
is not in the catalog is `other`, and `LABEL_SETS_MAX` bounds what catalogs come to over time.
No user, key or address is ever a label. Live gauges are asked at scrape time. Everything
exposed is declared in METRICS and nowhere else (README.md's table is checked against it).
This module must not know how the text is served, nor touch the event loop.

Source: naming by the Prometheus guide (one prefix, base units, `_total`, `_info`).
"""

import platform
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import proxy
from proxy.core.entities import Attempt, Usage
from proxy.storage.ports import KeeperStatistics

LABEL_SETS_MAX = 20_000
OTHER = "other"
NANO = 1_000_000_000

GAP_SLOTS = 24
"""Length of `CallFigures.gaps`: slot n counts gaps of [2^(n-1), 2^n) milliseconds."""
GAP_BOUNDS = tuple(2**n / 1000 for n in range(15))
DURATION_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
FIRST_BYTE_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
SHORT_BOUNDS = (
    5e-5,
    1e-4,
    2.5e-4,
    5e-4,
    1e-3,
    2.5e-3,
    5e-3,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    1,
    5,
    15,
)

Label = TypeVar("Label")
Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One exposed family; `bounds` are the upper edges of a histogram's buckets, seconds."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()


REQUESTS = Metric(
    "sluice_requests_total",
    "counter",
    ("endpoint", "model", "channel", "code"),
    "Requests answered, by the HTTP status the client saw.",
)
ERRORS = Metric(
    "sluice_errors_total",
    "counter",
    ("endpoint", "error"),
    "Errors told to clients, before or inside a stream, by stable code.",
)
DURATION = Metric(
    "sluice_request_duration_seconds",
    "histogram",
    ("endpoint", "model"),
    "From the request head to the last byte of the answer.",
    DURATION_BOUNDS,
)
FIRST_BYTE = Metric(
    "sluice_time_to_first_byte_seconds",
    "histogram",
    ("endpoint", "model"),
    "From the request head to the first content byte for the client.",
    FIRST_BYTE_BOUNDS,
)
ADDED_LATENCY = Metric(
    "sluice_added_latency_seconds",
    "histogram",
    ("endpoint",),
    "The relay's own share of the time to first byte: without waiting for the upstream.",
    SHORT_BOUNDS,
)
EVENT_GAP = Metric(
    "sluice_event_gap_seconds",
    "histogram",
    ("endpoint",),
    "Mean time between the events of one stream, one observation a stream.",
    GAP_BOUNDS,
)
TOKENS = Metric(
    "sluice_tokens_total",
    "counter",
    ("direction", "model"),
    "Tokens billed: input, cache_read, cache_write, output (reasoning inside output).",
)
CHARGED = Metric(
    "sluice_charged_usd_total", "counter", ("model",), "Charged to wallets, in US dollars."
)
UPSTREAM_COST = Metric(
    "sluice_upstream_cost_usd_total",
    "counter",
    ("channel",),
    "Presumed owed to upstreams, in US dollars.",
)
OPERATOR_EXPENSE = Metric(
    "sluice_operator_expense_usd_total",
    "counter",
    (),
    "Used but not charged (forgiven, overrun), in US dollars.",
)
ANOMALIES = Metric(
    "sluice_usage_anomalies_total",
    "counter",
    ("kind",),
    "Upstream usage figures that could not be true and were bounded.",
)
UPSTREAM_ERRORS = Metric(
    "sluice_upstream_errors_total",
    "counter",
    ("channel", "kind"),
    "Attempts at an upstream that did not serve, by what ended them.",
)
RETRIES = Metric(
    "sluice_retries_total",
    "counter",
    ("outcome",),
    "Calls that needed another attempt: served, failed, or refused by the retry budget.",
)
COMMIT_WAIT = Metric(
    "sluice_commit_wait_seconds",
    "histogram",
    (),
    "How long terminal frames waited for their charge to be committed.",
    SHORT_BOUNDS,
)
LOOP_LAG = Metric(
    "sluice_event_loop_lag_seconds",
    "histogram",
    (),
    "How late a timer of the event loop fired.",
    SHORT_BOUNDS,
)
STREAMS_ACTIVE = Metric("sluice_streams_active", "gauge", (), "Calls open now.")
BREAKER = Metric(
    "sluice_breaker_state", "gauge", ("channel",), "0 closed, 1 half-open, 2 open, by channel."
)
HOLDS_OPEN = Metric("sluice_holds_open", "gauge", (), "Holds on wallets open now.")
HELD = Metric("sluice_held_usd", "gauge", (), "Money held by open calls, in US dollars.")
HOLD_AGE = Metric("sluice_hold_age_seconds", "gauge", (), "Age of the oldest open hold.")
SETTLEMENTS = Metric(
    "sluice_settlements_total",
    "counter",
    ("verdict", "source"),
    "Calls settled, by verdict and by where their usage came from.",
)
IMBALANCE = Metric(
    "sluice_ledger_imbalance",
    "gauge",
    (),
    "Stored balances less the sum of postings, nano-USD; anything but 0 is a fault.",
)
COMMITS = Metric("sluice_ledger_commits_total", "counter", (), "Batches committed.")
COMMIT_SECONDS = Metric(
    "sluice_ledger_commit_seconds_total", "counter", (), "Time spent in commits."
)
CHECKPOINT_SECONDS = Metric(
    "sluice_ledger_checkpoint_seconds_total", "counter", (), "Time spent in checkpoints."
)
QUEUE = Metric("sluice_ledger_queue_depth", "gauge", (), "Changes waiting for their commit.")
KEEPER_UP = Metric("sluice_keeper_up", "gauge", (), "1 while the keeper admits and settles.")
BUILD = Metric(
    "sluice_build_info",
    "gauge",
    ("version", "python", "sqlite"),
    "Constant 1; the labels say what runs.",
)

METRICS: tuple[Metric, ...] = (
    REQUESTS,
    ERRORS,
    DURATION,
    FIRST_BYTE,
    ADDED_LATENCY,
    EVENT_GAP,
    TOKENS,
    CHARGED,
    UPSTREAM_COST,
    OPERATOR_EXPENSE,
    ANOMALIES,
    UPSTREAM_ERRORS,
    RETRIES,
    COMMIT_WAIT,
    LOOP_LAG,
    STREAMS_ACTIVE,
    BREAKER,
    HOLDS_OPEN,
    HELD,
    HOLD_AGE,
    SETTLEMENTS,
    IMBALANCE,
    COMMITS,
    COMMIT_SECONDS,
    CHECKPOINT_SECONDS,
    QUEUE,
    KEEPER_UP,
    BUILD,
)


class Buckets:
    """One histogram's state as plain numbers: `counts` has one more slot than `bounds`."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation; a bucket includes its upper edge, as Prometheus has it."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


@dataclass(slots=True, kw_only=True)
class CallFigures:
    """One ended call, in plain numbers: seconds, tokens, nano-USD.

    `code` is the HTTP status the client saw (499 when it left before any); `gaps` is None or
    GAP_SLOTS ints indexed by `gap_slot`, with `gap_seconds` their sum (last read less first).
    `attempts` are the call's tries at upstreams in order, the last one being the one that
    served, if any did. Money is not here: what was posted is the keeper's to say.
    """

    endpoint: str
    model: str = OTHER
    channel_id: int | None = None
    code: int = 200
    error: str | None = None
    duration: float = 0.0
    first_byte: float | None = None
    added: float | None = None
    gaps: list[int] | None = None
    gap_seconds: float = 0.0
    usage: Usage | None = None
    attempts: tuple[Attempt, ...] = ()
    retry_refused: bool = False
    anomalies: tuple[str, ...] = ()


def gap_slot(seconds: float) -> int:
    """The slot of `CallFigures.gaps` that counts a gap of `seconds`: one shift, no search."""
    slot = int(seconds * 1000).bit_length()
    return slot if slot < GAP_SLOTS else GAP_SLOTS - 1


def new_gaps() -> list[int]:
    """Zeroes for `CallFigures.gaps`."""
    return [0] * GAP_SLOTS


@dataclass(slots=True)
class Live:
    """Where gauges come from, asked at each scrape on the event loop; all must be quick.

    `breakers` yields (channel name, state number as in BREAKER's help). `keeper` may return
    None while it is not running.
    """

    streams: Callable[[], int] = int
    keeper: Callable[[], KeeperStatistics | None] = lambda: None
    breakers: Callable[[], Iterable[tuple[str, int]]] = tuple


class _Series:
    """What one (endpoint, model) pair adds up to; one dictionary look-up finds all of it."""

    __slots__ = (
        "cache_read",
        "cache_write",
        "duration",
        "first_byte",
        "input",
        "output",
    )

    def __init__(self) -> None:
        self.duration = Buckets(DURATION_BOUNDS)
        self.first_byte = Buckets(FIRST_BYTE_BOUNDS)
        self.input = self.cache_read = self.cache_write = self.output = 0


@dataclass(slots=True)
class Counted:
    """All accumulated state: label values to plain numbers. Read by edge/exposition.py."""

    series: dict[tuple[str, str], _Series] = field(default_factory=dict)
    requests: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    errors: dict[tuple[str, str], int] = field(default_factory=dict)
    added: dict[str, Buckets] = field(default_factory=dict)
    gaps: dict[str, Buckets] = field(default_factory=dict)
    cost: dict[str, int] = field(default_factory=dict)
    upstream_errors: dict[tuple[str, str], int] = field(default_factory=dict)
    anomalies: dict[str, int] = field(default_factory=dict)
    retries: dict[str, int] = field(
        default_factory=lambda: {"served": 0, "failed": 0, "refused": 0}
    )
    commit_wait: Buckets = field(default_factory=lambda: Buckets(SHORT_BOUNDS))
    loop_lag: Buckets = field(default_factory=lambda: Buckets(SHORT_BOUNDS))


class Metrics:
    """Adds up ended calls. Not thread-safe: one event loop owns it."""

    def __init__(self, live: Live | None = None) -> None:
        self.live = Live() if live is None else live
        self.counted = Counted()
        self._models: frozenset[str] = frozenset()
        self._channels: Mapping[int, str] = {}

    def use_catalog(self, models: Iterable[str], channels: Mapping[int, str]) -> None:
        """From now on these model names and channel ids may be labels; the rest is `other`."""
        self._models = frozenset(models)
        self._channels = dict(channels)

    def observe_call(self, call: CallFigures) -> None:
        """Add one ended call: a few dictionary look-ups and int additions, no strings built."""
        counted = self.counted
        model = call.model if call.model in self._models else OTHER
        channel = self._channel(call.channel_id)
        request = (call.endpoint, model, channel, str(call.code))
        requests = counted.requests
        if request not in requests and len(requests) >= LABEL_SETS_MAX:
            model, channel = OTHER, OTHER
            request = (call.endpoint, model, channel, str(call.code))
        requests[request] = requests.get(request, 0) + 1
        series = counted.series.get((call.endpoint, model))
        if series is None:
            series = counted.series[call.endpoint, model] = _Series()
        series.duration.observe(call.duration)
        if call.first_byte is not None:
            series.first_byte.observe(call.first_byte)
        if (usage := call.usage) is not None:
            series.input += usage.input_uncached
            series.cache_read += usage.cache_read
            series.cache_write += usage.cache_write_5m + usage.cache_write_1h
            series.output += usage.output
        if call.added is not None:
            _buckets(counted.added, call.endpoint, SHORT_BOUNDS).observe(call.added)
        if call.gaps is not None:
            _add_gaps(_buckets(counted.gaps, call.endpoint, GAP_BOUNDS), call)
        if call.attempts:
            self._observe_attempts(call.attempts)
        if call.error is not None or call.anomalies or call.retry_refused:
            self._observe_trouble(call)

    def observe_commit_wait(self, seconds: float) -> None:
        """One terminal frame waited `seconds` for its commit, after its call was settled."""
        self.counted.commit_wait.observe(seconds)

    def observe_loop_lag(self, seconds: float) -> None:
        """One timer fired `seconds` late."""
        self.counted.loop_lag.observe(seconds)

    def _channel(self, channel_id: int | None) -> str:
        if channel_id is None:
            return "none"
        return self._channels.get(channel_id, OTHER)

    def _observe_attempts(self, attempts: tuple[Attempt, ...]) -> None:
        counted = self.counted
        for attempt in attempts:
            channel = self._channel(attempt.channel_id)
            if attempt.cost:
                counted.cost[channel] = counted.cost.get(channel, 0) + attempt.cost
            if attempt.outcome != "served":
                _bump(counted.upstream_errors, (channel, attempt.outcome))
        if len(attempts) > 1:
            counted.retries["served" if attempts[-1].outcome == "served" else "failed"] += 1

    def _observe_trouble(self, call: CallFigures) -> None:
        counted = self.counted
        if call.error is not None:
            _bump(counted.errors, (call.endpoint, call.error))
        for kind in call.anomalies:
            _bump(counted.anomalies, kind)
        if call.retry_refused:
            counted.retries["refused"] += 1


def build_labels() -> dict[str, str]:
    """The labels of sluice_build_info."""
    return {
        "version": proxy.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def _bump(counts: dict[Label, int], key: Label) -> None:
    # Codes and kinds come from enums of ours; the bound is for the day one does not.
    if key in counts or len(counts) < LABEL_SETS_MAX:
        counts[key] = counts.get(key, 0) + 1


def _buckets(rows: dict[str, Buckets], label: str, bounds: tuple[float, ...]) -> Buckets:
    found = rows.get(label)
    if found is None:
        found = rows[label] = Buckets(bounds)
    return found


def _add_gaps(buckets: Buckets, call: CallFigures) -> None:
    counts = buckets.counts
    last = len(counts) - 1
    for slot, count in enumerate(call.gaps or ()):
        if count:
            counts[min(slot, last)] += count
    buckets.total += call.gap_seconds
