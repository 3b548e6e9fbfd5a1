"""Many callers at once go through the plans of mixed_calls.py, and what they got meets the books.

`MixedRound.run` serves one list of plans with threads, some leaving early, some keeping their
connection for another user's call. `audit` compares each answer with its row in the ledger. This
module knows the relay by its port and its file alone.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.checker import outward_id
from tests.integration.mixed_calls import Plan, judge
from tests.integration.raw_client import RawClient, RawResponse, request_bytes

CALLERS = 8
ROUND_SECONDS_MAX = 60.0
CUT = frozenset({"cut_for_balance", "cut_for_max_cost"})
OPAQUE = frozenset({"garbage", "clean-cut", "error-inside"})
"""Faults that sound cannot show: any bytes are sound."""


@dataclass(slots=True)
class Answer:
    """What one caller got who stayed."""

    plan: Plan
    raw: bytes
    response: RawResponse

    @property
    def request_id(self) -> str:
        """The id under which the ledger has the call."""
        found = self.response.header("x-request-id") or self.response.header("request-id")
        if found is None:
            raise AssertionError(f"an answer without an id: {self.raw[:300]!r}")
        return found


@dataclass(slots=True)
class MixedRound:
    """One round; `at_half` is called once, by a caller, when half of the plans have begun."""

    port: int
    keys: Sequence[str]
    plans: Sequence[Plan]
    at_half: Callable[[], None] | None = None
    ask: Callable[[Answer, str], None] | None = None
    """Called right after each answer with the key it was for."""
    answers: list[Answer] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Calls whose connection broke before there was an answer."""
    errors: list[BaseException] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _begun: int = 0

    def run(self) -> None:
        """Go through all plans; raises what went wrong in a caller."""
        threads = [threading.Thread(target=self._caller, daemon=True) for _ in range(CALLERS)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(ROUND_SECONDS_MAX)
        if any(each.is_alive() for each in threads):
            raise AssertionError("a caller hangs")
        if self.errors:
            raise self.errors[0]

    def _caller(self) -> None:
        kept: RawClient | None = None
        try:
            while (plan := self._next()) is not None:
                kept = self._call(plan, kept)
        except BaseException as error:  # of a thread; `run` raises it
            self.errors.append(error)
        finally:
            if kept is not None:
                kept.reset()

    def _next(self) -> Plan | None:
        with self._lock:
            if self._begun == len(self.plans):
                return None
            plan = self.plans[self._begun]
            self._begun += 1
            half = self._begun == len(self.plans) // 2
        if half and self.at_half is not None:
            self.at_half()
        return plan

    def _call(self, plan: Plan, kept: RawClient | None) -> RawClient | None:
        """Make one call; returns its connection if another may follow on it."""
        key = self.keys[plan.number % len(self.keys)]
        client = kept
        try:
            client = client or RawClient(self.port)
            client.received = bytearray()
            client.send(request_bytes(plan.target, plan.body, key=key, headers=plan.headers))
            if plan.way in {"leave", "reset"}:
                if plan.cut_at > 0.4:
                    client.read_once(200)
                (client.leave if plan.way == "leave" else client.reset)()
                return None
            while (response := client.read_response()).status < 200:
                pass
        except (OSError, AssertionError) as error:
            if client is not None:
                with contextlib.suppress(OSError):
                    client.reset()
            self.lost.append(f"{plan.number} {plan.endpoint} {plan.fault}: {error!r}")
            return None
        answer = Answer(plan, bytes(client.received), response)
        with self._lock:
            self.answers.append(answer)
        if self.ask is not None:
            self.ask(answer, key)
        if plan.way == "keep" and response.whole and response.header("connection") != "close":
            return client
        client.reset()
        return None


def rows_of(database: Path) -> dict[str, dict[str, Any]]:
    """Every ended call by its outward id. Fails if one is open."""
    connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        if connection.execute("SELECT count(*) FROM open_call").fetchone()[0]:
            raise AssertionError("calls are open")
        found = [dict(row) for row in connection.execute("SELECT * FROM call")]
    finally:
        connection.close()
    return {outward_id(row["id"]): row for row in found}


def audit(answers: Sequence[Answer], rows: dict[str, dict[str, Any]], *, killed: bool) -> list[str]:
    """Say where an answer and its row disagree. `killed`: a process was, in the middle."""
    problems: list[str] = []
    for answer in answers:
        plan, row = answer.plan, rows.get(answer.request_id)
        if plan.endpoint == "speech" and plan.fault in OPAQUE:
            continue
        found = judge(plan, answer.raw)
        if row is not None:
            found += _disagree(answer, row, killed=killed)
        elif answer.response.status == 200 and not plan.dry:
            found.append("answered without a row")
        problems += [f"{plan.number} {plan.endpoint} {plan.fault}: {one}" for one in found]
    return problems


def _disagree(answer: Answer, row: dict[str, Any], *, killed: bool) -> list[str]:
    plan, response, verdict = answer.plan, answer.response, row["verdict"]
    problems: list[str] = []
    cost = response.header("x-sluice-cost")
    # A plain answer's head leaves before its charge is posted; killed in between, it has no last
    # byte and costs nothing.
    unposted = killed and not response.whole and not row["charge"]
    if cost is not None and int(cost) != row["charge"] and not unposted:
        problems.append(f"the head says {cost}, the row {row['charge']}")
    said = response.header("x-sluice-verdict")
    lost = killed and response.status != 200  # an error is not kept back for its record
    if said not in {None, verdict} and response.whole and not lost:
        problems.append(f"the head says {said}, the row {verdict}")
    if response.status != 200 and row["charge"]:
        problems.append(f"{response.status}, but charged {row['charge']}")
    limit = plan.headers.get("x-max-cost")
    if limit is not None and row["charge"] > int(limit.split()[0]):
        problems.append(f"charged {row['charge']}, above {limit}")
    if killed:
        return problems
    if plan.whole and verdict not in {"complete", *CUT}:
        problems.append(f"{verdict}, though the upstream sent all of it")
    if verdict == "complete" and not response.whole:
        problems.append("complete, but the caller has not all of it")
    if verdict == "complete" and plan.fault in {"cut", "reset", "stall"} and plan.cut_at < 0.8:
        problems.append("complete, though the upstream broke off")
    if verdict == "internal_error":
        problems.append(f"a fault of the relay: {row['error_code']}")
    return problems
