"""The machine under the benchmark: CPU of a process tree, memory, facts, child processes.

Rules: CPU time is the sum over all threads of all living descendants of
`/proc/PID/task/*/schedstat` (nanoseconds; the ticks of `/proc/PID/stat` are too coarse). Only
processes started here are ended, by pid. Linux only.
"""

import ctypes
import os
import platform
import resource
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS_MAX = 10.0
START_SECONDS_MAX = 30.0


def descendants(pid: int) -> list[int]:
    """The process and everything below it that is alive."""
    found = [pid]
    for parent in found:
        for task in _entries(Path(f"/proc/{parent}/task")):
            try:
                found += map(int, (task / "children").read_text().split())
            except OSError:
                continue
    return found


def _entries(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU time of a tree, nanoseconds, per thread so that a vanished thread is noticed."""

    threads: Mapping[tuple[int, int], int]

    def since(self, before: "Cpu") -> int:
        """Nanoseconds used between the two readings."""
        return sum(used - before.threads.get(thread, 0) for thread, used in self.threads.items())

    def lost(self, before: "Cpu") -> int:
        """Threads that ended in between, whose last share is not counted."""
        return len(before.threads.keys() - self.threads.keys())


def cpu_of(pids: Sequence[int]) -> Cpu:
    """Read every thread of the given process trees."""
    threads: dict[tuple[int, int], int] = {}
    for pid in pids:
        for process in descendants(pid):
            for task in _entries(Path(f"/proc/{process}/task")):
                try:
                    used = (task / "schedstat").read_text().split()[0]
                except OSError:
                    continue
                threads[process, int(task.name)] = int(used)
    return Cpu(threads)


def rss_bytes(pids: Sequence[int]) -> int:
    """Resident memory of the trees: the sum of VmRSS."""
    total = 0
    for pid in pids:
        for process in descendants(pid):
            try:
                status = Path(f"/proc/{process}/status").read_text()
            except OSError:
                continue
            for line in status.splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
    return total


def steal_seconds() -> float:
    """CPU time the hypervisor took from this machine since boot."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip()


def facts() -> dict[str, object]:
    """What a figure must be read with: commit, kernel, processor, versions, load."""
    processor = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return {
        "commit": _output(["git", "rev-parse", "--short=12", "HEAD"]),
        "uncommitted_files": len(_output(["git", "status", "--short"]).splitlines()),
        "kernel": platform.release(),
        "processor": processor,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "nginx": _output(["nginx", "-v"]).rpartition(" ")[2],
        "load": list(os.getloadavg()),
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def raise_file_limit() -> int:
    """As many open files as the system lets this process have; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_ports(count: int) -> list[int]:
    """Loopback ports nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


_PRCTL = ctypes.CDLL(None).prctl
_SET_PARENT_DEATH_SIGNAL = 1


def _end_with_parent() -> None:
    """Asked of every child, so that nothing outlives a driver that was killed."""
    _PRCTL(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


class Child:
    """A process started here and ended here."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        pipes: bool = False,
    ) -> None:
        """Start it; standard error goes to `log`. `pipes`: standard input and output are ours."""
        self.command = list(command)
        self.log = log
        pipe = subprocess.PIPE if pipes else None
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                self.command,
                stdin=pipe if pipes else subprocess.DEVNULL,
                stdout=pipe if pipes else sink,
                stderr=sink,
                env={**os.environ, **(environment or {})},
                text=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - no thread runs when children start
            )

    @property
    def pid(self) -> int:
        """The root of its tree."""
        return self.process.pid

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Poll `ready` until it holds; raises RuntimeError with the end of the log."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{what} did not start: {self.tail()}")
            time.sleep(0.02)

    def tail(self) -> str:
        """The last lines it wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; waits for the end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_SECONDS_MAX)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


def listening(port: int) -> bool:
    """Whether a connection to the loopback port succeeds."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def fetch(url: str) -> bytes:
    """GET a loopback URL."""
    if not url.startswith("http://127.0.0.1:"):
        raise ValueError(f"{url} is not on the loopback interface")
    with urllib.request.urlopen(url, timeout=30) as answer:
        body: bytes = answer.read()
        return body


def pin(pid: int, cores: set[int]) -> None:
    """Keep every thread of the tree on the cores."""
    for process in descendants(pid):
        for task in _entries(Path(f"/proc/{process}/task")):
            try:
                os.sched_setaffinity(int(task.name), cores)
            except OSError:
                continue


def owner_of(port: int) -> int:
    """The process that listens on a loopback TCP port, the eldest of several; 0 if none."""
    wanted = f":{port:04X}"
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(wanted) and fields[3] == "0A":
                inodes.add(f"socket:[{fields[9]}]")
    owners = []
    for process in _entries(Path("/proc")):
        if not process.name.isdigit():
            continue
        for descriptor in _entries(process / "fd"):
            try:
                if str(descriptor.readlink()) in inodes:
                    owners.append(int(process.name))
                    break
            except OSError:
                continue
    return min(owners, default=0)
