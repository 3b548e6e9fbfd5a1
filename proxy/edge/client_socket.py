"""What every client's socket has, what it can tell, and the way to write that transports lack.

Rules: options are set once, on the socket that clients come on: on Linux an accepted socket begins
as a copy of the listening one, options included, as that was when the client came
(`sk_clone_lock`; the tests ask real sockets). Setting three options on each connection cost
30,000 instructions, a stream of one call as much as its request. Who was in the queue before has
none of it, and is told of. A descriptor is its transport's: nothing here closes one, nor writes
where the transport would have to come first. This module must not know requests.
"""

import asyncio
import socket
import struct
from array import array
from contextlib import suppress
from fcntl import ioctl
from typing import Final

SIOCOUTQNSD: Final = 0x894B
"""Bytes written to a TCP socket and not yet sent (tcp(7)); the fcntl module has no name for it."""
_UNSENT: Final = array("i", (0,))
"""Where that is told: bytes instead would be tried as what can be written to, at twice the cost."""
TCP_USER_TIMEOUT_MS: Final = 60_000
CORKED_BYTES_MAX: Final = 16_384
"""What is written behind a cork; more is several packets anyway."""
_MORE: Final = int(socket.MSG_MORE)
_TCP_INFO: Final = struct.Struct("24xI")
"""Of the kernel's `tcp_info`, `tcpi_unacked`: how many wait in a listening socket's queue."""


def prepare(listener: socket.socket, send_buffer_bytes: int) -> int:
    """Set on a listening socket what its connections are to have.

    Returns how many wait in its queue, which are accepted first and may need `equip`: also where
    another process has set it all, for several may take from one queue, and one may have died
    with some that came before still in it.
    """
    equip(listener, send_buffer_bytes)
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    return int(_TCP_INFO.unpack(info)[0])


def equip(peer: socket.socket, send_buffer_bytes: int) -> None:
    """Bound what waits in the kernel, and notice a peer that is gone without a word."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def unsent_bytes(peer: socket.socket) -> int:
    """Return how much of what was written to a socket the kernel has not sent yet; 0 if unknown."""
    try:
        ioctl(peer.fileno(), SIOCOUTQNSD, _UNSENT, True)  # noqa: FBT003 - its signature
    except OSError:
        return 0
    return _UNSENT[0]


class _Borrowed(socket.socket):
    """A transport's socket under its own descriptor, which stays the transport's to close."""

    __slots__ = ()

    def __del__(self) -> None:
        self.detach()  # a socket that is forgotten would close it


class Cork:
    """Writes what more follows at once, so that both are one packet and wake their reader once.

    What it has written the kernel has, as with any write: it outlives this process, for to close
    a socket sends what it holds (unless more of the peer's lies there unread: then it is reset).
    It leaves with the next write to the transport, with `push`, or after 200 ms (`MSG_MORE`,
    send(2), tcp(7)); till then `unsent_bytes` counts it.
    """

    __slots__ = ("_peer", "_send")

    def __init__(self, transport: asyncio.Transport) -> None:
        peer = transport.get_extra_info("socket")
        self._peer = _Borrowed(peer.family, peer.type, peer.proto, peer.fileno())
        self._send = self._peer.send

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write `data`, which more follows; what the kernel does not take now, by `transport`."""
        if (
            len(data) <= CORKED_BYTES_MAX
            and not transport.get_write_buffer_size()  # which goes first
            and not transport.is_closing()  # which drops what it is given
        ):
            try:
                sent = self._send(data, _MORE)
            except OSError:
                sent = 0  # what is wrong the transport finds out, and tells of
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)

    def push(self) -> None:
        """Let out what was written: more does not follow at once after all."""
        with suppress(OSError):  # as above
            self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def release(self) -> None:
        """Give the descriptor back, which is closed now: its number may be another's soon."""
        self._peer.detach()


def peer_address(transport: asyncio.BaseTransport | None) -> str | None:
    """Return the network address at the other end; None when nobody knows it."""
    name = None if transport is None else transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) and name else None
