"""The client's connection: requests in, one response at a time out, and the peer watched.

A protocol of our own on the two hot routes' listener, because aiohttp's server costs twice what
nginx does per request before it does anything (PERFORMANCE.md allows the swap; the figures are
in ARCHITECTURE.md). Rules: heads are parsed by core/http1_request.py, strictly; one request is
handled at a time, what is sent ahead waits in a bounded buffer; a call in flight hears at once
that its client stalls, half-closes (we treat that as gone) or is lost, and how much of what was
written had not left by then. This module must not know what is being relayed.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Final, Protocol, cast

from proxy.core.errors import ErrorCode, RelayError, error_body
from proxy.core.http1_request import HEAD_BYTES_MAX, HeadMemo, RequestHead
from proxy.core.urls import dialect_of_line
from proxy.edge import client_socket
from proxy.edge.bursts import Burst
from proxy.edge.client_request import Request

WRITE_BUFFER_BYTES_MAX: Final = 65_536
SEND_BUFFER_BYTES: Final = 65_536
CONNECTIONS_MAX: Final = 10_000
KEEPALIVE_SECONDS_MAX: Final = 75.0
"""Longer than nginx's upstream keepalive_timeout, so that nginx gives up first (FAULTS.md)."""
LINGER_SECONDS_MAX: Final = 2.0
"""How long the rest of a refused body is read and dropped, so that the answer is not reset."""
AHEAD_BYTES_MAX: Final = 65_536
"""Bytes a client may send ahead of its next request's turn; more, and it is cut off."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientListener(Protocol):
    """What a call in flight wants to hear about its client."""

    def client_paused(self) -> None:
        """The client reads slower than we write: stop the upstream."""

    def client_resumed(self) -> None:
        """There is room again."""

    def client_lost(self, unsent_bytes: int) -> None:
        """The client is gone; the last `unsent_bytes` written never left this machine."""


class ClientConnection(asyncio.Protocol):
    """One client connection; `listener` is the call it carries now, if any."""

    __slots__ = (
        "_bare", "_buffer", "_drained", "_head", "_keep_alive", "_loop", "_request", "_server",
        "_since", "_socket", "_tunnel", "burst", "closing", "cork", "listener", "lost",
        "task", "transport",
    )  # fmt: skip

    def __init__(
        self, server: "ClientServer", loop: asyncio.AbstractEventLoop, *, bare: bool = False
    ) -> None:
        self._server = server
        self._loop = loop
        self.burst = server.burst
        """What the ends of answers are written by while there are many (edge/bursts.py)."""
        self._bare = bare
        """It came before its listener had what it was to inherit."""
        self.transport: asyncio.Transport | None = None
        self.listener: ClientListener | None = None
        self.lost = False
        self._drained: asyncio.Future[None] | None = None
        self.closing = False
        """No further request is read; what still comes is dropped."""
        self._socket: socket.socket | None = None
        """Once it was asked for: most connections never need it."""
        self._buffer = b""
        self._request: Request | None = None
        self._head: RequestHead | None = None
        """That of the request before, which nearly always comes again."""
        self.task: asyncio.Task[None] | None = None
        """The handler in progress, if any."""
        self.cork: client_socket.Cork | None = None
        """Once a plain answer was written (edge/downstream.py)."""
        self._tunnel: Callable[[bytes], None] | None = None
        """Who takes what comes when it is no HTTP any more."""
        self._keep_alive = True
        self._since = loop.time()

    # From the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound both buffers, so that what counts as delivered has a small, known error.

        The kernel's is inherited from the listening socket, see edge/client_socket.py.
        """
        # uvloop's transports have the methods of asyncio.Transport without being one.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        if self._bare:
            client_socket.equip(transport.get_extra_info("socket"), self._server.send_buffer_bytes)
        if not self._server.opened(self):
            error = RelayError(
                ErrorCode.SERVICE_UNAVAILABLE, "Too many connections; try again.", retry_after=1
            )
            self._answer_malformed(error, b"")

    def data_received(self, data: bytes) -> None:
        """Feed the request in hand, or begin the next one."""
        if self.closing:
            return
        request = self._request
        if request is None:
            self._begin(self._buffer + data if self._buffer else data)
            return
        if request.wants_more:
            data = request.feed(data)
            if request.is_overfull():
                self.pause_reading()
        elif self._tunnel is not None:
            self._tunnel(data)
            return
        self._buffer += data
        if len(self._buffer) > AHEAD_BYTES_MAX:
            self.abort()

    def eof_received(self) -> None:
        """Take a half-close for a farewell, at once: bytes still unsent would delay the other."""
        self._hurry()
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the call first, while the socket can still say what it has not sent."""
        del exc
        self._leave()
        self.transport = None
        if self.cork is not None:
            self.cork.release()
        self._server.closed(self)

    def pause_writing(self) -> None:
        """Stop the upstream of the call in flight."""
        if self.listener is not None:
            self.listener.client_paused()

    def resume_writing(self) -> None:
        """Let the upstream of the call in flight go on."""
        if self.listener is not None:
            self.listener.client_resumed()
        self._wake_drained()

    async def drained(self) -> None:
        """Wait until all that was written is the kernel's, or the client is gone.

        A client too slow for that is told of as paused, and cut by the sweep in time.
        """
        await asyncio.sleep(0)  # what was written in this turn of the loop leaves at its end
        transport = self.transport
        if self.is_drained() or transport is None:
            return
        self._drained = self._loop.create_future()
        transport.set_write_buffer_limits(high=0)
        try:
            await self._drained
        finally:
            self._drained = None
            if not self.lost and not transport.is_closing():
                transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)

    def is_drained(self) -> bool:
        """Whether all that was written is the kernel's, or the client is gone."""
        transport = self.transport
        return transport is None or self.lost or not transport.get_write_buffer_size()

    def _wake_drained(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # For handlers

    def resume_reading(self) -> None:
        """Read on after a body grew too large to wait in memory."""
        if self.transport is not None and not self.transport.is_reading():
            self.transport.resume_reading()

    def pause_reading(self) -> None:
        """Read no more for now: of a call whose body is complete never, for it is listened to."""
        if self.transport is not None and self.transport.is_reading():
            self.transport.pause_reading()

    def unsent_bytes(self) -> int:
        """Return how much of what was written has not been handed to the network yet."""
        transport, peer = self.transport, self._socket
        if transport is None:
            return 0
        waiting = transport.get_write_buffer_size()
        if peer is None:
            peer = self._socket = transport.get_extra_info("socket")
        return waiting if peer is None else waiting + client_socket.unsent_bytes(peer)

    def tunnel(self, receiver: Callable[[bytes], None]) -> None:
        """Give all that comes from now on to `receiver`, with what came ahead of its turn."""
        self._tunnel = receiver
        early, self._buffer = self._buffer, b""
        if early:
            receiver(early)

    def last_response(self) -> None:
        """Close the connection after the response in hand."""
        self._keep_alive = False

    @property
    def keeps_alive(self) -> bool:
        """Whether another request may follow the one in hand."""
        request = self._request
        return (
            self._keep_alive
            and not self._server.retiring
            and request is not None
            and request.head.keep_alive
            and request.complete
        )

    def abort(self) -> None:
        """Cut the connection now."""
        self._hurry()
        self.closing = True
        if self.transport is not None:
            self.transport.abort()

    def tick(self, now: float, head_seconds_max: float) -> None:
        """Close a connection that has been idle, or without a whole head, for too long."""
        waited = now - self._since
        if self.closing:
            # What a slow client has still to be given goes first; it may take as long as a rest.
            if waited >= (LINGER_SECONDS_MAX if self.is_drained() else KEEPALIVE_SECONDS_MAX):
                self.abort()
        elif self._request is None:
            fresh = self._keep_alive and not self._buffer and self._server.served(self)
            if waited >= (KEEPALIVE_SECONDS_MAX if fresh else head_seconds_max):
                self.abort()

    def close_at_rest(self) -> None:
        """Close unless a request is in hand, also one whose body is still on its way."""
        if self._request is None:
            self._close(drop=False)

    def _hurry(self) -> None:
        if self.transport is not None:
            self.burst.hurry(self.transport)

    # One request after the other

    def _begin(self, data: bytes) -> None:
        head = self._head
        again = None if head is None else head.again(data)
        if head is None or again is None:
            block, end, rest = data.partition(b"\r\n\r\n")
            if not end or len(block) > HEAD_BYTES_MAX:
                if not self._buffer:
                    self._since = self._loop.time()
                self._buffer = data
                if len(data) >= HEAD_BYTES_MAX + 4 or (b"\n" in data and b"\r\n" not in data):
                    what = "its head is too long or its lines do not end in CRLF"
                    message = f"The HTTP request is malformed: {what}."
                    self._answer_malformed(RelayError(ErrorCode.INVALID_REQUEST, message), b"")
                return
            try:
                head, length = self._server.heads.parse(block.removeprefix(b"\r\n"))
            except RelayError as error:
                self._buffer = b""
                self._answer_malformed(error, block)
                return
            self._head = head if head.before else None
        else:
            length, rest = again
        self._buffer = b""
        whole = len(rest) == length  # nearly always
        request = self._request = Request(self, head, length, rest if whole else None)
        if rest and not whole:
            self._buffer = request.feed(rest)
            if len(self._buffer) > AHEAD_BYTES_MAX:
                self.abort()
                return
        if head.expects_continue and not request.complete and self.transport is not None:
            self._hurry()
            self.transport.write(_CONTINUE)
        # Not by the loop, which would number each: to write a name costs a fifth of a task.
        handling = self._server.handler(request)
        self.task = asyncio.Task(handling, loop=self._loop, name="request")

    def answered(self, request: Request) -> None:
        """Begin the next request or close: called by the handler, whatever came of this one."""
        self.task = None
        # What a head has promised is kept also by who began to retire meanwhile.
        alive = self._keep_alive and request.head.keep_alive and request.complete
        self._request = None
        self._since = self._loop.time()
        if not alive or self._server.draining:
            self._close(drop=not request.complete)
        elif self._buffer and not self.lost:
            self._loop.call_soon(self._begin_buffered)
        else:
            self._server.rested(self)

    def _begin_buffered(self) -> None:
        if self._request is None and not self.closing and self._buffer:
            data, self._buffer = self._buffer, b""
            self._begin(data)

    def _close(self, *, drop: bool) -> None:
        """Close; with `drop` the rest of a body is read first, lest a reset eat the answer."""
        self._hurry()
        self.closing = True
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if drop and not self.lost:
            transport.resume_reading()
            if transport.can_write_eof():
                transport.write_eof()
        else:
            transport.close()

    def _leave(self) -> None:
        self.lost = True
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.client_lost(self.unsent_bytes())
        if self._request is not None:
            self._request.wake()
        self._wake_drained()

    def _answer_malformed(self, error: RelayError, block: bytes) -> None:
        """Answer what is no request, and close: nothing after it can be believed."""
        self._server.on_refused(error)
        self._hurry()
        if self.transport is not None:
            # The dialect is a courtesy: what can be read of the first line decides.
            body = error_body(error, dialect_of_line(block.partition(b"\r\n")[0]), "")
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n%b"
                % (error.status, HTTPStatus(error.status).phrase.encode(), len(body), body)
            )
        self._since = self._loop.time()
        self._close(drop=True)


class ClientServer:
    """Accepts clients (an instance is a protocol factory) and knows all of them.

    `handler` answers one request; its last step is `answered` of the request's connection.
    """

    def __init__(
        self,
        handler: Callable[[Request], Coroutine[None, None, None]],
        *,
        connections_max: int = CONNECTIONS_MAX,
        send_buffer_bytes: int = SEND_BUFFER_BYTES,
    ) -> None:
        self.handler = handler
        self.send_buffer_bytes = send_buffer_bytes
        self._connections_max = connections_max
        self.heads = HeadMemo()
        self.burst = Burst()
        self.retiring = self.draining = False  # see retire, close_idle
        self.on_refused: Callable[[RelayError], object] = lambda _: None
        """Told of what was answered though it is no request."""
        self._connections: set[ClientConnection] = set()
        self._rested: set[ClientConnection] = set()

    def __call__(self) -> ClientConnection:
        """Make the protocol of one new connection."""
        return ClientConnection(self, asyncio.get_running_loop())

    def on(self, listener: socket.socket) -> Callable[[], ClientConnection]:
        """Return what makes the protocol of each connection that comes on a listening socket."""
        queued = client_socket.prepare(listener, self.send_buffer_bytes)
        if not queued:
            return self
        bare = iter(range(queued))  # who was there before is accepted first
        return lambda: ClientConnection(
            self, asyncio.get_running_loop(), bare=next(bare, None) is not None
        )

    def opened(self, connection: ClientConnection) -> bool:
        """A client connected; False when there are too many to take it."""
        # One too many is known as well until it is gone: else nobody would ever cut it.
        self._connections.add(connection)
        return len(self._connections) <= self._connections_max

    def closed(self, connection: ClientConnection) -> None:
        """A client is gone."""
        self._connections.discard(connection)
        self._rested.discard(connection)

    def rested(self, connection: ClientConnection) -> None:
        """A connection has been served and waits for its next request."""
        self._rested.add(connection)

    def served(self, connection: ClientConnection) -> bool:
        """Whether a connection has been served before."""
        return connection in self._rested

    def sweep(self, now: float, head_seconds_max: float) -> None:
        """Close what has idled or lingered too long; `now` is loop time."""
        for connection in tuple(self._connections):
            connection.tick(now, head_seconds_max)

    def is_empty(self) -> bool:
        return not self._connections

    def retire(self) -> None:
        """Serve one more request on every connection; those at rest may still send theirs."""
        self.retiring = True

    def close_idle(self) -> None:
        """Stop keeping connections alive: those at rest close now, the others after their turn."""
        self.retiring = self.draining = True
        for connection in tuple(self._rested):
            connection.close_at_rest()

    async def shutdown(self, seconds_max: float) -> None:
        """Cut every connection and wait until the last handler has ended."""
        self.retiring = self.draining = True
        tasks = [one.task for one in self._connections if one.task is not None]
        for connection in tuple(self._connections):
            connection.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds_max)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
