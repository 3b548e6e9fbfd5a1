"""Every metric there is: name, kind, labels, meaning, buckets.

Rules: everything exposed is declared in METRICS and nowhere else (README.md's table, the alert
rules and the dashboard are checked against it). No user, key or address is ever a label. Another
kind, label or bucket of a counted family needs another STATE_VERSION (edge/state.py). This module
must not know where values come from.

Source: naming by the Prometheus guide (one prefix, base units, `_total`, `_info`).
"""

from dataclasses import dataclass
from typing import Literal

LABEL_SETS_MAX = 20_000
"""Label sets kept of one family; further ones are counted under OTHER or not at all."""
OTHER = "other"
AUDIO_SECOND = "audio_second"
"""The kind of UNITS that is counted in thousandths."""

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
    "Tokens billed, of audio and images too: input, cache_read, cache_write, output.",
)
UNITS = Metric(
    "sluice_units_total",
    "counter",
    ("kind", "model"),
    "What calls used that is not tokens: image, audio_second, character, search.",
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
CACHE = Metric(
    "sluice_cache_answers_total",
    "counter",
    ("outcome",),
    "Answers looked for (hit, miss), kept (stored), let go for room (evicted), or too_large.",
)
CACHE_BYTES = Metric("sluice_cache_bytes", "gauge", (), "Memory of kept answers.")
CACHE_ENTRIES = Metric("sluice_cache_entries", "gauge", (), "Answers kept now.")
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
READY = Metric(
    "sluice_ready", "gauge", (), "1 while a new call would be admitted, as /readyz says."
)
WORKERS = Metric("sluice_workers", "gauge", (), "Worker processes that answered this scrape.")
WORKERS_WANTED = Metric("sluice_workers_wanted", "gauge", (), "The setting `workers`.")
WORKER_EXITS = Metric(
    "sluice_worker_exits_total", "counter", (), "Worker processes that ended, drained or killed."
)
PROCESS_CPU = Metric(
    "sluice_process_cpu_seconds_total",
    "counter",
    ("process",),
    "CPU time by role: relay (the only process), worker, keeper, console.",
)
PROCESS_RESIDENT = Metric(
    "sluice_process_resident_bytes", "gauge", ("process",), "Resident memory, summed by role."
)
PROCESS_FDS = Metric(
    "sluice_process_open_fds", "gauge", ("process",), "Open descriptors, the most of a role."
)
PROCESS_FDS_MAX = Metric(
    "sluice_process_max_fds",
    "gauge",
    ("process",),
    "Limit of open descriptors, the least of a role.",
)
DATABASE_BYTES = Metric(
    "sluice_database_bytes", "gauge", ("file",), "Size of the ledger: database, wal."
)
DATA_FREE_BYTES = Metric(
    "sluice_data_free_bytes", "gauge", (), "Free space where the data directory is."
)
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
    UNITS,
    CHARGED,
    UPSTREAM_COST,
    OPERATOR_EXPENSE,
    ANOMALIES,
    UPSTREAM_ERRORS,
    RETRIES,
    CACHE,
    CACHE_BYTES,
    CACHE_ENTRIES,
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
    READY,
    WORKERS,
    WORKERS_WANTED,
    WORKER_EXITS,
    PROCESS_CPU,
    PROCESS_RESIDENT,
    PROCESS_FDS,
    PROCESS_FDS_MAX,
    DATABASE_BYTES,
    DATA_FREE_BYTES,
    BUILD,
)
