import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from proxy.app import serve
from proxy.app.addresses import Bound
from proxy.app.control import ask
from proxy.app.in_force import InForce
from proxy.app.seed import Seeded
from proxy.app.serve import Options, banner, curl
from proxy.app.settings import Settings, parse
from proxy.app.sockets import Listeners, bind
from tests.integration.relay_process import free_ports


class Process:
    """A `sluice serve` of its own; `lines` is what it printed before it was ready."""

    def __init__(self, child: subprocess.Popen[bytes], operations: int) -> None:
        self.child = child
        self.operations = operations
        self.lines: list[str] = []

    def read_banner(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.lines.append(line.decode())
            if "-d '" in self.lines[-1] or (len(self.lines) == 1 and self.plain):
                return
        assert self.child.stderr is not None
        raise AssertionError(f"it ended: {self.child.stderr.read().decode()}")

    plain = False

    @property
    def text(self) -> str:
        return "".join(self.lines)

    @property
    def url(self) -> str:
        found = re.search(r"on (http://\S+)", self.text)
        assert found, self.text
        return found[1]

    @property
    def key(self) -> str | None:
        found = re.search(r"sk-\w+", self.text)
        return found[0] if found else None

    def ready(self) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.operations}/readyz", timeout=10
            ) as answer:
                return answer.status, orjson.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, orjson.loads(error.read())

    def wait_for_log(self, words: bytes) -> bytes:
        assert self.child.stderr is not None
        for line in self.child.stderr:
            if words in line:
                return line
        raise AssertionError(f"it ended without saying {words!r}")

    def stop(self) -> tuple[int, str]:
        self.child.send_signal(signal.SIGTERM)
        _, errors = self.child.communicate(timeout=30)
        for word in (b"Warning", b"never retrieved", b"Traceback"):
            assert word not in errors, errors.decode()
        return self.child.returncode, errors.decode()


@contextmanager
def served(data: Path, *arguments: str, plain: bool = False) -> Iterator[Process]:
    (operations,) = free_ports(1)
    command = [
        sys.executable,
        "-W",
        "always::ResourceWarning",
        "-m",
        "proxy.app.cli",
        "serve",
        "--data",
        str(data),
    ]
    command += ["--listen", "127.0.0.1:0", "--operations", f"127.0.0.1:{operations}"]
    command += ["--console", "", *arguments]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process = Process(child, operations)
    process.plain = plain
    try:
        process.read_banner()
        yield process
    finally:
        child.kill()
        child.communicate(timeout=10)


def stream(url: str, key: str) -> tuple[int, bytes]:
    body = {
        "model": "demo-gpt",
        "stream": True,
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "hi"}],
    }
    request = urllib.request.Request(
        url + "/v1/chat/completions",
        data=orjson.dumps(body),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status, answer.read()


def test_a_first_run_prints_a_key_that_streams_and_a_second_run_none(tmp_path: Path) -> None:
    with served(tmp_path, "--demo") as first:
        key = first.key
        assert key is not None
        assert f'Authorization: Bearer {key}"' in first.text
        assert first.ready() == (200, {"status": "ready"})
        status, body = stream(first.url, key)
        assert (status, body.endswith(b"data: [DONE]\n\n")) == (200, True)
        (call,) = ask_for(tmp_path, "usage")
        assert (call["verdict"], call["output"]) == ("complete", 5)
        code, errors = first.stop()
        assert code == 0, errors
        assert key not in errors
    with served(tmp_path, "--demo") as second:
        assert second.key is None
        assert "as before" in second.text
        assert stream(second.url, key)[0] == 200
        assert len(ask_for(tmp_path, "key list")) == 1
        assert len(ask_for(tmp_path, "usage")) == 2


def ask_for(data: Path, command: str) -> Any:
    return ask(data / "control.sock", command, {})


def test_only_one_relay_serves_a_directory(tmp_path: Path) -> None:
    with served(tmp_path, plain=True):
        command = [sys.executable, "-m", "proxy.app.cli", "serve", "--data", str(tmp_path)]
        second = subprocess.run(command, capture_output=True, timeout=30, check=False)
        assert second.returncode == 1
        assert b"is in use by process" in second.stderr


def test_hang_up_reloads_and_a_bad_file_keeps_the_old_settings(tmp_path: Path) -> None:
    config = tmp_path / "s.toml"
    config.write_text("drain_seconds = 1.0\n")
    with served(tmp_path / "data", "--config", str(config), plain=True) as process:
        process.wait_for_log(b'"serving"')
        config.write_text("drain_seconds = 1.0\nnope = 1\n")
        process.child.send_signal(signal.SIGHUP)
        line = orjson.loads(process.wait_for_log(b"reload refused"))
        assert (line["line"], line["reason"]) == (2, "unknown setting 'nope'")
        assert process.ready()[0] == 200
        config.write_text("drain_seconds = 2.0\nworkers = 1\nconnections_max = 5\n")
        process.child.send_signal(signal.SIGHUP)
        line = orjson.loads(process.wait_for_log(b"needs a restart"))
        assert line["setting"] == "connections_max"
        process.wait_for_log(b'"reloaded"')
        code, errors = process.stop()
        assert (code, '"seconds":2.0' in errors) == (0, True), errors


def test_a_catalog_file_is_in_force_before_the_first_call_and_after_a_reload(
    tmp_path: Path,
) -> None:
    catalog = tmp_path / "c.toml"
    catalog.write_text('[[plan]]\nname = "one"\n')
    settings = ("--set", f"catalog_file={catalog}")
    with served(tmp_path / "data", *settings, plain=True) as process:
        assert [plan["name"] for plan in ask_for(tmp_path / "data", "catalog export")["plan"]] == [
            "one"
        ]
        catalog.write_text('[[plan]]\nname = "two"\n')
        process.child.send_signal(signal.SIGHUP)
        process.wait_for_log(b'"reloaded"')
        assert [plan["name"] for plan in ask_for(tmp_path / "data", "catalog export")["plan"]] == [
            "two"
        ]
        catalog.write_text("[[plan]]\n")
        process.child.send_signal(signal.SIGHUP)
        process.wait_for_log(b"reload refused")
        assert len(ask_for(tmp_path / "data", "catalog export")["plan"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "nope=1"), b"unknown setting 'nope'"),
        (("--listen", "nonsense"), b"is not host:port"),
        (("--config", "none.toml"), b"cannot be read"),
        (("--set", "catalog_file=none.toml"), b"cannot be read"),
        (("--upstream", "openai=http://a", "--upstream-key", "@none"), b"key file none"),
    ],
)
def test_a_relay_that_cannot_start_says_why(
    tmp_path: Path, arguments: tuple[str, ...], message: bytes
) -> None:
    anywhere = ["--listen", "127.0.0.1:0", "--set", "operations_listen=127.0.0.1:0",
                "--set", "console_listen="]  # fmt: skip
    command = [sys.executable, "-m", "proxy.app.cli", "serve", "--data", "d", *anywhere, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(serve.__file__).parents[2])}
    result = subprocess.run(
        command, capture_output=True, timeout=30, check=False, cwd=tmp_path, env=environment
    )
    assert result.returncode == 1, result.stderr
    assert message in result.stderr
    assert b"Traceback" not in result.stderr


def test_an_address_in_use_says_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "proxy.app.cli", "serve", "--data", str(tmp_path)]
        command += ["--listen", f"127.0.0.1:{port}", "--operations", "127.0.0.1:0", "--console", ""]
        result = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert result.returncode == 1
    assert b"address already in use" in result.stderr
    assert b"try: stop what listens there" in result.stderr
    assert b"Traceback" not in result.stderr


def test_the_banner_shows_a_secret_only_when_it_was_made_just_now() -> None:
    settings = Settings()
    plain = banner("127.0.0.1:1", settings, None)
    assert plain.count("\n") == 0
    again = banner("127.0.0.1:1", settings, Seeded(None, ("m",), ()))
    assert "$SLUICE_API_KEY" in again
    assert "begin at $1.00 in and $4.00 out per 1M tokens" in again
    assert "sluice models import\n" in again
    assert "begin at" not in banner("127.0.0.1:1", settings, Seeded(None, ("demo-gpt",), ()))
    assert "sluice key add NAME --user demo\n" in again
    assert "--data" not in again
    first = banner("127.0.0.1:1", settings, Seeded("sk-secret", (), ()))
    assert first.count("sk-secret") == 2
    assert '"model":"MODEL"' in first
    assert "onsole" not in first
    with_console = banner("127.0.0.1:1", settings, Seeded(None, ("m",), ()), "http://c.example")
    assert "in your browser:  http://c.example\n" in with_console
    assert "person link" not in with_console
    ours = Seeded(None, ("m",), (), "admin@example.com")
    elsewhere = banner("127.0.0.1:1", Settings(data_dir="/a b"), ours, "http://c.example")
    assert "key add NAME --user admin@example.com --data '/a b'\n" in elsewhere
    assert "sluice person link admin@example.com --data '/a b'\n" in elsewhere
    assert "Sign in" not in with_console
    new = Seeded("sk-secret", ("m",), (), "ann", "/password/set?token=t")
    greeting = banner("127.0.0.1:1", settings, new, "http://c.example")
    assert "http://c.example/password/set?token=t" in greeting
    assert "user 'ann'" in greeting
    assert "token=" not in banner("127.0.0.1:1", settings, new), "there is nowhere to go"


def test_an_upgrade_keeps_the_console_s_address_and_says_so() -> None:
    listeners = Listeners(console=bind("127.0.0.1:0", 1))
    (before,) = listeners.console
    here = f"127.0.0.1:{before.getsockname()[1]}"
    for address, passed, said in (
        (here, False, 0),
        ("127.0.0.1:0", False, 0),
        ("127.0.0.1:1", True, 0),
        ("127.0.0.1:1", False, 1),
    ):
        listeners.passed = passed
        with capture_logs() as lines:
            serve._take_new_console(listeners, Settings(console_listen=address))
        assert [line["setting"] for line in lines] == ["console_listen"] * said, address
        assert listeners.console == [before]
    with capture_logs() as lines:
        serve._take_new_console(listeners, Settings(console_listen=""))
    assert (lines, listeners.console) == ([], [])


def test_the_printed_command_is_one_curl_of_valid_json() -> None:
    text = "\n".join(curl("http://h", "k", "m"))
    body = re.search(r"-d '(.*)'", text)
    assert body
    assert orjson.loads(body[1])["stream"] is True
    assert text.count("\\\n") == 3


class FakeRelay:
    """A relay whose ledger fails: what `serve` must notice by itself."""

    reloaded: Settings | None = None

    def __init__(self) -> None:
        self.drained = asyncio.Event()
        self.gave_up = False
        self.keeper = SimpleNamespace(renewals=SimpleNamespace(fallback=""))
        self.in_force = InForce(Settings(), Bound(""))

    async def failed(self) -> BaseException:
        return OSError("disk full")

    async def drain(self) -> None:
        await self.drained.wait()

    async def give_up(self) -> None:
        self.gave_up = True

    def reload(self, settings: Settings) -> None:
        self.reloaded = settings


async def until_stopped(relay: Any) -> int:
    signals = serve.Signals()
    try:
        reloader = serve.Reloader(relay, relay, Options(), Settings())
        return await serve.until_stopped(relay, reloader, signals)
    finally:
        signals.close()


def test_a_ledger_that_cannot_be_written_ends_the_process_with_a_failure() -> None:
    async def run() -> int:
        relay: Any = FakeRelay()
        status = await until_stopped(relay)
        assert relay.gave_up, "who waits for an answer is told"
        return status

    assert asyncio.run(run()) == 1


def test_a_second_signal_does_not_wait_for_open_calls() -> None:
    async def run() -> int:
        relay: Any = FakeRelay()
        relay.failed = asyncio.Event().wait
        running = asyncio.ensure_future(until_stopped(relay))
        await asyncio.sleep(0)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        return await asyncio.wait_for(running, 10)

    assert asyncio.run(run()) == 0


def test_a_reload_gives_the_relay_the_new_settings(tmp_path: Path) -> None:
    config = tmp_path / "s.toml"
    config.write_text("heartbeat_ms = 700\nlisten = ':1'\n")
    relay: Any = FakeRelay()
    running = parse("", {})
    reloader = serve.Reloader(relay, relay, Options(config=config), running)
    asyncio.run(reloader.reload())
    assert relay.reloaded is reloader.settings is relay.in_force.settings
    assert (reloader.settings.heartbeat_ms, reloader.settings.listen) == (700, running.listen)
