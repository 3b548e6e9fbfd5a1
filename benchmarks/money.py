"""What the ledger costs: the same relay with money and without it; metering is on in both.

Rules: instructions are compared per streamed event and per plain request, CPU per plain request,
round by round. `difference` is in per cent for instructions, in microseconds for CPU. The relay
without money must have written no row.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.counting import count, missing_tool
from benchmarks.figures import interval
from benchmarks.relays import Relay
from benchmarks.rounds import Bench, Case, of

ROUNDS_MAX = 5


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


def compare(
    bench: Bench, on: Relay, off: Relay, cases: Sequence[Case], rounds: int
) -> tuple[list[Money], list[str]]:
    """(figures, what could not be measured)."""
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
    first, second = (count(bench, relay, "instructions") for relay in (on, off))
    void = first.void + second.void
    for what, unit, one, other in (
        ("instructions", "an event of 300, set-up included", first.whole, second.whole),
        ("instructions each further event", "an event", first.slope, second.slope),
        ("instructions a request", "a request", first.per_request, second.per_request),
    ):
        more_share = 100 * (one / other - 1)
        found.append(Money(what, unit, one, other, more_share, "%", void))
    for each in found:
        bench.say(
            f"  {each.what} ({each.unit}): on {each.on:,.1f}, off {each.off:,.1f}, "
            f"difference {each.difference:,.2f} ({each.spread})"
        )
    return found, []
