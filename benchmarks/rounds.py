"""Interleaved rounds: nginx, Sluice, baseline, nginx, Sluice, ... in one run, none dropped.

Rules: CPU is read when the last answer has arrived and the relay has come to rest. A round is
void with one mismatch, one lost event, one error, or billing rows that differ from requests; one
void round makes its case void. A short warm-up before the first round is not a round and says so.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Interval, interval, ratios
from benchmarks.machine import Child, cpu_of, rss_bytes, steal_seconds
from benchmarks.relays import Mock, Relay
from benchmarks.script import ANTHROPIC, OPENAI, Frames, Script

REST_SECONDS = 0.5
"""Longer than the ledger's database may be behind its log: its rows are part of the cost."""
BILL_SECONDS_MAX = 5.0
DENOMINATOR = "nginx"

Say = Callable[[str], None]


class Generator:
    """The load generator's process."""

    def __init__(self, python: str, log: Path) -> None:
        self.child = Child([python, "-m", "benchmarks.load"], log, pipes=True)
        self._expect("ready")

    def _line(self) -> dict[str, Any]:
        assert self.child.process.stdout is not None
        line = self.child.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load generator ended: {self.child.tail()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def _expect(self, phase: str) -> None:
        found = self._line()
        if found.get("phase") != phase:
            raise RuntimeError(f"expected {phase}, got {found}")

    def begin(self, job: Mapping[str, object]) -> None:
        """Hand over one job and return at once."""
        assert self.child.process.stdin is not None
        self.child.process.stdin.write(json.dumps(job) + "\n")
        self.child.process.stdin.flush()

    def sent(self) -> None:
        """Wait until the last answer is complete."""
        self._expect("sent")

    def findings(self) -> dict[str, Any]:
        """What checking all answers gave."""
        return self._line()


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure. `job` as benchmarks/load.py takes it; `per` is what CPU is divided by.

    `tls`: the mock is reached by TLS.
    """

    name: str
    title: str
    job: Mapping[str, Any]
    per: str = "events"
    tls: bool = False


@dataclass(slots=True)
class Round:
    """What one relay did in one round. CPU in microseconds per event or request."""

    case: str
    relay: str
    number: int
    cpu_us: float
    mock_cpu_us: float
    generator_cpu_us: float
    rate: float
    steal_seconds: float
    load: float
    rss_bytes: int
    findings: dict[str, Any] = field(default_factory=dict)
    mock: dict[str, float] = field(default_factory=dict)
    void: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Bench:
    """A rig: mock, generator, and the numbers that must not repeat."""

    mock: Mock
    generator: Generator
    say: Say
    next_call: int = 1

    def job(self, relay: Relay, case: Case) -> dict[str, Any]:
        """The case's job against one relay."""
        job = {**case.job, "key": relay.key, "first_call": self.next_call}
        job["port"] = relay.tls_port if case.tls and relay.tls_port else relay.port
        if job.get("dialect", OPENAI) == ANTHROPIC:
            job.setdefault("path", "/v1/messages")
            job.setdefault("model", "claude-sonnet-4-5")
        self.next_call += 200_000
        return job

    def measure(self, relay: Relay, case: Case, number: int) -> Round:
        """One round of one relay."""
        job = self.job(relay, case)
        self.mock.reset()
        billed = relay.billed()
        steal = steal_seconds()
        trees = (relay.pids, [self.mock.child.pid], [self.generator.child.pid])
        before = [cpu_of(pids) for pids in trees]
        self.generator.begin(job)
        self.generator.sent()
        generator_after = cpu_of(trees[2])
        time.sleep(REST_SECONDS)
        after = [cpu_of(trees[0]), cpu_of(trees[1]), generator_after]
        findings = self.generator.findings()
        count = max(1, int(findings[case.per]))
        used = [late.since(early) / 1000 / count for early, late in zip(before, after, strict=True)]
        result = Round(
            case.name,
            relay.name,
            number,
            used[0],
            used[1],
            used[2],
            rate=count / findings["seconds"] if findings["seconds"] else 0.0,
            steal_seconds=steal_seconds() - steal,
            load=os.getloadavg()[0],
            rss_bytes=rss_bytes(relay.pids),
            findings=findings,
            mock=self.mock.statistics(),
        )
        result.void = self._void(relay, job, findings, billed)
        lost = after[0].lost(before[0])
        if lost:
            findings["threads_ended"] = lost
        return result

    def _void(
        self, relay: Relay, job: Mapping[str, Any], findings: dict[str, Any], billed: int | None
    ) -> list[str]:
        """Every reason not to believe the round."""
        reasons = [f"{sample}" for sample in findings["error_samples"]]
        if findings["errors"]:
            reasons.append(f"{findings['errors']} of {findings['requests']} answers wrong")
        wanted = expected_events(job)
        if wanted is not None and findings["events"] != wanted:
            reasons.append(f"{findings['events']} events arrived, {wanted} expected")
        if billed is not None:
            deadline = time.monotonic() + BILL_SECONDS_MAX
            rows = (relay.billed() or 0) - billed
            while rows != findings["requests"] and time.monotonic() < deadline:
                time.sleep(0.05)
                rows = (relay.billed() or 0) - billed
            findings["billed"] = rows
            if rows != findings["requests"]:
                reasons.append(f"{rows} rows billed for {findings['requests']} requests")
        return reasons

    def warm_up(self, relay: Relay, case: Case) -> None:
        """A second of the same, so that pools are filled; its figures are thrown away."""
        shorter = {"streams": 20, "events": 20, "seconds": 0.5, "ramp_seconds": 0.2}
        kept = {name: value for name, value in shorter.items() if name in case.job}
        self.generator.begin({**self.job(relay, case), **kept})
        self.generator.sent()
        self.generator.findings()
        time.sleep(REST_SECONDS)

    def run(
        self,
        case: Case,
        relays: Sequence[Relay],
        rounds: int,
        beside: Sequence[Relay] = (),
        beside_rounds: int = 0,
    ) -> list[Round]:
        """All rounds of one case, interleaved, each printed; `beside` run in the first ones."""
        self.say(f"\n{case.title}")
        for relay in (*relays, *beside):
            self.warm_up(relay, case)
        found = []
        for number in range(1, rounds + 1):
            for relay in (*relays, *(beside if number <= beside_rounds else ())):
                result = self.measure(relay, case, number)
                self.say(line(result, case))
                found.append(result)
        return found


def expected_events(job: Mapping[str, Any]) -> int | None:
    """How many events a streaming job must deliver."""
    if job["kind"] not in ("streams", "sequence"):
        return None
    if job.get("upstream"):
        return int(job["streams"]) * int(job["events"])
    script = Script(0, job["events"], job.get("size", 300), dialect=job.get("dialect", OPENAI))
    frames = Frames(script, usage_asked=bool(job.get("include_usage")), chunked=False)
    return int(job["streams"]) * sum(1 for _ in frames.expected())


def line(result: Round, case: Case) -> str:
    """One round as it is printed."""
    findings = result.findings
    parts = [
        f"  round {result.number} {result.relay:9s}",
        f"{result.cpu_us:8.2f} us/{case.per[:-1]}",
        f"{result.rate:9.0f} {case.per}/s",
    ]
    if "gap_us" in findings:
        gap, first = findings["gap_us"], findings["ttft_us"]
        parts.append(f"late p50 {gap.get('p50', 0):6.0f} p99 {gap.get('p99', 0):6.0f} us")
        parts.append(f"first p99 {first.get('p99', 0):6.0f} us")
    else:
        total = findings["total_us"]
        parts.append(f"answer p50 {total.get('p50', 0):6.0f} p99 {total.get('p99', 0):6.0f} us")
    parts.append(f"mock {result.mock_cpu_us:5.1f} generator {result.generator_cpu_us:5.1f} us")
    if result.void:
        parts.append(f"VOID: {'; '.join(result.void)[:300]}")
    return "  ".join(parts)


def of(rounds: Iterable[Round], case: str, relay: str) -> list[Round]:
    """The rounds of one relay in one case, in order."""
    return [each for each in rounds if each.case == case and each.relay == relay]


@dataclass(frozen=True, slots=True)
class Summary:
    """One relay in one case: its own figure and its ratio to nginx in the same rounds."""

    case: str
    relay: str
    cpu: Interval
    ratio: Interval | None
    gap_p99: Interval | None
    gap_ratio: Interval | None
    ttft_p99: Interval | None
    ttft_ratio: Interval | None
    total_p99: Interval | None
    total_ratio: Interval | None
    rate: float
    void: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def _latency(
    rounds: Sequence[Round], base: Mapping[int, Round], name: str
) -> tuple[Interval | None, Interval | None]:
    def p99(each: Round) -> float:
        return float(each.findings.get(name, {}).get("p99", 0.0))

    values = [p99(each) for each in rounds]
    if not values or not all(values):
        return None, None
    return interval(values), _ratio(rounds, base, p99)


def _ratio(
    rounds: Sequence[Round], base: Mapping[int, Round], figure: Callable[[Round], float]
) -> Interval | None:
    """Against nginx in the rounds of the same number; None if one of those is missing."""
    others = [figure(base[each.number]) if each.number in base else 0.0 for each in rounds]
    return ratios([figure(each) for each in rounds], others) if all(others) else None


def summarise(rounds: Sequence[Round], cases: Sequence[Case]) -> list[Summary]:
    """Median, interval and ratio of every relay in every case, in order of measurement."""
    found = []
    for case in cases:
        names = dict.fromkeys(each.relay for each in rounds if each.case == case.name)
        base = {each.number: each for each in of(rounds, case.name, DENOMINATOR)}
        for name in names:
            mine = of(rounds, case.name, name)
            costs = [each.cpu_us for each in mine]
            gap, gap_ratio = _latency(mine, base, "gap_us")
            ttft, ttft_ratio = _latency(mine, base, "ttft_us")
            total, total_ratio = _latency(mine, base, "total_us")
            found.append(
                Summary(
                    case.name,
                    name,
                    interval(costs),
                    None
                    if name in (DENOMINATOR, "direct")
                    else _ratio(mine, base, lambda each: each.cpu_us),
                    gap,
                    gap_ratio,
                    ttft,
                    ttft_ratio,
                    total,
                    total_ratio,
                    rate=interval([each.rate for each in mine]).median,
                    void=tuple(reason for each in mine for reason in each.void),
                )
            )
    return found
