"""Hundreds of calls at once on wallets that cannot pay for all, with as many workers as wanted.

`python -m tests.integration.race_rounds --workers 4 --seeds 10 --first 1` prints a line per seed and
exits with 1 if a decision was wrong. The relay is processes of its own whose keeper writes down
what it decides; the upstream is another. While the calls run, a reader of the file looks at every
committed state it can catch. Afterwards checker.py goes through the file and the logs, and takes
every decision again.
"""

import argparse
import asyncio
import json
import random
import sqlite3
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from proxy.app.control import ask
from tests.integration.checker import check
from tests.integration.planned_client import Outcome, call
from tests.integration.planned_upstream import PlannedUpstream
from tests.integration.recorded_relay import VARIABLE
from tests.integration.relay_process import RelayProcess, UpstreamAt
from tests.integration.workload import RACE_SLICE, Plan

CALLS = 500
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
def racing(directory: Path, *, workers: int = 1, **models: Any) -> Iterator[Race]:
    decisions = directory / "decisions.log"
    with PlannedUpstream(directory / "upstream.log") as upstream:
        ats = [
            UpstreamAt("o", "openai", upstream.base_url, {"model-o": "m"}),
            UpstreamAt("a", "anthropic", upstream.base_url, {"model-a": "m"}),
        ]
        relay = RelayProcess(
            directory,
            ats,
            settings={
                "slice_tokens": RACE_SLICE,
                "operator_expense_day_max": "1000",
                "workers": workers,
            },
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


@dataclass(slots=True)
class Found:
    """What races came to: `problems` are of the outcomes, the watcher and the checker."""

    figures: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    states: int = 0


def race_rounds(directory: Path, seeds: Sequence[int], *, workers: int) -> Found:
    """A race for each seed on one relay, then the whole file judged."""
    rng = random.Random(20)
    result = Found()
    with racing(directory, workers=workers) as race:
        watcher = Watcher(race.relay.database)
        watcher.start()
        try:
            for seed in seeds:
                _one_race(race, seed, rng, result)
        finally:
            watcher.stop()
        race.relay.terminate()
        found = check(race.relay.database, race.clients, directory / "upstream.log", race.decisions)
        race.relay.verify()
    result.figures = found.figures
    result.states = watcher.states
    result.problems += [*found.problems, *watcher.wrong]
    return result


def _one_race(race: Race, seed: int, rng: random.Random, result: Found) -> None:
    credit = rng.randint(30_000_000, 400_000_000)
    budget = credit * rng.randint(20, 80) // 100 if seed % 2 else None
    name = f"racer-{seed}"
    outcomes = race.run("race", seed, race.user(name, credit, budget))
    cut = sum(outcome.status == 200 and not outcome.terminal for outcome in outcomes)
    served = sum(outcome.terminal for outcome in outcomes)
    shown = race.command("wallet show", user=name)
    print(f"seed {seed}: {served} complete, {cut} cut, wallet {usd(credit)}, left",
          shown["balance_usd"], flush=True)  # fmt: skip
    for outcome in outcomes:
        told = outcome.terminal or outcome.error in FUNDS
        if outcome.status not in {200, 402} or not told:
            result.problems.append(f"seed {seed}: {outcome}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=1)
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    with tempfile.TemporaryDirectory() as directory:
        found = race_rounds(Path(directory), seeds, workers=given.workers)
    print(json.dumps({"states watched": found.states, **found.figures}))
    for problem in found.problems[:20]:
        print("    ", problem)
    print(
        f"{given.workers} workers, {given.seeds} races of {CALLS}: {len(found.problems)} problems"
    )
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
