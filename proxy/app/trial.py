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

from proxy.core.entities import WIRE_ENDPOINTS, Channel, Wire
from proxy.core.http1 import ResponseParser, request_head
from proxy.core.redact import redact
from proxy.core.response_head import FramingError
from proxy.core.targets import credential, target
from proxy.core.urls import Endpoint
from proxy.edge.upstream import ConnectError, UpstreamPool, origin_of

ANSWER_BYTES_MAX: Final = 1 << 20
ANSWER_SECONDS_MAX: Final = 60.0
OUTPUT_TOKENS: Final = 16
MESSAGE_CHARACTERS_MAX: Final = 300
_ASKED: Final = "Say ok."
_SPOKEN: Final[dict[str, object]] = {
    "messages": [{"role": "user", "content": _ASKED}],
    "max_tokens": OUTPUT_TOKENS,
}
_QUESTIONS: Final[dict[Wire, dict[str, object]]] = {
    Wire.CHAT: _SPOKEN,
    Wire.MESSAGES: _SPOKEN,
    Wire.RESPONSES: {"input": _ASKED, "max_output_tokens": OUTPUT_TOKENS, "store": False},
    Wire.GEMINI: {
        "contents": [{"role": "user", "parts": [{"text": _ASKED}]}],
        "generationConfig": {"maxOutputTokens": OUTPUT_TOKENS},
    },
    Wire.COMPLETIONS: {"prompt": _ASKED, "max_tokens": OUTPUT_TOKENS},
}
DEPTH_MAX: Final = 6
_ANSWERS: Final = ("content", "choices", "output", "candidates")
_READ_NAMES: Final = ("prompt_tokens", "input_tokens", "promptTokenCount")
_WRITTEN_NAMES: Final = ("completion_tokens", "output_tokens", "candidatesTokenCount")
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

    Raises ValueError: the channel does not serve the model or any conversation, or has no key.
    """
    upstream_model = channel.models.get(model)
    if upstream_model is None:
        served = ", ".join(sorted(channel.models)) or "no model at all"
        raise ValueError(f"channel {channel.name!r} does not serve {model!r}; it serves {served}")
    if not channel.keys:
        raise ValueError(f"channel {channel.name!r} has no key; set keys in the catalog")
    if _wire(channel) is None:
        raise ValueError(f"channel {channel.name!r} serves no conversations, which a trial needs")
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


def _wire(channel: Channel) -> Wire | None:
    return next((wire for wire in _QUESTIONS if WIRE_ENDPOINTS[wire] in channel.endpoints), None)


def _request(channel: Channel, model: str, host: str, prefix: str) -> bytes:
    secret = channel.keys[0].secret
    wire = _wire(channel)
    if wire is None:
        raise AssertionError("a channel without a form to ask in")
    endpoint = Endpoint(WIRE_ENDPOINTS[wire])
    names_it = {} if wire is Wire.GEMINI else {"model": model}
    body = orjson.dumps(names_it | _QUESTIONS[wire])
    headers = (
        credential(channel, secret),
        *((("anthropic-version", ANTHROPIC_VERSION),) if wire is Wire.MESSAGES else ()),
        ("content-type", "application/json"),
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("connection", "close"),
    )
    path = prefix + target(channel, endpoint, model, stream=False)
    return request_head("POST", path, host, headers, len(body)) + body


def _text(body: bytes) -> str:
    """The words of an answer, or of an error, in any wire form; else its first bytes."""
    found = _parsed(body)
    error = found.get("error")
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])
    parts = next((found[name] for name in _ANSWERS if found.get(name)), None)
    if parts is not None:
        return _words(parts)
    return body[:MESSAGE_CHARACTERS_MAX].decode("utf-8", "replace")


def _words(value: object, depth: int = DEPTH_MAX) -> str:
    """The first text inside an answer's choices, blocks, items or candidates."""
    if isinstance(value, str):
        return value
    inner: list[object] = []
    if isinstance(value, list):
        inner = value
    elif isinstance(value, dict):
        inner = [value.get(name) for name in ("message", "content", "parts", "text")]
    texts = [_words(each, depth - 1) for each in inner] if depth else []
    return next((text for text in texts if text), "")


def _usage(body: bytes) -> tuple[int | None, int | None]:
    found = _parsed(body)
    usage = found.get("usage", found.get("usageMetadata"))
    if not isinstance(usage, dict):
        return None, None
    names = _READ_NAMES, _WRITTEN_NAMES
    read, written = (next((usage[name] for name in row if name in usage), None) for row in names)
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
