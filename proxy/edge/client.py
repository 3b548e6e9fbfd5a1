"""The client's connection: aiohttp's own protocol, told at once when the peer stalls or leaves.

aiohttp owns parsing, heads and ends (DESIGN.md section 5). This subclass adds what a handler
cannot otherwise learn in time: writing was paused or resumed, the peer half-closed (we treat
that as gone), the connection was lost and how much of what we wrote had not left by then. It
also keeps the answers to malformed requests in JSON, and bounds the wait for a request head,
which aiohttp does not (FAULTS.md). This module must not know what is being relayed.
"""

import asyncio
import fcntl
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from proxy.core.entities import Dialect
from proxy.core.errors import ErrorCode, RelayError, error_body

SIOCOUTQNSD = 0x894B
"""Bytes written to a TCP socket and not yet sent (tcp(7)); the fcntl module has no name for it."""
TCP_STATES_LEFT = {7, 8}
"""TCP_CLOSE and TCP_CLOSE_WAIT, the first byte of TCP_INFO (tcp(7), linux/tcp_states.h)."""
WRITE_BUFFER_BYTES_MAX = 65_536
SEND_BUFFER_BYTES = 131_072
TCP_USER_TIMEOUT_MS = 60_000
KEEPALIVE_SECONDS_MAX = 75.0
"""Longer than nginx's upstream keepalive_timeout, so that nginx gives up first (FAULTS.md)."""


class ClientListener(Protocol):
    """What a call in flight wants to hear about its client."""

    def client_paused(self) -> None:
        """The client reads slower than we write: stop the upstream."""

    def client_resumed(self) -> None:
        """There is room again."""

    def client_lost(self, unsent_bytes: int) -> None:
        """The client is gone; the last `unsent_bytes` written never left this machine."""


class ClientConnection(RequestHandler):
    """One client connection; `listener` is the call it carries now, if any."""

    __slots__ = ("accepted_at", "head_seen", "listener", "lost")

    def __init__(self, manager: web.Server, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=KEEPALIVE_SECONDS_MAX,
            access_log=None,  # type: ignore[arg-type] # aiohttp's own way to say none
            auto_decompress=False,
        )
        self.listener: ClientListener | None = None
        self.lost = False
        self.head_seen = False
        self.accepted_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound both buffers, so that what counts as delivered has a small, known error."""
        self.accepted_at = self._loop.time()
        if isinstance(transport, asyncio.Transport):
            transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family in {socket.AF_INET, socket.AF_INET6}:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the call first, while the socket can still say what it has not sent."""
        self.lost = True
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.client_lost(self.unsent_bytes())
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """Take a half-close for a farewell, at once: bytes still unsent would delay the other."""
        self.lost = True
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.client_lost(self.unsent_bytes())

    def pause_writing(self) -> None:
        """Stop the upstream of the call in flight."""
        super().pause_writing()
        if self.listener is not None:
            self.listener.client_paused()

    def resume_writing(self) -> None:
        """Let the upstream of the call in flight go on."""
        super().resume_writing()
        if self.listener is not None:
            self.listener.client_resumed()

    def unsent_bytes(self) -> int:
        """Return how much of what was written has not been handed to the network yet."""
        transport = self.transport
        if transport is None:
            return 0
        waiting = transport.get_write_buffer_size()
        peer = transport.get_extra_info("socket")
        if peer is None or peer.family not in {socket.AF_INET, socket.AF_INET6}:
            return waiting
        try:
            answer = fcntl.ioctl(peer.fileno(), SIOCOUTQNSD, b"\0\0\0\0")
        except OSError:
            return waiting
        return waiting + int(struct.unpack("i", answer)[0])

    def peer_left(self) -> bool:
        """Whether the peer has closed while unread requests keep us from reading its farewell.

        aiohttp stops reading when many requests are piled up behind the one being answered.
        """
        transport = self.transport
        if transport is None or transport.is_reading():
            return False
        peer = transport.get_extra_info("socket")
        if peer is None or peer.family not in {socket.AF_INET, socket.AF_INET6}:
            return False
        state = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return state[0] in TCP_STATES_LEFT

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp itself refused (bad framing, oversized head), in JSON."""
        code = ErrorCode.INVALID_REQUEST if status < 500 else ErrorCode.INTERNAL_ERROR
        text = "The HTTP request is malformed." if status < 500 else "An internal error occurred."
        del request, exc, message
        body = error_body(RelayError(code, text), Dialect.OPENAI, "")
        response = web.Response(status=status, body=body, content_type="application/json")
        response.force_close()
        return response


class ClientServer(web.Server):
    """Accepts clients; `connections` are all of them, for the sweep and for draining."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(handler)

    def __call__(self) -> RequestHandler:
        """Make the protocol of one new connection."""
        return ClientConnection(self, loop=asyncio.get_running_loop())

    def close_headless(self, now: float, seconds_max: float) -> int:
        """Close connections that never sent a whole request head in time; return how many."""
        closed = 0
        for connection in list(self._connections):
            if (
                isinstance(connection, ClientConnection)
                and not connection.head_seen
                and now - connection.accepted_at > seconds_max
            ):
                connection.force_close()
                closed += 1
        return closed
