"""Kill -9 of the relay's processes at random points under 50 open streams, again and again.

`python -m tests.integration.kill_rounds --rounds 100 --seed 1 [--workers 4 --victim mixed]` prints a
line per round and the sums as a table. A round: 50 callers of streams and 15 of plain
answers, each call after call; at a random moment (20 us to 3 s after all have one under way, or
a few microseconds to milliseconds after the n-th answer ended) the victim gets SIGKILL: `all` is
every process of the relay and its upstream, and sometimes the next start is killed as well;
`supervisor` is started again at once, while its children still leave; `keeper` and `worker` are
restarted by it, the calls that are open go on as they can, and a while later the upstream is
killed to end them. When the relay serves again the
round is judged: `sluice ledger verify`, and checker.py on the file, what the clients received and
what the upstream would have sent. The data stay from round to round.
"""

import argparse
import asyncio
import contextlib
import math
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import uvloop

from tests.integration.checker import check
from tests.integration.planned_client import Outcome, call
from tests.integration.planned_upstream import PlannedUpstream
from tests.integration.relay_process import RelayProcess, UpstreamAt
from tests.integration.workload import Plan

STREAMERS, PLAIN_CALLERS = 50, 15
DELAY_SECONDS_MIN, DELAY_SECONDS_MAX = 0.000_020, 3.0
AFTER_END_SECONDS_MAX = 0.003
ENDS_MAX = 150
SECOND_KILL_SHARE = 0.2
SECOND_KILL_SECONDS_MAX = 1.5
KILL_AT_LATEST = 5.0
CALLS_MAX = 100_000
PROBES_PER_WORKER = 4
AFTERWARDS_SECONDS = 2.0
QUIET_SECONDS_MAX = 10.0
VICTIMS = ("worker", "keeper", "supervisor", "all", "mixed")


@dataclass(slots=True)
class Round:
    """What one round did and found. Seconds."""

    number: int
    victim: str = "all"
    killed_at: str = ""
    calls: int = 0
    streams_open_at_kill: int = 0
    terminal: int = 0
    broken: int = 0
    """Calls of surviving processes that ended, and not well, while their upstream lived."""
    once: int = 0
    partial: int = 0
    recovered: int = 0
    overcharged: int = 0
    problems: list[str] = field(default_factory=list)
    verify: str = ""
    ready: float = 0.0


@dataclass(slots=True)
class _Moment:
    """When to kill: so long after the first request, or after the n-th end of an answer."""

    delay: float
    ends: int | None

    @classmethod
    def pick(cls, rng: random.Random) -> "_Moment":
        way = rng.random()
        if way < 0.4:
            low, high = math.log(DELAY_SECONDS_MIN), math.log(DELAY_SECONDS_MAX)
            return cls(math.exp(rng.uniform(low, high)), None)
        if way < 0.6:  # long enough for streams to have been marked
            return cls(rng.uniform(1.0, DELAY_SECONDS_MAX), None)
        return cls(rng.uniform(0, AFTER_END_SECONDS_MAX), rng.randint(1, ENDS_MAX))

    def __str__(self) -> str:
        if self.ends is None:
            return f"{self.delay * 1000:.2f} ms"
        return f"end {self.ends} + {self.delay * 1000:.2f} ms"


class _Killer:
    """Ends the victims at the moment, from inside the clients' loop."""

    def __init__(self, moment: _Moment, victims: Callable[[], Sequence[int]]) -> None:
        self.over = False
        self.killed = asyncio.Event()
        self.open = 0
        self.streams_open_at_kill = 0
        self._moment = moment
        self._victims = victims
        self._ends = 0
        self._loop = asyncio.get_running_loop()
        self._sent = 0
        self._handle = self._loop.call_later(KILL_AT_LATEST, self._kill)

    def sent(self) -> None:
        """A request left; the clock of the moment starts when every caller has one under way."""
        self._sent += 1
        if self._sent == STREAMERS + PLAIN_CALLERS and self._moment.ends is None:
            self._handle.cancel()
            self._handle = self._loop.call_later(self._moment.delay, self._kill)

    def ended(self, whole: bool) -> None:
        """An answer ended."""
        self._ends += whole
        if whole and self._ends == self._moment.ends and not self.over:
            self._handle.cancel()
            # Spinning is finer than the loop's timer, and the clients may well stand still.
            until = time.perf_counter() + self._moment.delay
            while time.perf_counter() < until:
                pass
            self._kill()

    def _kill(self) -> None:
        if not self.over:
            self.over = True
            self.streams_open_at_kill = self.open
            for victim in self._victims():
                os.kill(victim, signal.SIGKILL)
            self.killed.set()


class KillRounds:
    """Rounds on one data directory; a context manager that leaves nothing running.

    `victim` is one of VICTIMS. With one worker there is one process: only `all` is left.
    """

    def __init__(
        self, directory: Path, seed: int, *, workers: int = 1, victim: str = "all"
    ) -> None:
        self.directory = directory
        self.rounds: list[Round] = []
        self._rng = random.Random(seed)
        self._seed = seed
        self._workers = workers
        self._victim = victim
        self._upstream = PlannedUpstream(directory / "upstream.log")
        self._relay: RelayProcess | None = None
        self._key = ""

    def __enter__(self) -> Self:
        self._upstream.start()
        ats = [
            UpstreamAt("o", "openai", self._upstream.base_url, {"model-o": "m"}),
            UpstreamAt("a", "anthropic", self._upstream.base_url, {"model-a": "m"}),
        ]
        relay = RelayProcess(
            self.directory,
            ats,
            settings={
                "slice_tokens": 256,
                "operator_expense_day_max": "100000",
                "workers": self._workers,
            },
        )
        self._relay = relay.start()
        self._key = relay.account("1000000.00").key
        return self

    def __exit__(self, *_: object) -> None:
        self._upstream.kill()
        if self._relay is not None:
            self._relay.kill()

    @property
    def _running(self) -> RelayProcess:
        if self._relay is None:
            raise AssertionError("not started")
        return self._relay

    def run(self) -> Round:
        """One round, from the first request to the verdict."""
        relay = self._running
        victim = self._rng.choice(VICTIMS[:-1]) if self._victim == "mixed" else self._victim
        this = Round(len(self.rounds), victim)
        self.rounds.append(this)
        moment = _Moment.pick(self._rng)
        this.killed_at = str(moment)
        outcomes = uvloop.run(self._load(this, moment))
        clients = self.directory / "clients.log"
        clients.write_text("".join(outcome.line() + "\n" for outcome in outcomes))
        if victim == "all":
            self._start_again(this)
        self._upstream.kill()
        _until_quiet(relay.database)
        this.verify = "clean" if relay.verify().get("problems") in ([], 0, None) else "PROBLEMS"
        self._judge(this, outcomes, clients)
        self._upstream.log.unlink(missing_ok=True)
        self._upstream.start()
        return this

    def _start_again(self, this: Round) -> None:
        relay = self._running
        relay.kill()
        self._upstream.kill()
        if self._rng.random() < SECOND_KILL_SHARE:
            this.killed_at += self._kill_start(relay)
        this.recovered = _open_calls(relay.database)
        begun = time.perf_counter()
        relay.start()
        this.ready = time.perf_counter() - begun

    def _victims(self, victim: str) -> list[int]:
        """The processes to kill now, in a random order."""
        relay = self._running
        if victim == "supervisor":
            return [relay.process_id]
        children = relay.children() if self._workers > 1 else {}
        if victim == "all":
            found = [each for row in children.values() for each in row]
            found += [relay.process_id, self._upstream.process_id]
            self._rng.shuffle(found)
            return found
        return self._rng.sample(children[victim], 1)

    async def _load(self, this: Round, moment: _Moment) -> list[Outcome]:
        relay = self._running
        outcomes: list[Outcome] = []
        numbers = iter(range(CALLS_MAX))
        killer = _Killer(moment, lambda: self._victims(this.victim))
        seed = self._seed * 1000 + this.number

        async def caller(stream: bool) -> None:
            while not killer.over:
                plan = Plan.of("kill", seed, next(numbers))
                if plan.stream is not stream:
                    continue
                killer.open += stream
                ended = call(relay.port, self._key, "main", plan, killer.ended, on_sent=killer.sent)
                outcomes.append(await ended)
                killer.open -= stream

        kinds = [True] * STREAMERS + [False] * PLAIN_CALLERS
        everybody = [caller(stream) for stream in kinds]
        if this.victim in {"keeper", "worker"}:
            everybody.append(self._probe(this, killer, seed, outcomes))
        elif this.victim == "supervisor":
            everybody.append(self._supervise_again(this, killer))
        await asyncio.gather(*everybody)
        this.streams_open_at_kill = killer.streams_open_at_kill
        return outcomes

    async def _supervise_again(self, this: Round, killer: _Killer) -> None:
        """Start the relay again at once, as a service manager would, while its children leave."""
        await killer.killed.wait()
        begun = time.perf_counter()
        self._running.kill_main()
        await asyncio.to_thread(self._running.start)
        this.ready = time.perf_counter() - begun

    async def _probe(
        self, this: Round, killer: _Killer, seed: int, outcomes: list[Outcome]
    ) -> None:
        """Time from the kill until calls on enough connections to reach all slots are served."""
        await killer.killed.wait()
        begun = time.perf_counter()
        plans = [
            Plan.of("fixed", seed, number) for number in range(PROBES_PER_WORKER * self._workers)
        ]
        port = self._running.port
        outcomes += await asyncio.gather(*(call(port, self._key, "main", plan) for plan in plans))
        this.ready = time.perf_counter() - begun
        await asyncio.sleep(AFTERWARDS_SECONDS)  # pace: what outlived the kill goes on for a while
        this.broken = sum(not outcome.terminal for outcome in outcomes)
        self._upstream.kill()

    def _kill_start(self, relay: RelayProcess) -> str:
        """Start the relay and kill it a moment later, wherever it has come to."""
        delay = self._rng.uniform(0, SECOND_KILL_SECONDS_MAX)
        relay.start_and_kill(delay)
        return f", start + {delay * 1000:.0f} ms"

    def _judge(self, this: Round, outcomes: list[Outcome], clients: Path) -> None:
        found = check(self._running.database, clients, self._upstream.log)
        this.calls = len(outcomes)
        this.terminal = found.figures["terminal frames"]
        this.once = found.figures["charged exactly once"]
        this.partial = found.figures["charged in part"]
        this.overcharged = sum(
            problem.startswith(("overcharged", "I3")) for problem in found.problems
        )
        this.problems = found.problems


def _until_quiet(database: Path) -> None:
    """Wait until no call is open: what a dead worker left is settled soon after it is found."""
    deadline = time.monotonic() + QUIET_SECONDS_MAX
    while _open_calls(database) and time.monotonic() < deadline:
        time.sleep(0.02)  # pace: the file has no push


def _open_calls(database: Path) -> int:
    # Not immutable: what is in the WAL counts.
    connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM open_call").fetchone()[0])
    finally:
        connection.close()


def table(rounds: Sequence[Round]) -> Iterator[str]:
    """The rounds as Markdown, sums last."""
    yield "| figure | sum over rounds | least | greatest |"
    yield "|---|---|---|---|"
    for each in fields(Round):
        if each.name in {"number", "victim", "killed_at", "verify", "problems"}:
            continue
        values: list[Any] = [getattr(one, each.name) for one in rounds]
        show = "{:.2f}".format if each.name == "ready" else str
        yield f"| {each.name} | {show(sum(values))} | {show(min(values))} | {show(max(values))} |"
    problems = sum(len(one.problems) for one in rounds)
    clean = sum(one.verify == "clean" for one in rounds)
    yield f"| rounds verified clean | {clean} of {len(rounds)} | | |"
    yield f"| problems found by the checker | {problems} | | |"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--victim", choices=VICTIMS, default="all")
    given = parser.parse_args()
    if given.workers == 1 and given.victim != "all":
        parser.error("one process has no parts to kill: --workers 2 or more")
    with contextlib.ExitStack() as stack:
        directory = given.directory
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.mkdir(parents=True, exist_ok=True)
        rounds = KillRounds(directory, given.seed, workers=given.workers, victim=given.victim)
        bench = stack.enter_context(rounds)
        for _ in range(given.rounds):
            this = bench.run()
            print(
                f"{this.number:3} {this.victim:10} {this.killed_at:32} calls {this.calls:4} open "
                f"{this.streams_open_at_kill:2} recovered {this.recovered:2} terminal {this.terminal:4} broken {this.broken:2} "
                f"once {this.once:4} partial {this.partial:2} ready {this.ready:.2f} s "
                f"{this.verify} problems {len(this.problems)}",
                flush=True,
            )
            for problem in this.problems[:5]:
                print("     ", problem, flush=True)
        print("\n".join(table(bench.rounds)))
        return 1 if any(one.problems or one.verify != "clean" for one in bench.rounds) else 0


if __name__ == "__main__":
    sys.exit(main())
