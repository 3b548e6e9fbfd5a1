"""The console as a process of its own, from the start of the program to its end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from proxy.app.children import TASK, Order
from proxy.app.console_program import OrphanError, take
from proxy.app.settings import Settings
from proxy.app.sockets import bind

ROOT = Path(__file__).parents[2]
SERVE = [sys.executable, "-m", "proxy.app.cli", "serve", "--nonsense"]


class Started:
    """One console; the listener is kept open here, as its parent does."""

    def __init__(self, path: Path, *, parent: int | None = None, **settings: Any) -> None:
        (self.listener,) = bind("127.0.0.1:0", 1)
        self.port: int = self.listener.getsockname()[1]
        self.link, theirs = socket.socketpair()
        self.link.settimeout(30)
        self.heard = self.link.makefile("rb")
        passed = [theirs.fileno(), self.listener.fileno()]
        task = {"parent": parent or os.getpid(), "link": passed[0], "listeners": passed[1:]}
        self.process = subprocess.Popen(
            SERVE,
            cwd=ROOT,
            env={**os.environ, TASK: json.dumps(task)},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=passed,
        )
        theirs.close()
        said = Settings(
            data_dir=str(path), console_url="http://a", public_url="http://b", **settings
        )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self.process.stdin:
            self.process.stdin.write(json.dumps(asdict(said)).encode())

    def ready(self) -> None:
        assert json.loads(self.heard.readline()) == {"ready": True}

    def tell(self, **message: object) -> None:
        self.link.sendall(json.dumps(message).encode() + b"\n")

    def status(self) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=20) as page:
                return int(page.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def ended(self) -> int:
        return self.process.wait(30)

    def close(self) -> None:
        self.heard.close()
        self.link.close()
        self.listener.close()
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


@contextlib.contextmanager
def started(path: Path, **more: Any) -> Iterator[Started]:
    console = Started(path, **more)
    try:
        yield console
    finally:
        console.close()


def test_it_answers_gives_way_and_leaves_when_told(tmp_path: Path) -> None:
    with started(tmp_path) as console:
        console.ready()
        assert console.status() in {200, 503}, "without a database it says so"
        nice = int(
            Path(f"/proc/{console.process.pid}/stat").read_text().rpartition(")")[2].split()[16]
        )
        assert nice > os.nice(0)
        console.process.send_signal(signal.SIGTERM)
        console.process.send_signal(signal.SIGINT)
        console.tell(do=Order.RELOAD, settings=asdict(Settings(log_format="text")))
        assert console.status() in {200, 503}, "signals are its parent's to hear"
        console.tell(do=Order.STOP)
        assert console.ended() == 0


def test_it_leaves_with_its_parent_and_lets_go_of_the_address(tmp_path: Path) -> None:
    with started(tmp_path) as console:
        console.ready()
        console.heard.close()
        console.link.close()
        assert console.ended() == 0
        console.listener.close()
        bind(f"127.0.0.1:{console.port}", 1)[0].close()


def test_it_is_no_console_for_somebody_else(tmp_path: Path) -> None:
    with started(tmp_path, parent=1) as console:
        assert console.ended() == 1
        assert console.process.stderr is not None
        assert not console.process.stderr.read()


def test_a_bad_secret_is_named(tmp_path: Path) -> None:
    weak = tmp_path / "weak"
    weak.write_text("00" * 32)
    weak.chmod(0o600)
    with started(tmp_path, console_secret_file=str(weak)) as console:
        assert console.ended() == 1
        assert console.process.stderr is not None
        said = json.loads(console.process.stderr.read())
        assert said["event"] == "the console cannot start"
        assert f"{weak} is weak" in said["reason"]
        assert "openssl rand" in said["remedy"]


def test_a_task_is_taken_from_ones_own_parent_alone() -> None:
    environ = {TASK: json.dumps({"parent": -1})}
    with pytest.raises(OrphanError):
        take(environ)
    assert not environ, "no child may take it for its own"
