"""Metrics as Prometheus text, in slices short enough to leave the event loop alone.

Rules: one slice is at most `SLICE_LABEL_SETS_MAX` label sets, so rendering thousands of series
is many short steps with the loop's other work between them (`generate_latest` with 200 models
held the loop for 24.5 ms). Each label set is read within one step, so a histogram's buckets,
sum and count agree. The `process_` figures of whoever renders come from prometheus_client's own
collector. This module must not know HTTP, nor whose figures were added up.

Source: the Prometheus text exposition format, version 0.0.4.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from proxy.edge import families as f
from proxy.edge.families import AUDIO_SECOND, Metric
from proxy.edge.merging import Merged
from proxy.edge.metrics import build_labels
from proxy.edge.state import Buckets, OpenHolds, StorageFigures
from proxy.storage.ports import KeeperStatistics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SLICE_LABEL_SETS_MAX = 64
NANO = 1_000_000_000

Sample = tuple[tuple[str, ...], int | float | str | Buckets]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What one page shows. `holds` stands for `statistics` when there is no keeper to ask."""

    merged: Merged
    statistics: KeeperStatistics | None = None
    holds: OpenHolds | None = None
    keeper_up: bool = False
    ready: bool = False
    workers_wanted: int = 1
    storage: StorageFigures | None = None


class Exposition:
    """Renders pictures, and this process's own figures (own registry, no global one)."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

    def slices(self, picture: Picture) -> Iterator[bytes]:
        """The whole page in order; between two slices the caller may do other work."""
        for metric, samples in _families(picture):
            lines = [f"# HELP {metric.name} {_escaped_help(metric.help)}"]
            lines.append(f"# TYPE {metric.name} {metric.kind}")
            for number, (labels, value) in enumerate(samples, 1):
                if isinstance(value, Buckets):
                    _histogram(lines, metric, labels, value)
                else:
                    lines.append(f"{metric.name}{_braces(metric.labels, labels)} {value}")
                if number % SLICE_LABEL_SETS_MAX == 0:
                    yield _joined(lines)
                    lines = []
            yield _joined(lines)
        yield generate_latest(self._registry)


def _families(picture: Picture) -> Iterator[tuple[Metric, list[Sample]]]:
    merged = picture.merged
    counted = merged.counted
    series = counted.series
    yield f.REQUESTS, [(key, n) for key, n in counted.requests.items()]
    yield f.ERRORS, [(key, n) for key, n in counted.errors.items()]
    yield f.DURATION, [(key, row.duration) for key, row in series.items()]
    yield f.FIRST_BYTE, [(key, row.first_byte) for key, row in series.items()]
    yield f.ADDED_LATENCY, [((key,), row) for key, row in counted.added.items()]
    yield f.EVENT_GAP, [((key,), row) for key, row in counted.gaps.items()]
    yield f.TOKENS, _tokens(merged)
    yield f.UNITS, [(key, _unit(key[0], n)) for key, n in counted.units.items()]
    yield f.UPSTREAM_COST, [((key,), usd(n)) for key, n in counted.cost.items()]
    yield f.ANOMALIES, [((key,), n) for key, n in counted.anomalies.items()]
    yield f.UPSTREAM_ERRORS, [(key, n) for key, n in counted.upstream_errors.items()]
    yield f.RETRIES, [((key,), n) for key, n in counted.retries.items()]
    yield f.CACHE, [((key,), n) for key, n in counted.cache.items()]
    yield f.CACHE_BYTES, [((), merged.cache_bytes)]
    yield f.CACHE_ENTRIES, [((), merged.cache_entries)]
    yield f.COMMIT_WAIT, [((), counted.commit_wait)]
    yield f.LOOP_LAG, [((), counted.loop_lag)]
    yield f.STREAMS_ACTIVE, [((), merged.streams)]
    yield f.BREAKER, [((name,), state) for name, state in merged.breakers.items()]
    if picture.statistics is not None:
        yield from _keeper(picture.statistics)
    elif picture.holds is not None:
        yield from _holds(picture.holds)
    yield f.KEEPER_UP, [((), int(picture.keeper_up))]
    yield f.READY, [((), int(picture.ready))]
    yield f.WORKERS, [((), merged.workers)]
    yield f.WORKERS_WANTED, [((), picture.workers_wanted)]
    yield f.WORKER_EXITS, [((), merged.exits)]
    yield from _processes(merged)
    if picture.storage is not None:
        yield from _storage(picture.storage)
    yield f.BUILD, [(tuple(build_labels().values()), 1)]


def usd(nano: int) -> str:
    """Nano-USD as a decimal number of dollars, exactly: no float on the way."""
    sign = "-" if nano < 0 else ""
    return f"{sign}{abs(nano) // NANO}.{abs(nano) % NANO:09d}"


def _unit(kind: str, count: int) -> int | str:
    """What is counted in thousandths of its unit, exactly; the rest as it is."""
    return f"{count // 1000}.{count % 1000:03d}" if kind == AUDIO_SECOND else count


def _tokens(merged: Merged) -> list[Sample]:
    tokens: dict[tuple[str, ...], int] = {}
    for (_endpoint, model), row in list(merged.counted.series.items()):
        for direction in ("input", "cache_read", "cache_write", "output"):
            key = (direction, model)
            tokens[key] = tokens.get(key, 0) + getattr(row, direction)
    return list(tokens.items())


def _keeper(statistics: KeeperStatistics) -> Iterator[tuple[Metric, list[Sample]]]:
    yield from _holds(
        OpenHolds(statistics.holds_open, statistics.held, statistics.hold_oldest_seconds)
    )
    yield f.SETTLEMENTS, [(key, n) for key, n in statistics.settlements.items()]
    yield f.CHARGED, [((model,), usd(n)) for model, n in statistics.charged.items()]
    yield f.OPERATOR_EXPENSE, [((), usd(statistics.expense))]
    yield f.IMBALANCE, [((), statistics.imbalance)]
    yield f.COMMITS, [((), statistics.commits)]
    yield f.COMMIT_SECONDS, [((), statistics.commit_seconds)]
    yield f.CHECKPOINT_SECONDS, [((), statistics.checkpoint_seconds)]
    yield f.QUEUE, [((), statistics.queue_depth)]


def _holds(holds: OpenHolds) -> Iterator[tuple[Metric, list[Sample]]]:
    yield f.HOLDS_OPEN, [((), holds.count)]
    yield f.HELD, [((), usd(holds.held))]
    yield f.HOLD_AGE, [((), holds.oldest_seconds)]


def _processes(merged: Merged) -> Iterator[tuple[Metric, list[Sample]]]:
    roles = list(merged.processes.items())
    running = [(role, row) for role, row in roles if row.running]
    yield f.PROCESS_CPU, [((role,), row.cpu_seconds) for role, row in roles]
    yield f.PROCESS_RESIDENT, [((role,), row.resident_bytes) for role, row in running]
    yield f.PROCESS_FDS, [((role,), row.open_fds) for role, row in running]
    yield f.PROCESS_FDS_MAX, [((role,), row.max_fds) for role, row in running]


def _storage(storage: StorageFigures) -> Iterator[tuple[Metric, list[Sample]]]:
    files = (("database", storage.database_bytes), ("wal", storage.wal_bytes))
    yield f.DATABASE_BYTES, [((name,), size) for name, size in files]
    yield f.DATA_FREE_BYTES, [((), storage.free_bytes)]


def _histogram(lines: list[str], metric: Metric, labels: tuple[str, ...], row: Buckets) -> None:
    inner = _pairs(metric.labels, labels)
    start = f'{metric.name}_bucket{{{inner}{"," if inner else ""}le="'
    below = 0
    for bound, count in zip(metric.bounds, row.counts, strict=False):
        below += count
        lines.append(f'{start}{bound:g}"}} {below}')
    below += row.counts[-1]
    lines.append(f'{start}+Inf"}} {below}')
    around = f"{{{inner}}}" if inner else ""
    lines.append(f"{metric.name}_sum{around} {row.total}")
    lines.append(f"{metric.name}_count{around} {below}")


def _braces(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return f"{{{_pairs(names, values)}}}" if names else ""


def _pairs(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(
        f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)
    )


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _joined(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode() if lines else b""
