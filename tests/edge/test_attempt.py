"""Bytes through one attempt: odd framings that pass, memory that stays flat, reasons to pause."""

import asyncio
import contextlib
import errno
import gc
import resource
import select
import socket
import ssl
import struct
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Wire
from proxy.core.exchange import UNLIMITED, Exchange, Expectation, Phase
from proxy.core.metering import Meter
from proxy.core.usage import UsageTally
from proxy.edge.attempt import PENDING_BYTES_MAX, Attempt, AttemptEnd, Spliced
from proxy.edge.upstream import Origin, UpstreamPool, unreported
from tests.edge.harness import (
    ANN,
    CHAT,
    CONTENT,
    DONE,
    ROLE,
    STOP,
    WORDS,
    Relay,
    answer,
    body,
    channel,
    message,
    text,
    usage,
)
from tests.edge.test_upstream import Authority
from tests.integration.raw_client import request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import (
    LAST_CHUNK,
    Close,
    Drip,
    Flood,
    Script,
    Send,
    chunk,
    response_head,
    stream_head,
    stream_script,
)

WHOLE = b"".join([ROLE, *CONTENT, STOP, DONE])
EVENTS = b"".join(answer())
TYPE = ("content-type", "text/event-stream")
ODD: dict[str, Script] = {
    "F11 every byte by itself": stream_script(answer(), write_bytes=1),
    "F12 all in one write": [Send(stream_head() + chunk(EVENTS) + LAST_CHUNK)],
    "chunks that split events": [Send(stream_head()), *[Send(chunk(EVENTS[at : at + 7]))
                                 for at in range(0, len(EVENTS), 7)], Send(LAST_CHUNK)],
    "a length instead of chunks": [Send(response_head(200, [TYPE, ("content-length",
                                        str(len(EVENTS)))]) + EVENTS)],
    "an end by closing": [Send(response_head(200, [TYPE]) + EVENTS), Close()],
    "chunk extensions and trailers": [Send(stream_head() + b"%x;a=b\r\n" % len(EVENTS) + EVENTS
                                      + b"\r\n0\r\nX-Trailer: no\r\n\r\n")],
    "upper-case sizes": [Send(stream_head() + b"%X\r\n" % len(EVENTS) + EVENTS + b"\r\n0\r\n\r\n")],
    "F18 data after the end": [Send(stream_head() + chunk(EVENTS) + chunk(text("more"))
                               + LAST_CHUNK)],
    "F8 a drip": [Send(stream_head()), Drip(chunk(EVENTS) + LAST_CHUNK, 0.0005, 40)],
    "F6 bytes after the last chunk": [Send(stream_head() + chunk(EVENTS) + LAST_CHUNK
                                      + b"HTTP/1.1 200 OK\r\n\r\n")],
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_every_lawful_framing_gives_the_same_events(tmp_path: Path, odd: str) -> None:
    with (
        ScriptedUpstream(ODD[odd]) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        for _ in range(2):
            response = relay.ask(body())
            assert response.whole
            assert response.body == WHOLE
        assert [call["verdict"] for call in relay.calls()] == ["complete"] * 2


def test_an_anthropic_stream_byte_by_byte(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(message(), write_bytes=1)) as upstream,
        Relay(tmp_path, channel(upstream.base_url, dialect="anthropic")) as relay,
    ):
        assert relay.ask(body(max_tokens=50), "/v1/messages").body == b"".join(message())


def test_an_event_too_large_to_hold_passes_in_parts(tmp_path: Path) -> None:
    """F14: five megabytes in one event."""
    large = text("word " * 1_000_000)
    with (
        ScriptedUpstream(stream_script([ROLE, large, STOP, usage(9, 1_900), DONE])) as upstream,
        Relay(tmp_path, channel(upstream.base_url), event_bytes_max=65_536) as relay,
    ):
        assert relay.ask(body()).body == b"".join([ROLE, large, STOP, DONE])


def test_invalid_utf_8_passes_untouched(tmp_path: Path) -> None:
    """F16: the relay is no validator."""
    odd = CONTENT[0].replace(b"Hello", b"He\xff\xfello")
    with (
        ScriptedUpstream(stream_script([ROLE, odd, STOP, usage(9, 7), DONE])) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        assert relay.ask(body()).body == b"".join([ROLE, odd, STOP, DONE])


def test_a_slow_client_stops_a_fast_upstream_and_memory_stays_flat(tmp_path: Path) -> None:
    block = chunk(b"".join(CONTENT * 20))
    times = 20_000  # about 400 MB, had it all been sent
    with (
        ScriptedUpstream([Send(stream_head()), Flood(block, times)]) as upstream,
        Relay(tmp_path, channel(upstream.base_url), credit=10**13) as relay,
        relay.client(receive_buffer_bytes=4_096) as client,
    ):
        client.send(request_bytes(CHAT, body(), key=ANN)).read_until(CONTENT[0])
        call = relay.call()
        relay.until(lambda: call._paused_at is not None)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(200):
            client.read_once(4_096)
        relay.until(lambda: call._paused_at is not None)
        attempt = call.attempt
        assert attempt is not None
        assert attempt.transport is not None
        assert not relay.do(attempt.transport.is_reading)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
        assert upstream.exchanges[0].bytes_sent < 40 << 20
        client.reset()
        upstream.wait_until(lambda up: up.visits[0].gone is not None)


class Transport(asyncio.Transport):
    """Counts pauses, resumptions and aborts."""

    def __init__(self) -> None:
        super().__init__()
        self.reading, self.aborted, self.written = True, False, b""

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def abort(self) -> None:
        self.aborted = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: Any) -> None:
        self.written += data


class Owner:
    """Hears whether credit is needed, and whether it is late."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    def credit_needed(self, *, at_edge: bool) -> None:
        self.asked.append(at_edge)


def attempted(
    owner: Owner | None = None, *, allowed: int = UNLIMITED, low_water: int = 0
) -> tuple[Attempt, Transport]:
    loop = asyncio.new_event_loop()
    expect = Expectation(Wire.CHAT, stream=True)
    exchange = Exchange(expect, Meter(len), UsageTally(), tokens_allowed=allowed)
    attempt = Attempt(loop, owner or Owner(), exchange, low_water=low_water)
    transport = Transport()
    attempt.send(transport, b"request")
    loop.close()
    return attempt, transport


def test_reading_stops_for_every_reason_until_none_is_left() -> None:
    attempt, transport = attempted()
    assert transport.written == b"request"
    attempt.pause("client")
    attempt.pause("credit")
    assert not transport.reading
    attempt.resume("client")
    attempt.resume("nothing")
    assert not transport.reading
    attempt.resume("credit")
    assert transport.reading


def test_content_that_may_not_be_shown_yet_is_bounded() -> None:
    attempt, transport = attempted()
    attempt._loop = type("Clock", (), {"time": staticmethod(lambda: 1.0)})()
    attempt.data_received(stream_head())
    event = text("x" * 10_000)
    for _ in range(PENDING_BYTES_MAX // 10_000 + 1):
        if transport.reading:
            attempt.data_received(chunk(event))
    assert not transport.reading
    assert attempt.shown
    shown = attempt.take_pending()
    attempt.flow(transport.write, chunked=True)
    assert transport.reading
    assert len(shown) > PENDING_BYTES_MAX


def test_what_we_cut_is_no_truncation_and_the_first_end_counts() -> None:
    attempt, transport = attempted()
    attempt.stop(AttemptEnd.IDLE_TIMEOUT)
    attempt.stop(AttemptEnd.CUT)
    attempt.eof_received()
    attempt.connection_lost(None)
    assert (attempt.end, transport.aborted) == (AttemptEnd.IDLE_TIMEOUT, True)
    assert attempt.over
    assert attempt.exchange.failure is None
    assert attempt.silent
    pool = UpstreamPool(attempt._loop, idle_seconds_max=1.0, tls=ssl.create_default_context())
    attempt.release(pool, Origin("127.0.0.1", 1, tls=False, proxy=None, allow_private=True), 0.0)
    assert attempt.transport is None


def test_a_lost_connection_ends_the_attempt() -> None:
    attempt, _ = attempted()
    attempt.connection_lost(ConnectionResetError())
    assert attempt.end is AttemptEnd.LOST
    assert len(WORDS) == 7


def test_credit_is_asked_for_in_time_though_no_event_is_out_of_the_ordinary() -> None:
    owner = Owner()
    attempt, transport = attempted(owner, allowed=4_000, low_water=2_000)
    attempt._loop = type("Clock", (), {"time": staticmethod(lambda: 1.0)})()
    attempt.data_received(stream_head() + chunk(text("a")))
    attempt.take_pending()
    attempt.flow(transport.write, chunked=True)
    transport.written = b""
    event, passed = chunk(text(" words")), 0
    while not owner.asked:
        attempt.data_received(event)
        passed += 1
    assert owner.asked == [False]
    assert transport.written == event * passed
    assert 2_000 <= passed * len(" words") < 3_500
    assert transport.reading


def flowing() -> tuple[Attempt, Transport]:
    attempt, transport = attempted()
    attempt._loop = type("Clock", (), {"time": staticmethod(lambda: 1.0)})()
    attempt.data_received(stream_head() + chunk(text("a")))
    transport.written = b""
    attempt.take_pending()
    attempt.flow(transport.write, chunked=True)
    attempt.exchange.learn()
    return attempt, transport


READS = [
    chunk(text(" one")),
    chunk(text(" two")) + chunk(text(" three")),
    chunk(text("four"))[:9],
    chunk(text("four"))[9:] + chunk(text(" five")),
    chunk(STOP),
    chunk(DONE) + LAST_CHUNK,
]


@pytest.mark.parametrize("number", range(len(READS) + 1))
def test_what_the_socket_of_a_flowing_stream_says_is_as_if_the_attempt_heard_it(
    number: int,
) -> None:
    (direct, written), (attempt, transport) = flowing(), flowing()
    spliced = transport.protocol
    assert isinstance(spliced, Spliced)
    for data in READS[:number]:
        direct.data_received(data)
        spliced.data_received(data)
        assert written.written == transport.written
    spliced.connection_lost(None)
    direct.connection_lost(None)
    assert attempt.lost
    for seen in (attempt, direct):
        assert seen.exchange.events == direct.exchange.events
        assert (seen.exchange.failure is None) == (number == len(READS))
        assert seen.over


def test_a_half_closed_upstream_is_heard_of_while_a_stream_flows() -> None:
    attempt, transport = flowing()
    transport.protocol.eof_received()
    assert attempt.exchange.failure is not None


def test_nothing_is_written_for_a_client_that_left() -> None:
    attempt, transport = flowing()
    attempt.pause("client")
    attempt.detach()
    for data in READS:
        transport.protocol.data_received(data)
    assert not transport.written
    assert attempt.exchange.phase is Phase.TERMINAL
    assert attempt.exchange.events == 7  # one before it flowed, five after, the finish reason


def test_an_attempt_that_was_released_is_freed_without_the_collector() -> None:
    attempt, transport = flowing()
    pool = UpstreamPool(attempt._loop, idle_seconds_max=1.0, tls=ssl.create_default_context())
    attempt.release(pool, Origin("127.0.0.1", 1, tls=False, proxy=None, allow_private=True), 0.0)
    assert transport.aborted
    known = weakref.ref(attempt._owner)  # which nobody else knows
    gc.disable()
    try:
        del attempt, transport.protocol
        assert known() is None
    finally:
        gc.enable()


class Resetting(asyncio.Protocol):
    """A TLS upstream that begins an answer and resets the connection behind it."""

    transport: Any

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(0.005, self.begin)

    def begin(self) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-")
        asyncio.get_running_loop().call_soon(self.reset)

    def reset(self) -> None:
        peer = self.transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


@contextlib.contextmanager
def resetting(authority: Authority) -> Iterator[str]:
    """Serve in a thread of its own; the base URL."""
    loop = asyncio.new_event_loop()
    serving = loop.run_until_complete(
        loop.create_server(Resetting, "127.0.0.1", 0, ssl=authority.server())
    )
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{serving.sockets[0].getsockname()[1]}/v1"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        serving.close()
        loop.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_behind_bytes_still_to_be_read_ends_a_call_over_tls(
    tmp_path: Path, stream: bool
) -> None:
    """Its transport never tells of it: without a look at the socket it sat until its deadline."""
    authority = Authority(tmp_path)
    with (
        resetting(authority) as base_url,
        Relay(tmp_path, channel(base_url), tls=authority.client()) as relay,
    ):
        assert relay.ask(body(stream=stream)).status in {502, 503}
        (call,) = relay.calls()
        assert call["verdict"] == "upstream_truncated"
        assert relay.attempts()


def test_only_a_tls_socket_that_has_failed_is_told_of() -> None:
    class Told(asyncio.Transport):
        closing, failed = False, False

        def is_closing(self) -> bool:
            return self.closing

    told = Told({"sslcontext": object()})
    assert unreported(told) is None  # no socket to ask
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert unreported(Told({"sslcontext": object(), "socket": ours})) is None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()
        select.select([peer], [], [], 10)
        assert unreported(Told({"socket": peer})) is None  # not ours to ask: it will be told of
        found = unreported(Told({"sslcontext": object(), "socket": peer}))
        assert found is not None
        assert found.errno == errno.ECONNRESET
        peer.close()
