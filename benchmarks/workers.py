"""What a second worker costs: the same load on one process and on keeper plus two workers.

Rules: CPU of the whole process tree (supervisor, keeper, workers, console) per streamed event,
round by round, in one interleaved run. Both have everything on and bill into a ledger of their
own. At most 15 % more is wanted at 300 events a stream (`targets.py`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.figures import interval, ratios
from benchmarks.relays import Relay
from benchmarks.rounds import Bench, Case, of

STREAMS = Case(
    "workers300",
    "200 streams, 50/s, 300 events, one process and two workers",
    {"kind": "streams", "streams": 200, "events": 300, "pace": 50.0, "ramp_seconds": 0.5},
)
PLAIN = Case(
    "workers_plain",
    "plain, 500/s, one process and two workers",
    {"kind": "plain_paced", "seconds": 3.0},
    "requests",
)


@dataclass(frozen=True, slots=True)
class Workers:
    """CPU with two workers ÷ CPU with one; `one` and `two` are medians in microseconds."""

    what: str
    one: float
    two: float
    ratio: float
    spread: str
    void: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        return asdict(self)


def compare(bench: Bench, one: Relay, two: Relay, rounds: int) -> list[Workers]:
    """Both cases, interleaved."""
    return [_compare(bench, case, (one, two), rounds) for case in (STREAMS, PLAIN)]


def _compare(bench: Bench, case: Case, relays: Sequence[Relay], rounds: int) -> Workers:
    results = bench.run(case, relays, rounds)
    single, double = (of(results, case.name, relay.name) for relay in relays)
    costs = [[each.cpu_us for each in side] for side in (single, double)]
    more = ratios(costs[1], costs[0])
    found = Workers(
        f"CPU of two workers ÷ one process, per {case.per[:-1]}",
        interval(costs[0]).median,
        interval(costs[1]).median,
        more.median,
        f"{more.low:.2f}–{more.high:.2f}, {more.rounds} rounds",
        tuple(reason for each in results for reason in each.void),
    )
    bench.say(
        f"  {found.what}: {found.ratio:.3f} ({found.spread}), "
        f"one {found.one:.2f} us, two {found.two:.2f} us"
    )
    return found
