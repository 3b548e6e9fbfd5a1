"""What is measured, by name. Rules: one table; the driver and the report read it."""

from dataclasses import dataclass

from benchmarks.rounds import Case
from benchmarks.script import ANTHROPIC

PACED = {"kind": "streams", "streams": 200, "events": 100, "pace": 50.0, "ramp_seconds": 0.5}
LONGER = {**PACED, "events": 300}
HEADLINE_ROUNDS_MAX = 99
BESIDE_ROUNDS = 2
RIG_AND_BASELINE = ("direct", "baseline")


@dataclass(frozen=True, slots=True)
class Plan:
    """A case and how many rounds of it a full run takes; `money`: measured without it too.

    `beside`: relays that only show where the rig and the language stand; they take part in the
    first `BESIDE_ROUNDS`.
    """

    case: Case
    rounds_max: int = HEADLINE_ROUNDS_MAX
    beside: tuple[str, ...] = ()
    money: bool = False


CASES = (
    Plan(Case("stream300", "200 streams, 50/s, 300 events", LONGER), beside=RIG_AND_BASELINE),
    Plan(Case("stream100", "200 streams, 50/s, 100 events", PACED), beside=("baseline",)),
    Plan(Case("tls300", "the same, 300 events, TLS upstream", LONGER, tls=True)),
    Plan(Case("tls100", "the same, 100 events, TLS upstream", PACED, tls=True), 2),
    Plan(
        Case(
            "plain_saturated",
            "plain, 64 connections, saturated",
            {"kind": "plain_saturated", "seconds": 1.5},
            "requests",
        ),
        beside=RIG_AND_BASELINE,
        money=True,
    ),
    Plan(
        Case("plain_paced", "plain, 500/s", {"kind": "plain_paced", "seconds": 3.0}, "requests"),
        beside=RIG_AND_BASELINE,
        money=True,
    ),
    Plan(
        Case(
            "single_gap",
            "one stream at a time, 200/s",
            {"kind": "sequence", "streams": 5, "events": 100, "pace": 200.0},
        ),
        beside=RIG_AND_BASELINE,
    ),
    Plan(
        Case(
            "single_first",
            "one stream at a time, 3 events",
            {"kind": "sequence", "streams": 300, "events": 3, "pace": 1000.0},
        ),
        beside=RIG_AND_BASELINE,
    ),
    Plan(Case("anthropic100", "Anthropic, 100 events", {**PACED, "dialect": ANTHROPIC}), 2),
    Plan(Case("usage100", "usage asked for, 100 events", {**PACED, "include_usage": True}), 2),
    Plan(Case("small", "events of 80 bytes", {**PACED, "size": 64}), 2),
    Plan(Case("large", "events of 4 KB", {**PACED, "size": 4096}), 2),
    Plan(Case("batch4", "4 events in one write", {**PACED, "batch": 4}), 2),
    Plan(Case("batch16", "16 events in one write", {**PACED, "batch": 16}), 2),
)

_BY_NAME = {each.case.name: each.case for each in CASES}
QUICK = (
    Plan(_BY_NAME["stream100"]),
    Plan(
        Case(
            "plain_saturated",
            "plain, 64 connections, saturated",
            {"kind": "plain_saturated", "seconds": 1.0},
            "requests",
        )
    ),
    Plan(Case("plain_paced", "plain, 500/s", {"kind": "plain_paced", "seconds": 1.5}, "requests")),
)
