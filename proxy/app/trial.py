"""One tiny real call to an upstream, to tell an operator whether a channel works.

Rules: it connects as the relay does (same address rules, TLS, outbound proxy) and asks for a few
tokens with the channel's first key; nothing is retried, every wait and buffer is bounded, and no
answer shows a secret. It costs the operator those few tokens and no user anything. This module
must not know billing.
"""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final

import orjson

from proxy.core.entities import Channel, Dialect
from proxy.core.http1 import FramingError, ResponseParser, request_head
from proxy.core.redact import redact
from proxy.core.targets import credential, target
from proxy.core.urls import Endpoint
from proxy.edge.upstream import ConnectError, UpstreamPool, origin_of

ANSWER_BYTES_MAX: Final = 1 << 20
ANSWER_SECONDS_MAX: Final = 60.0
OUTPUT_TOKENS: Final = 16
MESSAGE_CHARACTERS_MAX: Final = 300
ANTHROPIC_VERSION: Final = "2023-06-01"


@dataclass(frozen=True, slots=True)
class Trial:
    """How the call went. Times in milliseconds; `answer` is the text or the upstream's error."""

    channel: str
    model: str
    upstream_model: str
    ok: bool
    status: int | None
    connect_ms: float | None
    total_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    answer: str


async def try_channel(channel: Channel, model: str) -> Trial:
    """Call `channel` once for `model` (a public name of it). Never raises for its upstream.

    Raises ValueError: the channel does not serve the model, or has no key.
    """
    upstream_model = channel.models.get(model)
    if upstream_model is None:
        served = ", ".join(sorted(channel.models)) or "no model at all"
        raise ValueError(f"channel {channel.name!r} does not serve {model!r}; it serves {served}")
    if not channel.keys:
        raise ValueError(f"channel {channel.name!r} has no key; set keys in the catalog")
    loop = asyncio.get_running_loop()
    pool = UpstreamPool(loop, idle_seconds_max=1.0, tls=ssl.create_default_context())
    began = loop.time()
    connected: float | None = None

    def result(*, status: int | None, answer: str, body: bytes = b"") -> Trial:
        read, written = _usage(body)
        shown = redact(answer, (channel.keys[0].secret,))
        return Trial(
            channel=channel.name,
            model=model,
            upstream_model=upstream_model,
            ok=status == 200,
            status=status,
            connect_ms=None if connected is None else round((connected - began) * 1000, 1),
            total_ms=None if status is None else round((loop.time() - began) * 1000, 1),
            input_tokens=read,
            output_tokens=written,
            answer=shown[:MESSAGE_CHARACTERS_MAX],
        )

    try:
        origin, prefix = origin_of(
            channel.base_url, channel.proxy, allow_private=channel.allow_private
        )
        transport = await pool.connect(origin, channel.connect_seconds_max)
        connected = loop.time()
        collector = _Collector(loop)
        try:
            transport.set_protocol(collector)
            transport.write(_request(channel, upstream_model, origin.host_header, prefix))
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                status, body = await collector.answer
        finally:
            transport.abort()
    except ConnectError as error:
        return result(status=None, answer=f"no connection: {error}")
    except (FramingError, ConnectionError) as error:
        return result(status=None, answer=f"no whole answer: {error}")
    except TimeoutError:
        return result(status=None, answer=f"no whole answer within {ANSWER_SECONDS_MAX:g} s")
    return result(status=status, answer=_text(body), body=body)


class _Collector(asyncio.Protocol):
    """Collects one bounded response; `answer` is (status, body)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        self._parser = ResponseParser()
        self._body = bytearray()

    def data_received(self, data: bytes) -> None:
        if self.answer.done():
            return
        try:
            self._body += self._parser.receive(bytes(data))
        except FramingError as error:
            self.answer.set_exception(error)
            return
        if len(self._body) > ANSWER_BYTES_MAX:
            self.answer.set_exception(FramingError("the answer is above 1 MiB"))
        elif self._parser.complete:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer.done():
            return
        if exc is None and self._parser.receive_eof():
            self._finish()
        else:
            self.answer.set_exception(ConnectionResetError("the upstream closed the connection"))

    def _finish(self) -> None:
        head = self._parser.head
        if head is None:
            raise AssertionError("a complete response has a head")
        self.answer.set_result((head.status, bytes(self._body)))


def _request(channel: Channel, model: str, host: str, prefix: str) -> bytes:
    secret = channel.keys[0].secret
    anthropic = channel.dialect is Dialect.ANTHROPIC
    endpoint = Endpoint.MESSAGES if anthropic else Endpoint.CHAT
    body = orjson.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": "Say ok."}],
            "max_tokens": OUTPUT_TOKENS,
        }
    )
    headers = (
        credential(channel, secret),
        *((("anthropic-version", ANTHROPIC_VERSION),) if anthropic else ()),
        ("content-type", "application/json"),
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("connection", "close"),
    )
    path = prefix + target(channel, endpoint, model, stream=False)
    return request_head("POST", path, host, headers, len(body)) + body


def _text(body: bytes) -> str:
    """The words of an answer, or of an error, in either dialect; else its first bytes."""
    found = _parsed(body)
    error = found.get("error")
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])
    parts = found.get("content") or found.get("choices")
    first = parts[0] if isinstance(parts, list) and parts else None
    if isinstance(first, dict):
        message = first.get("message")
        text = message.get("content") if isinstance(message, dict) else first.get("text")
        return text if isinstance(text, str) else ""
    return body[:MESSAGE_CHARACTERS_MAX].decode("utf-8", "replace")


def _usage(body: bytes) -> tuple[int | None, int | None]:
    usage = _parsed(body).get("usage")
    if not isinstance(usage, dict):
        return None, None
    read = usage.get("prompt_tokens", usage.get("input_tokens"))
    written = usage.get("completion_tokens", usage.get("output_tokens"))
    return (
        read if isinstance(read, int) else None,
        written if isinstance(written, int) else None,
    )


def _parsed(body: bytes) -> dict[str, object]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
