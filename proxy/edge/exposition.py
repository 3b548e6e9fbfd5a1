"""Metrics as Prometheus text, in slices short enough to leave the event loop alone.

Rules: one slice is at most `SLICE_LABEL_SETS_MAX` label sets, so rendering thousands of series
is many short steps with the loop's other work between them (`generate_latest` with 200 models
held the loop for 24.5 ms). Each label set is read within one step, so a histogram's buckets,
sum and count agree. Process figures come from prometheus_client's own collector. This module
must not know HTTP.

Source: the Prometheus text exposition format, version 0.0.4.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from proxy.edge import metrics as m
from proxy.edge.metrics import NANO, Buckets, Metric, Metrics
from proxy.storage.ports import KeeperStatistics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SLICE_LABEL_SETS_MAX = 64

Sample = tuple[tuple[str, ...], int | float | str | Buckets]


class Exposition:
    """Renders one `Metrics` plus this process's own figures (own registry, no global one)."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

    def slices(self) -> Iterator[bytes]:
        """The whole page in order; between two slices the caller may do other work."""
        for metric, samples in self._families():
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

    def _families(self) -> Iterator[tuple[Metric, list[Sample]]]:
        counted = self._metrics.counted
        series = counted.series
        yield m.REQUESTS, [(key, n) for key, n in counted.requests.items()]
        yield m.ERRORS, [(key, n) for key, n in counted.errors.items()]
        yield m.DURATION, [(key, row.duration) for key, row in series.items()]
        yield m.FIRST_BYTE, [(key, row.first_byte) for key, row in series.items()]
        yield m.ADDED_LATENCY, [((key,), row) for key, row in counted.added.items()]
        yield m.EVENT_GAP, [((key,), row) for key, row in counted.gaps.items()]
        yield from self._by_model()
        yield m.UPSTREAM_COST, [((key,), usd(n)) for key, n in counted.cost.items()]
        yield m.ANOMALIES, [((key,), n) for key, n in counted.anomalies.items()]
        yield m.UPSTREAM_ERRORS, [(key, n) for key, n in counted.upstream_errors.items()]
        yield m.RETRIES, [((key,), n) for key, n in counted.retries.items()]
        yield m.COMMIT_WAIT, [((), counted.commit_wait)]
        yield m.LOOP_LAG, [((), counted.loop_lag)]
        yield m.STREAMS_ACTIVE, [((), self._metrics.live.streams())]
        yield m.BREAKER, [((name,), state) for name, state in self._metrics.live.breakers()]
        statistics = self._metrics.live.keeper()
        if statistics is not None:
            yield from _keeper(statistics)
        yield m.KEEPER_UP, [((), int(statistics is not None))]
        yield m.BUILD, [(tuple(m.build_labels().values()), 1)]

    def _by_model(self) -> Iterator[tuple[Metric, list[Sample]]]:
        tokens: dict[tuple[str, ...], int] = {}
        for (_endpoint, model), row in list(self._metrics.counted.series.items()):
            for direction in ("input", "cache_read", "cache_write", "output"):
                key = (direction, model)
                tokens[key] = tokens.get(key, 0) + getattr(row, direction)
        yield m.TOKENS, list(tokens.items())


def usd(nano: int) -> str:
    """Nano-USD as a decimal number of dollars, exactly: no float on the way."""
    sign = "-" if nano < 0 else ""
    return f"{sign}{abs(nano) // NANO}.{abs(nano) % NANO:09d}"


def _keeper(statistics: KeeperStatistics) -> Iterator[tuple[Metric, list[Sample]]]:
    yield m.HOLDS_OPEN, [((), statistics.holds_open)]
    yield m.HELD, [((), usd(statistics.held))]
    yield m.HOLD_AGE, [((), statistics.hold_oldest_seconds)]
    yield m.SETTLEMENTS, [(key, n) for key, n in statistics.settlements.items()]
    yield m.CHARGED, [((model,), usd(n)) for model, n in statistics.charged.items()]
    yield m.OPERATOR_EXPENSE, [((), usd(statistics.expense))]
    yield m.IMBALANCE, [((), statistics.imbalance)]
    yield m.COMMITS, [((), statistics.commits)]
    yield m.COMMIT_SECONDS, [((), statistics.commit_seconds)]
    yield m.CHECKPOINT_SECONDS, [((), statistics.checkpoint_seconds)]
    yield m.QUEUE, [((), statistics.queue_depth)]


def _histogram(lines: list[str], metric: Metric, labels: tuple[str, ...], row: Buckets) -> None:
    inner = _pairs(metric.labels, labels)
    start = f'{metric.name}_bucket{{{inner}{"," if inner else ""}le="'
    below = 0
    for bound, count in zip(row.bounds, row.counts, strict=False):
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
