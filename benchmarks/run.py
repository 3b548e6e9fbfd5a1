"""`make bench` and `make bench-quick`: what the relay costs, next to nginx, in one run.

    python -m benchmarks.run                 everything; JSON, table and plot in benchmarks/results
    python -m benchmarks.run --quick         three short rounds; last line is one JSON object
    python -m benchmarks.run --only stream300,tls300
    python -m benchmarks.run --target peer=http://127.0.0.1:9999 --key sk-... --mock-port 9001

A target is any relay already running on this machine; point it at the mock (`--mock-port`) and
name it here. Exit status 1 says that a figure is void. All traffic stays on loopback.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import console, report, services, targets, translation, workers
from benchmarks.capacity import capacity
from benchmarks.cases import BESIDE_ROUNDS, CASES, QUICK, Plan
from benchmarks.commit_wait import commit_wait
from benchmarks.counting import count, has_counter, missing_tool
from benchmarks.machine import facts, owner_of, raise_file_limit, steal_seconds
from benchmarks.memory import idle_streams, long_stream
from benchmarks.money import compare
from benchmarks.relays import (
    COUNTED,
    COUNTED_UNBILLED,
    TWO_WORKERS,
    UNBILLED,
    Mock,
    Relay,
    direct,
    start_baseline,
    start_counted,
    start_mock,
    start_nginx,
    start_sluice,
    start_unbilled,
)
from benchmarks.rounds import Bench, Case, Generator, Round, summarise
from benchmarks.targets import RESULTS

STEPS = (
    "instructions", "syscalls", "memory", "capacity", "commit", "money", "workers", "translation",
    "services_memory", "console",
)  # fmt: skip
Section = dict[str, list[dict[str, Any]]]


@dataclass(slots=True)
class Rig:
    """Everything that runs, and what it has found so far."""

    options: argparse.Namespace
    directory: Path
    stack: ExitStack
    mock: Mock
    bench: Bench
    rounds: list[Round] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    sections: Section = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    started: dict[str, Relay] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    incomplete: bool = False

    def relay(self, name: str) -> Relay:
        """The relay of that name, started when first asked for."""
        if name not in self.started:
            relay = self._start(name)
            self.stack.callback(relay.stop)
            self.started[name] = relay
        return self.started[name]

    def fresh(self, name: str) -> Relay:
        """A newly started one, for memory: the old one is stopped."""
        if name in self.started:
            self.started.pop(name).stop()
        return self.relay(name)

    def revive(self) -> None:
        """Start mock and generator again, as after a failure nobody knows their state."""
        for relay in self.started.values():
            relay.stop()
        self.started.clear()
        self.bench.generator.child.stop()
        self.mock.child.stop()
        home = Path(tempfile.mkdtemp(prefix="again-", dir=self.directory))
        self.mock = start_mock(home, self.mock.port, self.mock.tls_port)
        self.stack.callback(self.mock.child.stop)
        generator = Generator(sys.executable, home / "load.log")
        self.stack.callback(generator.child.stop)
        self.bench = Bench(self.mock, generator, say, self.bench.next_call)

    def _start(self, name: str) -> Relay:
        home = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory))
        home.chmod(0o755)
        if name == "direct":
            return direct(self.mock)
        if name == "nginx":
            return start_nginx(home, self.mock)
        if name == "baseline":
            return start_baseline(home, self.mock)
        if name == "sluice-tls":
            relay = start_sluice(home, self.mock, tls=True)
            relay.name, relay.tls_port = "sluice", relay.port
            return relay
        if name == UNBILLED:
            return start_unbilled(home, self.mock)
        if name in (COUNTED, COUNTED_UNBILLED):
            relay = start_counted(home, self.mock, billed=name == COUNTED)
            relay.name = "sluice" if name == COUNTED else UNBILLED
            return relay
        if name == "sluice":
            return start_sluice(home, self.mock)
        if name == TWO_WORKERS:
            return start_sluice(home, self.mock, workers=2)
        return target(name, self.options)

    def names(self, case: Case) -> list[str]:
        """Who takes part in every round of a case, in order."""
        wanted = [str(name) for name in self.options.relays.split(",") if name]
        wanted += [text.partition("=")[0] for text in self.options.target]
        if case.tls:
            wanted = ["sluice-tls" if name == "sluice" else name for name in wanted]
        return wanted


def target(name: str, options: argparse.Namespace) -> Relay:
    """A relay that somebody else started: `--target NAME=URL`."""
    for text in options.target:
        given, _, url = text.partition("=")
        if given == name:
            parts = urlsplit(url)
            if parts.hostname not in ("127.0.0.1", "localhost") or parts.port is None:
                raise SystemExit(f"--target {text}: give http://127.0.0.1:PORT")
            pid = owner_of(parts.port)
            if not pid:
                raise SystemExit(f"--target {text}: no process of this machine listens there")
            return Relay(name, parts.port, parts.port, key=options.key, other_pid=pid)
    raise SystemExit(f"unknown relay {name}: direct, nginx, sluice, baseline or a --target")


def say(text: str) -> None:
    """Progress, at once."""
    print(text, flush=True)


def run_cases(rig: Rig, plan: Sequence[Plan], rounds: int) -> None:
    """Every paced and saturated case, interleaved."""
    for planned in plan:
        guarded(rig, planned.case.name, partial(_run_case, rig, planned, rounds))


def _run_case(rig: Rig, planned: Plan, rounds: int) -> None:
    case = planned.case
    names = rig.names(case)
    relays = [rig.relay(name) for name in names]
    beside = [rig.relay(name) for name in planned.beside if name not in names]
    rounds = min(rounds, planned.rounds_max)
    rig.rounds += rig.bench.run(case, relays, rounds, beside, BESIDE_ROUNDS)
    rig.cases.append(case)


def run_counting(rig: Rig, what: str) -> None:
    """Instructions or system calls."""
    say(f"\n{what} per event")
    problem = missing_tool(what)
    if problem:
        rig.notes.append(f"{what}: {problem}")
        return
    found = []
    slowly = what == "instructions" and not has_counter()
    if slowly:
        rig.notes.append("instructions: by callgrind, for the processor has no counter here")
    for name in [COUNTED] if slowly else rig.names(CASES[0].case):
        try:
            found.append(count(rig.bench, rig.relay(name), what).record())
        except RuntimeError as error:
            rig.notes.append(f"{what} of {name}: {error}")
    rig.sections[what] = found


def run_memory(rig: Rig) -> None:
    """Idle streams and one long stream; each on a relay started for it."""
    say("\nmemory")
    second = Generator(sys.executable, rig.directory / "load-second.log")
    rig.stack.callback(second.child.stop)
    idle, long = [], []
    for name in rig.names(CASES[0].case):
        idle.append(idle_streams(rig.bench, rig.fresh(name), second).record())
        long.append(long_stream(rig.bench, rig.fresh(name)).record())
    rig.sections["idle"] = idle
    rig.sections["long"] = long


def run_capacity(rig: Rig) -> None:
    """The knee."""
    say("\ncapacity")
    rig.sections["capacity"] = [
        capacity(
            rig.bench, rig.relay(name), rig.options.repetitions if name == "sluice" else 1
        ).record()
        for name in rig.names(CASES[0].case)
    ]


def run_commit(rig: Rig) -> None:
    """Billed before done, on a large database."""
    say(f"\ncommit wait with {rig.options.calls:,} calls in the database")
    rig.sections["commit"] = [
        each.record() for each in commit_wait(rig.bench, rig.directory, rig.mock, rig.options.calls)
    ]


def run_money(rig: Rig) -> None:
    """The same relay with and without the ledger."""
    say("\nmoney on against money off")
    off = rig.relay(UNBILLED)
    cases = [each.case for each in CASES if each.money]
    found, problems = compare(
        rig.bench,
        rig.relay("sluice"),
        off,
        cases,
        rig.options.rounds,
        lambda: (rig.relay(COUNTED), rig.relay(COUNTED_UNBILLED)),
    )
    rig.notes += problems
    rig.sections["money"] = [each.record() for each in found]
    rows = off.rows()
    if rows:
        raise RuntimeError(f"the relay without money wrote {rows} rows")


def run_workers(rig: Rig) -> None:
    """One process against keeper and two workers."""
    say("\ntwo workers against one process")
    found = workers.compare(
        rig.bench, rig.fresh("sluice"), rig.relay(TWO_WORKERS), rig.options.rounds
    )
    rig.sections["workers"] = [each.record() for each in found]


def run_translation(rig: Rig) -> None:
    """Streams of another dialect against streams of the caller's own."""
    say("\ntranslation")
    found = translation.compare(rig.bench, rig.relay("sluice"), rig.options.rounds)
    rig.sections["translation"] = [each.record() for each in found]


def run_services(rig: Rig) -> None:
    """Large bodies."""
    say("\nmemory of large bodies")
    home = Path(tempfile.mkdtemp(prefix="services-", dir=rig.directory))
    found = services.compare(home, rig.mock, say)
    rig.sections["services_memory"] = [each.record() for each in found]


def run_console(rig: Rig) -> None:
    """Streams with and without somebody who works the console hard."""
    say("\nstreams beside a user of the console")
    found = console.compare(rig.bench, rig.directory, rig.mock, rig.options.rounds)
    rig.sections["console"] = [each.record() for each in found]


def guarded(rig: Rig, name: str, action: Callable[[], None]) -> None:
    """Let a part that cannot be measured not take the others' figures with it."""
    began = time.monotonic()
    try:
        action()
    except (RuntimeError, OSError, ValueError, subprocess.SubprocessError, sqlite3.Error) as error:
        text = f"{name} stopped: {type(error).__name__}: {error}"
        say(f"  {text}")
        rig.notes.append(text)
        rig.incomplete = True
        rig.revive()
    rig.seconds[name] = round(time.monotonic() - began, 1)
    say(f"  ({name}: {rig.seconds[name]:.0f} s)")


def finish(rig: Rig, known: dict[str, Any], steal: float) -> bool:
    """Write JSON, table and plot; returns whether anything is void."""
    known["steal_seconds"] = steal_seconds() - steal
    summaries = summarise(rig.rounds, rig.cases)
    void = rig.incomplete or any(each.void for each in summaries)
    void |= any(record.get("void") for records in rig.sections.values() for record in records)
    known |= {"quick": rig.options.quick, "seconds_by_part": rig.seconds}
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"{known['started_at'].replace(':', '')}-{known['commit']}"
    everything: dict[str, Any] = {
        "facts": known,
        "void": void,
        "notes": rig.notes,
        "sections": rig.sections,
        "summary": [each.record() for each in summaries],
        "rounds": [asdict(each) for each in rig.rounds],
    }
    text = report.markdown(known, rig.cases, summaries, rig.sections, rig.notes)
    if not rig.options.quick:
        text += "\n## Targets\n\n" + targets.table(targets.merged([everything]))
    stem.with_suffix(".json").write_text(json.dumps(everything, indent=1))
    stem.with_suffix(".md").write_text(text + "\n## Rounds\n\n" + report.rounds_table(rig.rounds))
    stem.with_suffix(".svg").write_text(
        report.plot(rig.cases, rig.rounds, "CPU of the whole relay ÷ nginx, same round")
    )
    say("\n" + text)
    say(f"written: {stem}.json, .md, .svg")
    return void


def quick_line(rig: Rig) -> dict[str, Any]:
    """What a comparison of two commits reads."""
    found: dict[str, Any] = {"void": False}
    for name, case in (
        ("quick_cpc_n", "stream100"),
        ("quick_cpr_n", "plain_saturated"),
        ("quick_cpr_paced_n", "plain_paced"),
    ):
        wanted = [each for each in rig.cases if each.name == case]
        for each in summarise(rig.rounds, wanted):
            found["void"] |= bool(each.void)
            if each.relay == "nginx":
                found[name.replace("_n", "_nginx_us")] = round(each.cpu.median, 3)
            elif each.ratio is not None and (each.relay == "sluice" or name not in found):
                found[name] = round(each.ratio.median, 3)
                found[f"{name}_range"] = [round(each.ratio.least, 3), round(each.ratio.most, 3)]
                found[f"{name.removesuffix('_n')}_us"] = round(each.cpu.median, 3)
                found["relay"] = each.relay
    return found


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, help="9 unless quick (3)")
    parser.add_argument("--only", default="", help="cases and steps, by name, comma between")
    parser.add_argument("--relays", default="nginx,sluice", help="in this order in every round")
    parser.add_argument("--target", action="append", default=[], metavar="NAME=URL")
    parser.add_argument("--key", default="none", help="the target's client key")
    parser.add_argument("--mock-port", type=int, default=0, help="a fixed port for the mock")
    parser.add_argument("--mock-tls-port", type=int, default=0)
    parser.add_argument("--calls", type=int, default=1_000_000, help="rows for `commit`")
    parser.add_argument("--repetitions", type=int, default=3, help="ramps for `capacity`")
    parser.add_argument(
        "--nice",
        type=int,
        default=0,
        help="priority of everything started here, -10 keeps other work of the machine away (root)",
    )
    parser.add_argument("--list", action="store_true", help="names for --only")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (3 if options.quick else 9)
    return options


def _steps(options: argparse.Namespace) -> tuple[list[Plan], list[str]]:
    plan = list(QUICK if options.quick else CASES)
    steps = [] if options.quick else list(STEPS)
    if options.only:
        wanted = set(options.only.split(","))
        known = {each.case.name for each in CASES} | set(STEPS)
        if wanted - known:
            raise SystemExit(f"unknown: {', '.join(sorted(wanted - known))}; --list shows all")
        plan = [each for each in CASES if each.case.name in wanted]
        steps = [name for name in STEPS if name in wanted]
    return plan, steps


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 if anything is void."""
    options = _options(arguments)
    if options.list:
        for each in CASES:
            say(f"{each.case.name:18s} {each.case.title}")
        say("\n".join(STEPS))
        return 0
    plan, steps = _steps(options)
    raise_file_limit()
    os.setpriority(os.PRIO_PROCESS, 0, options.nice)
    known, steal, began = facts(), steal_seconds(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name, ExitStack() as stack:
        directory = Path(name)
        mock = start_mock(directory, options.mock_port, options.mock_tls_port)
        stack.callback(mock.child.stop)
        generator = Generator(sys.executable, directory / "load.log")
        stack.callback(generator.child.stop)
        rig = Rig(options, directory, stack, mock, Bench(mock, generator, say))
        run_cases(rig, plan, options.rounds)
        actions: dict[str, Callable[[], None]] = {
            "instructions": lambda: run_counting(rig, "instructions"),
            "syscalls": lambda: run_counting(rig, "syscalls"),
            "memory": lambda: run_memory(rig),
            "capacity": lambda: run_capacity(rig),
            "commit": lambda: run_commit(rig),
            "money": lambda: run_money(rig),
            "workers": lambda: run_workers(rig),
            "translation": lambda: run_translation(rig),
            "services_memory": lambda: run_services(rig),
            "console": lambda: run_console(rig),
        }
        for step in steps:
            guarded(rig, step, actions[step])
        known["nice"] = options.nice
        known["duration_seconds"] = round(time.monotonic() - began, 1)
        void = finish(rig, known, steal)
        if options.quick:
            line = quick_line(rig)
            line.update(
                commit=known["commit"], rounds=options.rounds, seconds=known["duration_seconds"]
            )
            say(json.dumps(line))
    return int(void)


if __name__ == "__main__":
    raise SystemExit(main())
