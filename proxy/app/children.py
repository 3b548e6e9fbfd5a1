"""The children of a supervisor: how they are forked, told and heard.

Rules: parent and child speak JSON lines over a socket pair of their own; end of file means that
the other is gone, so a child closes its parent's ends of all others first. Signals are blocked
across the fork: none may be lost between the parent's handlers and the child's. A child that
does not read what it is told is broken and is killed. This module must not know when.
"""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from proxy.edge import log

LINE_BYTES_MAX = 65_536
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)
"""What a supervisor handles, and a child must start without."""
UNNUMBERED = -1
TASK = "SLUICE_CONSOLE"
"""Set for a program that shall be the console of a relay with one process (console_program.py)."""


class Role(StrEnum):
    """What a child is for."""

    KEEPER = "keeper"
    WORKER = "worker"
    CONSOLE = "console"
    DEMO = "demo"


class Order(StrEnum):
    """What a child is told, as `{"do": ...}`."""

    RELOAD = "reload"
    RETIRE = "retire"
    """A successor has taken over: serve what is connected, then leave."""
    DRAIN = "drain"
    """There is no successor: let open calls end, then leave."""
    STOP = "stop"
    """Leave at once: cut what is open, settle it."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a new child is. `link` is its end of the socket pair; `first`: nothing ran before it."""

    role: Role
    slot: int
    number: int
    link: socket.socket
    first: bool = False


@dataclass(slots=True)
class Child:
    """One live child as its parent knows it. `number`: of a worker, else UNNUMBERED."""

    role: Role
    slot: int
    number: int
    pid: int
    link: socket.socket
    generation: int
    """The parent's count of reloads when it was forked."""
    adopted: bool = False
    """Forked by the program before this one."""
    born: float = field(default_factory=time.monotonic)
    ready_at: float | None = None
    leave_by: float | None = None
    """It was told to leave and has until then. Monotonic seconds, as all times here."""
    received: bytes = b""
    mute: bool = False
    """It will say nothing more."""

    def tell(self, **message: object) -> None:
        """Send one line; a child that has stopped reading is killed."""
        line = json.dumps(message).encode() + b"\n"
        try:
            sent = self.link.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:  # it is gone: waitpid will tell
            return
        if sent < len(line):
            log.get().error("child does not listen, killing it", **self.names())
            self.kill()

    def hear(self) -> Iterator[dict[str, Any]]:
        """Yield the whole lines that have arrived. Never blocks."""
        try:
            data = self.link.recv(LINE_BYTES_MAX, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.mute = self.mute or not data
        self.received += data
        *lines, self.received = self.received.split(b"\n")
        if len(self.received) > LINE_BYTES_MAX:
            log.get().error("child sends an endless line, killing it", **self.names())
            self.received = b""
            self.kill()
        for line in lines:
            yield json.loads(line)

    def kill(self) -> None:
        """End it with SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> int | None:
        """Its wait status once it has ended, which may be asked once; else None."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # reaped by nobody we know: it is gone in any case
            return 0
        return status if pid else None

    def names(self) -> dict[str, object]:
        """What log lines about it say."""
        named: dict[str, object] = {"role": self.role.value, "process": self.pid}
        return named if self.number == UNNUMBERED else {**named, "worker": self.number}


def fork(
    role: Role, slot: int, number: int, generation: int, *, first: bool
) -> "Child | Assignment":
    """Start a child: returns the Child in the parent, and the Assignment in the child itself.

    Raises OSError when the machine gives no process.
    """
    ours, theirs = socket.socketpair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    if pid:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return Child(role, slot, number, pid, ours, generation)
    ours.close()
    become_child()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Assignment(role, slot, number, theirs, first)


def adopt_link(descriptor: int) -> socket.socket:
    """The parent's end of a link that the program before this one left open."""
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - the signature of the library
    return socket.socket(fileno=descriptor)


def become_child() -> None:
    """Give up the parent's handlers. A child leaves when it is told, not by a signal to a group."""
    signal.set_wakeup_fd(-1)
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def close_links(children: Iterable[Child]) -> None:
    """In a child: close the parent's ends of all others, or their end of file never comes."""
    for child in children:
        child.link.close()
