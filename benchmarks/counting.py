"""User instructions and system calls per event: the regression gate, because CPU time is noisy.

Rules: each relay runs the same streams twice, short and long; the slope is the cost of one event
and the rest is the cost of a stream. Instructions come from the processor's counter through
`perf stat` where the machine has one, else from callgrind, which runs the relay many times
slower, so that fewer streams are asked for; nginx is not counted then.
System calls come from `strace -c -f`, at a low rate so that tracing does not batch events.
"""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.machine import descendants
from benchmarks.relays import Relay
from benchmarks.rounds import Bench, Case

ATTACH_SECONDS = 0.7
TOOL_SECONDS_MAX = 60.0
STREAMS_SLOWLY, RATE_SLOWLY = 30, 100.0
"""What is asked for at once where counting slows the relay down."""


@dataclass(frozen=True, slots=True)
class Count:
    """Per event of 300 a stream (`whole`: set-up included; `slope`: each further event), of 100
    (`whole_100`), and per plain request."""

    relay: str
    what: str
    whole: float
    whole_100: float
    slope: float
    per_request: float
    void: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def _tool(command: list[str], report: Path, found: dict[str, int]) -> Iterator[None]:
    """Run a tracing tool around the block; `found` gets what it counted."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(ATTACH_SECONDS)
    if process.poll() is not None:
        said = process.communicate()[1].decode()
        raise RuntimeError(f"{command[0]}: {said[-300:]}")
    try:
        yield
    finally:
        process.send_signal(2)
        process.communicate(timeout=TOOL_SECONDS_MAX)
    found.update(_read(report))


def _read(report: Path) -> dict[str, int]:
    """`perf stat -x,` lines or an `strace -c` table."""
    found: dict[str, int] = {}
    for line in report.read_text().splitlines():
        fields = line.split(",")
        if len(fields) > 3 and fields[0].isdigit():
            found[fields[2].split(":")[0] + ":" + fields[2].rpartition(":")[2]] = int(fields[0])
            continue
        table = re.fullmatch(r"\s*[\d.]+\s+[\d.]+\s+\d*\s+(\d+)\s+\d*\s*(\w+)", line)
        if table:
            found[table[2]] = int(table[1])
    return found


Tool = Callable[[Relay, Path, dict[str, int]], AbstractContextManager[None]]


def _perf(relay: Relay, report: Path, found: dict[str, int]) -> AbstractContextManager[None]:
    pids = ",".join(str(pid) for root in relay.pids for pid in descendants(root))
    command = ["perf", "stat", "-x,", "-o", str(report), "-e", "instructions:u", "-p", pids]
    return _tool(command, report, found)


def _strace(relay: Relay, report: Path, found: dict[str, int]) -> AbstractContextManager[None]:
    command = ["strace", "-c", "-f", "-o", str(report)]
    for root in relay.pids:
        for pid in descendants(root):
            command += ["-p", str(pid)]
    return _tool(command, report, found)


@contextmanager
def _callgrind(relay: Relay, _report: Path, found: dict[str, int]) -> Iterator[None]:
    """Count under callgrind, which at each dump writes what it has counted since the last."""
    if relay.counts is None:
        raise RuntimeError(f"{relay.name} does not run under callgrind")
    _control(relay, "-i", "on")
    _control(relay, "-d")
    yield
    _control(relay, "-d")
    _control(relay, "-i", "off")
    newest = max(
        relay.counts.parent.glob(f"{relay.counts.name}.*"),
        key=lambda path: int(path.suffix.removeprefix(".")),
    )
    totals = re.search(r"^totals: (\d+)", newest.read_text(), re.MULTILINE)
    if totals is None:
        raise RuntimeError(f"{newest.name} has no totals")
    found["instructions:u"] = int(totals[1])


def _control(relay: Relay, *arguments: str) -> None:
    for pid in relay.pids:
        done = subprocess.run(
            ["callgrind_control", *arguments, str(pid)],
            capture_output=True,
            text=True,
            timeout=TOOL_SECONDS_MAX,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"callgrind_control: {(done.stdout + done.stderr)[-300:]}")


def _counted(
    bench: Bench, relay: Relay, case: Case, tool: Tool
) -> tuple[int, int, dict[str, int], list[str]]:
    """(count, events or requests, the tool's table, reasons for void) of one run."""
    table: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report"
        with tool(relay, report, table):
            result = bench.measure(relay, case, 1)
    total = table.pop("total", 0) or sum(table.values())
    return total, int(result.findings[case.per]), table, result.void


def instructions_each(bench: Bench, relay: Relay, case: Case) -> tuple[float, list[str]]:
    """User instructions per event or request of one run, and reasons for void."""
    tool = _perf if relay.counts is None else _callgrind
    total, number, _, void = _counted(bench, relay, case, tool)
    return total / number, void


def count(bench: Bench, relay: Relay, what: str) -> Count:
    """Instructions or system calls of one relay; raises RuntimeError if the tool cannot attach."""
    tool: Tool = _strace
    streams = 20
    if what == "instructions":
        tool, streams = (_perf, 200) if relay.counts is None else (_callgrind, STREAMS_SLOWLY)
    short = Case(
        f"{what}-short",
        what,
        {"kind": "streams", "streams": streams, "events": 100, "pace": 50.0},
    )
    long = replace(short, name=f"{what}-long", job={**short.job, "events": 300})
    plain = Case(
        f"{what}-plain",
        what,
        {"kind": "plain_paced", "seconds": 2.0, "rate": 500.0 if tool is _perf else RATE_SLOWLY},
        "requests",
    )
    bench.measure(relay, short, 0)
    bench.warm_up(relay, plain)
    first, events, _, void = _counted(bench, relay, short, tool)
    second, more_events, table, void_long = _counted(bench, relay, long, tool)
    requests, answered, _, void_plain = _counted(bench, relay, plain, tool)
    found = Count(
        relay.name,
        what,
        second / more_events,
        first / events,
        (second - first) / (more_events - events),
        requests / answered,
        tuple(void + void_long + void_plain),
    )
    top = sorted(table.items(), key=lambda item: -item[1])[:5]
    detail = ", ".join(f"{name} {number / more_events:.2f}" for name, number in top)
    bench.say(
        f"  {relay.name:9s} {what} per event {found.whole:,.2f} with set-up, {found.slope:,.2f} "
        f"each further one; per plain request {found.per_request:,.1f}  [{detail}]"
        + (f"  VOID: {'; '.join(found.void)[:200]}" if found.void else "")
    )
    return found


def has_counter() -> bool:
    """Whether `perf` can count instructions here: virtual processors often have no counter."""
    if shutil.which("perf") is None:
        return False
    done = subprocess.run(
        ["perf", "stat", "-x,", "-e", "instructions:u", "true"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return not done.returncode and "<not" not in done.stderr


def missing_tool(what: str) -> str:
    """Why it cannot be counted here, or empty."""
    if what == "syscalls":
        return "" if shutil.which("strace") else "strace is not installed"
    if has_counter() or shutil.which("callgrind_control"):
        return ""
    return "perf has no instruction counter here, and valgrind is not installed"
