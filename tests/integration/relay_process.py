"""The relay as its operator runs it: a subprocess with a data directory, a catalog and keys.

`with RelayProcess(tmp_path, [UpstreamAt(...)]) as relay:` writes the catalog file, starts
`sluice serve`, waits for /readyz, and makes users and keys by the command line with `--json`.
It can be killed with SIGKILL, whole or a process of several, and started again on the same ports
and data. This module knows the relay only by its command line, its listeners, its log and its exit.
"""

import contextlib
import functools
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.integration import forked_commands

ROOT = forked_commands.ROOT
SLUICE = (sys.executable, "-m", "proxy.app.cli")
READY_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 20.0
COMMAND_SECONDS_MAX = 30.0
PAGE_ROWS = 10_000
POLL_SECONDS = 0.05
"""Between looks at /readyz: it has no push; nothing else here waits by the clock."""

PORT_MIN, PORT_SHARES, PORTS_PER_WORKER = 11_000, 8, 2_500
"""Above those that browsers refuse to open (10080), below those that the kernel gives away."""

OPENAI_MODEL = "model-o"
ANTHROPIC_MODEL = "model-a"


@dataclass(frozen=True, slots=True)
class UpstreamAt:
    """A channel of the catalog. `models` maps public names to upstream names."""

    name: str
    dialect: str
    base_url: str
    models: Mapping[str, str]
    keys: tuple[str, ...] = ("upstream-key",)
    settings: Mapping[str, object] = field(default_factory=dict)
    """Further rows of the `[[channel]]` table, such as `terminal` or `priority`."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user with one key. `key` is the secret."""

    user: str
    key: str = field(repr=False)


class CommandFailedError(AssertionError):
    """A command ended with another status than 0."""


class RelayProcess:
    """One relay; see the module docstring. `settings` are the rows of its settings file.

    `program` is what `serve` is given to; commands always go to the real one. `console`: with one,
    which answers a moment after the relay is ready.
    """

    def __init__(
        self,
        directory: Path,
        upstreams: Sequence[UpstreamAt],
        *,
        settings: Mapping[str, object] | None = None,
        group: Mapping[str, object] | None = None,
        plan: Mapping[str, object] | None = None,
        models: Mapping[str, Mapping[str, object]] | None = None,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = SLUICE,
        console: bool = False,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.data = directory / "data"
        self.port, self.operations_port, self.console_port = free_ports(3)
        self.settings_file = directory / "sluice.toml"
        self.catalog_file = directory / "catalog.toml"
        rows = {
            "listen": f"127.0.0.1:{self.port}",
            "operations_listen": f"127.0.0.1:{self.operations_port}",
            "console_listen": f"127.0.0.1:{self.console_port}" if console else "",
            "data_dir": str(self.data),
            "catalog_file": str(self.catalog_file),
            **(settings or {}),
        }
        self.settings_file.write_text("".join(f"{k} = {toml(v)}\n" for k, v in rows.items()))
        self.catalog_file.write_text(catalog(upstreams, group or {}, plan or {}, models or {}))
        self._environment = {
            **os.environ,
            "PYTHONWARNINGS": forked_commands.WARNINGS,
            **(environment or {}),
        }
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._log_file = directory / "relay.log"
        self._accounts = 0

    @property
    def url(self) -> str:
        """Where clients call, without `/v1`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def operations_url(self) -> str:
        """Where health and metrics are."""
        return f"http://127.0.0.1:{self.operations_port}"

    @property
    def console_url(self) -> str:
        """Where the console is, if there is one."""
        return f"http://127.0.0.1:{self.console_port}"

    @property
    def process_id(self) -> int:
        """The relay's process id."""
        return self._running().pid

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.data / "sluice.db"

    def start(self) -> Self:
        """Start and wait until it is ready; raises with its log if it does not become so.

        Its own word in the log counts too: on its ports the children of one that was killed may
        still answer, /readyz among the rest.
        """
        served = self._count("serving")
        self._process = self._launch()
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not (self._count("serving") > served and self.is_ready()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the relay did not become ready: {self.log()[-4000:]}")
            time.sleep(POLL_SECONDS)
        return self

    def start_and_kill(self, seconds: float) -> None:
        """Start it and end it with SIGKILL after `seconds`, wherever it has come to."""
        self._process = self._launch()
        time.sleep(seconds)  # pace: the moment of the kill is what is tested
        self.kill()

    def _launch(self) -> "subprocess.Popen[bytes]":
        with self._log_file.open("ab") as log:
            return subprocess.Popen(
                [*self._program, "serve", "--config", str(self.settings_file)],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def is_ready(self) -> bool:
        """Ask /readyz once."""
        try:
            with urllib.request.urlopen(f"{self.operations_url}/readyz", timeout=5) as response:
                return bool(response.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False

    def until_ready(self) -> None:
        """Ask /readyz until it is: one that goes may still be asked, or reset who asks."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not self.is_ready():
            assert time.monotonic() < deadline, self.log()[-4000:]
            time.sleep(POLL_SECONDS)

    def children(self) -> dict[str, list[int]]:
        """Process ids of its live children by role; empty when it is one process."""
        roles = {
            line["process"]: line["role"]
            for line in self.log_lines()
            if line["event"] == "child ready"
        }
        found: dict[str, list[int]] = {}
        for child in children_of(self.process_id):
            found.setdefault(roles.get(child, "starting"), []).append(child)
        return found

    def kill(self) -> None:
        """End all of its processes with SIGKILL; does nothing if it has ended."""
        if self._process is None:
            return
        children = children_of(self._process.pid)
        self.kill_main()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        until_gone(children)

    def kill_main(self) -> None:
        """End the process that was started with SIGKILL, and leave any children to themselves."""
        process, self._process = self._running(), None
        process.kill()
        process.wait()

    def ended(self) -> int | None:
        """Its exit status if it has ended by itself; None while it runs."""
        return self._running().poll()

    def start_refused(self) -> str:
        """Start it where it cannot; returns what it said. Raises if it became ready after all."""
        said = len(self.log())
        process = self._launch()
        try:
            status = process.wait(READY_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"it runs: {self.log()[said:][-4000:]}") from None
        if status == 0:
            raise AssertionError("it ended as if nothing was wrong")
        return self.log()[said:]

    def terminate(self) -> int:
        """End it with SIGTERM and return its exit status; kills it if it will not go."""
        self._running().terminate()
        return self.exit_status()

    def exit_status(self) -> int:
        """Wait for the end of a relay that was told to stop; kills it if it will not go."""
        process = self._running()
        try:
            status = process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the relay did not stop: {self.log()[-4000:]}") from None
        self._process = None
        return status

    def upgrade(self) -> None:
        """Send SIGUSR2."""
        self._running().send_signal(signal.SIGUSR2)

    def wait_for(self, event: str, count: int = 1) -> None:
        """Wait until `event` stands so often in its log."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        while self._count(event) < count:
            if self._running().poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no {event!r} came: {self.log()[-4000:]}")
            time.sleep(POLL_SECONDS)

    def _count(self, event: str) -> int:
        return sum(line["event"] == event for line in self.log_lines())

    def reload(self) -> None:
        """Send SIGHUP."""
        self._running().send_signal(signal.SIGHUP)

    def log(self) -> str:
        """Everything it wrote, over all its starts."""
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    def log_lines(self) -> list[dict[str, Any]]:
        """The JSON lines of its log."""
        whole = (line for line in self.log().splitlines() if line.startswith("{"))
        return [json.loads(line) for line in whole if line.endswith("}")]

    def command(self, *arguments: str) -> Any:
        """Run a command with `--json` and return its result. Raises CommandFailedError."""
        words = [*arguments, "--json", "--config", str(self.settings_file)]
        done = forked_commands.run(words, self._environment, COMMAND_SECONDS_MAX)
        if done.returncode != 0:
            raise CommandFailedError(f"{arguments}: {done.returncode} {done.stderr.decode()}")
        return json.loads(done.stdout)

    def account(self, credit: str = "100.00", **key_options: str) -> Account:
        """Make a user with credit and one key; options such as `budget="1.00"` are the key's."""
        self._accounts += 1
        name = f"user-{self._accounts}-{os.urandom(3).hex()}"
        self.command("user", "add", name, "--credit", credit)
        options = [
            text
            for option, value in key_options.items()
            for text in (f"--{option.replace('_', '-')}", value)
        ]
        made = self.command("key", "add", "main", "--user", name, *options)
        return Account(name, made["key"])

    def usage(self, account: Account) -> list[dict[str, Any]]:
        """All of the account's ended calls, latest first."""
        rows: list[dict[str, Any]] = []
        while True:
            before = ("--before", rows[-1]["request_id"]) if rows else ()
            page = self.command("usage", "--user", account.user, "--rows", str(PAGE_ROWS), *before)
            rows.extend(page)
            if len(page) < PAGE_ROWS:
                return rows

    def balance(self, account: Account) -> str:
        """The wallet's balance, US dollars as decimal text."""
        return str(self.command("wallet", "show", account.user)["balance_usd"])

    def verify(self) -> dict[str, Any]:
        """The ledger checked from its file alone. Raises CommandFailedError if it is not clean."""
        report: dict[str, Any] = self.command("ledger", "verify")
        return report

    def metrics(self) -> str:
        """The metrics page."""
        with urllib.request.urlopen(f"{self.operations_url}/metrics", timeout=10) as response:
            return str(response.read().decode())

    def until_metric(self, line: str) -> None:
        """Wait until the metrics page has a line: a worker that is late is left out of one look."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        while line not in (page := self.metrics()).splitlines():
            if time.monotonic() > deadline:
                raise AssertionError(f"no {line!r} in {page}")
            time.sleep(POLL_SECONDS)

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise AssertionError("the relay is not running")
        return self._process

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._process is not None and kind is None:
                self.terminate()
        finally:
            self.kill()


def children_of(parent: int) -> list[int]:
    """Process ids of the live children of a process; none if it has ended."""
    try:
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def until_gone(processes: Iterable[int]) -> None:
    """Wait until none of the processes runs, which somebody else reaps."""
    deadline = time.monotonic() + STOP_SECONDS_MAX
    for each in processes:
        while is_running(each):
            if time.monotonic() > deadline:
                raise AssertionError(f"process {each} does not end")
            time.sleep(POLL_SECONDS / 5)


def is_running(process: int) -> bool:
    """Whether a process is there, and more than a zombie."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def free_ports(count: int) -> list[int]:
    """Loopback ports nobody uses now, each given out once in a while; kept apart from each other.

    Not those that the kernel gives to whoever asks for any or connects (ip_local_port_range, from
    32,768): somebody else would have one of them by the time that a relay listens. Each worker of
    the tests has some of its own.
    """
    bound: list[socket.socket] = []
    for port in itertools.islice(_ports(), PORTS_PER_WORKER):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            one.close()
            continue
        bound.append(one)
        if len(bound) == count:
            break
    else:
        raise AssertionError("every port is in use")
    ports: list[int] = [each.getsockname()[1] for each in bound]
    for each in bound:
        each.close()
    return ports


@functools.cache
def _ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = PORT_MIN + worker % PORT_SHARES * PORTS_PER_WORKER
    mine = range(first, first + PORTS_PER_WORKER)
    begin = random.randrange(PORTS_PER_WORKER)  # another run may be under way beside this one
    return itertools.cycle([*mine[begin:], *mine[:begin]])


def catalog(
    upstreams: Sequence[UpstreamAt],
    group: Mapping[str, object],
    plan: Mapping[str, object],
    models: Mapping[str, Mapping[str, object]],
) -> str:
    """A catalog document: one plan, the group `default`, priced models, the channels."""
    tables = [
        ("plan", {"name": "default", **plan}),
        ("group", {"name": "default", **group}),
    ]
    names = dict.fromkeys(name for upstream in upstreams for name in upstream.models)
    tables += [
        (
            "model",
            {
                "name": name,
                "context_window": 128_000,
                "output_tokens_max": 16_384,
                "tokenizer": "o200k",
                "price": {"input": "1.00", "output": "4.00"},
                **models.get(name, {}),
            },
        )
        for name in names
    ]
    tables += [
        (
            "channel",
            {
                "name": upstream.name,
                "dialect": upstream.dialect,
                "base_url": upstream.base_url,
                "keys": list(upstream.keys),
                "groups": ["default"],
                "allow_private": True,
                "models": dict(upstream.models),
                **upstream.settings,
            },
        )
        for upstream in upstreams
    ]
    return "\n".join(
        f"[[{name}]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in rows.items())
        for name, rows in tables
    )


def toml(value: object) -> str:
    """A TOML value; JSON's strings, numbers and lists are TOML's, but for halves of characters."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml(k)} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
