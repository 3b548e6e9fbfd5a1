"""The parent's side, with a program of the test's making in the place of the console."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.app import console_beside, upgrade
from proxy.app.console_beside import ConsoleBeside
from proxy.app.settings import Settings
from proxy.app.sockets import Listeners, bind

PROGRAM = """
import json, os, socket, sys, time
task = json.loads(os.environ["SLUICE_CONSOLE"])
settings = json.load(sys.stdin)
events = open(sys.argv[1], "a", buffering=1)
def say(what, **more): print(json.dumps({"what": what, "process": os.getpid(), **more}), file=events)
link = socket.socket(fileno=task["link"])
listener = socket.socket(fileno=task["listeners"][0])
say("born", parent=task["parent"] == os.getppid(), notify="NOTIFY_SOCKET" in os.environ,
    port=listener.getsockname()[1], url=settings["public_url"], session=os.getsid(0))
if sys.argv[2] == "crash":
    sys.exit(3)
link.sendall(b'{"ready": true}\\n')
for line in link.makefile():
    told = json.loads(line)
    say("told", do=told["do"], url=told.get("settings", {}).get("public_url"))
    if told["do"] == "stop" and sys.argv[2] != "deaf":
        sys.exit(0)
say("deserted")
if sys.argv[2] == "deaf":
    time.sleep(60)
"""


class Events:
    """What the programs did, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, what: str) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        whole = [line for line in self.path.read_text().splitlines(keepends=True) if "\n" in line]
        rows: list[dict[str, Any]] = [json.loads(line) for line in whole]
        return [row for row in rows if row["what"] == what]

    async def wait(self, what: str, count: int = 1) -> list[dict[str, Any]]:
        while len(found := self.of(what)) < count:
            await asyncio.sleep(0.01)
        return found


def process_of(console: ConsoleBeside) -> int | None:
    return None if console._child is None else console._child.pid


Test = Callable[[ConsoleBeside, Events], Awaitable[Any]]


def beside(
    test: Test, path: Path, monkeypatch: pytest.MonkeyPatch, mode: str = "good", **settings: Any
) -> None:
    program = path / "program.py"
    program.write_text(PROGRAM)
    events = Events(path / "events")
    command = [sys.executable, str(program), str(events.path), mode]
    monkeypatch.setattr(upgrade, "command", lambda: command)
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    listeners = Listeners(clients=bind("127.0.0.1:0", 1), console=bind("127.0.0.1:0", 1))

    async def run() -> None:
        console = ConsoleBeside(listeners, Settings(**settings))
        console.start()
        try:
            await test(console, events)
        finally:
            await console.stop()
            await console.stop()

    try:
        uvloop.run(asyncio.wait_for(run(), 30))
        (port,) = {row["port"] for row in events.of("born")}
        assert port == listeners.console[0].getsockname()[1]
    finally:
        listeners.close()


def test_a_console_is_started_told_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(console: ConsoleBeside, events: Events) -> None:
        (born,) = await events.wait("born")
        assert (born["parent"], born["notify"]) == (True, False)
        assert born["session"] == os.getsid(0), "niceness counts within a session only"
        assert born["url"].startswith("http://127.0.0.1:")
        console.reload(Settings(public_url="https://a.example"))
        (told,) = await events.wait("told")
        assert (told["do"], told["url"]) == ("reload", "https://a.example")
        console.reload(Settings())
        assert (await events.wait("told", 2))[1]["url"] == born["url"]
        await console.stop()
        assert [row["do"] for row in events.of("told")] == ["reload", "reload", "stop"]
        assert len(events.of("born")) == 1

    beside(test, tmp_path, monkeypatch)


def test_one_that_dies_is_started_again_with_the_settings_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(console: ConsoleBeside, events: Events) -> None:
        (first,) = await events.wait("born")
        os.kill(first["process"], 9)
        console.reload(Settings(public_url="https://b.example"))
        second = (await events.wait("born", 2))[1]
        assert second["url"] == "https://b.example"
        assert second["process"] != first["process"]

    beside(test, tmp_path, monkeypatch)


def test_one_that_cannot_start_is_tried_at_growing_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def paused(_console: ConsoleBeside, seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(ConsoleBeside, "_pause", paused)

    async def test(_console: ConsoleBeside, events: Events) -> None:
        await events.wait("born", 8)

    beside(test, tmp_path, monkeypatch, "crash")
    assert pauses[:7] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_one_that_served_for_a_while_is_missed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_beside, "STEADY_SECONDS", 0.0)
    monkeypatch.setattr(console_beside, "PAUSE_SECONDS_MIN", 0.0)
    monkeypatch.setattr(console_beside, "PAUSE_SECONDS_MAX", 3600.0)

    async def test(console: ConsoleBeside, events: Events) -> None:
        for count in range(1, 4):
            born = (await events.wait("born", count))[-1]
            while console._child is None or console._child.ready_at is None:
                await asyncio.sleep(0.01)
            os.kill(born["process"], 9)
            while process_of(console) == born["process"]:
                await asyncio.sleep(0.01)

    beside(test, tmp_path, monkeypatch)


def test_one_that_does_not_leave_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_beside, "STOP_SECONDS_MAX", 0.1)

    async def test(console: ConsoleBeside, events: Events) -> None:
        (born,) = await events.wait("born")
        await console.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(born["process"], 0)

    beside(test, tmp_path, monkeypatch, "deaf")


def test_a_program_that_is_not_there_is_no_failure_of_the_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(console: ConsoleBeside, events: Events) -> None:
        (born,) = await events.wait("born")
        asked = asyncio.Event()

        def nothing() -> list[str]:
            if len(asked_for) == 3:
                asked.set()
            asked_for.append(str(tmp_path / "nothing"))
            return asked_for[-1:]

        asked_for: list[str] = []
        monkeypatch.setattr(upgrade, "command", nothing)
        os.kill(born["process"], 9)
        await asked.wait()
        assert (console._child, len(events.of("born"))) == (None, 1)

    beside(test, tmp_path, monkeypatch)


def test_without_a_socket_there_is_no_console() -> None:
    async def run() -> None:
        console = ConsoleBeside(Listeners(), Settings(console_listen=""))
        console.start()
        console.reload(Settings(console_listen=""))
        await console.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
