"""What the ledger costs: the same relay with money and without it; metering is on in both.

Rules: instructions are compared per streamed event and per plain request, CPU per plain request,
round by round. `difference` is in per cent for instructions, in microseconds for CPU. The relay
without money must have written no row.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.counting import (
    RATE_SLOWLY,
    STREAMS_SLOWLY,
    has_counter,
    instructions_each,
    missing_tool,
)
from benchmarks.figures import interval
from benchmarks.relays import Relay
from benchmarks.rounds import Bench, Case, of

ROUNDS_MAX = 5
COUNTED_ROUNDS_MAX = 3
STREAMS = Case(
    "money-streams",
    "200 streams, 50/s, 300 events",
    {"kind": "streams", "streams": 200, "events": 300, "pace": 50.0},
)
PLAIN = Case(
    "money-plain",
    "plain, 500/s",
    {"kind": "plain_paced", "seconds": 2.0, "rate": 500.0},
    "requests",
)


@dataclass(frozen=True, slots=True)
class Money:
    """One figure `on` and `off`."""

    what: str
    unit: str
    on: float
    off: float
    difference: float
    spread: str
    void: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        return asdict(self)


def _instructions(bench: Bench, on: Relay, off: Relay, what: str, case: Case, rounds: int) -> Money:
    """In turns, because batching under a varying load moves the count by some per cent."""
    bench.say(f"\n{what}")
    counts: dict[str, list[float]] = {on.name: [], off.name: []}
    void: list[str] = []
    for relay in (on, off):
        bench.warm_up(relay, case)
    for number in range(1, rounds + 1):
        for relay in (on, off):
            each, wrong = instructions_each(bench, relay, case)
            counts[relay.name].append(each)
            void += wrong
            bench.say(f"  round {number} {relay.name:15s} {each:,.0f} an {case.per[:-1]}")
    more = interval([100 * (one / other - 1) for one, other in zip(*counts.values(), strict=True)])
    return Money(
        what,
        f"user instructions, one {case.per[:-1]}; difference in %",
        interval(counts[on.name]).median,
        interval(counts[off.name]).median,
        more.median,
        f"{more.low:.1f}–{more.high:.1f}, {more.rounds} rounds",
        tuple(void),
    )


def compare(
    bench: Bench,
    on: Relay,
    off: Relay,
    cases: Sequence[Case],
    rounds: int,
    slowly: Callable[[], tuple[Relay, Relay]],
) -> tuple[list[Money], list[str]]:
    """(figures, what could not be measured).

    `slowly`: starts both where their instructions can be counted though the processor does not.
    """
    found = []
    for case in cases:
        results = bench.run(case, [on, off], min(rounds, ROUNDS_MAX))
        with_money, without = (of(results, case.name, relay.name) for relay in (on, off))
        pairs = list(zip(with_money, without, strict=True))
        more = interval([one.cpu_us - other.cpu_us for one, other in pairs])
        found.append(
            Money(
                case.name,
                f"µs a {case.per[:-1]}",
                interval([each.cpu_us for each in with_money]).median,
                interval([each.cpu_us for each in without]).median,
                more.median,
                f"{more.low:.1f}–{more.high:.1f}, {more.rounds} rounds",
                tuple(reason for each in results for reason in each.void),
            )
        )
    problem = missing_tool("instructions")
    if problem:
        return found, [f"instructions with and without money: {problem}"]
    streams, plain, notes = STREAMS, PLAIN, []
    if not has_counter():
        notes = ["instructions with and without money: by callgrind, with fewer streams"]
        on, off = slowly()
        streams = replace(STREAMS, job={**STREAMS.job, "streams": STREAMS_SLOWLY})
        plain = replace(PLAIN, job={**PLAIN.job, "rate": RATE_SLOWLY})
    for what, case in (("instructions", streams), ("instructions a request", plain)):
        found.append(_instructions(bench, on, off, what, case, min(rounds, COUNTED_ROUNDS_MAX)))
    for each in found:
        bench.say(
            f"  {each.what} ({each.unit}): on {each.on:,.1f}, off {each.off:,.1f}, "
            f"difference {each.difference:,.2f} ({each.spread})"
        )
    return found, notes
