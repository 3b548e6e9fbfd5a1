"""An upstream that plays a script on a raw socket and writes down everything that happens.

A script is a sequence of verbs (scripts.py). It is played when a whole request has arrived (unless it begins
with `AtOnce`), one script per request in the order given, the last one again and again. When a
script ends without closing, the connection waits for its next request, as keep-alive demands.
Nothing is added to or taken from the bytes of a script.

The server has its own thread and event loop, so it serves threads, processes and other loops
alike. Gates (`Pause`) and `wait_until` replace sleeping. This module must not know the relay.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.integration.scripts import (
    AtOnce,
    AwaitGone,
    Close,
    Drip,
    Flood,
    HalfClose,
    Pause,
    ReceiveRequest,
    Reset,
    Script,
    Send,
    Verb,
)

WAIT_SECONDS_MAX = 20.0
REQUEST_BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One request as it came. Header names keep their case and order."""

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    raw: bytes

    def header(self, name: str) -> str | None:
        """Return the first value of header `name` in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def header_all(self, name: str) -> tuple[str, ...]:
        """Return every value of header `name` in any case."""
        return tuple(value for key, value in self.headers if key.lower() == name.lower())


@dataclass(slots=True)
class Exchange:
    """One played script: its request and how far it came."""

    request: ReceivedRequest | None
    bytes_sent: int = 0
    steps_done: int = 0
    finished: bool = False


@dataclass(slots=True)
class Visit:
    """One connection: all bytes that arrived, the exchanges, and how the client left."""

    number: int
    received: bytearray = field(default_factory=bytearray)
    exchanges: list[Exchange] = field(default_factory=list)
    gone: str | None = None
    """None while connected; `fin`, `rst`, or `ours` when the script itself closed."""
    gone_at: float | None = None
    """`time.monotonic()` when the client's FIN or RST was seen."""


ScriptSource = Script | Callable[[ReceivedRequest], Script]


class ScriptedUpstream:
    """`with ScriptedUpstream([Send(...), Close()]) as upstream: upstream.base_url`."""

    def __init__(self, *scripts: ScriptSource, tls: ssl.SSLContext | None = None) -> None:
        if not scripts:
            raise AssertionError("a scripted upstream needs a script")
        self.visits: list[Visit] = []
        self.port = 0
        self.errors: list[BaseException] = []
        """What went wrong inside this fixture itself; `stop` raises the first."""
        self._scripts = list(scripts)
        self._tls = tls
        self._changed = threading.Condition()
        self._released: set[str] = set()
        self._gates: dict[str, asyncio.Event] = {}
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="scripted-upstream", daemon=True)
        self._started = threading.Event()
        self._server: asyncio.Server | None = None

    @property
    def origin(self) -> str:
        """`http://127.0.0.1:PORT` (https with TLS)."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """The origin with `/v1`, as a channel names it."""
        return f"{self.origin}/v1"

    @property
    def exchanges(self) -> list[Exchange]:
        """All exchanges of all visits, in order of their visits."""
        return [exchange for visit in self.visits for exchange in visit.exchanges]

    @property
    def requests(self) -> list[ReceivedRequest]:
        """All whole requests, in order of their visits."""
        return [exchange.request for exchange in self.exchanges if exchange.request is not None]

    def start(self) -> Self:
        """Listen on a free loopback port."""
        self._thread.start()
        if not self._started.wait(WAIT_SECONDS_MAX):
            raise AssertionError("the scripted upstream did not start")
        return self

    def stop(self) -> None:
        """Close everything and raise what went wrong inside the fixture."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS_MAX)
        if self.errors:
            raise self.errors[0]

    def play(self, *scripts: ScriptSource) -> None:
        """Replace the scripts for requests yet to come."""
        with self._changed:
            self._scripts = list(scripts)

    def release(self, gate: str) -> None:
        """Open a gate for good: scripts paused there, now or later, go on."""
        self._loop.call_soon_threadsafe(self._release, gate)

    def wait_until(
        self, reached: Callable[[Self], bool], seconds_max: float = WAIT_SECONDS_MAX
    ) -> None:
        """Block the calling thread until `reached(self)`; fails with the log after the limit."""
        with self._changed:
            if not self._changed.wait_for(lambda: reached(self), seconds_max):
                raise AssertionError(f"not reached in {seconds_max} s: {self.visits!r:.2000}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # Everything below runs on the fixture's own thread.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._started.set()
        self._loop.run_forever()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(self._quiet())
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(
            lambda: _Connection(self), "127.0.0.1", 0, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _quiet(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def _release(self, gate: str) -> None:
        self._gates.setdefault(gate, asyncio.Event()).set()

    async def _pause(self, gate: str) -> None:
        await self._gates.setdefault(gate, asyncio.Event()).wait()

    def _note(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _next_script(self) -> ScriptSource:
        with self._changed:
            return self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]

    def _peek_at_once(self) -> bool:
        with self._changed:
            script = self._scripts[0]
        return not callable(script) and bool(script) and isinstance(script[0], AtOnce)


class _GoneError(Exception):
    """The client left in the middle of a verb."""


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: ScriptedUpstream) -> None:
        self._upstream = upstream
        self._visit = Visit(len(upstream.visits))
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise AssertionError
        self._transport = transport
        raw: socket.socket = transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._upstream.visits.append(self._visit)
        self._upstream._note()
        task = self._upstream._loop.create_task(self._serve())
        self._upstream._tasks.add(task)
        task.add_done_callback(self._upstream._tasks.discard)

    def data_received(self, data: bytes) -> None:
        self._visit.received += data
        self._buffer += data
        if len(self._buffer) > REQUEST_BYTES_MAX:
            raise AssertionError("request too large for the fixture")
        self._arrived.set()
        self._upstream._note()

    def eof_received(self) -> bool:
        self._left("fin")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._left("rst" if exc is not None else "fin")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _left(self, how: str) -> None:
        if self._visit.gone is None:
            self._visit.gone = how
            self._visit.gone_at = time.monotonic()
        self._gone.set()
        self._arrived.set()
        self._writable.set()
        self._upstream._note()

    async def _serve(self) -> None:
        try:
            with contextlib.suppress(_GoneError):
                while True:
                    await self._exchange()
        except asyncio.CancelledError:
            if self._transport is not None:
                self._transport.abort()
            raise
        except BaseException as error:
            self._upstream.errors.append(error)
        finally:
            if self._transport is not None and self._visit.gone is not None:
                self._transport.close()

    async def _exchange(self) -> None:
        if self._upstream._peek_at_once():
            request = None
        else:
            request = await self._request()
        source = self._upstream._next_script()
        if callable(source):
            if request is None:
                raise AssertionError("a script made from a request cannot begin AtOnce")
            script = source(request)
        else:
            script = source
        exchange = Exchange(request)
        self._visit.exchanges.append(exchange)
        self._upstream._note()
        for verb in script:
            await self._play(verb, exchange)
            exchange.steps_done += 1
            self._upstream._note()
        exchange.finished = True
        self._upstream._note()

    async def _play(self, verb: Verb, exchange: Exchange) -> None:
        match verb:
            case Send(data, write_bytes):
                for piece in _pieces(data, write_bytes):
                    await self._write(piece, exchange)
                    if write_bytes is not None:
                        await asyncio.sleep(0)
            case Drip(data, seconds, write_bytes):
                for piece in _pieces(data, write_bytes):
                    await self._write(piece, exchange)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._gone.wait(), seconds)
            case Flood(data, times):
                for _ in range(times):
                    await self._write(data, exchange)
                    await asyncio.sleep(0)
            case Pause(gate):
                await self._unless_gone(self._upstream._pause(gate))
            case AtOnce():
                pass
            case ReceiveRequest():
                exchange.request = await self._request()
            case AwaitGone():
                await self._gone.wait()
            case HalfClose() | Close() | Reset():
                self._end(verb)
            case _:
                raise AssertionError(f"unknown verb {verb}")

    def _end(self, verb: HalfClose | Close | Reset) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if isinstance(verb, HalfClose):
            self._transport.write_eof()
            return
        self._visit.gone = self._visit.gone or "ours"
        if isinstance(verb, Reset):
            raw: socket.socket = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()
        self._gone.set()
        self._arrived.set()

    async def _write(self, data: bytes, exchange: Exchange) -> None:
        if self._transport is None or self._transport.is_closing() or self._gone.is_set():
            raise _GoneError
        self._transport.write(data)
        exchange.bytes_sent += len(data)
        await self._writable.wait()
        if self._gone.is_set():
            raise _GoneError

    async def _unless_gone(self, waiting: Awaitable[None]) -> None:
        waiter = asyncio.ensure_future(waiting)
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait({waiter, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
            gone.cancel()
        if self._gone.is_set():
            raise _GoneError

    async def _request(self) -> ReceivedRequest:
        while True:
            request = _take_request(self._buffer)
            if request is not None:
                return request
            if self._gone.is_set():
                raise _GoneError
            self._arrived.clear()
            await self._arrived.wait()


def _pieces(data: bytes, write_bytes: int | None) -> Iterator[bytes]:
    step = len(data) if write_bytes is None else write_bytes
    for start in range(0, len(data), max(step, 1)):
        yield data[start : start + step]


def _take_request(buffer: bytearray) -> ReceivedRequest | None:
    """Cut one whole request off the front of `buffer`, or return None until it is whole."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = bytes(buffer[:end]).split(b"\r\n")
    method, target, version = lines[0].decode("latin-1").split(" ", 2)
    headers = tuple(
        (name.decode("latin-1"), value.strip().decode("latin-1"))
        for name, _, value in (line.partition(b":") for line in lines[1:])
    )
    lower = {name.lower(): value for name, value in headers}
    if lower.get("transfer-encoding", "").lower() == "chunked":
        parsed = _take_chunks(bytes(buffer[end + 4 :]))
        if parsed is None:
            return None
        body, used = parsed
    else:
        used = int(lower.get("content-length", "0"))
        body = bytes(buffer[end + 4 : end + 4 + used])
        if len(body) < used:
            return None
    raw = bytes(buffer[: end + 4 + used])
    del buffer[: end + 4 + used]
    return ReceivedRequest(method, target, version, headers, body, raw)


def _take_chunks(data: bytes) -> tuple[bytes, int] | None:
    body = bytearray()
    position = 0
    while True:
        line_end = data.find(b"\r\n", position)
        if line_end < 0:
            return None
        size = int(data[position:line_end].split(b";")[0], 16)
        if len(data) < line_end + 2 + size + 2:
            return None
        body += data[line_end + 2 : line_end + 2 + size]
        position = line_end + 2 + size + 2
        if size == 0:
            return bytes(body), position


# Addresses where nothing good happens (FAULTS.md F24).


@contextlib.contextmanager
def refused_port() -> Iterator[int]:
    """A loopback port that refuses: bound, so that nobody else gets it, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextlib.contextmanager
def blackhole_port() -> Iterator[int]:
    """A loopback port whose backlog is full: a connect neither succeeds nor fails."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
