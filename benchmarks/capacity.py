"""Capacity: events a second on one core at which p99 lateness crosses 5 ms, nothing lost.

Rules: the relay's threads are kept on one core, mock and generator on the others. A step is a
paced run of 200 streams; the rate grows until a step fails, then the gap is halved. Where the
mock could not keep its own schedule, or the generator's share of time was full, the figure is a
lower bound and says so.
"""

import os
import re
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.machine import pin
from benchmarks.relays import Relay
from benchmarks.rounds import Bench, Case, Round

LATENESS_US_MAX = 5_000.0
SCHEDULE_DELAY_US_MAX = 5_000.0
STREAMS = 200
STEP_SECONDS = 2.0
RAMP_SECONDS = 0.2
GROWTH = 1.3
STEPS_MAX = 20
START_SHARE = 0.85
"""Later ramps begin at this share of what the first one found."""
RATE_FIRST = 10_000.0
RATE_MAX = 200_000.0
ACHIEVED_SHARE_MIN = 0.95
LOSSES_SHOWN_MAX = 3
RIG_ATTEMPTS_MAX = 3
_WRONG_BYTES = re.compile("differs|too many")


@dataclass(frozen=True, slots=True)
class Capacity:
    """Median over repetitions, events a second. `limited_by_rig`: a lower bound.

    Loss beyond the knee is what a ramp looks for: it is told and makes nothing void. A wrong byte
    does, and so does a relay that held no rate at all.
    """

    relay: str
    events_per_second: float
    repetitions: tuple[float, ...]
    limited_by_rig: bool
    beyond_the_knee: tuple[str, ...]
    void: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        return asdict(self)


def _step(bench: Bench, relay: Relay, rate: float) -> Round:
    pace = rate / STREAMS
    case = Case(
        "capacity",
        "capacity",
        {
            "kind": "streams",
            "streams": STREAMS,
            "events": int(pace * STEP_SECONDS),
            "pace": pace,
            "ramp_seconds": RAMP_SECONDS,
            "timeout_seconds": 15.0,
        },
    )
    return bench.measure(relay, case, 1)


def _judge(result: Round, rate: float) -> tuple[bool, bool]:
    """(the relay kept up, the rig kept up)."""
    gap = result.findings["gap_us"].get("p99", float("inf"))
    offered = rate * STEP_SECONDS / (STEP_SECONDS + RAMP_SECONDS)
    rig = result.mock["schedule_delay_us_p99"] <= SCHEDULE_DELAY_US_MAX
    rig = rig and result.rate >= ACHIEVED_SHARE_MIN * offered
    return not result.void and gap <= LATENESS_US_MAX, rig


def _settled_step(bench: Bench, relay: Relay, rate: float) -> tuple[Round, bool, bool]:
    """A step, done again where not the relay but the rig fell behind."""
    for _ in range(RIG_ATTEMPTS_MAX - 1):
        result = _step(bench, relay, rate)
        good, rig = _judge(result, rate)
        if rig:
            return result, good, rig
    result = _step(bench, relay, rate)
    return result, *_judge(result, rate)


def _ramp(bench: Bench, relay: Relay, rate: float) -> tuple[float, bool, list[str]]:
    """One ramp: the highest rate that held, whether the rig was the limit, what went wrong."""
    held, failed = 0.0, 0.0
    limited = False
    void: list[str] = []
    for _ in range(STEPS_MAX):
        result, good, rig = _settled_step(bench, relay, rate)
        bench.say(
            f"    {relay.name:9s} {rate:8.0f}/s: p99 {result.findings['gap_us'].get('p99', 0):8.0f}"
            f" us, mock behind p99 {result.mock['schedule_delay_us_p99']:8.0f} us, relay "
            f"{result.cpu_us * result.rate / 1e6:.2f} core  {'held' if good and rig else 'failed'}"
        )
        if good and rig:
            held = rate
        else:
            failed, limited = rate, not rig
            void += result.void
        if rate >= RATE_MAX or (failed and failed / max(held, 1.0) < 1.06):
            break
        rate = (held + failed) / 2 if failed else rate * GROWTH
    return held, limited, void


def capacity(bench: Bench, relay: Relay, repetitions: int) -> Capacity:
    """The knee, as the median of several ramps."""
    cores = sorted(os.sched_getaffinity(0))
    own, others = {cores[-1]}, set(cores[:-1]) or {cores[-1]}
    for pid in relay.pids:
        pin(pid, own)
    pin(bench.mock.child.pid, others)
    pin(bench.generator.child.pid, others)
    try:
        ramps = [_ramp(bench, relay, RATE_FIRST)]
        for _ in range(repetitions - 1):
            ramps.append(_ramp(bench, relay, max(RATE_FIRST, START_SHARE * ramps[0][0])))
    finally:
        for pid in (*relay.pids, bench.mock.child.pid, bench.generator.child.pid):
            pin(pid, set(cores))
    rates = tuple(held for held, _, _ in ramps)
    lost = tuple(dict.fromkeys(reason for _, _, reasons in ramps for reason in reasons))
    void = tuple(reason for reason in lost if _WRONG_BYTES.search(reason))
    if not all(rates):
        void += ("a ramp held no rate",)
    found = Capacity(
        relay.name,
        median(rates),
        rates,
        any(limited for _, limited, _ in ramps),
        lost[:LOSSES_SHOWN_MAX],
        void,
    )
    bench.say(
        f"  {relay.name:9s} {'at least ' if found.limited_by_rig else ''}"
        f"{found.events_per_second:,.0f} events a second on one core"
    )
    return found
