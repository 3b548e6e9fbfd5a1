"""The client's side of one request: a bounded body in; a head, bytes and one clean end out.

Rules: from the first byte on there are two exits, a completed response or an aborted connection,
so that no second status line can follow on the wire (DESIGN.md section 5). Errors before the
first byte have their true status; after it they go in-band. Rate-limit, request-id and CORS
headers are on every answer. This module must not know money, limits or upstreams.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from proxy.core.entities import Dialect
from proxy.core.errors import ErrorCode, RelayError, error_body, error_event
from proxy.edge.client import ClientConnection
from proxy.edge.metrics import CallFigures

EXPOSED_HEADERS: Final = (
    "x-request-id, request-id, retry-after, x-ratelimit-limit-requests, "
    "x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, "
    "x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, anthropic-ratelimit-requests-limit, "
    "anthropic-ratelimit-requests-remaining, anthropic-ratelimit-requests-reset, "
    "anthropic-ratelimit-tokens-limit, anthropic-ratelimit-tokens-remaining, "
    "anthropic-ratelimit-tokens-reset, x-sluice-channel, x-sluice-model, x-sluice-max-tokens"
)
REFERENCE_CHARS_MAX: Final = 128
HEARTBEATS: Final = {
    Dialect.OPENAI: b": keep-alive\n\n",
    Dialect.ANTHROPIC: b'event: ping\ndata: {"type": "ping"}\n\n',
}
"""What each dialect's SDK reads past (WIRE.md section 2)."""


class Downstream:
    """One request's client. `begun` is True once a status line is on the wire."""

    __slots__ = (
        "_response",
        "begun",
        "connection",
        "dialect",
        "endpoint",
        "headers",
        "peer_address",
        "request",
        "request_id",
    )

    def __init__(
        self,
        request: web.BaseRequest,
        dialect: Dialect,
        endpoint: str,
        request_id: str,
        cors_origin: str,
        peer_address: str | None,
    ) -> None:
        connection = request.protocol
        if not isinstance(connection, ClientConnection):
            raise AssertionError("a client must be served by ClientServer")
        self.request = request
        self.connection = connection
        self.dialect = dialect
        self.request_id = request_id
        self.endpoint = endpoint
        self.peer_address = peer_address
        self.begun = False
        self._response: web.StreamResponse | None = None
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.headers["x-request-id" if dialect is Dialect.OPENAI else "request-id"] = request_id
        if cors_origin and "origin" in request.headers:
            # Only browsers ask, and they always say who asks: others are spared 600 bytes.
            self.headers["access-control-allow-origin"] = cors_origin
            self.headers["access-control-expose-headers"] = EXPOSED_HEADERS

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        return self.connection.lost

    @property
    def reference(self) -> str | None:
        """The caller's own id for this call, stored and never trusted."""
        value = self.request.headers.get("x-request-id")
        return None if value is None else value[:REFERENCE_CHARS_MAX]

    def add_headers(self, rows: Iterable[tuple[str, str]]) -> None:
        """Add response headers, for whatever answer this request gets."""
        for name, value in rows:
            self.headers[name] = value

    @property
    def chunked(self) -> bool:
        """Whether the body can be chunked: HTTP/1.0 clients read to the end instead."""
        return self.request.version >= (1, 1)

    async def read_body(self, bytes_max: int, seconds_max: float) -> bytes:
        """Return the whole body; raises RelayError 413 or 408, or ConnectionError if gone."""
        length = self.request.content_length
        if length is not None and length > bytes_max:
            raise _too_large(bytes_max)
        content = self.request.content
        if content.is_eof():
            body = content.read_nowait(-1)
            if len(body) > bytes_max:
                raise _too_large(bytes_max)
            return body
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(seconds_max):
                while not content.at_eof():
                    piece = await content.readany()
                    size += len(piece)
                    if size > bytes_max:
                        raise _too_large(bytes_max)
                    pieces.append(piece)
        except TimeoutError:
            raise RelayError(
                ErrorCode.REQUEST_TIMEOUT,
                f"The request body did not arrive within {seconds_max:g} seconds.",
            ) from None
        except web.RequestPayloadError:
            raise RelayError(
                ErrorCode.INVALID_REQUEST, "The request body is malformed HTTP."
            ) from None
        return b"".join(pieces)

    async def begin(self, first: bytes) -> None:
        """Send the 200 of a stream with its first bytes, in one write."""
        response = web.StreamResponse(headers=self.headers)
        response.headers["content-type"] = "text/event-stream; charset=utf-8"
        response.headers["cache-control"] = "no-cache"
        response.headers["x-accel-buffering"] = "no"
        if self.chunked:
            response.enable_chunked_encoding()
        self._response = response
        self.begun = True
        await response.prepare(self.request)
        await response.write(first)

    def write(self, event: bytes) -> None:
        """Write one whole event of our own between the upstream's."""
        transport = self.connection.transport
        if transport is not None and self.begun:
            transport.write(b"%x\r\n%b\r\n" % (len(event), event) if self.chunked else event)

    def heartbeat(self) -> bytes:
        """Return this dialect's keep-alive event."""
        return HEARTBEATS[self.dialect]

    async def complete(self, last: bytes, *, stream: bool) -> web.StreamResponse:
        """Let out what was held for the commit: the terminal frame, or a whole plain body."""
        if stream:
            return await self.finish(last)
        return self.answer(200, last, "application/json")

    def figures(self, error: RelayError) -> CallFigures:
        """This request as metrics count it when there was no call."""
        return CallFigures(endpoint=self.endpoint, code=error.status, error=error.code.code)

    async def finish(self, last: bytes) -> web.StreamResponse:
        """End a stream that has begun, with its held last bytes; the response is complete."""
        response = self._response
        if response is None:
            raise AssertionError("finish before begin")
        await response.write_eof(last)
        return response

    def answer(self, status: int, body: bytes, content_type: str) -> web.StreamResponse:
        """Make a whole plain response; aiohttp sends it when the handler returns it."""
        self.headers["content-type"] = content_type
        return web.Response(status=status, body=body, headers=self.headers)

    async def fail(self, error: RelayError) -> web.StreamResponse:
        """Tell the caller of `error`: with its status before the first byte, in-band after."""
        if self.begun:
            return await self.finish(error_event(error, self.dialect, self.request_id))
        if error.retry_after is not None:
            self.headers["retry-after"] = f"{max(1, round(error.retry_after))}"
            self.headers["retry-after-ms"] = f"{max(1, round(error.retry_after * 1000))}"
        if error.should_retry is not None:
            self.headers["x-should-retry"] = "true" if error.should_retry else "false"
        body = error_body(error, self.dialect, self.request_id)
        response = self.answer(error.status, body, "application/json")
        if not self.request.content.is_eof():
            # The rest of a body nobody will read must not delay or poison the next request.
            response.force_close()
        return response

    def abort(self) -> web.StreamResponse:
        """Cut the connection; the response returned is for aiohttp to drop, not to send."""
        transport = self.connection.transport
        if transport is not None:
            transport.abort()
        response = self._response
        if response is None:
            response = web.Response(status=500)
        response.force_close()
        return response


def _too_large(bytes_max: int) -> RelayError:
    return RelayError(
        ErrorCode.REQUEST_TOO_LARGE, f"The request body is larger than {bytes_max} bytes."
    )
