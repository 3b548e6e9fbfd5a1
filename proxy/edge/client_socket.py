"""What every client's socket has, set once on the socket they come on, and what it can tell.

Rules: on Linux an accepted socket begins as a copy of the listening one, options included, as
that was when the client came (`sk_clone_lock`; the tests ask real sockets). Setting three options
on each connection cost 30,000 instructions, a stream of one call as much as its request. Who was
in the queue before has none of it, and is told of. This module must not know requests.
"""

import asyncio
import fcntl
import socket
import struct
from array import array
from typing import Final

SIOCOUTQNSD: Final = 0x894B
"""Bytes written to a TCP socket and not yet sent (tcp(7)); the fcntl module has no name for it."""
_UNSENT: Final = array("i", (0,))
"""Where that is told: bytes instead would be tried as what can be written to, at twice the cost."""
TCP_USER_TIMEOUT_MS: Final = 60_000
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
        fcntl.ioctl(peer.fileno(), SIOCOUTQNSD, _UNSENT, True)  # noqa: FBT003 - its signature
    except OSError:
        return 0
    return _UNSENT[0]


def peer_address(transport: asyncio.BaseTransport | None) -> str | None:
    """Return the network address at the other end; None when nobody knows it."""
    name = None if transport is None else transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) and name else None
