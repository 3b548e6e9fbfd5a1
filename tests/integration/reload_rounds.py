"""Reloads and binary upgrades under open streams and steady short requests: nothing may fail.

`python -m tests.integration.reload_rounds --reloads 50 --restarts 20 --streams 200 --rate 100`
keeps so many streams open and sends so many short calls a second, over connections that are kept
and new ones, while the settings are reloaded and the relay replaces itself (SIGUSR2) as often.
Every third reload is of a bad file, which must change nothing. Each answer is judged as it comes,
and all of them in the end by checker.py; the exit status says whether anything failed.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import uvloop

from tests.integration.checker import check
from tests.integration.kept_client import KeptClient
from tests.integration.planned_client import Outcome
from tests.integration.planned_upstream import PlannedUpstream
from tests.integration.relay_process import RelayProcess, UpstreamAt
from tests.integration.workload import Plan

BAD_EVERY = 3
BAD_LINE = "no_such_setting = 1\n"
CALLS_MAX = 10_000_000


@dataclass(slots=True)
class Report:
    """What happened. `seconds`: how long the changes took in all."""

    reloads: int = 0
    refused_reloads: int = 0
    restarts: int = 0
    streams: int = 0
    short: int = 0
    kept: int = 0
    failed: int = 0
    trouble: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    restart_seconds_max: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether nothing at all went wrong."""
        return not (self.failed or self.trouble.total() or self.problems)


class ReloadRounds:
    """A relay under load; a context manager that leaves nothing running."""

    def __init__(self, directory: Path, *, workers: int, streams: int, rate: float) -> None:
        self.report = Report()
        self._directory = directory
        self._streams = streams
        self._rate = rate
        self._upstream = PlannedUpstream(directory / "upstream.log")
        self._workers = workers
        self._outcomes: list[Outcome] = []
        self._over = False
        self._full = asyncio.Event()
        self._open = 0

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._upstream.start()
        ats = [
            UpstreamAt("o", "openai", self._upstream.base_url, {"model-o": "m"}),
            UpstreamAt("a", "anthropic", self._upstream.base_url, {"model-a": "m"}),
        ]
        settings = {"workers": self._workers, "drain_seconds": 30.0}
        self.relay = RelayProcess(self._directory, ats, settings=settings).start()
        self._key = self.relay.account("1000000.00").key
        return self

    def __exit__(self, *_: object) -> None:
        self.relay.kill()
        self._upstream.kill()

    def run(self, reloads: int, restarts: int) -> Report:
        """Reload and restart so often, evenly mixed, and judge."""
        uvloop.run(self._run(reloads, restarts))
        report, relay = self.report, self.relay
        if status := relay.terminate():
            report.problems.append(f"exit status {status}")
        clients = self._directory / "clients.log"
        clients.write_text("".join(outcome.line() + "\n" for outcome in self._outcomes))
        found = check(relay.database, clients, self._upstream.log)
        report.problems += found.problems + list(relay.verify()["problems"] or ())
        return report

    async def _run(self, reloads: int, restarts: int) -> None:
        short, streaming = (KeptClient(self.relay.port, self._key) for _ in range(2))
        numbers = iter(range(CALLS_MAX))
        load = [
            *(asyncio.create_task(self._stream(streaming, numbers)) for _ in range(self._streams)),
            asyncio.create_task(self._ask(short, numbers)),
        ]
        await self._full.wait()
        begun = time.perf_counter()
        steps = max(reloads, restarts)
        for step in range(steps):
            if step * reloads // steps != (step + 1) * reloads // steps:
                await asyncio.to_thread(self._reload)
            if step * restarts // steps != (step + 1) * restarts // steps:
                await asyncio.to_thread(self._restart)
        self.report.seconds = time.perf_counter() - begun
        self._over = True
        await asyncio.gather(*load)
        for client in (short, streaming):
            self.report.trouble += client.trouble
            self.report.kept += client.used_again
            client.close()

    async def _stream(self, client: KeptClient, numbers: Iterator[int]) -> None:
        while not self._over:
            plan = Plan.of("steady", 1, next(numbers))
            self._open += 1
            if self._open == self._streams:
                self._full.set()
            self._note(await client.call(plan))
            self._open -= 1
            self.report.streams += 1

    async def _ask(self, client: KeptClient, numbers: Iterator[int]) -> None:
        """Send on an absolute schedule; late ones do not delay those after them."""
        loop = asyncio.get_running_loop()
        begun, sent = loop.time(), 0
        tasks: set[asyncio.Task[None]] = set()

        async def one() -> None:
            self._note(await client.call(Plan.of("fixed", 1, next(numbers))))
            self.report.short += 1

        while not self._over:
            tasks.add(task := loop.create_task(one()))
            task.add_done_callback(tasks.discard)
            sent += 1
            await asyncio.sleep(max(0.0, begun + sent / self._rate - loop.time()))
        await asyncio.gather(*tasks)

    def _note(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        if not outcome.terminal:
            self.report.failed += 1
            self.report.errors[f"{outcome.status} {outcome.error}"] += 1

    def _reload(self) -> None:
        number = self.report.reloads + self.report.refused_reloads + 1
        file = self.relay.settings_file
        text = file.read_text()
        bad = number % BAD_EVERY == 0
        lines = [line for line in text.splitlines(True) if not line.startswith("heartbeat_ms")]
        good = "".join(lines) + f"heartbeat_ms = {10_000 + number}\n"
        file.write_text(text + BAD_LINE if bad else good)
        try:
            self.relay.reload()
            if bad:
                self.report.refused_reloads += 1
                event = "reload refused, old settings stay"
                self.relay.wait_for(event, self.report.refused_reloads)
            else:
                self.report.reloads += 1
                self.relay.wait_for("reloaded", self.report.reloads)
        finally:
            if bad:
                file.write_text(text)

    def _restart(self) -> None:
        begun = time.perf_counter()
        self.report.restarts += 1
        self.relay.upgrade()
        self.relay.wait_for("upgraded", self.report.restarts)
        took = time.perf_counter() - begun
        self.report.restart_seconds_max = max(self.report.restart_seconds_max, took)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reloads", type=int, default=50)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--directory", type=Path)
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = given.directory
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rounds = stack.enter_context(
            ReloadRounds(directory, workers=given.workers, streams=given.streams, rate=given.rate)
        )
        report = rounds.run(given.reloads, given.restarts)
    print(f"{report.reloads} reloads, {report.refused_reloads} of bad files refused, "
          f"{report.restarts} restarts in {report.seconds:.1f} s "
          f"(a restart {report.restart_seconds_max:.2f} s at most)")  # fmt: skip
    print(f"{report.streams} streams ({given.streams} open at once), {report.short} short calls, "
          f"{report.kept} of all on kept connections")  # fmt: skip
    print(f"failed {report.failed} {dict(report.errors)}, reset {report.trouble['reset']}, "
          f"closed {report.trouble['closed']}, refused {report.trouble['refused']}, "
          f"problems of the books {len(report.problems)}")  # fmt: skip
    for problem in report.problems[:10]:
        print("    ", problem)
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
