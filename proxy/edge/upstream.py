"""Connections to upstreams: opened, kept alive, handed to one attempt at a time, dropped when idle.

A connection's bytes go straight to the stream that holds it (`transport.set_protocol`): no task,
queue or extra call per event. TLS is aiofastnet's, half the cost of uvloop's (PERFORMANCE.md).
This module must not know HTTP, except for the CONNECT of an outbound proxy, nor what a body
means. Every failure leaves as `ConnectError`.
"""

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Protocol
from urllib.parse import SplitResult, urlsplit

import aiofastnet
from msgspec import Struct

IDLE_CONNECTIONS_MAX: Final = 256
"""Idle connections kept per origin."""
ENDING_SECONDS_MAX: Final = 1.0
"""How long the last chunk of a response whose content is over may take."""
ADDRESSES_MAX: Final = 16
TUNNEL_HEAD_BYTES_MAX: Final = 16_384
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All that IANA has given out (RFC 4291 section 2.4); older Pythons call more than that global."""
_NOT_PUBLIC: Final = (
    ipaddress.IPv6Network("2002::/16"),  # 6to4 (RFC 3056)
    ipaddress.IPv6Network("3fff::/20"),  # documentation (RFC 9637)
)


Finish = Callable[[bytes], bool | None]
"""Takes more of a response; True: complete and reusable, False: never, None: not yet."""


class ConnectFailure(Enum):
    """Why no connection was to be had."""

    RESOLVE = auto()
    REFUSED = auto()
    TIMEOUT = auto()
    TLS = auto()
    FORBIDDEN_ADDRESS = auto()
    PROXY = auto()


class ConnectError(Exception):
    """No connection; nothing was sent, so another channel may be tried."""

    def __init__(self, failure: ConnectFailure, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class Origin(Struct, frozen=True, cache_hash=True):
    """Where a channel's connections go; connections are shared by origin, so it is hashed often."""

    host: str
    port: int
    tls: bool
    proxy: str | None
    allow_private: bool

    @property
    def host_header(self) -> str:
        """The Host header: the port only when it is not the scheme's own."""
        default = 443 if self.tls else 80
        return self.authority if self.port != default else self.authority.rpartition(":")[0]

    @property
    def authority(self) -> str:
        """Host and port, as a CONNECT names them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def origin_of(base_url: str, proxy: str | None, *, allow_private: bool) -> tuple[Origin, str]:
    """Split a channel's base URL into its origin and path prefix (no trailing slash).

    Raises ValueError with what is wrong with the URL.
    """
    parts: SplitResult = urlsplit(base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"base_url {base_url!r} must start with http:// or https:// and a host")
    if parts.username or parts.query or parts.fragment:
        raise ValueError("base_url must hold no user name, query or fragment")
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    return Origin(parts.hostname, port, tls, proxy, allow_private), parts.path.rstrip("/")


def unreported(transport: asyncio.Transport) -> OSError | None:
    """Return what ended a TLS connection whose transport does not know.

    A reset that comes together with bytes still to be read: libuv stops watching the socket, and
    aiofastnet 1.2, which has read less than it asked for, waits to be called for the rest.
    """
    if transport.get_extra_info("sslcontext") is None or transport.is_closing():
        return None
    peer = transport.get_extra_info("socket")
    number = 0 if peer is None else peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return OSError(number, os.strerror(number)) if number else None


class _Waiting(asyncio.Protocol):
    """Holds a connection between its making and its first attempt."""

    def __init__(self) -> None:
        self.lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True


class _Tunnel(asyncio.Protocol):
    """Waits for a proxy's answer to CONNECT; `opened` says whether it was a plain 200.

    Streams of asyncio would close the connection as soon as nobody holds the writer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.opened: asyncio.Future[bool] = loop.create_future()
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        head, blank, rest = self._head.partition(b"\r\n\r\n")
        if blank or len(self._head) > TUNNEL_HEAD_BYTES_MAX:
            status = head.split(b" ", 2)[1:2]
            self._answer(opened=bool(blank) and not rest and status == [b"200"])

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._answer(opened=False)

    def _answer(self, *, opened: bool) -> None:
        if not self.opened.done():
            self.opened.set_result(opened)


class Kept(asyncio.Protocol):
    """A connection that has served: passes what it says to `holder`; without one it is no use.

    A plain call is the holder of its connection rather than the protocol: uvloop stops and starts
    reading when a protocol is set, which is four system calls for one and its way back. For a
    stream a call more per event would be dearer.
    """

    __slots__ = ("_drop", "holder", "origin", "since", "transport")

    def __init__(
        self, origin: Origin, transport: asyncio.Transport, drop: Callable[["Kept"], None]
    ) -> None:
        self.origin = origin
        self.transport = transport
        self.since = 0.0
        """Loop time at which it came to rest."""
        self.holder: asyncio.Protocol | None = None
        self._drop = drop

    def data_received(self, data: bytes) -> None:
        """Pass it on; bytes nobody asked for would poison the next response (FAULTS.md F6)."""
        if self.holder is not None:
            self.holder.data_received(data)
            return
        self._drop(self)
        self.transport.abort()

    def eof_received(self) -> None:
        if self.holder is not None:
            self.holder.eof_received()
        else:
            self._drop(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.holder is not None:
            self.holder.connection_lost(exc)
        else:
            self._drop(self)


class _Ending(asyncio.Protocol):
    """Reads the rest of a response that nobody waits for: its last chunk, within a moment."""

    __slots__ = ("_done", "_finish", "since", "transport")

    def __init__(
        self, transport: asyncio.Transport, since: float, finish: Finish, done: "_Done"
    ) -> None:
        self.transport = transport
        self.since = since
        self._finish = finish
        self._done = done

    def data_received(self, data: bytes) -> None:
        """Take the rest; what does not belong there makes the connection useless."""
        usable = self._finish(data)
        if usable is not None:
            self._done(self, usable=usable)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._done(self, usable=False)


class _Done(Protocol):
    def __call__(self, ending: _Ending, *, usable: bool) -> None: ...


class UpstreamPool:
    """Idle connections by origin, last in first out, and the making of new ones."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, idle_seconds_max: float, tls: ssl.SSLContext
    ) -> None:
        self._loop = loop
        self._idle_seconds_max = idle_seconds_max
        self._tls = tls
        self._idle: dict[Origin, list[Kept]] = {}
        self._ending: dict[_Ending, Origin] = {}

    def take(self, origin: Origin, now: float) -> asyncio.Transport | None:
        """Return an idle connection to `origin`, or None; the caller sets its protocol.

        `now` is loop time, here as below.
        """
        idle = self._idle.get(origin)
        oldest = now - self._idle_seconds_max
        while idle:
            entry = idle.pop()
            if entry.since >= oldest and not entry.transport.is_closing():
                return entry.transport
            entry.transport.abort()
        return None

    def put_ending(
        self, origin: Origin, transport: asyncio.Transport, finish: Finish, now: float
    ) -> None:
        """Keep a connection for the next attempt when its response is complete.

        The last chunk often comes in a packet of its own, after all that matters: whoever used
        the connection does not wait for it, so `finish` does.
        """
        if transport.is_closing():
            transport.abort()
            return
        ending = _Ending(transport, now, finish, self._ended)
        self._ending[ending] = origin
        transport.set_protocol(ending)

    def put(self, origin: Origin, transport: asyncio.Transport, now: float) -> None:
        """Keep a connection, whose response is complete, for the next attempt."""
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = []
        if len(idle) >= IDLE_CONNECTIONS_MAX or transport.is_closing():
            transport.abort()
            return
        entry = transport.get_protocol()
        if not isinstance(entry, Kept):
            entry = Kept(origin, transport, self._drop)
            transport.set_protocol(entry)
        entry.holder = None
        entry.since = now
        idle.append(entry)

    async def connect(self, origin: Origin, seconds_max: float) -> asyncio.Transport:
        """Open a connection, trying each address in turn; raises ConnectError."""
        try:
            async with asyncio.timeout(seconds_max):
                return await self._connect(origin)
        except TimeoutError:
            raise ConnectError(
                ConnectFailure.TIMEOUT, f"no connection within {seconds_max:g} s"
            ) from None

    def _ended(self, ending: "_Ending", *, usable: bool) -> None:
        origin = self._ending.pop(ending, None)
        if origin is None or not usable:
            ending.transport.abort()
        else:
            self.put(origin, ending.transport, self._loop.time())

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long; `now` is loop time."""
        for ending in tuple(self._ending):
            if now - ending.since >= ENDING_SECONDS_MAX:
                self._ended(ending, usable=False)
        oldest = now - self._idle_seconds_max
        for idle in self._idle.values():
            stale = [entry for entry in idle if entry.since < oldest]
            for entry in stale:
                idle.remove(entry)
                entry.transport.abort()

    def close(self) -> None:
        """Close every idle connection."""
        for ending in tuple(self._ending):
            self._ended(ending, usable=False)
        for idle in self._idle.values():
            while idle:
                idle.pop().transport.abort()
        self._idle.clear()

    def idle_count(self) -> int:
        """How many idle connections are kept."""
        return sum([len(idle) for idle in self._idle.values()])

    def _drop(self, entry: Kept) -> None:
        idle = self._idle.get(entry.origin, [])
        if entry in idle:
            idle.remove(entry)

    async def _connect(self, origin: Origin) -> asyncio.Transport:
        if origin.proxy is not None:
            return await self._connect_through(origin, origin.proxy)
        last: OSError | None = None
        for address in await self._addresses(origin.host, origin.port, origin.allow_private):
            try:
                return await self._open(address, origin.port, origin.host if origin.tls else None)
            except ssl.SSLError as error:
                raise ConnectError(ConnectFailure.TLS, f"TLS failed: {error.reason}") from error
            except OSError as error:
                last = error
        raise ConnectError(ConnectFailure.REFUSED, f"connection failed: {last}") from last

    async def _open(self, address: str, port: int, server_name: str | None) -> asyncio.Transport:
        if server_name is None:
            transport, _ = await self._loop.create_connection(_Waiting, address, port)
        else:
            transport, _ = await aiofastnet.create_connection(
                self._loop,
                _Waiting,
                address,
                port,
                ssl=self._tls,
                server_hostname=server_name,
            )
        return transport

    async def _addresses(self, host: str, port: int, allow_private: bool) -> list[str]:  # noqa: FBT001 - a channel's own flag
        """Resolve `host`, refusing what a channel may not reach (FAULTS.md, SSRF list).

        The very address that was checked is the one connected to, so a name that changes
        between the two (DNS rebinding) gains nothing.
        """
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # the latter for what is no host name
            raise ConnectError(ConnectFailure.RESOLVE, f"cannot resolve {host}") from error
        addresses = list(dict.fromkeys([str(entry[4][0]) for entry in found]))[:ADDRESSES_MAX]
        if not allow_private and not all(is_public(address) for address in addresses):
            raise ConnectError(
                ConnectFailure.FORBIDDEN_ADDRESS,
                f"{host} is a private address; set allow_private = true on the channel to use it",
            )
        return addresses

    async def _connect_through(self, origin: Origin, proxy: str) -> asyncio.Transport:
        """Open a tunnel by CONNECT (RFC 9110 section 9.3.6) through an HTTP proxy."""
        via = urlsplit(proxy)
        if via.scheme != "http" or not via.hostname:
            raise ConnectError(ConnectFailure.PROXY, "proxy must be http://HOST:PORT")
        try:
            transport, tunnel = await self._loop.create_connection(
                lambda: _Tunnel(self._loop), via.hostname, via.port or 3128
            )
        except (OSError, UnicodeError) as error:
            raise ConnectError(ConnectFailure.PROXY, f"proxy unreachable: {error}") from error
        joined: asyncio.Transport | None = None
        try:
            target = origin.authority
            transport.write(f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n".encode("ascii"))
            if not await tunnel.opened:
                raise ConnectError(ConnectFailure.PROXY, "the proxy refused the tunnel")
            joined = await self._secure(transport, origin.host) if origin.tls else transport
            return joined
        finally:
            if joined is None:
                transport.abort()

    async def _secure(self, transport: asyncio.Transport, host: str) -> asyncio.Transport:
        """Speak TLS inside a tunnel."""
        try:
            secured = await self._loop.start_tls(
                transport, _Waiting(), self._tls, server_hostname=host
            )
        except (ssl.SSLError, OSError) as error:
            raise ConnectError(ConnectFailure.TLS, f"TLS failed: {error}") from error
        if secured is None:
            raise ConnectError(ConnectFailure.TLS, "TLS failed")
        return secured


def is_public(address: str) -> bool:
    """Whether `address` is one a stranger's URL may point at.

    Refused beside what `ipaddress` does not call global: every IPv6 outside 2000::/3 (NAT64 and
    IPv4-compatible forms among them) and 6to4, which smuggle a private IPv4 past naive checks.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped.is_global and not ip.ipv4_mapped.is_multicast
        if ip not in _GLOBAL_UNICAST or any(ip in network for network in _NOT_PUBLIC):
            return False
    return ip.is_global and not ip.is_multicast
