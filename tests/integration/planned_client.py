"""Makes planned calls over raw connections and writes down what arrived, to the last byte.

The log has one JSON line per call: `name`, `key`, `status` (None without a head), `id` (the
relay's own), `text` (the content that arrived), `bytes` of body, `whole` (by its own framing),
`terminal` (`[DONE]`, `message_stop`, or a whole plain answer), `error` (its code, in-band or
not), `stream`, `dialect`. This module must not know the relay beyond HTTP.
"""

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

from tests.integration.raw_client import RawResponse, parse_response
from tests.integration.workload import Plan

CALL_SECONDS_MAX = 40.0


@dataclass(slots=True)
class Outcome:
    """One call as its client saw it; see the module docstring."""

    name: str
    key: str
    dialect: str
    stream: bool
    status: int | None = None
    id: str | None = None
    text: str = ""
    bytes: int = 0
    whole: bool = False
    terminal: bool = False
    error: str | None = None

    def line(self) -> str:
        return json.dumps(asdict(self))


class _Connection(asyncio.Protocol):
    """Collects bytes until the response is whole or the connection is over."""

    def __init__(self, slow: random.Random | None, on_end: Callable[[bool], object]) -> None:
        self.received = bytearray()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._slow = slow
        self._on_end = on_end
        self._length: int | None = None
        self._chunked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self._length is None and not self._chunked:
            self._read_head()
        whole = (self._chunked and self.received.endswith(b"\r\n0\r\n\r\n")) or (
            self._length is not None and len(self.received) >= self._length
        )
        if whole:
            self._end(whole=True)
        elif self._slow is not None and self._slow.random() < 0.3:
            self._transport.pause_reading()
            loop = asyncio.get_running_loop()
            loop.call_later(self._slow.uniform(0.01, 0.3), self._read_on)

    def _read_on(self) -> None:
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            self._transport.resume_reading()

    def _read_head(self) -> None:
        head, blank, _ = self.received.partition(b"\r\n\r\n")
        if not blank:
            return
        lower = head.lower()
        self._chunked = b"transfer-encoding: chunked" in lower
        at = lower.find(b"content-length: ")
        if at >= 0:
            self._length = len(head) + 4 + int(lower[at + 16 :].split(b"\r\n")[0])

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(whole=False)

    def _end(self, *, whole: bool) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
            self._on_end(whole)


def _ignore(whole: bool) -> None:
    del whole


def _unheard() -> None:
    pass


async def call(
    port: int,
    key: str,
    key_name: str,
    plan: Plan,
    on_end: Callable[[bool], object] = _ignore,
    on_sent: Callable[[], object] = _unheard,
) -> Outcome:
    """Make one call. A relay that is not there is an outcome without a status."""
    outcome = Outcome(plan.name, key_name, plan.dialect, plan.stream)
    loop = asyncio.get_running_loop()
    plug = socket.socket()
    plug.setblocking(False)
    if plan.slow_reader:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow = random.Random(plan.name) if plan.slow_reader else None
    try:
        await loop.sock_connect(plug, ("127.0.0.1", port))
        transport, connection = await loop.create_connection(
            lambda: _Connection(slow, on_end), sock=plug
        )
    except OSError:
        plug.close()
        return outcome
    transport.write(plan.request(key))
    on_sent()
    try:
        async with asyncio.timeout(CALL_SECONDS_MAX):
            await connection.ended
    finally:
        transport.abort()
    response = parse_response(bytes(connection.received), ended=True)
    if response is not None:
        read_into(outcome, response)
    return outcome


def read_into(outcome: Outcome, response: RawResponse) -> None:
    """Note what a response says."""
    outcome.status = response.status
    outcome.id = response.header("x-request-id") or response.header("request-id")
    outcome.bytes = len(response.body)
    outcome.whole = response.whole
    if outcome.stream and response.status == 200:
        _read_stream(outcome, response.body)
        return
    body = response.body
    if not response.whole and response.status == 200:
        body += b"}"  # the last byte is what waits for the charge; all content is before it
    try:
        document = json.loads(body)
    except ValueError:
        return
    if response.status != 200:
        outcome.error = _error_code(document)
        return
    outcome.terminal = response.whole
    if outcome.dialect == "anthropic":
        outcome.text = "".join(block["text"] for block in document["content"])
    else:
        outcome.text = document["choices"][0]["message"]["content"]


def _read_stream(outcome: Outcome, body: bytes) -> None:
    *events, _torn = body.split(b"\n\n")
    for event in events:
        data = b"".join(line[6:] for line in event.split(b"\n") if line.startswith(b"data: "))
        if not data:
            continue
        if data == b"[DONE]":
            outcome.terminal = True
            continue
        document = json.loads(data)
        if document.get("type") == "message_stop":
            outcome.terminal = True
        elif document.get("error"):
            outcome.error = _error_code(document)
        else:
            outcome.text += _text(document)


def _text(document: dict[str, Any]) -> str:
    if document.get("type") == "content_block_delta":
        return str(document["delta"]["text"])
    return "".join(
        choice.get("delta", {}).get("content") or "" for choice in document.get("choices", ())
    )


def _error_code(document: dict[str, Any]) -> str:
    error = document["error"]
    return str(error.get("code") or error.get("type"))
