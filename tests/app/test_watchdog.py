"""The manager hears of life only after a commit: real files, a real datagram socket."""

import asyncio
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.app.watchdog import BEATS_PER_PERIOD, Watchdog, watchdog
from proxy.storage.billing import Keeper
from proxy.storage.ports import KeeperUnavailableError
from proxy.storage.sqlite import open_reader
from tests.storage import world

PERIOD_SECONDS = 0.03
QUIET_SECONDS = 0.5
"""Many periods: what has not come by then was not sent."""
PATIENCE_SECONDS = 20.0


class Manager:
    """The service manager's end, read by its own thread's blocking calls."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))

    def environ(self, period: float = PERIOD_SECONDS) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(int(period * 1e6))}

    def hear(self, seconds: float = PATIENCE_SECONDS) -> bytes:
        self.socket.settimeout(seconds)
        return self.socket.recv(1024)

    def falls_silent(self) -> bool:
        """Take what was sent already, then listen for many periods."""
        for _ in range(10_000):
            try:
                self.hear(QUIET_SECONDS)
            except TimeoutError:
                return True
        return False


def beating(
    tmp_path: Path, check: Callable[[Keeper, Manager], Coroutine[Any, Any, None]]
) -> list[BaseException]:
    """Run `check` beside a keeper on a real file whose watchdog beats; returns what failed."""
    manager = Manager(tmp_path)
    faults: list[BaseException] = []

    async def run() -> None:
        keeper = await world.keeper(tmp_path / "sluice.db", on_fatal=faults.append)
        dog = watchdog(keeper.beat, environ=manager.environ())
        assert dog is not None
        running = asyncio.ensure_future(dog.run())
        try:
            await check(keeper, manager)
        finally:
            running.cancel()
            await keeper.close()

    try:
        uvloop.run(run())
    finally:
        manager.socket.close()
    return faults


def test_without_a_manager_that_asks_there_is_no_watchdog() -> None:
    async def beat() -> float:
        raise AssertionError("nobody asked")

    assert watchdog(beat, environ={}) is None
    assert watchdog(beat, environ={"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}) is None
    asked = watchdog(beat, environ={"WATCHDOG_USEC": "30000000"})
    assert asked is not None
    assert asked.pause_seconds * BEATS_PER_PERIOD == 30.0
    supervisor = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getppid())}
    assert watchdog(beat, environ=supervisor, pid=os.getppid()) is not None


def test_each_sign_of_life_is_a_commit_in_the_file(tmp_path: Path) -> None:
    async def check(keeper: Keeper, manager: Manager) -> None:
        reader = open_reader(tmp_path / "sluice.db")
        before = keeper.statistics().commits
        seen = 0.0
        for count in range(1, 6):
            assert await asyncio.to_thread(manager.hear) == b"WATCHDOG=1"
            (at,) = reader.execute("SELECT at FROM heartbeat").fetchone()
            assert at > seen, "the row of the beat before was not it"
            seen = at
            assert keeper.statistics().commits - before >= count - 1
        reader.close()

    assert beating(tmp_path, check) == []


def test_a_stuck_writer_falls_silent_and_is_heard_again(tmp_path: Path) -> None:
    async def check(keeper: Keeper, manager: Manager) -> None:
        assert await asyncio.to_thread(manager.hear) == b"WATCHDOG=1"
        stuck, release = threading.Event(), threading.Event()

        def hang(_connection: sqlite3.Connection) -> None:
            stuck.set()
            release.wait(PATIENCE_SECONDS)

        hanging = asyncio.ensure_future(keeper.change(hang))
        await asyncio.to_thread(stuck.wait, PATIENCE_SECONDS)
        assert await asyncio.to_thread(manager.falls_silent)
        release.set()
        await hanging
        assert await asyncio.to_thread(manager.hear) == b"WATCHDOG=1"

    assert beating(tmp_path, check) == []


def test_a_blocked_event_loop_falls_silent(tmp_path: Path) -> None:
    async def check(_keeper: Keeper, manager: Manager) -> None:
        silent: list[bool] = []
        assert await asyncio.to_thread(manager.hear) == b"WATCHDOG=1"
        listening = threading.Thread(target=lambda: silent.append(manager.falls_silent()))
        listening.start()
        listening.join(PATIENCE_SECONDS)  # what blocks the loop
        assert silent == [True]
        assert await asyncio.to_thread(manager.hear) == b"WATCHDOG=1"

    assert beating(tmp_path, check) == []


def test_a_disk_that_does_not_sync_falls_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, sync = threading.Event(), os.fdatasync

    def stuck(descriptor: int) -> None:
        release.wait(PATIENCE_SECONDS)
        sync(descriptor)

    async def check(keeper: Keeper, manager: Manager) -> None:
        assert await asyncio.to_thread(manager.falls_silent)
        before = keeper.statistics().commits
        await keeper.beat()
        assert keeper.statistics().commits > before, "commits go on: they do not wait for the sync"
        release.set()
        assert await asyncio.to_thread(manager.hear) == b"WATCHDOG=1"

    monkeypatch.setattr(os, "fdatasync", stuck)
    assert beating(tmp_path, check) == []


def test_a_ledger_that_failed_never_seems_alive_again(tmp_path: Path) -> None:
    async def check(keeper: Keeper, manager: Manager) -> None:
        assert await asyncio.to_thread(manager.hear) == b"WATCHDOG=1"

        def fail(_connection: sqlite3.Connection) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with pytest.raises(KeeperUnavailableError):
            await keeper.change(fail)
        assert await asyncio.to_thread(manager.falls_silent)

    assert [str(fault) for fault in beating(tmp_path, check)] == ["database or disk is full"]


def test_the_watchdog_ends_by_itself_when_the_ledger_has_failed() -> None:
    told: list[None] = []

    async def beat() -> float:
        raise KeeperUnavailableError("gone")

    asyncio.run(Watchdog(beat, lambda: told.append(None), 1.0).run())
    assert told == []
