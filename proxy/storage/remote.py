"""What a worker has instead of a keeper: the same port, over a unix socket.

Rules: the keeper decides, this end remembers. What is open and what is settled but not
acknowledged is kept here until the keeper has it, so that a new keeper can be told all of it;
a message about a call may be said twice, and means the same. While there is no keeper nothing is
admitted, streams wait at the edge of their hold (an extension without an answer), settlements
wait to be said again. Waits are bounded by one slow timer, never by one per call. The catalog is
read from the file, off the loop, when the keeper names a new version. This module must not know
SQL or HTTP.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import Any

from proxy.core.catalog import Catalog
from proxy.core.limits import LimitState
from proxy.storage import messages
from proxy.storage.catalog_reader import CatalogReader
from proxy.storage.commits import Commit
from proxy.storage.link import STATE_BYTES_MAX, Link
from proxy.storage.messages import FromKeeper, Role
from proxy.storage.pending import Asked, Open, Row, Settling
from proxy.storage.ports import (
    Admission,
    Closing,
    KeeperUnavailableError,
    Opening,
    Progress,
    Receipt,
    Refusal,
    Weighed,
)

KEEPER_WAIT_SECONDS_MAX = 5.0
"""How long an admission waits for a keeper, and then for its answer."""
ANSWER_WAIT_SECONDS_MAX = 1.0
CONNECT_SECONDS_MAX = 30.0
"""How long a new worker waits for a keeper that is ready."""
CLOSE_SECONDS_MAX = 5.0
RECONNECT_SECONDS_MIN = 0.02
RECONNECT_SECONDS_MAX = 0.5
CHECK_SECONDS = 0.5
"""How often unanswered questions are looked at."""
SETTLING_CALLS_MAX = 30_000
"""Settlements that wait to be acknowledged; above it the keeper is not keeping up."""

log = logging.getLogger("sluice.port")


class _Phase(Enum):
    AWAY = auto()
    GREETED = auto()
    """Connected; what is open is being announced."""
    READY = auto()


def _always(link: Link[FromKeeper]) -> Callable[[], Link[FromKeeper]]:
    return lambda: link


class RemoteKeeper:
    """Implements `ports.Billing` and the catalog's source for one worker; see `connect`."""

    def __init__(
        self,
        socket_path: Path,
        database_path: Path,
        *,
        worker: int,
        master: bytes,
        metrics_state: Callable[[], bytes],
    ) -> None:
        self.last_id = 0
        """The greatest id in use when this worker connected: its ids begin above it."""
        self._loop = asyncio.get_running_loop()
        self._socket_path = socket_path
        self._worker = worker
        self._incarnation = int.from_bytes(os.urandom(7), "big")
        self._metrics_state = metrics_state
        self._phase = _Phase.AWAY
        self._link: Link[FromKeeper] | None = None
        self._ready = asyncio.Event()
        self._open: dict[int, Open] = {}
        self._settling: dict[int, Settling] = {}
        self._unsent: list[int] = []
        """Settlements made after the announcement and before the keeper was ready."""
        self._asked: dict[int, Asked] = {}
        self._extending: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._unmarked: set[int] = set()
        """Open calls whose last mark has not been sent."""
        self._abandoned: set[int] = set()
        """Admissions nobody waits for any more, which may have been made."""
        self._questions: dict[int, tuple[asyncio.Future[Any], float]] = {}
        """Asked by number, at (loop time); an answer may be None: the keeper cannot say."""
        self._question_number = 0
        self._check: asyncio.TimerHandle | None = None
        self._catalog = CatalogReader(database_path, master, self._say_in_force)
        self._keeper = messages.STRANGER
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False
        self._quiet = asyncio.Event()
        self._quiet.set()
        """Set while every settlement is acknowledged."""

    @classmethod
    async def connect(
        cls,
        socket_path: Path,
        database_path: Path,
        *,
        worker: int,
        master: bytes,
        metrics_state: Callable[[], bytes],
        seconds_max: float = CONNECT_SECONDS_MAX,
    ) -> "RemoteKeeper":
        """Find the keeper, and return when it admits calls and the catalog is read.

        `worker` is this process's number, 0 to 62, its own among the living. `metrics_state`
        returns its metrics whenever they are asked for. Raises KeeperUnavailableError.
        """
        made = cls(
            socket_path, database_path, worker=worker, master=master, metrics_state=metrics_state
        )
        made._connecting = made._loop.create_task(made._connect())
        try:
            async with asyncio.timeout(seconds_max):
                await made._ready.wait()
                await made._catalog.known.wait()
        except TimeoutError:
            await made.close(0.0)
            raise KeeperUnavailableError(f"no keeper answers at {socket_path}") from None
        except BaseException:
            made._end()
            raise
        return made

    async def close(self, seconds_max: float = CLOSE_SECONDS_MAX) -> None:
        """Wait until every settlement is acknowledged, at most `seconds_max`; say goodbye."""
        try:
            async with asyncio.timeout(seconds_max):
                await self._quiet.wait()
        except TimeoutError:
            if self._settling:
                log.warning("%d settlements were not acknowledged in time", len(self._settling))
        link = self._link
        if self._phase is _Phase.READY and link is not None:
            link.send(messages.Goodbye(self._state()))
        self._end()

    @property
    def ready(self) -> bool:
        """Whether a keeper admits calls now."""
        return self._phase is _Phase.READY

    @property
    def catalog(self) -> Catalog:
        """The snapshot in force."""
        return self._catalog.catalog

    def subscribe(self, callback: Callable[[Catalog], object]) -> Callable[[], None]:
        """Call `callback` with every new catalog; returns what ends that."""
        return self._catalog.subscribe(callback)

    # Billing

    async def admit(self, opening: Opening) -> Admission | Refusal:
        """Ask the keeper, waiting for one if there is none. See `ports.Billing`."""
        if self._phase is not _Phase.READY:
            await self._until_ready()
        link = self._link
        if link is None or link.slow or len(self._settling) >= SETTLING_CALLS_MAX:
            raise KeeperUnavailableError("the keeper does not keep up")
        answer: asyncio.Future[Admission | Refusal] = self._loop.create_future()
        self._asked[opening.call_id] = Asked(opening, answer, self._loop.time())
        link.send(messages.Admit(opening))
        if self._check is None:
            self._check = self._loop.call_later(CHECK_SECONDS, self._check_waits)
        try:
            return await answer
        except asyncio.CancelledError:
            self._abandon(opening.call_id)
            raise

    def decide(self, opening: Opening) -> None:
        """Leave it to `admit`: the keeper is elsewhere."""

    def extend(self, call_id: int, amount: int, answer: Callable[[int], None]) -> None:
        """Ask for more hold; answered later, also by the next keeper. See `ports.Billing`."""
        if call_id not in self._open:
            raise AssertionError(f"call {call_id} is not open")
        self._extending[call_id] = (amount, answer)
        self._say(messages.Extend(call_id, amount))

    def mark(self, progress: Progress) -> None:
        """Record what an open call has delivered. See `ports.Billing`."""
        opened = self._open.get(progress.call_id)
        if opened is None:
            raise AssertionError(f"call {progress.call_id} is not open")
        opened.progress = progress
        self._unmarked.add(progress.call_id)
        if self._phase is _Phase.READY and self._link is not None and not self._link.slow:
            self._say_marks()

    def settle(self, closing: Closing) -> Receipt:
        """Close the call exactly once. See `ports.Billing`; the amounts come with the commit."""
        call_id, charge, forgiven = closing.call_id, closing.charge, closing.forgiven
        if charge < 0 or forgiven < 0 or (charge and forgiven):  # here, where it can be found
            raise AssertionError(f"call {call_id} cannot settle {charge}, {forgiven}")
        opened = self._open.pop(call_id, None)
        if opened is None:
            raise AssertionError(f"call {call_id} is not open: never admitted, or settled twice")
        self._extending.pop(call_id, None)
        self._unmarked.discard(call_id)
        commit = Commit(self._loop)
        receipt = Receipt(call_id, charge, 0, 0, commit)
        self._settling[call_id] = Settling(opened.opening, opened.held, closing, receipt, commit)
        self._quiet.clear()
        if self._phase is _Phase.READY:
            self._say(messages.Settle(closing))
        elif self._phase is _Phase.GREETED:
            self._unsent.append(call_id)
        return receipt

    async def limits(self, key_id: int) -> LimitState:
        """The key's buckets now. See `ports.Billing`."""
        state: LimitState = await self._ask(lambda number: messages.AskLimits(number, key_id))
        return state

    async def weigh(self, opening: Opening) -> Weighed:
        """Say what `admit` would. See `ports.Billing`."""
        known = self._keeper.weighs
        said: Weighed = await self._ask(lambda n: messages.Weigh(n, opening), known=known)
        return said

    async def count(self, key_id: int) -> Refusal | None:
        """Count a request that costs nothing. See `ports.Billing`."""
        if self._phase is _Phase.READY and not self._keeper.counts:
            return None  # a keeper of the release before, for as long as an upgrade takes
        said: messages.Counted = await self._ask(lambda number: messages.Count(number, key_id))
        return said.refusal

    async def catch_up(self) -> None:
        """Wait until the file has all that was decided. See `ports.Billing`."""
        await self._ask(messages.CatchUp, known=self._keeper.weighs)

    async def _ask(self, question: Callable[[int], object], *, known: bool = True) -> Any:
        """Ask what nobody waits long for, if it is `known` there. KeeperUnavailableError."""
        if self._phase is not _Phase.READY or not known:
            raise KeeperUnavailableError("there is no keeper")
        self._question_number = number = self._question_number + 1
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._questions[number] = (answer, self._loop.time())
        self._say(question(number))
        if self._check is None:
            self._check = self._loop.call_later(CHECK_SECONDS, self._check_waits)
        return await answer

    # Asking

    def _say(self, message: object) -> None:
        if self._phase is _Phase.READY and self._link is not None:
            self._link.send(message)

    def _say_marks(self) -> None:
        for call_id in self._unmarked:
            self._say(messages.Mark(self._open[call_id].progress))  # type: ignore[arg-type] # marked
        self._unmarked.clear()

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(KEEPER_WAIT_SECONDS_MAX):
                await self._ready.wait()
        except TimeoutError:
            raise KeeperUnavailableError("there is no keeper") from None

    def _abandon(self, call_id: int) -> None:
        """Nobody waits for this admission any more, made or not."""
        if self._asked.pop(call_id, None) is not None:
            # Until it is answered: if the keeper dies before, the next one must hear of it.
            self._abandoned.add(call_id)
        elif self._open.pop(call_id, None) is None:
            return
        elif self._phase is not _Phase.READY:
            self._abandoned.add(call_id)
        self._say(messages.Undo(call_id))

    def _check_waits(self) -> None:
        """Give up on what has waited too long: the keeper is away, or hangs."""
        self._check = None
        now = self._loop.time()
        for call_id, asked in tuple(self._asked.items()):
            if now - asked.at < KEEPER_WAIT_SECONDS_MAX:
                break
            self._abandon(call_id)
            if not asked.answer.done():
                asked.answer.set_exception(KeeperUnavailableError("the keeper does not answer"))
        for number, (answer, at) in tuple(self._questions.items()):
            if now - at < ANSWER_WAIT_SECONDS_MAX:
                break
            del self._questions[number]
            if not answer.done():
                answer.set_exception(KeeperUnavailableError("the keeper does not answer"))
        if self._asked or self._questions:
            self._check = self._loop.call_later(CHECK_SECONDS, self._check_waits)

    # The connection

    async def _connect(self) -> None:
        """Connect once a keeper listens; ends then, and begins again when it is lost."""
        wait = RECONNECT_SECONDS_MIN
        handlers: dict[type, Callable[..., object]] = {
            messages.Welcome: self._welcomed,
            messages.Ready: self._made_ready,
            messages.Admitted: self._admitted,
            messages.Refused: self._refused,
            messages.Unavailable: self._unavailable,
            messages.Extended: self._extended,
            messages.Committed: self._committed,
            messages.Limits: lambda said: self._answered(said.number, said.limits),
            messages.CatalogChanged: self._catalog_changed,
            messages.AskState: self._asked_state,
            messages.CaughtUp: lambda said: self._answered(said.number, said),
            messages.Weighing: lambda said: self._answered(said.number, said.weighed),
            messages.Counted: lambda one: self._answered(one.number, one if one.known else None),
        }
        while True:
            link: Link[FromKeeper] = Link(
                self._loop, messages.from_keeper, handlers, self._lost, "the keeper"
            )
            with contextlib.suppress(OSError):
                await self._loop.create_unix_connection(_always(link), str(self._socket_path))
            if link.open:
                self._link = link
                self._phase = _Phase.GREETED
                hello = (Role.WORKER, self._worker, self._incarnation, self._catalog.version)
                link.send(messages.Hello(*hello))
                return
            await asyncio.sleep(wait)
            wait = min(2 * wait, RECONNECT_SECONDS_MAX)

    def _lost(self) -> None:
        """The keeper is gone, or has cut us off: keep everything, look for the next one."""
        if self._link is None:  # lost before it was known: `_connect` goes on by itself
            return
        self._phase = _Phase.AWAY
        self._link = None
        self._keeper = messages.STRANGER
        self._ready.clear()
        self._unsent.clear()
        for answer, _ in self._questions.values():
            if not answer.done():
                answer.set_exception(KeeperUnavailableError("the keeper is gone"))
        self._questions.clear()
        if not self._closed:
            self._loop.call_later(RECONNECT_SECONDS_MIN, self._reconnect)

    def _reconnect(self) -> None:
        if not self._closed:
            self._connecting = self._loop.create_task(self._connect())

    def _end(self) -> None:
        self._closed = True
        self._catalog.close()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._check is not None:
            self._check.cancel()
        if self._link is not None:
            self._link.close()

    # What the keeper says

    def _welcomed(self, message: messages.Welcome) -> None:
        """Announce everything: what is open, what is settled, what nobody wants any more."""
        link = self._link
        if link is None:
            raise AssertionError("welcomed without a connection")
        self.last_id = max(self.last_id, message.last_id)
        self._keeper = message
        if message.asks_in_force:  # it may have come into force since the hello
            link.send(messages.InForce(self._catalog.version))
        self._catalog.want(message.catalog_version)
        for opened in self._open.values():
            link.send(messages.Restore(opened.opening, opened.held, opened.progress))
        for settling in self._settling.values():
            link.send(messages.Resend(settling.opening, settling.held, settling.closing))
        for call_id in self._abandoned | self._asked.keys():
            link.send(messages.Undo(call_id))
        link.send(messages.Present())
        self._unmarked.clear()
        self._unsent.clear()

    def _made_ready(self, _: messages.Ready) -> None:
        """Say what came to pass since the announcement, and ask again what was not answered."""
        self._phase = _Phase.READY
        self._abandoned.clear()
        self._say_marks()
        for call_id in self._unsent:
            self._say(messages.Settle(self._settling[call_id].closing))
        self._unsent.clear()
        for call_id, (amount, _answer) in self._extending.items():
            self._say(messages.Extend(call_id, amount))
        for asked in self._asked.values():
            self._say(messages.Admit(asked.opening))
        self._ready.set()

    def _admitted(self, message: messages.Admitted) -> None:
        call_id = message.call_id
        asked = self._asked.pop(call_id, None)
        if asked is None:
            self._abandoned.discard(call_id)  # its `Undo` is on the way
            return
        if asked.answer.done():  # cancelled in this very turn
            self._say(messages.Undo(call_id))
            return
        opening = asked.opening
        hurry = None if opening.stream else lambda: self._say(messages.Hurry(call_id))
        row = Row(self._loop, hurry)
        if message.durable:
            row.finish()
        self._open[call_id] = Open(opening, message.held, row)
        asked.answer.set_result(
            Admission(message.held, message.ceiling_held, message.limits, row, message.balance)
        )

    def _refused(self, message: messages.Refused) -> None:
        asked = self._asked.pop(message.call_id, None)
        self._abandoned.discard(message.call_id)
        if asked is not None and not asked.answer.done():
            asked.answer.set_result(
                Refusal(
                    message.reason,
                    message.limits,
                    available=message.available,
                    retry_after=message.retry_after,
                    limit=message.limit,
                )
            )

    def _unavailable(self, message: messages.Unavailable) -> None:
        asked = self._asked.pop(message.call_id, None)
        self._abandoned.discard(message.call_id)
        if asked is not None and not asked.answer.done():
            asked.answer.set_exception(KeeperUnavailableError(message.reason))

    def _extended(self, message: messages.Extended) -> None:
        waiting = self._extending.pop(message.call_id, None)
        opened = self._open.get(message.call_id)
        if waiting is not None and opened is not None:
            opened.held += message.granted
            waiting[1](message.granted)

    def _committed(self, message: messages.Committed) -> None:
        for call_id in message.opened:
            opened = self._open.get(call_id)
            if opened is not None and not opened.row.done():
                opened.row.finish()
        for posted in message.posted:
            settling = self._settling.pop(posted.call_id, None)
            if settling is not None:
                receipt = settling.receipt
                receipt.charged = posted.charged
                receipt.overrun = posted.overrun
                receipt.balance_after = posted.balance_after
                settling.commit.finish()
        if not self._settling:
            self._quiet.set()

    def _answered(self, number: int, answer: object) -> None:
        waiting = self._questions.pop(number, None)
        if waiting is None or waiting[0].done():
            return
        if answer is None:
            waiting[0].set_exception(KeeperUnavailableError("the keeper does not know"))
        else:
            waiting[0].set_result(answer)

    def _catalog_changed(self, message: messages.CatalogChanged) -> None:
        self._catalog.want(message.version)

    def _say_in_force(self, version: int) -> None:
        """Tell the keeper, which lets a command wait for it; before a welcome `Hello` tells."""
        if self._keeper.asks_in_force and self._link is not None:
            self._link.send(messages.InForce(version))

    def _asked_state(self, message: messages.AskState) -> None:
        self._say(messages.State(message.number, self._state()))

    def _state(self) -> bytes:
        state = self._metrics_state()
        if len(state) <= STATE_BYTES_MAX:
            return state
        log.error("metrics of %d bytes are more than the port carries", len(state))
        return b""
