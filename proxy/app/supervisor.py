"""The supervisor: keeps the listening sockets, and somebody to accept on each of them.

Rules: it starts, restarts, drains, reloads and replaces its children and does nothing else; it
runs no event loop, no thread and opens no database, so that it can fork at any time. Order
matters: the keeper first, and last but for the console; a worker is told to retire only when the
successor on its sockets is ready. Every wait for a child has an end. `run` returns twice: in the
parent with an exit status, in each child with its assignment.
This module must not know what a child does.
"""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from proxy.app import notify, upgrade
from proxy.app.check import check_files
from proxy.app.children import (
    HANDLED,
    UNNUMBERED,
    Assignment,
    Child,
    Order,
    Role,
    close_links,
    fork,
)
from proxy.app.settings import Settings, SettingsError
from proxy.app.sockets import Listeners
from proxy.app.upgrade import Inherited
from proxy.core import tokenizers
from proxy.core.entities import Tokenizer
from proxy.edge import log

NUMBERS_MAX = 63
"""Worker numbers are 0 to 62: the last that fits an id is the keeper's (core/ids.py)."""
BACKOFF_SECONDS_MIN = 0.1
BACKOFF_SECONDS_MAX = 5.0
STEADY_SECONDS = 2.0
"""Ready for so long, a child that dies is started again without the pause of a crash loop."""
STOP_SECONDS_MAX = 8.0
"""A child that was told to stop at once has so long before it is killed."""
SETTLE_SECONDS_MAX = 20.0
"""The same, beyond `drain_seconds`, for one that was told to drain: commits may be slow."""
POLL_SECONDS = 0.25
IDLE_SECONDS_MAX = 5.0


@dataclass(slots=True)
class Place:
    """Something that must always be there. `successor`: starting up to replace `child`."""

    role: Role
    slot: int = 0
    child: Child | None = None
    successor: Child | None = None
    failures: int = 0
    due: float = 0.0

    def lost(self, child: Child, now: float) -> None:
        """A child died before it was told to: the next one is due after a pause."""
        steady = child.ready_at is not None and now - child.ready_at >= STEADY_SECONDS
        self.failures = 0 if steady else self.failures + 1
        pause = BACKOFF_SECONDS_MIN * 2 ** max(0, min(self.failures, 10) - 1)
        self.due = now + (0.0 if steady else min(pause, BACKOFF_SECONDS_MAX))


class Supervisor:
    """See the module docstring. `announce` is told once, with what the keeper first said."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        listeners: Listeners,
        announce: Callable[[Mapping[str, Any]], object],
        inherited: Inherited | None = None,
    ) -> None:
        self.settings = settings
        """Those in force: what a new child is to run with."""
        self._load = load
        self._listeners = listeners
        self._announce = announce
        self._places = [
            *([Place(Role.DEMO)] if listeners.demo else []),
            Place(Role.KEEPER),
            *(Place(Role.WORKER, slot) for slot in range(settings.workers)),
            Place(Role.CONSOLE),
        ]
        self._leaving: list[Child] = []
        self._signals: deque[int] = deque()
        self._selector = selectors.DefaultSelector()
        self._wakeup = socket.socketpair()
        self._generation = 0
        self._reloading: Settings | None = None
        self._reload_again = False
        self._last_number = -1
        self._keeper_said: Mapping[str, Any] | None = None
        self._served = False
        self._stopping: Order | None = None
        self._status = 0
        self._preflight: subprocess.Popen[bytes] | None = None
        self._preflight_until = 0.0
        self._upgrade_wanted = False
        self._roll: deque[Place] = deque()
        if inherited is not None:
            self._adopt(inherited)

    # The loop

    def run(self) -> int | Assignment:
        """Supervise until told to stop; returns the exit status, or, in a child, what it is."""
        before = self._take_signals()
        try:
            while True:
                self._hear_signals()
                self._reap()
                self._check_deadlines()
                self._check_preflight()
                self._advance_roll()
                if self._advance_stop():
                    return self._status
                assignment = self._fill()
                if assignment is not None:
                    return assignment
                self._wait()
        finally:
            self._selector.close()
            for end in self._wakeup:
                end.close()
            # A child has already begun anew, and must not get these handlers back.
            if os.getpid() == self._process:
                signal.set_wakeup_fd(-1)
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _take_signals(self) -> dict[int, Any]:
        self._process = os.getpid()
        for end in self._wakeup:
            end.settimeout(0)
        signal.set_wakeup_fd(self._wakeup[1].fileno(), warn_on_full_buffer=False)
        before: dict[int, Any] = {
            number: signal.signal(number, lambda told, _: self._signals.append(told))
            for number in HANDLED
        }
        # A program that was replaced left them blocked until now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        self._selector.register(self._wakeup[0], selectors.EVENT_READ)
        for child in self._children():
            self._selector.register(child.link, selectors.EVENT_READ, child)
        return before

    def _wait(self) -> None:
        """Sleep until a signal, a message, or something is due."""
        now = time.monotonic()
        empty = [place.due for place in self._places if place.child is None]
        timeout = min([IDLE_SECONDS_MAX, *(max(0.0, due - now) for due in empty if due > now)])
        if self._leaving or self._preflight or self._roll or self._stopping:
            timeout = min(timeout, POLL_SECONDS)
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._wakeup[0].recv(4096)
                continue
            for message in key.data.hear():
                self._hear(key.data, message)
            if key.data.mute:
                self._forget(key.data)

    # What comes in

    def _hear_signals(self) -> None:
        while self._signals:
            number = self._signals.popleft()
            if number in {signal.SIGTERM, signal.SIGINT}:
                self._stop(Order.DRAIN if self._stopping is None else Order.STOP)
            elif self._stopping is not None:
                continue
            elif number == signal.SIGHUP:
                self._reload()
            elif number == signal.SIGUSR2:
                self._upgrade_wanted = True

    def _hear(self, child: Child, message: Mapping[str, Any]) -> None:
        if message.get("ready"):
            child.ready_at = time.monotonic()
            log.get().info("child ready", **child.names())
            if child.role is Role.KEEPER:
                self._keeper_ready(child, message)
            elif child.generation != self._generation:
                child.tell(do=Order.RELOAD, settings=asdict(self.settings))
            self._promote(child)
        elif "reloaded" in message and child.role is Role.KEEPER:
            self._reloaded(good=bool(message["reloaded"]))
        if not self._served and all(
            place.child is not None and place.child.ready_at is not None for place in self._places
        ):
            self._served = True
            self._announce(self._keeper_said or {})
            notify.notify(notify.READY, notify.status(f"{self.settings.workers} workers serve"))

    def _keeper_ready(self, child: Child, message: Mapping[str, Any]) -> None:
        if self._keeper_said is None:
            self._keeper_said = message
        # Read once here, the tables are shared by all workers that are forked from now on.
        used = [Tokenizer(name) for name in message.get("tokenizers", ())]
        if used:
            tokenizers.preload(*used)
        wanted = self._reloading
        if wanted is not None or child.generation != self._generation:
            child.tell(do=Order.RELOAD, settings=asdict(wanted or self.settings))

    def _promote(self, child: Child) -> None:
        """A successor is ready: it takes the place, and who had it leaves."""
        for place in self._places:
            if place.successor is not child:
                continue
            place.successor, old, place.child = None, place.child, child
            place.failures = 0
            if old is not None:
                self._dismiss(old, Order.RETIRE if old.role is Role.WORKER else Order.STOP)

    def _dismiss(self, child: Child, order: Order) -> None:
        """Tell a child to leave, and by when. One that leaves already may only be hurried."""
        allowed = STOP_SECONDS_MAX
        if order is not Order.STOP:
            allowed = self.settings.drain_seconds + SETTLE_SECONDS_MAX
        by = time.monotonic() + allowed
        if child.leave_by is None or by < child.leave_by:
            child.leave_by = by
            child.tell(do=order)
        if child not in self._leaving:
            self._leaving.append(child)

    # Children

    def _children(self) -> Iterator[Child]:
        for place in self._places:
            for child in (place.child, place.successor):
                if child is not None and child not in self._leaving:
                    yield child
        yield from self._leaving

    def _reap(self) -> None:
        now = time.monotonic()
        for child in tuple(self._children()):
            status = child.reap()
            if status is not None:
                self._bury(child, status, now)

    def _forget(self, child: Child) -> None:
        """Listen to a child no more."""
        if child.link in self._selector.get_map():
            self._selector.unregister(child.link)

    def _bury(self, child: Child, status: int, now: float) -> None:
        for message in child.hear():  # what it said last counts
            self._hear(child, message)
        self._forget(child)
        child.link.close()
        told = child in self._leaving
        if told:
            self._leaving.remove(child)
        for place in self._places:
            if place.successor is child:
                place.successor = None
                place.lost(child, now)
            elif place.child is child:
                place.child, place.successor = place.successor, None
                if place.child is None and not told:
                    place.lost(child, now)
        code = os.waitstatus_to_exitcode(status)
        if code or not told:
            log.get().error("child ended", reason=_reason(code), **child.names())
        if child.role is Role.WORKER:
            self._tell_alive()
        if code > 0 and not self._served and self._stopping is None:
            # It has said why. A relay that cannot start ends instead of trying for ever.
            self._status = 1
            self._stop(Order.STOP)

    def _fill(self) -> Assignment | None:
        """Start whoever is missing and due; returns in a child with its assignment."""
        now = time.monotonic()
        for place in self._places:
            if place.due > now or not self._is_missing(place):
                continue
            number = UNNUMBERED
            if place.role is Role.WORKER:
                free = self._free_number()
                if free is None:
                    continue  # all are taken by workers that are leaving
                number = self._last_number = free
                self._tell_alive(number)
            replaced = place.child
            if place.role is Role.KEEPER and replaced is not None:
                self._dismiss(replaced, Order.STOP)  # the lock of the data directory is for one
            try:
                child = fork(
                    place.role, place.slot, number, self._generation, first=not self._served
                )
            except OSError as error:
                log.get().error("cannot start a child", reason=error.strerror)
                place.failures += 1
                place.due = now + BACKOFF_SECONDS_MAX
                self._tell_alive()
                continue
            if isinstance(child, Assignment):
                close_links(self._children())
                return child
            self._selector.register(child.link, selectors.EVENT_READ, child)
            if replaced is None:
                place.child = child
            else:
                place.successor = child
            if place.role is Role.KEEPER:
                self._tell_alive()
        return None

    def _is_missing(self, place: Place) -> bool:
        if place.successor is not None:
            return False
        if self._stopping is not None:
            # Calls that end while workers drain are settled by a keeper, be it a new one.
            keeps = place.role is Role.KEEPER and self._stopping is Order.DRAIN
            return keeps and place.child is None and self._has_workers()
        if place.role in {Role.WORKER, Role.CONSOLE} and self._keeper_said is None:
            return False
        rolling = bool(self._roll) and self._roll[0] is place
        return place.child is None or (rolling and place.child.adopted)

    def _free_number(self) -> int | None:
        taken = {child.number for child in self._children()}
        rows = ((self._last_number + 1 + step) % NUMBERS_MAX for step in range(NUMBERS_MAX))
        return next((number for number in rows if number not in taken), None)

    def _tell_alive(self, *coming: int) -> None:
        """Tell the keeper which workers live; `coming` is about to."""
        children = list(self._children())
        numbers = {child.number for child in children if child.role is Role.WORKER}
        for child in children:
            if child.role is Role.KEEPER:
                child.tell(alive=sorted(numbers | set(coming)))

    def _has_workers(self) -> bool:
        return any(child.role is Role.WORKER for child in self._children())

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        for child in self._leaving:
            if child.leave_by is not None and now >= child.leave_by:
                log.get().error("child does not leave, killing it", **child.names())
                child.leave_by = now + STOP_SECONDS_MAX
                child.kill()

    # Stopping

    def _stop(self, order: Order) -> None:
        if self._stopping is None:
            seconds = self.settings.drain_seconds + SETTLE_SECONDS_MAX + 2 * STOP_SECONDS_MAX
            notify.notify(notify.STOPPING, notify.extend_timeout(seconds))
            log.get().info("draining", seconds=self.settings.drain_seconds)
        self._stopping = order
        self._roll.clear()
        for child in tuple(self._children()):
            if child.role is Role.WORKER:
                self._dismiss(child, order)

    def _advance_stop(self) -> bool:
        """Workers first, then the keeper, then the rest; True when all are gone."""
        if self._stopping is None:
            return False
        children = tuple(self._children())
        if not self._has_workers():
            keepers = [child for child in children if child.role is Role.KEEPER]
            for child in keepers or children:
                self._dismiss(child, Order.STOP)
        return not children

    # Reloading

    def _reload(self) -> None:
        """Check the files; if they are good the keeper is first to use them."""
        if self._reloading is not None:  # whose answer would be taken for this one's
            self._reload_again = True
            return
        notify.notify(notify.reloading())
        try:
            wanted, kept = self.settings.rejoin(self._load())
            check_files(wanted)
        except SettingsError as error:
            for problem in error.problems:
                log.get().error(
                    "reload refused, old settings stay",
                    line=problem.line,
                    reason=problem.reason,
                    remedy=problem.remedy,
                )
            notify.notify(notify.READY)
            return
        for name in kept:
            log.get().warning("setting needs a restart to change", setting=name)
        self._reloading = wanted
        for child in self._children():
            if child.role is Role.KEEPER and child.ready_at is not None:
                child.tell(do=Order.RELOAD, settings=asdict(wanted))

    def _reloaded(self, *, good: bool) -> None:
        """The keeper has used the files, or refused them: it alone can try the catalog."""
        wanted, self._reloading = self._reloading, None
        if wanted is None:
            return
        if good:
            self.settings = wanted
            self._generation += 1
            log.configure(wanted.log_level, wanted.log_format)
            for child in self._children():
                if child.role is Role.KEEPER:
                    child.generation = self._generation
                elif child.ready_at is not None:
                    child.generation = self._generation
                    child.tell(do=Order.RELOAD, settings=asdict(wanted))
            log.get().info("reloaded")
        notify.notify(notify.READY)
        if self._reload_again:
            self._reload_again = False
            self._reload()

    # Upgrading

    def _check_preflight(self) -> None:
        if self._preflight is not None:
            self._end_preflight(self._preflight)
        elif self._upgrade_wanted and self._served and not self._roll and self._stopping is None:
            self._upgrade_wanted = False
            self._preflight = upgrade.preflight()
            self._preflight_until = time.monotonic() + upgrade.PREFLIGHT_SECONDS_MAX

    def _end_preflight(self, running: "subprocess.Popen[bytes]") -> None:
        status = running.poll()
        if status is None:
            if time.monotonic() >= self._preflight_until or self._stopping is not None:
                running.kill()
            return
        self._preflight = None
        if status or self._stopping is not None:
            log.get().error("upgrade refused, the old program stays", reason=_reason(status))
            return
        log.get().info("upgrading")
        children = list(self._children())
        try:
            upgrade.replace_program(
                self._listeners, children, self.settings.listen, self._last_number
            )
        except OSError as error:
            log.get().error("upgrade failed, the old program stays", reason=error.strerror)

    def _adopt(self, inherited: Inherited) -> None:
        """Take the children of the program before, and begin to replace them one by one."""
        self._served = True
        self._keeper_said = {}
        self._last_number = inherited.last_number
        if inherited.listen != self.settings.listen:
            log.get().warning("setting needs a restart to change", setting="listen")
        for child in inherited.children:
            place = next((one for one in self._places if _fits(one, child)), None)
            if child.leave_by is None and place is not None:
                place.child = child
            else:
                self._leaving.append(child)
        self._roll.extend(place for place in self._places if place.role is not Role.DEMO)

    def _advance_roll(self) -> None:
        while self._roll:
            child = self._roll[0].child
            if child is None or child.adopted or child.ready_at is None:
                return
            self._roll.popleft()
            if not self._roll:
                # Those whose slot is no more: their sockets have passed to other slots by now.
                for surplus in tuple(self._leaving):
                    if surplus.leave_by is None:
                        self._dismiss(surplus, Order.RETIRE)
                log.get().info("upgraded")


def _fits(place: Place, child: Child) -> bool:
    return place.child is None and (place.role, place.slot) == (child.role, child.slot)


def _reason(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"
