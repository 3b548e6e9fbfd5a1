"""One attempt at one upstream: bytes from its socket through the exchange to the client.

`data_received` is the hot path: nothing is awaited, scheduled or allocated per event beyond the
look itself. The handler waits on one future for the few moments that need it (content, end,
heartbeat). Backpressure is one pair of methods: a paused client pauses this reading. This module
must not know money, limits or routing; what it asks of the call is in `AttemptOwner`.
"""

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Generic, Protocol, TypeVar

from proxy.core.exchange import Phase
from proxy.core.outcomes import Failure, FailureKind
from proxy.core.response_head import ResponseHead
from proxy.edge.bursts import Burst
from proxy.edge.translation import Carrier
from proxy.edge.upstream import Kept, Origin, UpstreamPool, unreported

PENDING_BYTES_MAX: Final = 262_144
"""Content kept while the client's head is being sent; more pauses the upstream."""


LOOK_SECONDS: Final = 1.0
_CONTENT: Final = Phase.CONTENT  # a member of an enum costs ten globals on Python 3.11


class AttemptEnd(Enum):
    """How an attempt ended when its exchange did not end by itself."""

    LOST = auto()
    FIRST_BYTE_TIMEOUT = auto()
    IDLE_TIMEOUT = auto()
    CUT = auto()
    CLIENT_GONE = auto()


class Engine(Protocol):
    """What reads an upstream's answer (core/exchange.py), as an attempt drives it."""

    phase: Phase
    failure: Failure | None
    held: bytes
    shown: bool
    upper: int
    at_edge: bool
    tokens_allowed: int

    @property
    def head(self) -> ResponseHead | None:
        """The response head, once it is whole."""

    def progress(self) -> int:
        """Return a number that grows when anything was received, and only then."""

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""

    def splice(
        self, forward: Callable[[bytes], object], otherwise: Callable[[bytes], object]
    ) -> Callable[[bytes], object] | None:
        """Return what takes reads from now on; None: `receive` does, as before."""

    def ordinary(self, data: bytes) -> int:
        """How many leading bytes of a read may be written on as they are."""

    def receive(self, data: bytes) -> bytes:
        """Take bytes off the wire; return what to forward."""

    def receive_eof(self) -> bytes:
        """Take the end of the connection; return what may still be forwarded."""

    def allow(self, tokens_allowed: int) -> bytes:
        """Move the edge of the hold; return what now passes."""

    def finish(self, data: bytes) -> bool | None:
        """Take what follows the end; tell whether the connection may be used again."""

    def reject(self, failure: Failure) -> None:
        """End in `failure`."""


EngineT_co = TypeVar("EngineT_co", bound=Engine, covariant=True)


class AttemptOwner(Protocol):
    """The call, as its attempt sees it."""

    def credit_needed(self, *, at_edge: bool) -> None:
        """The hold is running out; `at_edge`: nothing more passes until it grows."""


_BY_NOBODY: Final[frozenset[str]] = frozenset()


def _discard(data: bytes) -> None:
    del data


def _not_shown() -> bool:
    return False


class Spliced(asyncio.Protocol):
    """What is told of the socket of a stream that flows, instead of its attempt.

    Its reads go to what looks at them at once; a call in between is a twelfth of what they cost.
    """

    __slots__ = ("connection_lost", "data_received", "eof_received")

    def __init__(self, attempt: asyncio.Protocol, receive: Callable[[bytes], object]) -> None:
        self.data_received = receive  # type: ignore[method-assign, assignment]  # no transport asks what it returns
        self.eof_received = attempt.eof_received  # type: ignore[method-assign]  # a slot
        self.connection_lost = attempt.connection_lost  # type: ignore[method-assign]  # a slot


class Attempt(asyncio.Protocol, Generic[EngineT_co]):
    """Drives `exchange` over one connection.

    `flow` starts writing to the client; before it, content waits in `pending`. `over` is True
    once nothing more will come, by the exchange's own end or by `end`.
    """

    __slots__ = (
        "_chunked",
        "_fresh",
        "_look_at",
        "_loop",
        "_low_water",
        "_owner",
        "_paused",
        "_pending",
        "_pending_bytes",
        "_splice",
        "_waiter",
        "_write",
        "burst",
        "end",
        "exchange",
        "first_byte_at",
        "flowing",
        "lost",
        "on_content",
        "translation",
        "transport",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        owner: AttemptOwner,
        exchange: EngineT_co,
        low_water: int,
        translation: Carrier | None = None,
    ) -> None:
        self.exchange = exchange
        self.translation = translation
        self.on_content: Callable[[], bool] = _not_shown
        """Called at the content point: shows it in this very turn of the loop and says so, or
        leaves it to the handler, who can wait."""
        self.transport: asyncio.Transport | None = None
        self.end: AttemptEnd | None = None
        self.flowing = False
        self.lost = False
        self.first_byte_at: float | None = None
        self._loop = loop
        self._owner = owner
        self._low_water = low_water
        self._waiter: asyncio.Future[None] | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._paused = _BY_NOBODY
        self._splice: Callable[[bytes], object] | None = None
        """What takes reads once they flow, and gives `_receive` those that do not pass."""
        self._write: Callable[[bytes], object] = _discard
        self._chunked = True
        self._fresh = True
        self._look_at = 0.0
        self.burst: Burst | None = None
        """What a request of many is written by; only whole answers are asked for so."""

    @property
    def over(self) -> bool:
        """Whether nothing more will come of this attempt."""
        return self.end is not None or self.exchange.over

    @property
    def shown(self) -> bool:
        """Whether there is something to show (the content point, or an end without content)."""
        # Not the phase: content and a failure may come in one read, and what the client sees must
        # not depend on how the network cut the stream.
        return self.exchange.shown

    @property
    def silent(self) -> bool:
        """Whether not one byte has come back: a reused connection may have been stale."""
        return self._fresh

    def send(self, transport: asyncio.Transport, request: bytes) -> None:
        """Take over `transport` and write the whole request."""
        self.transport = transport
        transport.set_protocol(self)
        transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Pass one read on; those of a stream that flows come by `Spliced`."""
        if self._splice is not None:
            self._splice(data)
        else:
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        """Take a read that does not pass as it is."""
        if self.flowing:
            upper = self.exchange.upper
            ordinary = self.exchange.ordinary(data)
            if ordinary == len(data):
                self._write(data)
                if self.exchange.upper != upper:
                    self._look()
                return
            if ordinary:
                self._write(data[:ordinary])
                data = data[ordinary:]
        if self._fresh:
            self._fresh = False
            self.first_byte_at = self._loop.time()
        self._forward(self.exchange.receive(data))
        self._look()

    def eof_received(self) -> None:
        """The upstream half-closed: by its framing that is an end, or a truncation."""
        if self.end is not None:
            return
        if self._fresh:
            # Not one byte of an answer: a kept connection went stale, whatever it was closed by.
            self.end = AttemptEnd.LOST
            self._wake()
            return
        self._forward(self.exchange.receive_eof())
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, cleanly or not."""
        self.lost = True
        if exc is None and self.end is None:  # what we cut ourselves is no truncation
            self._forward(self.exchange.receive_eof())
        if not self.over and not self.exchange.at_edge:
            self.end = AttemptEnd.LOST
        self._wake()

    def changed(self) -> asyncio.Future[None] | None:
        """Give what to wait for until there is content to show, an end, or a `nudge`.

        None: there is nothing to wait for any more.
        """
        exchange = self.exchange
        if self.end is not None or exchange.over or (exchange.shown and not self.flowing):
            return None
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def nudge(self) -> None:
        """Wake whoever waits in `changed`."""
        self._wake()

    def take_pending(self) -> bytes:
        """Return what may be shown so far, preamble first; call once, with `flow`."""
        held, self.exchange.held = self.exchange.held, b""
        if held and self.translation is not None:
            held = self._translated(held)
        shown = held + b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        return shown

    def flow(self, write: Callable[[bytes], object], *, chunked: bool) -> None:
        """From now on write events straight to the client."""
        self._write = write
        self._chunked = chunked
        self.flowing = True
        splice = self._splice = self.exchange.splice(write, self._receive)
        transport = self.transport
        if splice is not None and transport is not None and not self.lost:
            transport.set_protocol(Spliced(self, splice))
        self.resume("pending")

    def detach(self) -> None:
        """Stop writing: the client is gone, but the upstream may still say what it cost."""
        self._write = _discard
        # There is nothing to show any more, so nobody must be woken for it, nor wait for it.
        self.flowing = True
        self._splice = self.exchange.splice(_discard, self._receive)
        self._pending.clear()
        self._paused -= {"client", "pending"}
        self._resume_reading()

    def allow(self, tokens_allowed: int) -> None:
        """The hold grew: let the backlog pass and read on."""
        self._forward(self.exchange.allow(tokens_allowed))
        if not self.exchange.at_edge:
            self.resume("credit")
        self._look()

    def pause(self, reason: str) -> None:
        """Stop reading from the upstream, for one of several independent reasons."""
        if not self._paused and self.transport is not None and not self.lost:
            self.transport.pause_reading()
        self._paused |= {reason}

    def resume(self, reason: str) -> None:
        """Take one reason back; reading goes on when none is left."""
        if reason in self._paused:
            self._paused -= {reason}
            self._resume_reading()

    def look(self, now: float) -> None:
        """Notice, once a second of silence, a lost connection that nobody has told of."""
        if now < self._look_at or self.transport is None:
            return
        self._look_at = now + LOOK_SECONDS
        lost = unreported(self.transport)
        if lost is not None:
            self.transport.abort()
            self.connection_lost(lost)

    def stop(self, end: AttemptEnd) -> None:
        """End the attempt and cancel the upstream at once."""
        if not self.over:
            self.end = end
        if self.transport is not None and not self.exchange.reusable:
            self.transport.abort()
        self._wake()

    def release(self, pool: UpstreamPool, origin: Origin, now: float) -> None:
        """Give the connection back, at once or when its response has ended, or close it."""
        transport, self.transport = self.transport, None
        exchange = self.exchange
        if self._splice is not None:  # else only the collector would free them
            self._splice = None
            exchange.splice(_discard, _discard)
        if transport is None:
            return
        reusable = False if self.lost or self._paused else exchange.finish(b"")
        if reusable:
            pool.put(origin, transport, now)
        elif reusable is None:
            pool.put_ending(origin, transport, exchange.finish, now)
        else:
            transport.abort()

    def _forward(self, out: bytes) -> None:
        if out and self.translation is not None:
            held, self.exchange.held = self.exchange.held, b""
            out = self._translated(held + out)
        if not out:
            return
        if self.flowing:
            self._write(b"%x\r\n%b\r\n" % (len(out), out) if self._chunked else out)
            return
        self._pending.append(out)
        self._pending_bytes += len(out)
        if self._pending_bytes > PENDING_BYTES_MAX:
            self.pause("pending")

    def _translated(self, events: bytes) -> bytes:
        """Carry events over; what cannot be ends the attempt as the upstream's failure."""
        translation = self.translation
        if translation is None:
            raise AssertionError("nothing to translate with")
        out = translation.feed(events)
        if translation.failure is not None and not self.exchange.over:
            self.exchange.reject(Failure(FailureKind.UNEXPECTED_ANSWER, translation.failure))
        return out

    def _look(self) -> None:
        """After anything out of the ordinary: does somebody have to act?"""
        exchange = self.exchange
        if exchange.over or (
            exchange.phase is _CONTENT and not self.flowing and not self.on_content()
        ):
            self._wake()
        if exchange.over:
            return
        if exchange.at_edge:
            self.pause("credit")
            self._owner.credit_needed(at_edge=True)
        elif exchange.tokens_allowed - exchange.upper < self._low_water:
            self._owner.credit_needed(at_edge=False)

    def _resume_reading(self) -> None:
        if not self._paused and self.transport is not None and not self.lost:
            self.transport.resume_reading()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class PlainAttempt(Attempt[EngineT_co]):
    """One whose answer is wanted whole: nothing of it passes by here, so all to see is its end."""

    __slots__ = ()

    def send(self, transport: asyncio.Transport, request: bytes) -> None:
        """Hold `transport` (see `Kept`) and write the whole request, by `burst` if it has one."""
        self.transport = transport
        kept = transport.get_protocol()
        if isinstance(kept, Kept):
            kept.holder = self
        else:
            transport.set_protocol(self)
        if self.burst is None:
            transport.write(request)
        else:
            self.burst.write(transport, request)

    def data_received(self, data: bytes) -> None:
        """Take one read, nearly always the only one."""
        if self._fresh:
            burst, transport = self.burst, self.transport
            if burst is not None and transport is not None and transport in burst.waiting:
                # No answer, for nothing was asked yet: another connection may serve.
                self.stop(AttemptEnd.LOST)
                transport.abort()
                return
            self._fresh = False
            self.first_byte_at = self._loop.time()
        exchange = self.exchange
        exchange.receive(data)
        if exchange.over:
            self._wake()
