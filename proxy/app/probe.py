"""A client of any relay, as `sluice selftest` needs one: plain and streamed calls, both dialects.

Rules: it speaks only what an SDK would speak, so that it can be pointed at any relay; every
answer, wait and line is bounded; a failure is a `ProbeError` with words for a person. Nothing is
retried. This module must not know what is judged from its findings.

Sources: WIRE.md sections 1, 4 and 5 for requests, chunks and events of both dialects.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, Self

import aiohttp

from proxy.app.probe_failures import ProbeError, failed, refused
from proxy.core.entities import Dialect
from proxy.core.sentences import Sentence

ANSWER_BYTES_MAX: Final = 8 << 20
LINE_BYTES_MAX: Final = 1 << 20
CONNECT_SECONDS_MAX: Final = 10.0
ANSWER_SECONDS_MAX: Final = 180.0
CONNECTIONS_MAX: Final = 128
ANTHROPIC_VERSION: Final = "2023-06-01"
QUOTED_CHARACTERS_MAX: Final = 200
_SUFFIXES = ("/chat/completions", "/messages", "/models", "/v1")


@dataclass(slots=True)
class Reply:
    """One answer. Times in seconds since the request began; tokens None where not reported."""

    status: int
    text: str = ""
    finish: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    ended: bool = False
    """The dialect's own end was seen: `[DONE]`, `message_stop`, or a whole JSON body."""
    first_at: float | None = None
    total: float = 0.0
    arrivals: int = 0
    """Reads of the socket in which content arrived: 1 for a long answer means it was buffered."""
    error: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)


def root_of(base_url: str) -> str:
    """The relay's root, from whatever was pasted: host, `/v1`, or a whole endpoint."""
    url = base_url.rstrip("/")
    shorter = True
    while shorter:
        shorter = False
        for suffix in _SUFFIXES:
            if url.endswith(suffix):
                url, shorter = url.removesuffix(suffix).rstrip("/"), True
    return url


class Probe:
    """Calls one relay with one key. Use as an async context manager."""

    def __init__(self, base_url: str, key: str) -> None:
        self.root = root_of(base_url)
        self.key = key
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(
                total=ANSWER_SECONDS_MAX, sock_connect=CONNECT_SECONDS_MAX
            ),
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            read_bufsize=LINE_BYTES_MAX,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def models(self) -> list[str]:
        """The names in the relay's model list. Raises ProbeError."""
        try:
            async with self._client.get(
                f"{self.root}/v1/models",
                headers=self._headers(Dialect.OPENAI, self.key),
                allow_redirects=False,
            ) as response:
                body = await _body(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failed(error) from None
        if response.status != 200:
            raise refused(response.status, _said(body))
        found = _object(body)
        data = found.get("data")
        if not isinstance(data, list):
            raise ProbeError(Sentence("the list has no `data`: {body}", body=_quote(body)))
        return [str(one["id"]) for one in data if isinstance(one, dict) and "id" in one]

    async def plain(
        self, dialect: Dialect, model: str, prompt: str, tokens: int, *, key: str | None = None
    ) -> Reply:
        """One call without streaming; an error status is a `Reply` too. Raises ProbeError."""
        began = perf_counter()
        try:
            async with self._client.post(
                self._url(dialect),
                headers=self._headers(dialect, key or self.key),
                json=_request(model, prompt, tokens),
                allow_redirects=False,
            ) as response:
                body = await _body(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failed(error) from None
        reply = Reply(response.status, headers=dict(response.headers))
        reply.total = perf_counter() - began
        found = _object(body)
        if response.status != 200:
            error_object = found.get("error")
            reply.error = error_object if isinstance(error_object, dict) else None
            reply.text = _said(body)
            return reply
        _read_plain(dialect, found, reply)
        return reply

    async def stream(
        self, dialect: Dialect, model: str, prompt: str, tokens: int, *, stop_after: int = 0
    ) -> Reply:
        """One streamed call, read to its end, or left after `stop_after` pieces of text.

        Raises ProbeError, also for an error status or an error inside the stream.
        """
        began = perf_counter()
        request = {**_request(model, prompt, tokens), "stream": True}
        if dialect is Dialect.OPENAI:
            request["stream_options"] = {"include_usage": True}
        try:
            async with self._client.post(
                self._url(dialect),
                headers=self._headers(dialect, self.key),
                json=request,
                allow_redirects=False,
            ) as response:
                reply = Reply(response.status, headers=dict(response.headers))
                if response.status != 200:
                    raise refused(response.status, _said(await _body(response)))
                kind = response.headers.get("content-type", "")
                if not kind.startswith("text/event-stream"):
                    raise ProbeError(
                        Sentence(
                            "the answer is {kind}, not text/event-stream", kind=kind or "untyped"
                        )
                    )
                reader = _Reader(dialect, reply, began)
                async for block in _blocks(response):
                    reader.feed(block)
                    if reply.ended or (stop_after and reader.pieces >= stop_after):
                        break
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failed(error) from None
        reply.text = "".join(reader.text)
        reply.total = perf_counter() - began
        if not reply.ended and not stop_after:
            raise ProbeError("the stream broke off without its end")
        return reply

    @property
    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise AssertionError("a probe is used inside `async with`")
        return self._session

    def _failed(self, error: BaseException) -> ProbeError:
        return failed(error, self.root, connect=CONNECT_SECONDS_MAX, answer=ANSWER_SECONDS_MAX)

    def _url(self, dialect: Dialect) -> str:
        path = "messages" if dialect is Dialect.ANTHROPIC else "chat/completions"
        return f"{self.root}/v1/{path}"

    def _headers(self, dialect: Dialect, key: str) -> dict[str, str]:
        if dialect is Dialect.ANTHROPIC:
            return {"x-api-key": key, "anthropic-version": ANTHROPIC_VERSION}
        return {"authorization": f"Bearer {key}"}


class _Reader:
    """Reads the events of one stream into its `Reply`."""

    def __init__(self, dialect: Dialect, reply: Reply, began: float) -> None:
        self.text: list[str] = []
        self.pieces = 0
        self._dialect = dialect
        self._reply = reply
        self._began = began
        self._rest = b""

    def feed(self, block: bytes) -> None:
        """Take what one read brought. Raises ProbeError for an error event or a broken one."""
        before = self.pieces
        *lines, self._rest = (self._rest + block).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            raise ProbeError(
                Sentence("a line of the stream is above {most} bytes", most=LINE_BYTES_MAX)
            )
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip())
        if self.pieces > before:
            self._reply.arrivals += 1
            if self._reply.first_at is None:
                self._reply.first_at = perf_counter() - self._began

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self._reply.ended = True
            return
        found = _object(data)
        if not found:
            raise ProbeError(Sentence("an event is not a JSON object: {data}", data=_quote(data)))
        if found.get("error"):
            raise ProbeError(Sentence("an error inside the stream: {data}", data=_quote(data)))
        read = _read_event if self._dialect is Dialect.ANTHROPIC else _read_chunk
        piece = read(found, self._reply)
        if piece:
            self.text.append(piece)
            self.pieces += 1


def _request(model: str, prompt: str, tokens: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": model, "max_tokens": tokens, "messages": messages}


def _read_chunk(chunk: dict[str, Any], reply: Reply) -> str:
    _usage(chunk.get("usage"), "prompt_tokens", "completion_tokens", reply)
    piece = ""
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        reply.finish = choice.get("finish_reason") or reply.finish
        piece += delta.get("content") or delta.get("reasoning_content") or ""
    return piece


def _read_event(event: dict[str, Any], reply: Reply) -> str:
    kind = event.get("type")
    if kind == "message_stop":
        reply.ended = True
    elif kind == "message_start":
        usage = (event.get("message") or {}).get("usage")
        _usage(usage, "input_tokens", "output_tokens", reply)
    elif kind == "message_delta":
        reply.finish = (event.get("delta") or {}).get("stop_reason") or reply.finish
        _usage(event.get("usage"), "input_tokens", "output_tokens", reply)
    elif kind == "content_block_delta":
        delta = event.get("delta") or {}
        return str(delta.get("text") or delta.get("thinking") or "")
    return ""


def _read_plain(dialect: Dialect, found: dict[str, Any], reply: Reply) -> None:
    if dialect is Dialect.ANTHROPIC:
        blocks = [one for one in found.get("content") or () if isinstance(one, dict)]
        reply.text = "".join(str(one.get("text") or one.get("thinking") or "") for one in blocks)
        reply.finish = found.get("stop_reason")
        _usage(found.get("usage"), "input_tokens", "output_tokens", reply)
    else:
        choices = [one for one in found.get("choices") or () if isinstance(one, dict)]
        for choice in choices:
            message = choice.get("message") or {}
            reply.text += message.get("content") or message.get("reasoning_content") or ""
            reply.finish = choice.get("finish_reason")
        _usage(found.get("usage"), "prompt_tokens", "completion_tokens", reply)
    reply.ended = bool(found)


def _usage(usage: object, read: str, written: str, reply: Reply) -> None:
    if isinstance(usage, dict):
        if isinstance(usage.get(read), int):
            reply.input_tokens = usage[read]
        if isinstance(usage.get(written), int):
            reply.output_tokens = usage[written]


async def _body(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for block in _blocks(response):
        size += len(block)
        if size > ANSWER_BYTES_MAX:
            raise ProbeError(Sentence("the answer is above {most} bytes", most=ANSWER_BYTES_MAX))
        parts.append(block)
    return b"".join(parts)


async def _blocks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for block in response.content.iter_any():
        yield block


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _said(body: bytes) -> str:
    """What an error says: its message where it has one, else how its body begins."""
    error = _object(body).get("error")
    message = error.get("message") if isinstance(error, dict) else None
    return _quote(message.encode() if isinstance(message, str) else body)


def _quote(body: bytes) -> str:
    return body[:QUOTED_CHARACTERS_MAX].decode("utf-8", "replace").strip() or "(nothing)"
