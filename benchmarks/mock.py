"""The mock upstream: OpenAI chat and Anthropic messages, paced or as fast as it is taken.

Rules: raw Protocols, one process, one write per event (or per batch of events), and the stamp in
an event is taken just before the write system call that carries it. Schedules are open loop: an
event's due time does not move when an earlier one was late. Every connection is on loopback.

    python -m benchmarks.mock --port 9001 [--tls-port 9002 --certificate C --private-key K]

Paths: POST /v1/chat/completions, POST /v1/messages, GET /v1/models, and for the driver
GET /bench/statistics, /bench/reset, /bench/release.
"""

import argparse
import asyncio
import dataclasses
import gc
import json
import os
import re
import signal
import ssl
import time
from collections.abc import Callable

import uvloop

from benchmarks.script import ANTHROPIC, OPENAI, Frames, Script, parse, plain_answer
from benchmarks.timer import Timers

HEAD_BYTES_MAX = 65_536
BODY_BYTES_MAX = 33_554_432
DELAYS_MAX = 4_000_000
GOLDEN = 0.6180339887498949
BURST_EVENTS_MAX = 64
"""Events an unpaced stream writes before it lets the loop serve the others."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\nx-request-id: req_%032d\r\nopenai-processing-ms: 12\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


class Statistics:
    """What the mock has served, and how late it was against its own schedule (nanoseconds)."""

    def __init__(self) -> None:
        """Start from zero."""
        self.plain = 0
        self.streams = 0
        self.streams_finished = 0
        self.streams_abandoned = 0
        self.events = 0
        self.refused = 0
        self.connections = 0
        self.delays: list[int] = []

    def snapshot(self) -> dict[str, float]:
        """Counts, and the schedule delay's percentiles in microseconds."""
        delays = sorted(self.delays)
        found: dict[str, float] = {
            name: value for name, value in vars(self).items() if isinstance(value, int)
        }
        for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
            position = int(share * len(delays))
            found[f"schedule_delay_us_{name}"] = delays[position] / 1000 if delays else 0.0
        return found


@dataclasses.dataclass(slots=True)
class World:
    """What all connections of one mock share."""

    loop: asyncio.AbstractEventLoop
    timers: Timers
    statistics: Statistics
    held: "set[Player]"
    defaults: Script


class Player:
    """Plays one script into one connection: each event written when it is due.

    The first content event is due at once, the second after a share of the interval that differs
    from call to call (golden ratio, so that the phases of many streams spread evenly), and every
    later one an interval after the one before. Nanoseconds.
    """

    __slots__ = (
        "connection",
        "due",
        "frames",
        "index",
        "interval",
        "phase",
        "stopped",
        "waiting",
        "world",
    )

    def __init__(self, world: World, connection: "Connection", frames: Frames) -> None:
        """Nothing is written before `start`."""
        self.world = world
        self.connection = connection
        self.frames = frames
        self.index = 0
        self.stopped = False
        self.waiting = False
        script = frames.script
        self.interval = int(script.batch / script.pace * 1e9) if script.pace else 0
        self.phase = int((script.call * GOLDEN % 1.0) * self.interval) + 1
        self.due = 0

    def start(self) -> None:
        """Write the head, the events before content and the first content event, now."""
        world = self.world
        world.statistics.streams += 1
        script = self.frames.script
        head = _STREAM_HEAD % script.call
        self.connection.write(head + b"".join(map(_chunk, self.frames.head())))
        self.due = time.monotonic_ns()
        if script.hold:
            self._write_batch(1)
            world.held.add(self)
        else:
            self.play()

    def release(self) -> None:
        """Go on after a hold."""
        self.due = time.monotonic_ns()
        self.play()

    def play(self) -> None:
        """Write what is due and arrange for the rest."""
        self.waiting = False
        script = self.frames.script
        written = 0
        while not self.stopped and not self.connection.paused:
            if self.interval:
                late = time.monotonic_ns() - self.due
                if late < 0:
                    self.waiting = True
                    self.world.timers.at(self.due, self.play)
                    return
                delays = self.world.statistics.delays
                if len(delays) < DELAYS_MAX:
                    delays.append(late)
                self.due += self.interval if self.index else self.phase
            elif written >= BURST_EVENTS_MAX:
                self.waiting = True
                self.world.loop.call_soon(self.play)
                return
            if self.index >= script.events:
                self._finish()
                return
            written += self._write_batch(script.batch)

    def _write_batch(self, batch: int) -> int:
        frames = self.frames
        first = self.index
        self.index = last = min(first + batch, frames.script.events)
        self.world.statistics.events += last - first
        if frames.script.fault:
            self._misbehave(first)
        elif last - first == 1:
            self.connection.write(frames.content(first, time.monotonic_ns()))
        else:
            stamp = time.monotonic_ns()
            self.connection.write(b"".join(frames.content(i, stamp) for i in range(first, last)))
        return last - first

    def _misbehave(self, index: int) -> None:
        """Deviate from the script half-way, in the way its `fault` names."""
        event = self.frames.content(index, time.monotonic_ns())
        if index == self.frames.script.events // 2:
            fault = self.frames.script.fault
            if fault == "lose":
                return
            if fault == "flip":
                event = event.replace(b'"index":0', b'"index":1')
            if fault == "reset":
                self.connection.abort()
                return
        self.connection.write(event)

    def _finish(self) -> None:
        self.stopped = True
        self.world.statistics.streams_finished += 1
        events = self.frames.tail(time.monotonic_ns())
        for event in events[:-1]:
            self.connection.write(_chunk(event))
        self.connection.finish_stream(_chunk(events[-1]) + b"0\r\n\r\n")

    def stop(self) -> None:
        """The reader left."""
        if not self.stopped:
            self.stopped = True
            self.world.statistics.streams_abandoned += 1
        self.world.held.discard(self)


def _chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


class Connection(asyncio.Protocol):
    """One keep-alive connection; requests are answered in order."""

    def __init__(self, world: World) -> None:
        """`world` is shared by all connections."""
        self.world = world
        self.buffer = b""
        self.paused = False
        self.player: Player | None = None
        self.descriptor = -1
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Plain sockets are written to directly: the stamp is then the moment of the write."""
        self.transport = transport  # type: ignore[assignment]  # asyncio types it as its base
        self.world.statistics.connections += 1
        if transport.get_extra_info("ssl_object") is None:
            self.descriptor = transport.get_extra_info("socket").fileno()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the Protocol's signature
        """Stop playing."""
        self.descriptor = -1
        if self.player is not None:
            self.player.stop()
            self.player = None

    def pause_writing(self) -> None:
        """The reader is slower than the script."""
        self.paused = True

    def resume_writing(self) -> None:
        """Go on where the pause stopped."""
        self.paused = False
        if self.player is not None and not self.player.waiting:
            self.player.play()

    def write(self, data: bytes) -> None:
        """One write system call where nothing is queued; else the transport's queue."""
        if self.descriptor < 0 or self.transport.get_write_buffer_size():
            self.transport.write(data)
            return
        try:
            sent = os.write(self.descriptor, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.transport.abort()
            return
        if sent < len(data):
            self.transport.write(data[sent:])

    def abort(self) -> None:
        """Reset the connection."""
        self.transport.abort()

    def finish_stream(self, data: bytes) -> None:
        """Write the last bytes of an answer and serve a request that came early."""
        self.player = None
        self.write(data)
        if self.buffer:
            self.world.loop.call_soon(self.data_received, b"")

    def data_received(self, data: bytes) -> None:
        """Serve every complete request."""
        self.buffer = data = self.buffer + data if self.buffer else data
        while self.player is None and data:
            head_end = data.find(b"\r\n\r\n")
            if head_end < 0:
                if len(data) > HEAD_BYTES_MAX:
                    self.transport.abort()
                break
            found = _LENGTH.search(data, 0, head_end + 2)
            length = int(found[1]) if found else 0
            if length > BODY_BYTES_MAX:
                self.transport.abort()
                break
            end = head_end + 4 + length
            if len(data) < end:
                break
            self.buffer = rest = data[end:]
            self.serve(data[: head_end + 2], data[head_end + 4 : end])
            data = rest

    def serve(self, head: bytes, body: bytes) -> None:
        """Answer one request."""
        method, path, _ = head.split(b" ", 2)
        if method != b"POST":
            self.reply(200, self.control(path.decode("latin-1")))
            return
        dialect = ANTHROPIC if path.endswith(b"/messages") else OPENAI
        script = parse(body, dialect)
        if script is None:
            script = dataclasses.replace(self.world.defaults, dialect=dialect)
        if b"transfer-encoding" in head.lower():
            self.world.statistics.refused += 1
            self.reply(411, b'{"error":{"message":"length required"}}')
        elif _STREAM.search(body):
            frames = Frames(script, usage_asked=_USAGE.search(body) is not None, chunked=True)
            self.player = Player(self.world, self, frames)
            self.player.start()
        else:
            self.world.statistics.plain += 1
            self.reply(200, plain_answer(script))

    def reply(self, status: int, body: bytes) -> None:
        """Write a whole JSON answer."""
        self.write(
            b"HTTP/1.1 %d OK\r\ncontent-type: application/json\r\n"
            b"x-request-id: req_bench\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)
        )

    def control(self, path: str) -> bytes:
        """What the driver asks between rounds, and the list of models."""
        world = self.world
        actions: dict[str, Callable[[], None]] = {
            "/bench/reset": lambda: Statistics.__init__(world.statistics),
            "/bench/release": lambda: _release(world),
        }
        action = actions.get(path)
        if action is not None:
            action()
        if path.endswith("/models"):
            return b'{"object":"list","data":[{"id":"gpt-4o-2024-08-06","object":"model"}]}'
        return json.dumps(world.statistics.snapshot()).encode()


def _release(world: World) -> None:
    held = list(world.held)
    world.held.clear()
    for position, player in enumerate(held):
        world.loop.call_later(position * 0.0005, player.release)


async def serve(options: argparse.Namespace) -> None:
    """Listen until SIGTERM."""
    loop = asyncio.get_running_loop()
    defaults = Script(
        0, events=options.events, size=options.size, pace=options.pace, batch=options.batch
    )
    world = World(loop, Timers(loop), Statistics(), set(), defaults)
    servers = [
        await loop.create_server(lambda: Connection(world), "127.0.0.1", options.port, backlog=4096)
    ]
    if options.tls_port:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.private_key)
        servers.append(
            await loop.create_server(
                lambda: Connection(world), "127.0.0.1", options.tls_port, backlog=4096, ssl=context
            )
        )
    gc.collect()
    gc.freeze()
    gc.disable()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    for server in servers:
        server.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tls-port", type=int, default=0)
    parser.add_argument("--certificate")
    parser.add_argument("--private-key")
    parser.add_argument("--events", type=int, default=100, help="per stream, if no script is sent")
    parser.add_argument("--size", type=int, default=300, help="bytes of an event")
    parser.add_argument("--pace", type=float, default=50.0, help="events a second, 0 for unpaced")
    parser.add_argument("--batch", type=int, default=1, help="events in one write")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
