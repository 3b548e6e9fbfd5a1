"""The keeper's end of the port: who is connected, who is alive, and what becomes of their calls.

Rules: after a start nothing is admitted until every living worker has announced what it holds, or
is dead (the roll call, bounded); then holds are restored, oldest first, before anything is
settled, so that no overrun takes what another call had set aside. A worker is dead when it has
left the list of the living and its connection is at its end, everything it sent having been read;
then its calls are settled at their last mark. A second process with the same number waits until
the first is dead. This module must not know HTTP, or what workers' metrics mean.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path

from proxy.core.catalog import Catalog
from proxy.core.ids import worker_of
from proxy.storage import messages
from proxy.storage.billing import Keeper
from proxy.storage.messages import Posted, Role
from proxy.storage.ports import Closing, Durable, KeeperUnavailableError
from proxy.storage.session import Announcement, Session, hold_again
from proxy.storage.spreading import Spreading

ROLL_CALL_SECONDS_MAX = 4.0
"""How long a start waits for workers that say nothing; their known calls then stay held."""
SCRAPE_SECONDS_MAX = 1.0
DEPARTED_STATES_MAX = 64
"""Metrics of ended workers kept apart, where nobody can fold them into one."""
BACKLOG = 128

log = logging.getLogger("sluice.port")


class _Seat:
    """What is known of one worker number."""

    __slots__ = ("adopting", "incarnation", "number", "present", "session", "state", "waiting")

    def __init__(self, number: int) -> None:
        self.number = number
        self.incarnation = 0
        self.session: Session | None = None
        self.waiting: Session | None = None
        """Its successor in the number, or its own next connection."""
        self.present = False
        """It has announced what it holds to this keeper, and has not said goodbye."""
        self.adopting = False
        self.state = b""
        """Its metrics, as last told."""


class _Scrape:
    """One question of the console, until every worker has answered or time is up."""

    __slots__ = ("console", "number", "timer", "waiting")

    def __init__(self, console: Session, number: int, waiting: set[Session]) -> None:
        self.console = console
        self.number = number
        self.waiting = waiting
        self.timer: asyncio.TimerHandle | None = None


class PortServer:
    """Listens for workers and the console; implements `session.Registry`.

    `keeper` was started without settling open calls. `fold` makes one metrics state of many, for
    workers that have ended; `own_state` returns the keeper's own.
    """

    def __init__(
        self,
        keeper: Keeper,
        path: Path,
        *,
        fold: Callable[[Iterable[bytes]], bytes] | None = None,
        own_state: Callable[[], bytes] | None = None,
    ) -> None:
        self._keeper = keeper
        self._path = path
        self._fold = fold
        self._own_state = own_state
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.AbstractServer | None = None
        self._sessions: set[Session] = set()
        self._seats: dict[int, _Seat] = {}
        self._alive: frozenset[int] | None = None
        self._announcements: list[Announcement] = []
        self._calling = False
        self._ready = asyncio.Event()
        self._patience: asyncio.TimerHandle | None = None
        self._patient = True
        self._tasks: set[asyncio.Task[None]] = set()
        self._departed: list[bytes] = []
        self._scrapes: dict[int, _Scrape] = {}
        self._scrape_number = 0
        self._unsubscribe: Callable[[], None] | None = None
        self._spreading = Spreading(self._behind)
        self._stopping = False

    async def start(self) -> None:
        """Listen, for this user only, in the place of any keeper before. Raises OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            fresh.unlink(missing_ok=True)
            listener.bind(str(fresh))
            fresh.chmod(0o600)
            listener.listen(BACKLOG)
            listener.settimeout(0)
            self._server = await self._loop.create_unix_server(self._accept, sock=listener)
            fresh.replace(self._path)
        except BaseException:
            listener.close()
            raise
        self._unsubscribe = self._keeper.subscribe(self._catalog_changed)
        self._patience = self._loop.call_later(ROLL_CALL_SECONDS_MAX, self._lose_patience)

    async def stop(self) -> None:
        """Cut every connection; the keeper is closed by who started it."""
        self._stopping = True
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._patience is not None:
            self._patience.cancel()
        if self._server is not None:
            self._server.close()
        for scrape in tuple(self._scrapes.values()):
            self._answer(scrape)
        self._spreading.check()
        for session in tuple(self._sessions):
            session.link.close()
        for task in tuple(self._tasks):
            task.cancel()

    def _accept(self) -> asyncio.Protocol:
        session = Session(self._loop, self._keeper, self)
        if self._stopping:  # accepted in the last turn
            session.link.abort()
        self._sessions.add(session)
        return session.link

    def alive(self, numbers: Iterable[int]) -> None:
        """Say which workers live: a number leaves only when its process has ended."""
        before = self._alive or frozenset()
        self._alive = frozenset(numbers)
        for seat in tuple(self._seats.values()):
            self._look_after(seat)
        for number in before - self._alive:
            if number not in self._seats and self._ready.is_set():
                self._bury(number)
        self._check_roll()
        self._spreading.check()

    async def spread(self, version: int) -> None:
        """Wait, bounded, until every living worker serves by this version of the catalog."""
        await self._spreading.wait(version)

    @property
    def unready(self) -> str | None:
        """Why no call is admitted; None when calls are."""
        if self._ready.is_set():
            return self._keeper.unready
        missing = self._missing()
        if missing:
            return f"waiting for workers {', '.join(map(str, missing))} to announce their calls"
        return "collecting open calls"

    def has_workers(self) -> bool:
        """Whether any worker is connected."""
        return any(seat.session is not None for seat in self._seats.values())

    async def ready(self) -> None:
        """Wait until calls are admitted."""
        await self._ready.wait()

    # session.Registry

    def greeted(self, session: Session) -> None:
        """Seat a worker, or let it wait for the end of the one whose number it has."""
        if session.role is Role.CONSOLE:
            return
        seat = self._seats.get(session.number)
        if seat is None:
            seat = self._seats[session.number] = _Seat(session.number)
        if seat.session is None and not seat.adopting:
            self._seat(seat, session)
            return
        session.link.hold()
        if seat.waiting is not None:
            seat.waiting.link.refuse("another connection came after it")
        seat.waiting = session
        if seat.session is not None and seat.incarnation == session.incarnation:
            seat.session.link.abort()  # it has given that one up, and says everything again

    def announced(self, announcement: Announcement) -> None:
        """Take a worker's calls on, now or with everybody else's."""
        seat = self._seats[announcement.number]
        seat.present = True
        if self._ready.is_set():
            seat.adopting = True
            self._start(lambda: self._adopt_one(seat, announcement))
            return
        session = announcement.session
        self._announcements = [
            other
            for other in self._announcements
            if (other.number, other.session.incarnation) != (session.number, session.incarnation)
        ]
        self._announcements.append(announcement)
        self._check_roll()

    def left(self, session: Session) -> None:
        """Settle what a dead worker left; keep what a living one will announce again."""
        self._sessions.discard(session)
        for scrape in tuple(self._scrapes.values()):
            if scrape.console is session:
                self._drop(scrape)
            elif session in scrape.waiting:
                self._heard(scrape, session)
        seat = self._seats.get(session.number)
        if seat is None or self._stopping:  # what is open is for the next keeper
            return
        if seat.waiting is session:
            seat.waiting = None
        if seat.session is session:
            seat.session = None
            self._look_after(seat)
            self._check_roll()
            self._spreading.check()

    def caught_up(self, session: Session) -> None:
        """See whether a change of the catalog waits for this worker only."""
        del session
        self._spreading.check()

    def settled_before(self, session: Session, closing: Closing) -> None:
        """Answer a settlement said twice from the file."""
        self._start(lambda: self._answer_from_file(session, closing.call_id))

    def told_state(self, session: Session, number: int, state: bytes) -> None:
        """Keep a worker's metrics, and answer who waited for them."""
        seat = self._seats.get(session.number)
        if seat is not None and seat.session is session:
            seat.state = state
            seat.present = seat.present and number != 0
        scrape = self._scrapes.get(number)
        if scrape is not None and session in scrape.waiting:
            self._heard(scrape, session)

    def scrape(self, session: Session, number: int) -> None:
        """Ask every worker for its metrics."""
        if any(scrape.console is session for scrape in self._scrapes.values()):
            raise ValueError("it asks again before it was answered")
        self._scrape_number = ours = self._scrape_number + 1
        waiting = {seat.session for seat in self._seats.values() if seat.session is not None}
        scrape = self._scrapes[ours] = _Scrape(session, number, waiting)
        for worker in tuple(waiting):
            if worker.asking:
                worker.link.send(messages.AskState(ours))
            else:
                waiting.discard(worker)
        if waiting:
            scrape.timer = self._loop.call_later(SCRAPE_SECONDS_MAX, self._answer, scrape)
        else:
            self._answer(scrape)

    # Seats

    def _seat(self, seat: _Seat, session: Session) -> None:
        if seat.incarnation not in {0, session.incarnation}:
            self._depart(seat)
            if self._ready.is_set():
                self._bury(seat.number)
        seat.session, seat.incarnation = session, session.incarnation
        session.link.release()
        session.welcome()

    def _look_after(self, seat: _Seat) -> None:
        """See to a seat whose connection has ended: the next one, or a burial."""
        if seat.session is not None or seat.adopting:
            return
        if seat.waiting is not None:
            session, seat.waiting = seat.waiting, None
            self._seat(seat, session)
        elif self._alive is not None and seat.number not in self._alive and self._ready.is_set():
            del self._seats[seat.number]
            self._depart(seat)
            self._bury(seat.number)

    def _bury(self, number: int) -> None:
        """Settle the calls of a dead worker at their last mark."""
        calls = self._keeper.open_calls(number)
        for call_id in calls:
            self._keeper.settle_at_mark(call_id)
        if calls:
            log.warning(
                "worker %d has died: settled %d calls at their last mark", number, len(calls)
            )

    def _depart(self, seat: _Seat) -> None:
        """Keep the figures of a worker that has ended, so that no sum falls."""
        state, seat.state = seat.state, b""
        departed = self._departed
        if not state:
            return
        if self._fold is not None:
            departed[:] = [self._fold([*departed, state])]
        else:
            departed.append(state)
            del departed[:-DEPARTED_STATES_MAX]

    # The roll call

    def _missing(self) -> list[int]:
        seats = self._seats
        return sorted(
            number
            for number in self._alive or ()
            if number not in seats or not seats[number].present
        )

    def _lose_patience(self) -> None:
        self._patient = False
        if not self._ready.is_set():
            log.error("%s: starting without them", self.unready)
        self._check_roll()

    def _check_roll(self) -> None:
        """Begin when every living worker has announced its calls."""
        if self._calling or self._ready.is_set() or self._alive is None:
            return
        if not self._missing() or not self._patient:
            self._calling = True
            self._start(self._call_roll)

    async def _call_roll(self) -> None:
        """Take on what was announced, settle what nobody serves, and begin."""
        announcements, self._announcements = self._announcements, []
        keeper = self._keeper
        await self._adopt(announcements, everything=True)
        keeper.begin_admitting()
        self._ready.set()
        recovery = keeper.recovery
        log.info(
            "admitting: %d workers, %d calls settled at their last mark",
            len(announcements),
            recovery.calls,
        )
        self._begin(announcements)
        late, self._announcements = self._announcements, []
        for announcement in late:
            self.announced(announcement)
        for seat in tuple(self._seats.values()):
            self._look_after(seat)

    async def _adopt_one(self, seat: _Seat, announcement: Announcement) -> None:
        try:
            await self._adopt([announcement], everything=False)
        finally:
            seat.adopting = False
        self._begin([announcement])
        self._look_after(seat)

    def _begin(self, announcements: list[Announcement]) -> None:
        for announcement in announcements:
            seat = self._seats.get(announcement.number)
            if seat is not None and seat.session is announcement.session:
                announcement.session.begin()

    async def _adopt(self, announcements: list[Announcement], *, everything: bool) -> None:
        """Put announcements in force: undo, hold, settle, in this order.

        With `everything` also the calls that only the file knows of: they are held like the
        others, and settled at their last mark unless their worker lives and has not spoken yet.
        """
        keeper = self._keeper
        said = [
            opening.call_id for announcement in announcements for opening in announcement.openings()
        ]
        undone = [call_id for announcement in announcements for call_id in announcement.undone]
        for call_id in undone:
            keeper.undo(call_id)
        # Also for the undone: they may be asked for again, which no batch could hold beside.
        ended = await keeper.posted(said) if said or undone else {}
        hold_again(keeper, announcements, ended, everything=everything)
        for announcement in announcements:
            for resend in announcement.resends:
                self._settle(announcement.session, resend.closing, ended)
        # A process that has ended since it announced serves nothing, and its number may live on.
        served = {
            restore.opening.call_id
            for announcement in announcements
            if self._seats[announcement.number].incarnation == announcement.session.incarnation
            for restore in announcement.restores
        }
        numbers = {announcement.number for announcement in announcements}
        # Who has not spoken yet, or only while this was read: still serving what the file knows.
        silent = (self._alive or frozenset()) - numbers if everything else frozenset()
        for call_id in keeper.open_calls():
            number = worker_of(call_id)
            if call_id not in served and number not in silent and (everything or number in numbers):
                keeper.settle_at_mark(call_id)

    def _settle(self, session: Session, closing: Closing, ended: dict[int, Posted]) -> None:
        call_id, keeper = closing.call_id, self._keeper
        posted = ended.get(call_id)
        commit: Durable = keeper.durable
        if posted is None:
            receipt = keeper.settle(closing)
            posted = Posted(call_id, receipt.charged, receipt.overrun, receipt.balance_after)
            commit = receipt.committed
        session.posted_with(commit, posted)

    async def _answer_from_file(self, session: Session, call_id: int) -> None:
        posted = (await self._keeper.posted([call_id])).get(call_id)
        if posted is None:
            session.link.refuse(f"call {call_id} was never open")
        else:
            session.posted_with(self._keeper.durable, posted)

    def _start(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run what must read the file first: once per connection, not per message."""
        task = self._loop.create_task(self._unless_failed(work))
        self._tasks.add(task)
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            fault = {"message": "a worker's calls could not be taken on", "exception": error}
            self._loop.call_exception_handler(fault)

    async def _unless_failed(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        try:
            await work()
        except KeeperUnavailableError as error:
            # The file cannot be written; the keeper says so and ends, and the next one is told.
            log.error("the port ends: %s", error)  # noqa: TRY400 - the cause is logged there
            await self.stop()

    # The catalog and the figures

    def _catalog_changed(self, catalog: Catalog) -> None:
        for session in self._sessions:
            if session.role is Role.WORKER:
                session.link.send(messages.CatalogChanged(catalog.version))

    def _behind(self, version: int) -> list[int]:
        """Which workers serve by an older version, or may: those whose line is down.

        One that is still starting reads the catalog before it serves anybody.
        """
        if self._stopping:
            return []
        alive = self._alive or frozenset()
        behind = [] if self._ready.is_set() else self._missing()  # of the keeper before
        for seat in self._seats.values():
            session = seat.session
            if session is None:
                late = seat.present and seat.number in alive
            else:
                late = -1 < session.catalog_version < version
            if late:
                behind.append(seat.number)
        return sorted({*behind})

    def _heard(self, scrape: _Scrape, session: Session) -> None:
        scrape.waiting.discard(session)
        if not scrape.waiting:
            self._answer(scrape)

    def _drop(self, scrape: _Scrape) -> None:
        if scrape.timer is not None:
            scrape.timer.cancel()
        for number, other in tuple(self._scrapes.items()):
            if other is scrape:
                del self._scrapes[number]

    def _answer(self, scrape: _Scrape) -> None:
        """Tell the console what is known by now; who has not answered counts as last told."""
        self._drop(scrape)
        states = [seat.state for seat in self._seats.values() if seat.state]
        if self._own_state is not None:
            states.append(self._own_state())
        for state in (*states, *self._departed):
            scrape.console.link.send(messages.State(scrape.number, state))
        scrape.console.link.send(
            messages.Scraped(scrape.number, self._keeper.statistics(), self.unready)
        )
