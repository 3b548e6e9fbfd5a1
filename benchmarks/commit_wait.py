"""How long an answer's last byte waits for its charge, on a database of a million calls.

Rules: the rows are clones of calls that the relay itself billed, with earlier ids, and the
balances are moved by what the clones cost, so that every check of the ledger still holds. The
wait is read from the relay's own histogram, before and after.
"""

import re
import sqlite3
import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.relays import Mock, Sluice
from benchmarks.rounds import Bench, Case

METRIC = "sluice_commit_wait_seconds"
CLONES_AT_ONCE = 50_000
CLONE_STEP = 1 << 22
"""Ids grow by 2^22 a millisecond; clones lie one millisecond apart, before their model."""

STREAMS = Case(
    "commit-streams",
    "streams on a large database",
    {"kind": "streams", "streams": 1500, "events": 20, "pace": 50.0, "ramp_seconds": 6.0},
)
PLAIN = Case(
    "commit-plain",
    "plain requests, 500/s, on a large database",
    {"kind": "plain_paced", "seconds": 10.0, "rate": 500.0},
    "requests",
)


@dataclass(frozen=True, slots=True)
class Wait:
    """Milliseconds a terminal frame waited, from the relay's histogram, interpolated."""

    case: str
    calls_before: int
    database_bytes: int
    count: int
    p50_ms: float
    p99_ms: float
    over_bound: bool
    """The p99 lies beyond the histogram's last bound."""
    outside_p99_ms: float
    """Seen by the client: last byte of a stream less the stamp of its finish event, or a plain
    request's whole answer; it includes the way through the relay and the rig."""
    ledger: str
    void: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        return asdict(self)


def clone_calls(path: Path, total: int) -> int:
    """Copy the newest call with all that belongs to it until the table has `total` rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA cache_size = -200000")
        (model,) = database.execute(
            "SELECT max(id) FROM call WHERE verdict = 'complete' AND charge > 0"
        ).fetchone()
        if model is None:
            raise RuntimeError("no completed call to clone")
        (oldest,) = database.execute("SELECT min(id) FROM call").fetchone()
        (present,) = database.execute("SELECT count(*) FROM call").fetchone()
        added = max(0, total - present)
        for start in range(0, added, CLONES_AT_ONCE):
            last = min(start + CLONES_AT_ONCE, added)
            database.execute("BEGIN IMMEDIATE")
            # Smallest id first: the tables grow at their right edge, as they do in service.
            low, high = oldest - (added - start) * CLONE_STEP, last - start
            for table, column in (("call", "id"), ("transfer", "event_id"), ("attempt", "call_id")):
                _clone(database, table, column, (model, low, high))
            _move_balances(database, model, last - start)
            database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (found,) = database.execute("SELECT count(*) FROM call").fetchone()
        return int(found)


def _clone(
    database: sqlite3.Connection, table: str, column: str, where: tuple[int, int, int]
) -> None:
    model, low, count = where
    names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(f"? + n.i * {CLONE_STEP}" if name == column else name for name in names)
    database.execute(
        f"WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?) "
        f"INSERT INTO {table} ({', '.join(names)}) "
        f"SELECT {values} FROM n, {table} AS model WHERE model.{column} = ?",
        (count, low, model),
    )


def _move_balances(database: sqlite3.Connection, model: int, times: int) -> None:
    rows = database.execute(
        "SELECT debit, credit, amount FROM transfer WHERE event_id = ?", (model,)
    ).fetchall()
    for debit, credit, amount in rows:
        for account, change in ((debit, -amount), (credit, amount)):
            database.execute(
                "UPDATE account SET balance = balance + ? WHERE id = ?", (change * times, account)
            )


def histogram(page: str) -> dict[float, float]:
    """Cumulative counts by upper bound in seconds, all label sets added."""
    found: dict[float, float] = {}
    for bound, value in re.findall(
        rf'^{METRIC}_bucket{{[^}}]*le="([^"]+)"}} (\S+)', page, re.MULTILINE
    ):
        found[float(bound)] = found.get(float(bound), 0.0) + float(value)
    return found


def quantile(buckets: dict[float, float], share: float) -> tuple[float, bool]:
    """Seconds, interpolated inside the bucket; True if it lies beyond the last finite bound."""
    ordered = sorted(buckets.items())
    total = ordered[-1][1] if ordered else 0.0
    low, seen = 0.0, 0.0
    for bound, count in ordered:
        if count >= share * total and count > seen:
            if bound == float("inf"):
                return low, True
            return low + (bound - low) * (share * total - seen) / (count - seen), False
        low, seen = bound, count
    return 0.0, False


def commit_wait(bench: Bench, directory: Path, mock: Mock, calls: int) -> list[Wait]:
    """Seed, bill a few calls, stop, clone, start again, measure, verify the ledger."""
    sluice = Sluice(directory, mock, "sluice-million")
    key = sluice.seed(tls=False)
    relay = sluice.start(key)
    bench.warm_up(relay, PLAIN)
    relay.stop()
    began = time.monotonic()
    present = clone_calls(sluice.data / "sluice.db", calls)
    bench.say(f"  {present:,} calls written in {time.monotonic() - began:.0f} s")
    began = time.monotonic()
    relay = sluice.start(key)
    bench.say(f"  ready {time.monotonic() - began:.1f} s after the start on that database")
    found: list[Wait] = []
    try:
        for case in (STREAMS, PLAIN):
            bench.warm_up(relay, case)
            before = histogram(relay.metrics())
            result = bench.measure(relay, case, 1)
            after = histogram(relay.metrics())
            counted = {bound: value - before.get(bound, 0.0) for bound, value in after.items()}
            median, _ = quantile(counted, 0.5)
            tail, beyond = quantile(counted, 0.99)
            outside = result.findings.get("terminal_us") or result.findings["total_us"]
            void = list(result.void)
            if not counted or not max(counted.values()):
                void.append(f"{METRIC} on the metrics page counted nothing")
            found.append(
                Wait(
                    case.name,
                    present,
                    (sluice.data / "sluice.db").stat().st_size,
                    int(max(counted.values(), default=0)),
                    median * 1000,
                    tail * 1000,
                    beyond,
                    outside.get("p99", 0.0) / 1000,
                    "",
                    tuple(void),
                )
            )
            bench.say(
                f"  {case.title}: p50 {median * 1000:.2f} ms, p99 {'over ' if beyond else ''}"
                f"{tail * 1000:.2f} ms of {found[-1].count} waits; seen from outside p99 "
                f"{found[-1].outside_p99_ms:.2f} ms"
                + (f"  VOID: {'; '.join(void)[:200]}" if void else "")
            )
    finally:
        relay.stop()
    verdict = _verify(sluice)
    bench.say(f"  ledger verify: {verdict}")
    wrong = () if verdict == "clean" else ("the ledger does not verify",)
    return [replace(each, ledger=verdict, void=each.void + wrong) for each in found]


def _verify(sluice: Sluice) -> str:
    try:
        sluice.command("ledger", "verify", "--data", str(sluice.data))
    except RuntimeError as error:
        return str(error)[-300:]
    return "clean"
