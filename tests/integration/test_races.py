"""Hundreds of calls at once on a wallet that cannot pay for all: R1, R3, and the must-show of races.

The relay is a process of its own whose keeper writes down what it decides; the upstream is
another. While the calls run, a reader of the file looks at every committed state it can catch.
Afterwards checker.py goes through the file and the logs, and takes every decision again.
"""

import asyncio
import json
import random
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.app.control import ask
from tests.integration.checker import check
from tests.integration.planned_client import Outcome, call
from tests.integration.planned_upstream import PlannedUpstream
from tests.integration.recorded_relay import VARIABLE
from tests.integration.relay_process import RelayProcess, UpstreamAt
from tests.integration.workload import RACE_SLICE, Plan

CALLS = 500
SEEDS = tuple(range(1, 11))
FIXED_PRICE = 7_300_000
FIXED_SUCCESSES = 37
WATCH_SECONDS = 0.001
FUNDS = {"insufficient_quota", "key_budget_exceeded"}


@dataclass(slots=True)
class Race:
    """The parts of one test."""

    relay: RelayProcess
    upstream: PlannedUpstream
    directory: Path
    decisions: Path

    @property
    def clients(self) -> Path:
        return self.directory / "clients.log"

    def command(self, command: str, /, **arguments: object) -> Any:
        """Run a command on the running relay, as the command line does."""
        return ask(self.relay.data / "control.sock", command, arguments)

    def user(self, name: str, credit: int, budget: int | None) -> dict[str, str]:
        """A user with `credit` nano-USD and the keys `free` and, with a budget, `bound`."""
        self.command("user add", name=name, credit=usd(credit))
        keys = {"free": self.command("key add", user=name, name="free")["key"]}
        if budget is not None:
            made = self.command("key add", user=name, name="bound", budget=usd(budget))
            keys["bound"] = made["key"]
        return keys

    def run(self, profile: str, seed: int, keys: dict[str, str]) -> list[Outcome]:
        """Make `CALLS` calls at once and log them."""

        async def all_at_once() -> list[Outcome]:
            names = sorted(keys)
            plans = [Plan.of(profile, seed, number) for number in range(CALLS)]
            return await asyncio.gather(
                *(
                    call(self.relay.port, keys[name], name, plan)
                    for plan in plans
                    for name in [names[plan.number % len(names)]]
                )
            )

        outcomes = uvloop.run(all_at_once())
        with self.clients.open("a") as log:
            log.writelines(outcome.line() + "\n" for outcome in outcomes)
        return outcomes


def usd(nano: int) -> str:
    return f"{nano // 10**9}.{nano % 10**9:09}"


@contextmanager
def racing(directory: Path, **models: Any) -> Iterator[Race]:
    decisions = directory / "decisions.log"
    with PlannedUpstream(directory / "upstream.log") as upstream:
        ats = [
            UpstreamAt("o", "openai", upstream.base_url, {"model-o": "m"}),
            UpstreamAt("a", "anthropic", upstream.base_url, {"model-a": "m"}),
        ]
        relay = RelayProcess(
            directory,
            ats,
            settings={"slice_tokens": RACE_SLICE, "operator_expense_day_max": "1000"},
            models=models.get("models"),
            environment={VARIABLE: str(decisions)},
            program=(sys.executable, "-m", "tests.integration.recorded_relay"),
        )
        with relay:
            yield Race(relay, upstream, directory, decisions)


class Watcher(threading.Thread):
    """Reads committed states of the file while others write it; `wrong` is what it saw amiss."""

    def __init__(self, database: Path) -> None:
        super().__init__(name="watcher")
        self.states = 0
        self.wrong: list[str] = []
        self._database = database
        self._over = threading.Event()

    def run(self) -> None:
        connection = sqlite3.connect(f"{self._database.as_uri()}?mode=ro", uri=True)
        version = None
        while not self._over.wait(WATCH_SECONDS):
            (now,) = connection.execute("PRAGMA data_version").fetchone()
            if now != version:
                version = now
                self._look(connection)
        connection.close()

    def _look(self, connection: sqlite3.Connection) -> None:
        self.states += 1
        connection.execute("BEGIN")
        balances = dict(connection.execute("SELECT id, balance FROM account"))
        holds = connection.execute("SELECT user_id, sum(hold) FROM open_call GROUP BY user_id")
        if sum(balances.values()):
            self.wrong.append(f"accounts sum to {sum(balances.values())}")
        for user, held in holds:
            if held > balances[user << 3 | 1]:
                self.wrong.append(f"user {user} holds {held} of {balances[user << 3 | 1]}")
        self.wrong += [f"{a} is at {b}" for a, b in balances.items() if a & 7 == 1 and b < 0]
        connection.execute("COMMIT")

    def stop(self) -> None:
        self._over.set()
        self.join()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_500_at_once_never_overdraw_and_nobody_is_refused_what_is_there(tmp_path: Path) -> None:
    rng = random.Random(20)
    with racing(tmp_path) as race:
        watcher = Watcher(race.relay.database)
        watcher.start()
        try:
            for seed in SEEDS:
                credit = rng.randint(30_000_000, 400_000_000)
                budget = credit * rng.randint(20, 80) // 100 if seed % 2 else None
                name = f"racer-{seed}"
                outcomes = race.run("race", seed, race.user(name, credit, budget))
                statuses = sorted({str(outcome.status) for outcome in outcomes})
                assert set(statuses) <= {"200", "402"}, f"seed {seed}: {statuses}"
                cut = sum(outcome.status == 200 and not outcome.terminal for outcome in outcomes)
                served = sum(outcome.terminal for outcome in outcomes)
                shown = race.command("wallet show", user=name)
                print(f"seed {seed}: {served} complete, {cut} cut, wallet {usd(credit)}, left",
                      shown["balance_usd"])  # fmt: skip
                for outcome in outcomes:
                    told = outcome.terminal or outcome.error in FUNDS
                    assert told, f"seed {seed}: {outcome}"
        finally:
            watcher.stop()
        found = check(race.relay.database, race.clients, tmp_path / "upstream.log", race.decisions)
        print(json.dumps({"states watched": watcher.states, **found.figures}))
        assert not found.problems, found.problems[:20]
        assert not watcher.wrong, watcher.wrong[:20]
        assert watcher.states > len(SEEDS)
        figures = found.figures
        assert figures["admitted"] == figures["complete"] + figures["cut_for_balance"]
        assert figures["admitted"] + figures["refused"] == CALLS * len(SEEDS)
        assert min(figures["refused"], figures["cut_for_balance"], figures["extended"]) > 0
        race.relay.verify()


@pytest.mark.timeout(120)
def test_of_500_calls_at_one_price_exactly_as_many_succeed_as_the_wallet_pays(
    tmp_path: Path,
) -> None:
    price = {"input": "0", "output": "0", "call": usd(FIXED_PRICE)}
    models = {name: {"price": price} for name in ("model-o", "model-a")}
    with racing(tmp_path, models=models) as race:
        credit = FIXED_SUCCESSES * FIXED_PRICE + FIXED_PRICE - 1
        outcomes = race.run("fixed", 1, race.user("fixed", credit, None))
        assert sum(outcome.terminal for outcome in outcomes) == FIXED_SUCCESSES
        refused = [outcome for outcome in outcomes if not outcome.terminal]
        assert {(outcome.status, outcome.error) for outcome in refused} == {
            (402, "insufficient_quota")
        }
        race.command("wallet show", user="fixed")  # the file follows the answers by a moment
        found = check(race.relay.database, race.clients, tmp_path / "upstream.log", race.decisions)
        assert not found.problems, found.problems[:20]
        assert found.figures["charged"] == FIXED_SUCCESSES * FIXED_PRICE
        assert found.figures["charged exactly once"] == FIXED_SUCCESSES
        assert found.figures["overrun"] == found.figures["forgiven"] == 0
        _a_checker_can_find_fault(race)


TAMPERING = (
    ("UPDATE transfer SET amount = amount + 1 WHERE kind = 'charge'", "I1"),
    ("UPDATE account SET balance = balance - 1 WHERE id & 7 = 1", "I1"),
    ("DELETE FROM transfer WHERE kind = 'charge'", "I2"),
    ("UPDATE call SET delivered_bytes = 0", "I3"),
    ("DELETE FROM call WHERE id = (SELECT min(id) FROM call)", "I4"),
    ("UPDATE call SET calls = 2", "I5"),
    ("UPDATE call SET balance_after = balance_after + 1", "I6"),
    ("UPDATE call SET verdict = 'client_gone'", "call"),
)


def _a_checker_can_find_fault(race: Race) -> None:
    """Every kind of tampering with a copy of the file, or with a log, is seen."""
    logs = race.directory / "upstream.log", race.decisions
    for number, (statement, problem) in enumerate(TAMPERING):
        copy = race.directory / f"copy-{number}.db"
        with (
            closing(sqlite3.connect(race.relay.database)) as source,
            closing(sqlite3.connect(copy, isolation_level=None)) as target,
        ):
            source.backup(target)
            for name in ("call_never_changes", "transfer_never_changes", "transfer_never_leaves"):
                target.execute(f"DROP TRIGGER {name}")
            target.execute(statement)
        found = check(copy, race.clients, *logs)
        assert any(text.startswith(problem) for text in found.problems), statement
    changes = (
        ("decisions", race.decisions, '"held": null', '"hold": 1, "held": null'),
        ("decisions", race.decisions, f'"charged": {FIXED_PRICE}', '"charged": 1'),
        ("clients", race.clients, '"text": " ', '"text": "x'),
    )
    for which, log, old, new in changes:
        changed = race.directory / "changed.log"
        changed.write_text(log.read_text().replace(old, new))
        given = {"clients": race.clients, "decisions": race.decisions} | {which: changed}
        found = check(race.relay.database, given["clients"], logs[0], given["decisions"])
        assert found.problems, (which, new)
