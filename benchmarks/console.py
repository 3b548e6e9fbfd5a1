"""Whether a stream feels somebody who runs reports and exports in the console.

Rules: one relay, one database of many calls, rounds with and without a user of the console in
turns; a ratio is taken between neighbours. The user stands for another machine, so that process
works where the console works, as nice as it, and nowhere else. The wait for the commit is the
relay's own histogram, lateness the load generator's. A user whose requests fail makes the run void.
The session is written into the database while the relay is stopped; nothing else is made for this.
"""

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.commit_wait import clone_calls, histogram, quantile
from benchmarks.machine import descendants, free_ports
from benchmarks.relays import ROOT, Mock, Relay, Sluice
from benchmarks.rounds import Bench, Case
from proxy.edge.console import sessions
from proxy.edge.console.visit import SESSION
from proxy.storage.secret_files import read_secret

CALLS = 480_000
"""Their export is more than 100 MB."""
PERSON = 1
SESSION_ID = "benchmark"
SECONDS_KEPT = 86_400.0
STREAMS = Case(
    "console",
    "streams beside a user of the console",
    {
        "kind": "streams",
        "streams": 300,
        "events": 1_300,
        "pace": 20.0,
        "ramp_seconds": 4.01,
        "timeout_seconds": 120.0,
    },
)
"""A round is long enough for an export of everything. No two streams write in the same moment."""


@dataclass(frozen=True, slots=True)
class Beside:
    """One pair of rounds; `user`: what the user of the console did."""

    number: int
    commit_p99_ms: float
    commit_p99_ms_beside: float
    gap_p99_us: float
    gap_p99_us_beside: float
    user: dict[str, int]
    void: tuple[str, ...]

    @property
    def commit_ratio(self) -> float:
        """With the user ÷ without."""
        return self.commit_p99_ms_beside / max(self.commit_p99_ms, 1e-6)

    @property
    def gap_ratio(self) -> float:
        """With the user ÷ without."""
        return self.gap_p99_us_beside / max(self.gap_p99_us, 1e-6)

    def record(self) -> dict[str, Any]:
        """As it is written to the results."""
        ratios = {"commit_ratio": self.commit_ratio, "gap_ratio": self.gap_ratio}
        return asdict(self) | ratios


def sign_in(sluice: Sluice, now: float) -> str:
    """Make an operator who owns the benchmark's wallet; returns the cookie of a session."""
    with closing(sqlite3.connect(sluice.data / "sluice.db")) as database, database:
        database.execute(
            "INSERT INTO person (id, email, role, created_at) VALUES (?, ?, 'admin', ?)",
            (PERSON, "benchmark@example.com", now),
        )
        database.execute(
            "INSERT INTO membership SELECT ?, id, 'owner', ? FROM user WHERE name = 'benchmark'",
            (PERSON, now),
        )
        database.execute(
            "INSERT INTO session (id, person_id, created_at, confirmed_at, expires_at) "
            "VALUES (?, ?, ?, ?, ?)",
            (SESSION_ID, PERSON, now, now, now + SECONDS_KEPT),
        )
    secret = read_secret(sluice.data / "secrets" / "console")
    return f"{SESSION}={sessions.issue(secret, SESSION_ID, PERSON, now)}"


def compare(bench: Bench, directory: Path, mock: Mock, rounds: int) -> list[Beside]:
    """Seed, clone calls, then rounds in pairs; verifies the ledger at the end."""
    sluice = Sluice(directory, mock, "sluice-console")
    key = sluice.seed(tls=False)
    (port,) = free_ports(1)
    settings = (f"console_listen=127.0.0.1:{port}",)
    relay = sluice.start(key, settings=settings)
    bench.warm_up(relay, STREAMS)
    relay.stop()
    present = clone_calls(sluice.data / "sluice.db", CALLS)
    cookie = sign_in(sluice, time.time())
    bench.say(f"  {present:,} calls in the database")
    relay = sluice.start(key, settings=settings)
    found = []
    try:
        bench.warm_up(relay, STREAMS)
        for number in range(1, rounds + 1):
            found.append(_pair(bench, relay, number, port, cookie))
            last = found[-1]
            bench.say(
                f"  round {number}  commit p99 {last.commit_p99_ms:.2f} / "
                f"{last.commit_p99_ms_beside:.2f} ms ({last.commit_ratio:.2f})  gap p99 "
                f"{last.gap_p99_us:.0f} / {last.gap_p99_us_beside:.0f} us ({last.gap_ratio:.2f})  "
                f"exported {last.user.get('/usage/export.csv bytes', 0) / 1e6:.0f} MB, "
                f"{last.user.get('/usage/export.csv whole', 0)} whole"
                + (f"  VOID: {'; '.join(last.void)[:200]}" if last.void else "")
            )
    finally:
        relay.stop()
    sluice.command("ledger", "verify", "--data", str(sluice.data))
    bench.say(
        f"  median ratios: commit {statistics.median(each.commit_ratio for each in found):.2f}, "
        f"gap {statistics.median(each.gap_ratio for each in found):.2f}"
    )
    return found


def _pair(bench: Bench, relay: Relay, number: int, port: int, cookie: str) -> Beside:
    # The order changes from round to round, so that a drift of the machine favours neither.
    commit, gap, void, user = [0.0, 0.0], [0.0, 0.0], list[str](), dict[str, int]()
    for beside in (False, True) if number % 2 else (True, False):
        process = _user(relay, port, cookie) if beside else None
        before = histogram(relay.metrics())
        result = bench.measure(relay, STREAMS, number)
        after = histogram(relay.metrics())
        if process is not None:
            said, _ = process.communicate(timeout=300)
            told = json.loads(said or "{}")
            user = told.get("done", {})
            void += told.get("problems", ["the user of the console said nothing"])
            if not any(name.endswith("answers") for name in user):
                void.append("the user of the console got no answer")
        void += result.void
        counted = {bound: value - before.get(bound, 0.0) for bound, value in after.items()}
        commit[beside] = quantile(counted, 0.99)[0] * 1000
        gap[beside] = result.findings["gap_us"]["p99"]
    return Beside(number, commit[0], commit[1], gap[0], gap[1], user, tuple(void))


def _user(relay: Relay, port: int, cookie: str) -> subprocess.Popen[str]:
    # Of the relay's processes the console is the one that keeps to few processors.
    processes = [pid for root in relay.pids for pid in descendants(root)]
    processors = min((os.sched_getaffinity(pid) for pid in processes), key=len)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.console_user"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    if process.stdin is None:
        raise AssertionError("a pipe was asked for")
    job = {"port": port, "cookie": cookie, "processors": sorted(processors)}
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    return process
