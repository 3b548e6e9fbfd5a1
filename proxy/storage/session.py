"""The keeper's side of one connection: what a worker asks is decided here, in order, at once.

Rules: every message is handled synchronously when it is read, so that what a worker said before
it died counts. A commit is announced only when it has happened, once per commit and session,
with everything of this session that was in it. Whoever asks before it is ready, or for another
worker's calls, is cut off. This module must not know which workers there are, nor SQL.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from proxy.core.ids import WORKERS_MAX, worker_of
from proxy.storage import messages
from proxy.storage.billing import Keeper
from proxy.storage.link import Link
from proxy.storage.messages import Committed, Posted, Role, ToKeeper
from proxy.storage.ports import (
    Closing,
    Durable,
    KeeperUnavailableError,
    Opening,
    Progress,
    Refusal,
)


class Announcement:
    """What one worker said it holds, when it connected."""

    __slots__ = ("number", "resends", "restores", "session", "undone")

    def __init__(self, session: "Session") -> None:
        self.session = session
        self.number = session.number
        self.restores: list[messages.Restore] = []
        self.resends: list[messages.Resend] = []
        self.undone: list[int] = []

    def openings(self) -> Iterator[Opening]:
        """Every call it is about."""
        yield from (restore.opening for restore in self.restores)
        yield from (resend.opening for resend in self.resends)


class Registry(Protocol):
    """Who knows all sessions; told of what concerns more than one."""

    def greeted(self, session: "Session") -> None:
        """A worker or a console has said who it is."""
        ...

    def announced(self, announcement: Announcement) -> None:
        """A worker has announced everything."""
        ...

    def left(self, session: "Session") -> None:
        """A connection has ended, and everything said on it is handled."""
        ...

    def settled_before(self, session: "Session", closing: Closing) -> None:
        """A settlement came of a call that is not open: it may be in the file."""
        ...

    def caught_up(self, session: "Session") -> None:
        """A worker has another version of the catalog in force, or will not say it any more."""
        ...

    def told_state(self, session: "Session", number: int, state: bytes) -> None:
        """A worker's metrics; number 0 says that they are its last."""
        ...

    def scrape(self, session: "Session", number: int) -> None:
        """The console wants figures."""
        ...


class Session:
    """See the module docstring. `number` and `incarnation` are the worker's, once greeted."""

    def __init__(self, loop: asyncio.AbstractEventLoop, keeper: Keeper, registry: Registry) -> None:
        self.role: Role | None = None
        self.number = -1
        self.incarnation = 0
        self.asking = False
        """Whether what it holds is in force, so that it may ask."""
        self.catalog_version = -1
        """The one its worker has in force; -1 if it does not say."""
        self._keeper = keeper
        self._registry = registry
        self._due: dict[Durable, Committed] = {}
        self.link: Link[ToKeeper] = Link(
            loop, messages.to_keeper, {messages.Hello: self._hello}, self._lost, "a stranger"
        )

    def welcome(self) -> None:
        """Let a worker announce what it holds."""
        announcement = Announcement(self)
        self.link.handlers = {
            messages.Restore: announcement.restores.append,
            messages.Resend: announcement.resends.append,
            messages.Undo: lambda message: announcement.undone.append(message.call_id),
            messages.Present: lambda _: self._registry.announced(announcement),
            messages.InForce: self._in_force,
        }
        keeper = self._keeper
        version = keeper.catalog.version
        self.link.send(
            messages.Welcome(keeper.last_id, version, asks_in_force=True, weighs=True, counts=True)
        )

    def begin(self) -> None:
        """What the worker announced is in force: let it ask."""
        self.asking = True
        self.link.handlers = self._questions()
        self.link.send(messages.Ready())

    def opened_with(self, commit: Durable, call_id: int) -> None:
        """Announce an open row once `commit` has happened."""
        if commit.done() and commit.exception() is None:
            self.link.send(Committed([call_id], []))
            return
        self._due_with(commit).opened.append(call_id)

    def posted_with(self, commit: Durable, posted: Posted) -> None:
        """Announce a settlement once `commit` has happened."""
        if commit.done() and commit.exception() is None:
            self.link.send(Committed([], [posted]))
            return
        self._due_with(commit).posted.append(posted)

    def _questions(self) -> Mapping[type, Callable[..., object]]:
        return {
            messages.Admit: self._admit,
            messages.Hurry: self._hurry,
            messages.Extend: self._extend,
            messages.Mark: self._mark,
            messages.Settle: self._settle,
            messages.Undo: self._undo,
            messages.AskLimits: self._limits,
            messages.State: self._state,
            messages.Goodbye: self._goodbye,
            messages.InForce: self._in_force,
            messages.CatchUp: self._catch_up,
            messages.Weigh: self._weigh,
            messages.Count: self._count,
        }

    def _hello(self, message: messages.Hello) -> None:
        if message.role is Role.CONSOLE:
            self.link.peer = "the console"
            self.link.handlers = {messages.Scrape: self._scrape}
        else:
            if not 0 <= message.number < WORKERS_MAX - 1:
                raise ValueError(f"there is no worker {message.number}")
            self.link.peer = f"worker {message.number}"
            self.link.handlers = {}
            self.number, self.incarnation = message.number, message.incarnation
            self.catalog_version = message.catalog_version
        self.role = message.role
        self._registry.greeted(self)

    def _lost(self) -> None:
        self._registry.left(self)

    def _due_with(self, commit: Durable) -> Committed:
        due = self._due.get(commit)
        if due is None:
            due = self._due[commit] = Committed([], [])
            commit.add_done_callback(self._announce)
        return due

    def _announce(self, commit: Durable) -> None:
        due = self._due.pop(commit)
        if commit.exception() is None:
            self.link.send(due)

    def _admit(self, message: messages.Admit) -> None:
        opening = message.opening
        call_id = opening.call_id
        if worker_of(call_id) != self.number or self._keeper.is_open(call_id):
            raise ValueError(f"call {call_id} is not its to open")
        send = self.link.send
        try:
            decision = self._keeper.decide(opening)
        except KeeperUnavailableError as error:
            send(messages.Unavailable(call_id, str(error)))
            return
        if isinstance(decision, Refusal):
            send(
                messages.Refused(
                    call_id,
                    decision.reason,
                    decision.limits,
                    decision.available,
                    decision.retry_after,
                    decision.limit,
                )
            )
            return
        # A log record costs less than the question whether the row may be waited for.
        durable = self._keeper.opened_at_once(call_id)
        send(
            messages.Admitted(
                call_id,
                decision.held,
                decision.ceiling_held,
                decision.limits,
                durable,
                decision.balance,
            )
        )
        if opening.stream and not durable:
            self.opened_with(decision.committed, call_id)

    def _hurry(self, message: messages.Hurry) -> None:
        if self._keeper.is_open(message.call_id):
            self.opened_with(self._keeper.hurry(message.call_id), message.call_id)

    def _extend(self, message: messages.Extend) -> None:
        call_id = self._own(message.call_id)
        self._keeper.extend(
            call_id,
            message.amount,
            lambda granted: self.link.send(messages.Extended(call_id, granted)),
        )

    def _mark(self, message: messages.Mark) -> None:
        self._own(message.progress.call_id)
        self._keeper.mark(message.progress)

    def _settle(self, message: messages.Settle) -> None:
        closing = message.closing
        if not self._keeper.is_open(closing.call_id):
            self._registry.settled_before(self, closing)
            return
        receipt = self._keeper.settle(closing)
        self.posted_with(
            receipt.committed,
            Posted(closing.call_id, receipt.charged, receipt.overrun, receipt.balance_after),
        )

    def _undo(self, message: messages.Undo) -> None:
        self._keeper.undo(message.call_id)

    def _limits(self, message: messages.AskLimits) -> None:
        try:
            state = self._keeper.buckets(message.key_id)
        except KeyError:  # of a newer or an older catalog
            state = None
        self.link.send(messages.Limits(message.number, state))

    def _catch_up(self, message: messages.CatchUp) -> None:
        caught_up = messages.CaughtUp(message.number)

        def tell(commit: Durable) -> None:
            if commit.exception() is None:
                self.link.send(caught_up)

        self._keeper.following().add_done_callback(tell)

    def _weigh(self, message: messages.Weigh) -> None:
        try:
            weighed = self._keeper.weighed(message.opening)
        except KeeperUnavailableError:
            weighed = None
        self.link.send(messages.Weighing(message.number, weighed))

    def _count(self, message: messages.Count) -> None:
        try:
            counted = messages.Counted(
                message.number, known=True, refusal=self._keeper.counted(message.key_id)
            )
        except KeeperUnavailableError:
            counted = messages.Counted(message.number, known=False, refusal=None)
        self.link.send(counted)

    def _state(self, message: messages.State) -> None:
        self._registry.told_state(self, message.number, message.state)

    def _goodbye(self, message: messages.Goodbye) -> None:
        self._registry.told_state(self, 0, message.state)
        self.catalog_version = -1  # it serves nobody any more
        self._registry.caught_up(self)

    def _in_force(self, message: messages.InForce) -> None:
        self.catalog_version = message.catalog_version
        self._registry.caught_up(self)

    def _scrape(self, message: messages.Scrape) -> None:
        self._registry.scrape(self, message.number)

    def _own(self, call_id: int) -> int:
        if worker_of(call_id) != self.number or not self._keeper.is_open(call_id):
            raise ValueError(f"call {call_id} is not open, or not its own")
        return call_id


def hold_again(
    keeper: Keeper,
    announcements: list[Announcement],
    ended: dict[int, Posted],
    *,
    everything: bool,
) -> None:
    """Hold again what every call held, oldest first; what is left, where it no longer fits."""
    calls: dict[int, tuple[Opening, int, Progress | None, Session | None]] = {}
    if everything:
        for call_id, found in keeper.found.items():
            calls[call_id] = (found.opening, found.held, found.progress, None)
    for announcement in announcements:
        session = announcement.session
        for restore in announcement.restores:
            opening = restore.opening
            calls[opening.call_id] = (opening, restore.held, restore.progress, session)
        for resend in announcement.resends:
            calls[resend.opening.call_id] = (resend.opening, resend.held, None, None)
    for call_id in sorted(calls.keys() - ended.keys()):
        opening, held, progress, serving = calls[call_id]
        commit = keeper.restore(opening, held, progress)
        if serving is not None:
            serving.opened_with(commit, call_id)
