"""The client's side of one request: a bounded body in; a head, bytes and one clean end out.

Rules: from the first byte on there are two exits, a completed response or an aborted connection,
so that no second status line can follow on the wire (DESIGN.md section 5). Errors before the
first byte have their true status; after it they go in-band. Rate-limit, request-id and CORS
headers are on every answer. This module must not know money, limits or upstreams.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import lru_cache
from typing import Final

from proxy.core.entities import Dialect
from proxy.core.errors import ErrorCode, RelayError, error_body, error_event
from proxy.edge.auth import Headers, QueryKey
from proxy.edge.client_request import Request
from proxy.edge.client_socket import Cork, peer_address
from proxy.edge.metrics import CallFigures
from proxy.edge.visit import Visit

EXPOSED_HEADERS: Final = (
    "x-request-id, request-id, retry-after, x-should-retry, x-ratelimit-limit-requests, "
    "x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, "
    "x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, anthropic-ratelimit-requests-limit, "
    "anthropic-ratelimit-requests-remaining, anthropic-ratelimit-requests-reset, "
    "anthropic-ratelimit-tokens-limit, anthropic-ratelimit-tokens-remaining, "
    "anthropic-ratelimit-tokens-reset, x-sluice-channel, x-sluice-model, x-sluice-max-tokens, "
    "x-sluice-left-out, x-sluice-verdict, x-sluice-cost, x-sluice-cost-usd, x-sluice-balance, "
    "x-sluice-dry-run, x-sluice-cache, x-sluice-estimate, age, openai-version, openai-processing-ms"
)
HEARTBEATS: Final = {
    Dialect.OPENAI: b": keep-alive\n\n",
    Dialect.ANTHROPIC: b'event: ping\ndata: {"type": "ping"}\n\n',
    Dialect.GEMINI: b"\n\n",
}
"""What each dialect's SDK reads past (WIRE.md section 2).

Google's takes a comment for a part of the answer and fails, and reads past empty lines.
"""
_REASONS: Final = {
    200: "OK", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 402: "Payment Required",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    413: "Content Too Large", 417: "Expectation Failed", 422: "Unprocessable Content",
    429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout", 529: "Overloaded",
}  # fmt: skip
_STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {reason}" for status, reason in _REASONS.items()
}
_OK: Final = _STATUS_LINES[200]
_OF_EVENTS: Final = "cache-control: no-cache\r\nx-accel-buffering: no"
_CHUNKED: Final = "transfer-encoding: chunked"
_OF_A_STREAM: Final = f"{_OF_EVENTS}\r\n{_CHUNKED}\r\n\r\n"
"""How the head of a stream ends where nothing is said of the connection."""
_JSON: Final = "content-type: application/json"

_JOIN: Final = "\r\n".join


class Downstream:
    """One request's client. `begun` is True once a status line is on the wire."""

    __slots__ = (
        "_address",
        "_last_byte",
        "_lines",
        "_ready",
        "begun",
        "chunked",
        "connection",
        "dialect",
        "endpoint",
        "head",
        "owes_last_byte",
        "request",
        "request_id",
        "stream_type",
        "visit",
    )

    def __init__(
        self,
        request: Request,
        visit: Visit,
        request_id: str,
        cors_origin: str,
        address: str | None,
    ) -> None:
        head = request.head
        self.request = request
        self.head = head
        self.connection = request.protocol
        self.visit = visit
        self.dialect = visit.dialect
        self.endpoint = visit.endpoint_name
        self.request_id = request_id
        self._address = address
        self.begun = False
        self.stream_type = "text/event-stream; charset=utf-8"
        self.owes_last_byte = False
        """A plain answer has begun: there is no place for an error in it."""
        self.chunked = head.minor == 1
        """Whether the body can be chunked: HTTP/1.0 clients read to the end instead."""
        self._lines = ["", visit.id_line + request_id]
        """Of the response's head; the first is known last. None breaks: see `add_headers`."""
        self._ready = b""
        """The whole head of a stream, if it was prepared and nothing was added since."""
        if cors_origin and "origin" in head.values:
            # Only browsers ask, and they always say who asks: others are spared 600 bytes.
            self._lines.append(f"access-control-allow-origin: {cors_origin}")
            self._lines.append(f"access-control-expose-headers: {EXPOSED_HEADERS}")

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        return self.connection.lost

    @property
    def peer_address(self) -> str | None:
        """Where the caller is: what a trusted proxy said, else the other end of the socket."""
        address = self._address
        return peer_address(self.connection.transport) if address is None else address

    @property
    def as_array(self) -> bool:
        """Whether a stream is to be a JSON array: Google's is unless events are asked for."""
        return self.visit.streams and self.head.query.get("alt") != "sse"

    @property
    def credentials(self) -> Headers:
        """Where this caller's key may be: Google's may also be in the query."""
        head = self.head
        if self.dialect is Dialect.GEMINI and "key=" in head.query_string:
            return QueryKey(head, head.query.get("key", ""))
        return head

    def add_headers(self, rows: Iterable[tuple[str, str]]) -> None:
        """Add response headers, for whatever answer this request gets.

        Raises AssertionError on a line break: a value that reached here unchecked is our bug.
        """
        self._ready = b""
        self._lines.extend([_line(name, value) for name, value in rows])

    def add_lines(self, lines: str) -> None:
        """The same for lines that are ready and hold nothing of others, as they go on the wire."""
        self._ready = b""
        self._lines.append(lines)

    def name_upstream(self, channel: str, model: str) -> None:
        """Say which upstream and which of its models answers."""
        self._ready = b""
        names = _names(channel, model)
        if names:
            self._lines.append(names)

    def whole_body(self, bytes_max: int) -> bytes | None:
        """Return a body that came with its head, or None. Raises RelayError 413."""
        request = self.request
        if not request.complete:
            return None
        body = request.take()
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
        return body

    async def read_body(self, bytes_max: int, seconds_max: float) -> bytes:
        """Return the whole body; raises RelayError 400, 413, 408; ConnectionError if gone."""
        body = self.whole_body(bytes_max)
        if body is not None:
            return body
        length = self.request.content_length
        if length is not None and length > bytes_max:
            raise _too_large(bytes_max)
        try:
            async with asyncio.timeout(seconds_max):
                return await self._read_rest(bytes_max)
        except TimeoutError:
            raise body_too_slow(seconds_max) from None

    async def _read_rest(self, bytes_max: int) -> bytes:
        return b"".join([piece async for piece in self.body_pieces(bytes_max)])

    async def body_pieces(self, bytes_max: int) -> AsyncIterator[bytes]:
        """Give the body as it comes; who takes it slowly makes the client send slowly.

        Raises RelayError 400, 413; ConnectionError if the client leaves.
        """
        request, size = self.request, 0
        length = request.content_length
        if length is not None and length > bytes_max:
            raise _too_large(bytes_max)
        while True:
            done = request.complete
            piece = request.take()
            size += len(piece)
            if size > bytes_max:
                raise _too_large(bytes_max)
            if piece:
                yield piece
            if done:
                return
            if piece:
                continue  # more may have come while this one was looked at
            if request.error is not None:
                raise request.error
            if self.gone:
                raise ConnectionResetError("the client left before its body was complete")
            await request.arrive()

    def prepare(self, channel: str, model: str) -> None:
        """Put the head of a stream together while nobody waits for it, naming who will answer."""
        self._ready = b""
        if self.chunked and not self.begun and self.connection.keeps_alive:
            lines = [_OK, *self._lines[1:]]
            names = _names(channel, model)
            if names:
                lines.append(names)
            lines.append(f"content-type: {self.stream_type}\r\n{_OF_A_STREAM}")
            self._ready = _JOIN(lines).encode("latin-1", "replace")

    def begin_prepared(self, first: bytes, more: Sequence[tuple[str, str]] = ()) -> bool:
        """Send the head that was prepared, and `more` rows, with the first bytes, in one write.

        False, and nothing sent: there is none that still holds; name the upstream and `begin`.
        """
        head = self._ready
        if not head or not first or not self.connection.keeps_alive:
            return False
        self.begun = True
        if more:
            lines = [_line(name, value) for name, value in more]
            head = head[:-2] + _JOIN([*lines, "\r\n"]).encode("latin-1", "replace")
        self._send(b"%b%x\r\n%b\r\n" % (head, len(first), first))
        return True

    def begin(self, first: bytes) -> None:
        """Send the 200 of a stream with its first bytes, in one write."""
        self.begun = True
        lines = self._lines
        lines.append(f"content-type: {self.stream_type}")
        lines.append(_OF_EVENTS)
        if self.chunked:
            lines.append(_CHUNKED)
            # An empty chunk would end the body before it began.
            chunk = b"%x\r\n%b\r\n" % (len(first), first) if first else b""
            self._send(self._head(200) + chunk)
        else:
            self.connection.last_response()
            self._send(self._head(200) + first)

    def begin_answer(self, content_type: str, length: int | None, first: bytes) -> None:
        """Send the 200 of an answer that follows as it comes, with its first bytes.

        `length`: what its upstream announced. What is not a stream of events has no place for
        an error from now on.
        """
        self.begun = True
        self.owes_last_byte = not content_type.lower().startswith("text/event-stream")
        self._lines.append(_line("content-type", content_type))
        if not self.owes_last_byte:
            self._lines.append(_OF_EVENTS)
        if length is not None:
            self.chunked = False
            self._lines.append(f"content-length: {length}")
        elif self.chunked:
            self._lines.append(_CHUNKED)
            first = b"%x\r\n%b\r\n" % (len(first), first) if first else b""
        else:
            self.connection.last_response()
        self._send(self._head(200) + first)

    def write(self, event: bytes) -> None:
        """Write one whole event of our own between the upstream's."""
        if self.begun and event:
            self._send(b"%x\r\n%b\r\n" % (len(event), event) if self.chunked else event)

    def switch_protocols(self, rows: Iterable[tuple[str, str]]) -> None:
        """Answer 101: what follows on this connection is no HTTP any more."""
        self.begun = True
        self.connection.last_response()
        self._lines[1:1] = [_line(name, value) for name, value in rows]
        self._send(self._assembled("HTTP/1.1 101 Switching Protocols"))

    def raw(self, data: bytes) -> None:
        """Write bytes as they are, on a connection that has switched."""
        self._send(data)

    def heartbeat(self) -> bytes:
        """Return this dialect's keep-alive event."""
        return HEARTBEATS[self.dialect]

    def begin_plain(
        self,
        body: bytes,
        content_type: str = "application/json",
        at_once: bool = False,  # noqa: FBT001, FBT002 - by position, as it is on the hot path
    ) -> None:
        """Send a plain answer, head and all, but for its last byte: `complete` lets that out.

        `at_once`: that is expected in this very turn of the loop, so one packet can have both; who
        has to wait after all says so (`push`).
        """
        head, connection = self._answer_head(200, len(body), content_type), self.connection
        self.owes_last_byte = True
        self._last_byte = body[-1:]
        data = head + body[:-1]
        transport = connection.transport
        if transport is None:
            return
        if at_once:
            cork = connection.cork
            if cork is None:
                cork = connection.cork = Cork(transport)
            cork.write(transport, data)
        else:
            transport.write(data)

    def push(self) -> None:
        """Let the beginning of a plain answer leave: its last byte has to be waited for."""
        cork = self.connection.cork
        if cork is not None and self.owes_last_byte and self.connection.transport is not None:
            cork.push()

    def complete(self) -> None:
        """Let out the last byte of a plain answer, which was held for the commit."""
        self._send(self._last_byte)

    def complete_soon(self) -> None:
        """Do the same together with what other calls write in this turn of the loop."""
        connection = self.connection
        transport = connection.transport
        if transport is not None:
            connection.burst.write(transport, self._last_byte)

    def finish(self, last: bytes) -> None:
        """End a stream that has begun, with its held last bytes; the response is complete."""
        if not self.begun:
            raise AssertionError("finish before begin")
        if not self.chunked:
            self._send(last)
        elif last:
            self._send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))
        else:
            self._send(b"0\r\n\r\n")

    def answer(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        """Send a whole plain response, in one write."""
        head = self._answer_head(status, len(body), content_type)
        self._send(head if self.head.method == "HEAD" else head + body)

    def _answer_head(self, status: int, length: int, content_type: str) -> bytes:
        if self.begun:
            raise AssertionError("a second status line")
        self.begun = True
        lines = self._lines
        kind = _JSON if content_type == "application/json" else _line("content-type", content_type)
        if status != 200 or not self.head.minor or not self.connection.keeps_alive:
            lines.append(f"{kind}\r\ncontent-length: {length}")
            return self._head(status)
        lines[0] = _OK  # nearly always: as `_head` has it, in one piece less
        lines.append(f"{kind}\r\ncontent-length: {length}\r\n\r\n")
        return _JOIN(lines).encode("latin-1", "replace")

    def empty(self, status: int) -> None:
        """Send a response that has no body by its status (204)."""
        self.begun = True
        self._send(self._head(status))

    def fail(self, error: RelayError, event: bytes | None = None) -> None:
        """Tell the caller of `error`: with its status before the first byte, in-band after.

        `event` says it in-band, where that is not the dialect's own way.
        """
        if self.begun:
            self.finish(event or error_event(error, self.dialect, self.request_id))
            return
        if error.retry_after is not None:
            self._lines.append(f"retry-after: {max(1, round(error.retry_after))}")
            self._lines.append(f"retry-after-ms: {max(1, round(error.retry_after * 1000))}")
        if error.should_retry is not None:
            self._lines.append(f"x-should-retry: {'true' if error.should_retry else 'false'}")
        self.answer(error.status, error_body(error, self.dialect, self.request_id))

    def figures(self, error: RelayError) -> CallFigures:
        """This request as metrics count it when there was no call."""
        return CallFigures(endpoint=self.endpoint, code=error.status, error=error.code.code)

    def abort(self) -> None:
        """Cut the connection: the other exit of a response that has begun."""
        self.connection.abort()

    def _head(self, status: int) -> bytes:
        connection = self.connection
        if not connection.keeps_alive:
            connection.last_response()
            self._lines.append("connection: close")
        elif self.head.minor == 0:
            self._lines.append("connection: keep-alive")
        return self._assembled(_STATUS_LINES.get(status) or f"HTTP/1.1 {status} Error")

    def _assembled(self, status_line: str) -> bytes:
        lines = self._lines
        lines[0] = status_line
        lines.append("\r\n")  # joined, the end of the last line and the blank one
        return _JOIN(lines).encode("latin-1", "replace")

    def _send(self, data: bytes) -> None:
        transport = self.connection.transport
        if transport is not None:
            transport.write(data)


def _line(name: str, value: str) -> str:
    if "\n" in value or "\r" in value:
        raise AssertionError("a line break inside a response header")
    return f"{name}: {value}"


@lru_cache(maxsize=1_024)
def _names(channel: str, model: str) -> str:
    """Header lines that name who answers, as far as a header can hold the names."""
    rows = (("x-sluice-channel", channel), ("x-sluice-model", model))
    return _JOIN([f"{name}: {value}" for name, value in rows if value.isprintable()])


def body_too_slow(seconds_max: float) -> RelayError:
    """Tell of a body that was not in by its deadline."""
    return RelayError(
        ErrorCode.REQUEST_TIMEOUT,
        f"The request body did not arrive within {seconds_max:g} seconds.",
    )


def _too_large(bytes_max: int) -> RelayError:
    return RelayError(
        ErrorCode.REQUEST_TOO_LARGE, f"The request body is larger than {bytes_max} bytes."
    )
