"""The console beside a relay of one process: a child that is started, restarted, told and ended.

Rules: it is started by `exec`, because this process has threads; the listening sockets stay open
here, so that browsers wait while there is none; one that dies is started again after a pause that
grows, and nothing of it ever disturbs a call. This module must not know what a console does.
"""

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict

from proxy.app import upgrade
from proxy.app.addresses import Bound
from proxy.app.children import TASK, UNNUMBERED, Child, Order, Role
from proxy.app.settings import Settings
from proxy.app.sockets import Listeners
from proxy.edge import log

PAUSE_SECONDS_MIN = 0.1
PAUSE_SECONDS_MAX = 5.0
STEADY_SECONDS = 10.0
"""Ready for so long, a console that dies is started again without the pause of a crash loop."""
STOP_SECONDS_MAX = 8.0
"""A console that was told to leave has so long before it is killed."""


class ConsoleBeside:
    """From `start` to `stop`; without a socket for it there is no console."""

    def __init__(self, listeners: Listeners, settings: Settings) -> None:
        self._listeners = tuple(listeners.console)
        self._bound = Bound.of(listeners)
        self._settings = self._bound.completing(settings)
        self._child: Child | None = None
        self._told: Settings | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def start(self) -> None:
        """Begin; returns at once, before the console answers."""
        if self._listeners:
            self._task = asyncio.ensure_future(self._keep())

    def reload(self, settings: Settings) -> None:
        """Let the console, and every later one, run with `settings`."""
        self._settings = self._bound.completing(settings)
        self._tell_settings()

    async def stop(self) -> None:
        """End the console, killing it if it will not go. Safe to call twice."""
        self._stopping.set()
        task, self._task = self._task, None
        if task is None:
            return
        # One that is just being started is told once it is there.
        self._tell_end()
        await asyncio.wait([task], timeout=STOP_SECONDS_MAX)
        if self._child is not None:
            log.get().error("child does not leave, killing it", **self._child.names())
            self._child.kill()
        await task

    async def _keep(self) -> None:
        pause = PAUSE_SECONDS_MIN
        while not self._stopping.is_set():
            steady = await self._run_once()
            pause = PAUSE_SECONDS_MIN if steady else min(pause * 2, PAUSE_SECONDS_MAX)
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _run_once(self) -> bool:
        """Be with one console until it has ended; returns whether it served for a while."""
        loop = asyncio.get_running_loop()
        settings = self._settings
        try:
            process, link = await _launch(self._listeners, settings)
        except OSError as error:
            log.get().error("cannot start a child", role=Role.CONSOLE, reason=error.strerror)
            return False
        child = self._child = Child(Role.CONSOLE, 0, UNNUMBERED, process.pid, link, 0)
        self._told = settings
        loop.add_reader(link, self._hear, child)
        if self._stopping.is_set():
            self._tell_end()
        code = await process.wait()
        loop.remove_reader(link)
        link.close()
        self._child = None
        if code or not self._stopping.is_set():
            reason = f"signal {-code}" if code < 0 else f"exit status {code}"
            log.get().error("child ended", reason=reason, **child.names())
        return child.ready_at is not None and time.monotonic() - child.ready_at >= STEADY_SECONDS

    def _hear(self, child: Child) -> None:
        for message in child.hear():
            if message.get("ready"):
                child.ready_at = time.monotonic()
                log.get().info("child ready", **child.names())
                self._tell_settings()
        if child.mute:
            asyncio.get_running_loop().remove_reader(child.link)

    def _tell_end(self) -> None:
        if self._child is not None:
            self._child.tell(do=Order.STOP)

    def _tell_settings(self) -> None:
        """Tell the console what it does not know; before it is ready it would not listen."""
        child, settings = self._child, self._settings
        if child is not None and child.ready_at is not None and self._told is not settings:
            self._told = settings
            child.tell(do=Order.RELOAD, settings=asdict(settings))


async def _launch(
    listeners: Sequence[socket.socket], settings: Settings
) -> "tuple[asyncio.subprocess.Process, socket.socket]":
    """Start this program as a console; returns it with our end of the link. Raises OSError."""
    ours, theirs = socket.socketpair()
    # In memory rather than a pipe: neither side has to wait for the other.
    with theirs, open(os.memfd_create("settings"), "wb") as said:  # noqa: ASYNC230, PTH123 - memory
        said.write(json.dumps(asdict(settings)).encode())
        said.flush()
        said.seek(0)
        passed = [theirs.fileno(), *(each.fileno() for each in listeners)]
        task = {"parent": os.getpid(), "link": passed[0], "listeners": passed[1:]}
        environment = {**os.environ, TASK: json.dumps(task)}
        environment.pop("NOTIFY_SOCKET", None)  # the relay alone speaks for the service
        try:
            process = await asyncio.create_subprocess_exec(
                *upgrade.command(),
                stdin=said,
                env=environment,
                pass_fds=passed,
            )
        except BaseException:
            ours.close()
            raise
    return process, ours
