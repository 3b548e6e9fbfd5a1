"""Memory: what an idle stream costs, and whether a long stream costs more than a short one.

Rules: resident memory of the whole process tree. Idle streams have had their first content event
and wait; the slope from 1,000 to 5,000 is the cost of one. All streams are finished and checked
afterwards, so a relay cannot win by dropping them.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from benchmarks.machine import rss_bytes
from benchmarks.relays import Relay
from benchmarks.rounds import Bench, Case, Generator, expected_events

T = TypeVar("T")
SETTLE_SECONDS = 1.5
OPEN_SECONDS_MAX = 60.0
SAMPLE_SECONDS = 0.02
FEW, MANY = 1_000, 5_000
LONG_EVENT_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Idle:
    """Bytes: resident before any stream, with FEW open, with MANY open; and per stream.

    `beyond_tables`: with MANY open, less what the shared token tables take.
    """

    relay: str
    before: int
    few: int
    many: int
    per_stream: float
    beyond_tables: int
    void: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Long:
    """Peak resident bytes while one stream of 1 MB and one of 100 MB passed."""

    relay: str
    before: int
    peak_short: int
    peak_long: int
    seconds: float
    void: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        return asdict(self)


def _open(bench: Bench, relay: Relay, generator: Generator, job: dict[str, Any], total: int) -> int:
    """Start held streams and wait until `total` are open; returns resident bytes."""
    generator.begin(job)
    deadline = time.monotonic() + OPEN_SECONDS_MAX
    while bench.mock.statistics()["streams"] < total and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(SETTLE_SECONDS)
    return rss_bytes(relay.pids)


def _problems(findings: dict[str, Any], job: dict[str, Any]) -> list[str]:
    wrong = list(findings["error_samples"])
    if findings["events"] != expected_events(job):
        wrong.append(f"{findings['events']} events arrived of {expected_events(job)}")
    return wrong


def token_table_bytes() -> int:
    """What the token tables of the benchmark's models take, measured in a process of its own."""
    program = (
        "from benchmarks.machine import rss_bytes; import os; from proxy.core import tokenizers; "
        "from proxy.core.entities import Tokenizer; before = rss_bytes([os.getpid()]); "
        "tokenizers.preload(Tokenizer.O200K); print(rss_bytes([os.getpid()]) - before)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return int(said.stdout)


def idle_streams(bench: Bench, relay: Relay, second: Generator) -> Idle:
    """The slope of resident memory over open idle streams. `second` opens the later ones."""
    case = Case(
        "idle",
        "idle streams",
        {
            "kind": "streams",
            "streams": FEW,
            "events": 2,
            "pace": 0.0,
            "hold": 1,
            "ramp_seconds": 3.0,
            "timeout_seconds": 120.0,
        },
    )
    bench.warm_up(relay, replace(case, job={**case.job, "hold": 0}))
    bench.mock.reset()
    before = rss_bytes(relay.pids)
    first_job = bench.job(relay, case)
    second_job = {**bench.job(relay, case), "streams": MANY - FEW, "ramp_seconds": 8.0}
    few = _open(bench, relay, bench.generator, first_job, FEW)
    many = _open(bench, relay, second, second_job, MANY)
    bench.mock.release()
    void: list[str] = []
    for generator, job in ((bench.generator, first_job), (second, second_job)):
        generator.sent()
        void += _problems(generator.findings(), job)
    tables = token_table_bytes() if relay.data is not None else 0
    per_stream = (many - few) / (MANY - FEW)
    found = Idle(relay.name, before, few, many, per_stream, many - tables, tuple(void))
    bench.say(
        f"  {relay.name:9s} {before / 1e6:.1f} MB, {few / 1e6:.1f} MB with {FEW}, "
        f"{many / 1e6:.1f} MB with {MANY} idle streams: {found.per_stream / 1000:.2f} kB each"
        + (f"  VOID: {'; '.join(void)[:200]}" if void else "")
    )
    return found


def watched(relay: Relay, action: Callable[[], T]) -> tuple[int, T]:
    """The relay's peak resident memory while `action` runs, and what it returned."""
    peak = rss_bytes(relay.pids)
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(SAMPLE_SECONDS):
            peak = max(peak, rss_bytes(relay.pids))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = action()
    finally:
        over.set()
        watcher.join()
    return peak, result


def _peak(bench: Bench, relay: Relay, case: Case) -> tuple[int, float, list[str]]:
    peak, result = watched(relay, lambda: bench.measure(relay, case, 1))
    return peak, result.findings["seconds"], result.void


def long_stream(bench: Bench, relay: Relay) -> Long:
    """One stream of 1 MB, then one of 100 MB, as fast as it is taken."""
    events = 1_000_000 // LONG_EVENT_BYTES
    case = Case(
        "long",
        "one long stream",
        {
            "kind": "streams",
            "streams": 1,
            "events": events,
            "pace": 0.0,
            "batch": 1,
            "size": LONG_EVENT_BYTES,
            "model": "endless",
            "timeout_seconds": 180.0,
        },
    )
    bench.warm_up(relay, case)
    before = rss_bytes(relay.pids)
    short, _, void = _peak(bench, relay, case)
    longer = replace(case, job={**case.job, "events": events * 100})
    long, seconds, void_long = _peak(bench, relay, longer)
    found = Long(relay.name, before, short, long, seconds, tuple(void + void_long))
    bench.say(
        f"  {relay.name:9s} one stream: {before / 1e6:.1f} MB before, peak {short / 1e6:.1f} MB at "
        f"1 MB, {long / 1e6:.1f} MB at 100 MB of output ({seconds:.1f} s)"
        + (f"  VOID: {'; '.join(found.void)[:200]}" if found.void else "")
    )
    return found
