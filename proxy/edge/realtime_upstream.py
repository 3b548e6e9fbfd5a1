"""The upstream's end of a realtime session: connect, shake hands, pass bytes on.

Rules: channels are tried in order until one opens a session, with the same breakers, key pools and
records as any call; once a session is open there is no other. This module must not know frames,
nor money.

Source: RFC 6455 section 4.1 (what a client sends and must check).
"""

import asyncio
import base64
from typing import Final, Protocol
from urllib.parse import quote

from msgspec import Struct

from proxy.core import websocket
from proxy.core.breaker import Outcome
from proxy.core.entities import INTERRUPTED, Attempt, Channel, ChannelKey, Usage
from proxy.core.errors import RelayError
from proxy.core.http1 import ResponseParser, request_prefix
from proxy.core.outcomes import Failure, FailureKind
from proxy.core.response_head import FramingError
from proxy.core.routing import AttemptFailure, parse_retry_after, plan, retryable
from proxy.core.targets import credential, target
from proxy.core.urls import Endpoint
from proxy.edge import log, refusals
from proxy.edge.attempt import AttemptEnd
from proxy.edge.realtime_turn import RealtimeOffer, Served
from proxy.edge.upstream import ConnectError
from proxy.edge.world import World

HEAD_BYTES_MAX: Final = 16_384
ERROR_BODY_BYTES_MAX: Final = 65_536
WRITE_BUFFER_BYTES_MAX: Final = 262_144
_SWITCHING: Final = b"HTTP/1.1 101"
_BETA: Final = ("openai-beta", "realtime=v1")


class Ear(Protocol):
    """Whoever hears the upstream once a session is open."""

    def line_data(self, data: bytes) -> None:
        """Bytes came."""

    def line_lost(self) -> None:
        """The connection is gone."""

    def line_paused(self) -> None:
        """The upstream reads slower than we write."""

    def line_resumed(self) -> None:
        """There is room again."""


class _Answer(Struct, frozen=True):
    """What the upstream said to the handshake: 101, or why not."""

    status: int
    retry_after: str | None = None
    body: bytes = b""


class UpstreamLine(asyncio.Protocol):
    """One connection; until `answered` it is an HTTP response, then frames for `ear`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        served: Served,
        key: str,
    ) -> None:
        self.served = served
        self.answered: asyncio.Future[_Answer | None] = loop.create_future()
        """None: no answer that could be understood."""
        self._transport = transport
        self._accept = websocket.accept_value(key)
        self._ear: Ear | None = None
        self._head = b""
        self._parser: ResponseParser | None = None
        self._body = b""
        self._reading = True
        self._gone = False
        """Whether it was lost: nobody may have heard yet, while a first hold is committed."""
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        transport.set_protocol(self)

    # From the loop

    def data_received(self, data: bytes) -> None:
        """Read the answer to the handshake, then pass everything on."""
        if self._ear is not None:
            self._ear.line_data(data)
        elif self._parser is not None:
            self._refused(data)
        else:
            self._head += data
            if not self.answered.done():
                self._look()

    def eof_received(self) -> None:
        """A half-close is an end."""
        self._lost()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        del exc
        self._lost()

    def pause_writing(self) -> None:
        """The upstream reads slowly."""
        if self._ear is not None:
            self._ear.line_paused()

    def resume_writing(self) -> None:
        """There is room again."""
        if self._ear is not None:
            self._ear.line_resumed()

    # For the session

    def attach(self, ear: Ear) -> None:
        """From now on `ear` hears, beginning with what came right after the handshake.

        That may be the end.
        """
        self._ear = ear
        early, self._head = self._head, b""
        if early:
            ear.line_data(early)
        if self._gone:
            self._lost()

    def write(self, data: bytes) -> None:
        """Write frames as they are."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def pause(self) -> None:
        """Stop reading."""
        if self._reading and not self._transport.is_closing():
            self._transport.pause_reading()
            self._reading = False

    def resume(self) -> None:
        """Read on."""
        if not self._reading and not self._transport.is_closing():
            self._transport.resume_reading()
            self._reading = True

    def abort(self) -> None:
        """Close the connection, once what was written has left."""
        self._ear = None
        self._transport.close()

    # The handshake

    def _look(self) -> None:
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > HEAD_BYTES_MAX:
                self._answer(None)
            return
        head, rest = self._head[:end], self._head[end + 4 :]
        if not head.startswith(_SWITCHING):
            self._parser = ResponseParser()
            self._refused(self._head)
            return
        accept = _header(head, b"sec-websocket-accept")
        extended = _header(head, b"sec-websocket-extensions")
        self._head = rest
        right = accept == self._accept.encode() and not extended
        self._answer(_Answer(101) if right else None)

    def _refused(self, data: bytes) -> None:
        """Read why there is no session."""
        parser = self._parser
        if parser is None:
            raise AssertionError("no refusal to read")
        try:
            self._body += parser.receive(data)
        except FramingError:
            self._answer(None)
            return
        if parser.complete or len(self._body) > ERROR_BODY_BYTES_MAX:
            self._told(parser)

    def _told(self, parser: ResponseParser) -> None:
        head = parser.head
        if head is None or head.status < 300:
            self._answer(None)
        else:
            body = self._body[:ERROR_BODY_BYTES_MAX]
            self._answer(_Answer(head.status, head.header("retry-after"), body))

    def _lost(self) -> None:
        self._gone = True
        if self._ear is not None:
            ear, self._ear = self._ear, None
            ear.line_lost()
        elif self._parser is not None and self._parser.receive_eof():
            self._told(self._parser)
        else:
            self._answer(None)

    def _answer(self, answer: _Answer | None) -> None:
        if not self.answered.done():
            self.answered.set_result(answer)


class Connecting:
    """Opens the session of one offer; `attempts` are those that did not."""

    def __init__(
        self, world: World, offer: RealtimeOffer, forwarded: tuple[tuple[str, str], ...]
    ) -> None:
        self.attempts: list[Attempt] = []
        self._world = world
        self._offer = offer
        self._forwarded = forwarded

    async def open(self) -> UpstreamLine:
        """Return an open line. Raises RelayError when no channel opens one."""
        world, offer = self._world, self._offer
        now = world.loop.time
        usable = plan(offer.channels, lambda one: world.health.usable(one, now()), world.rng.random)
        error = refusals.unavailable()
        for tried, channel in enumerate(usable):
            if tried > world.bounds.retry_attempts_max:
                break
            permit = world.health.of(channel).breaker.acquire(now())
            if permit is None:
                continue
            outcome = Outcome.UNKNOWN
            try:
                line, failure, error, outcome = await self._try(channel, error)
            finally:
                world.health.of(channel).breaker.report(permit, outcome, now())
            if line is not None:
                return line
            status = error.status if failure is AttemptFailure.STATUS else None
            if not retryable(failure, offer.group, status=status, content_started=False):
                break
        raise error

    async def _try(
        self, channel: Channel, last: RelayError
    ) -> tuple[UpstreamLine | None, AttemptFailure, RelayError, Outcome]:
        """Try one channel with each of its keys that is awake."""
        world = self._world
        pool, now = world.health.of(channel).keys, world.loop.time
        failure, error, outcome = AttemptFailure.CONNECT, last, Outcome.FAILURE
        for _ in range(max(1, len(channel.keys))):
            key = pool.acquire(now())
            if key is None:
                break
            began = now()
            try:
                line, answer = await self._shake(channel, key)
            except asyncio.CancelledError:
                self._record(channel, key, None, INTERRUPTED, began)
                raise
            if line is not None and answer is not None and answer.status == 101:
                return line, failure, error, Outcome.SUCCESS
            status = None if answer is None else answer.status
            failure, error = self._explain(channel, answer)
            self._record(channel, key, status, error.code.code, began)
            outcome = Outcome.SUCCESS if status is not None and status < 500 else Outcome.FAILURE
            if answer is None:
                break
            asked = parse_retry_after(answer.retry_after, world.now())
            if not pool.cool(key, answer.status, asked, now()) or not pool.ready(now()):
                break
        return None, failure, error, outcome

    async def _shake(
        self, channel: Channel, key: ChannelKey
    ) -> tuple[UpstreamLine | None, _Answer | None]:
        """Connect and shake hands; the line is closed unless the answer is 101."""
        world = self._world
        origin, prefix = world.origin(channel)
        nonce = base64.b64encode(world.rng.randbytes(16)).decode()
        try:
            transport = await world.pool.connect(origin, channel.connect_seconds_max)
        except ConnectError as error:
            log.get().warning("cannot connect", channel=channel.name, reason=str(error))
            return None, None
        line = UpstreamLine(world.loop, transport, Served(channel, key), nonce)
        answer: _Answer | None = None
        try:
            head = request_prefix(
                "GET",
                prefix + self._target(channel),
                origin.host_header,
                self._rows(channel, key, nonce),
            )
            line.write(head + b"\r\n")
            async with asyncio.timeout(channel.first_byte_seconds_max):
                answer = await line.answered
        except TimeoutError:
            pass
        finally:
            if answer is None or answer.status != 101:
                line.abort()
        return line, answer

    def _target(self, channel: Channel) -> str:
        model = channel.models[self._offer.model.name]
        path = target(channel, Endpoint.REALTIME, model, stream=True)
        if "deployment=" in path:
            return path
        return f"{path}{'&' if '?' in path else '?'}model={quote(model, safe='')}"

    def _rows(self, channel: Channel, key: ChannelKey, nonce: str) -> tuple[tuple[str, str], ...]:
        rows = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", websocket.VERSION),
            ("sec-websocket-key", nonce),
            ("user-agent", "sluice"),
            *self._forwarded,
        ]
        if key.secret:
            rows.append(credential(channel, key.secret))
        return tuple(rows)

    def _explain(
        self, channel: Channel, answer: _Answer | None
    ) -> tuple[AttemptFailure, RelayError]:
        """Say in the caller's words why a channel opened no session."""
        if answer is None:
            return AttemptFailure.CONNECT, refusals.ended(AttemptEnd.LOST)
        failure = Failure(
            FailureKind.STATUS, "no session", answer.status, answer.retry_after, answer.body
        )
        error = refusals.failed(failure, channel, channel.dialect, self._world.now())
        return AttemptFailure.STATUS, error

    def _record(
        self, channel: Channel, key: ChannelKey, status: int | None, outcome: str, began: float
    ) -> None:
        seconds = self._world.loop.time() - began
        self.attempts.append(
            Attempt(
                channel_id=channel.id,
                channel_key_id=key.id,
                started_at=self._world.now() - seconds,
                status=status,
                outcome=outcome,
                upstream_request_id=None,
                upstream_model=channel.models[self._offer.model.name],
                usage=Usage(calls=0),
                cost=0,
                duration_ms=seconds * 1000,
            )
        )


def _header(head: bytes, name: bytes) -> bytes:
    """Return a header of a response head; empty for none."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""
