"""A demo upstream: paced, realistic answers in both dialects, so that a first run needs no key.

Rules: it answers like a provider (ids, fingerprint, usage, finish reasons, `[DONE]`) and counts
its usage with the tables the relay bills by; pieces leave on an absolute schedule, so late ones
do not delay those after them. It keeps nothing and checks no credential, hence loopback only.
It must not know that a relay is in front of it.

Sources: WIRE.md sections 1, 4 and 5 for the shapes of chunks, events and errors.
"""

import argparse
import asyncio
import re
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from time import time
from typing import cast

import orjson
import uvloop
from aiohttp import web

from proxy.app.settings import host_and_port
from proxy.core.entities import Tokenizer
from proxy.core.tokenizers import exact_count

MODELS = ("demo-gpt", "demo-claude")
FINGERPRINT = "fp_demo000001"
TOKENS_PER_SECOND = 40.0
PROMPT_BYTES_MAX = 32 << 20
OUTPUT_TOKENS_MAX = 4096
ECHO_WORDS_MAX = 12
# What chat formats add around each message and around the whole prompt.
MESSAGE_TOKENS = 4
PROMPT_TOKENS = 3

ANSWER = (
    "Sluice is a relay for LLM APIs: you keep the SDK you already use, change its base URL and "
    "key, and every answer streams through untouched, event for event. On the way Sluice counts "
    "the tokens, holds and settles their price in a prepaid wallet before the last frame leaves, "
    "and tells Prometheus what happened. This answer comes from the built-in demo upstream, "
    "so it costs nobody anything real, yet it was metered and billed like any other. "
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the demo will say: pieces of text, cut to the caller's token limit."""

    pieces: tuple[str, ...]
    input_tokens: int
    output_tokens: int
    cut: bool


@dataclass(slots=True)
class Demo:
    """A running demo upstream. `base_url` has no path."""

    base_url: str
    runner: web.AppRunner

    async def stop(self) -> None:
        """Close the listener and every connection."""
        await self.runner.cleanup()


@dataclass(frozen=True, slots=True)
class Prompt:
    """The part of a request body the demo looks at."""

    model: str
    text: str
    messages: int
    stream: bool
    output_tokens_max: int
    include_usage: bool = False


class PromptError(ValueError):
    """The body is not a request this demo understands: 400."""


def read_prompt(body: bytes) -> Prompt:
    """Read an OpenAI or Anthropic request body. Raises PromptError."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise PromptError(f"the body is not valid JSON: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("messages"), list):
        raise PromptError("messages must be a list")
    texts = [*_texts(found.get("system"))]
    for message in found["messages"]:
        if not isinstance(message, dict):
            raise PromptError("each message must be an object")
        texts.extend(_texts(message.get("content")))
    limit = found.get("max_completion_tokens") or found.get("max_tokens") or OUTPUT_TOKENS_MAX
    if type(limit) is not int or limit < 1:
        raise PromptError("max_tokens must be a positive whole number")
    options = found.get("stream_options")
    return Prompt(
        model=str(found.get("model", MODELS[0])),
        text="\n".join(texts),
        messages=len(found["messages"]),
        stream=found.get("stream") is True,
        output_tokens_max=min(limit, OUTPUT_TOKENS_MAX),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def compose(prompt: Prompt, count: Callable[[str], int]) -> Answer:
    """The whole answer to `prompt`: a few sentences on Sluice and the prompt's last words."""
    words = prompt.text.split()[-ECHO_WORDS_MAX:]
    said = f'You asked: "… {" ".join(words)}".' if words else "You asked nothing."
    pieces, tokens, cut = _fit(re.findall(r"\s?\S+", ANSWER + said), prompt, count)
    return Answer(
        pieces=pieces,
        input_tokens=count(prompt.text) + MESSAGE_TOKENS * prompt.messages + PROMPT_TOKENS,
        output_tokens=tokens,
        cut=cut,
    )


def openai_chunks(prompt: Prompt, answer: Answer, created: int) -> list[bytes]:
    """All events of a chat completion stream; the first carries only the role."""
    base = {
        "id": _id("chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": created,
        "model": prompt.model,
        "system_fingerprint": FINGERPRINT,
    }
    rest: dict[str, object] = {"usage": None} if prompt.include_usage else {}

    def chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data({**base, "choices": [choice], **rest})

    events = [chunk({"role": "assistant", "content": "", "refusal": None})]
    events.extend(chunk({"content": piece}) for piece in answer.pieces)
    events.append(chunk({}, "length" if answer.cut else "stop"))
    if prompt.include_usage:
        events.append(_data({**base, "choices": [], "usage": _openai_usage(answer)}))
    events.append(b"data: [DONE]\n\n")
    return events


def openai_completion(prompt: Prompt, answer: Answer, created: int) -> dict[str, object]:
    """The body of a plain chat completion."""
    message = {"role": "assistant", "content": "".join(answer.pieces), "refusal": None}
    finish = "length" if answer.cut else "stop"
    return {
        "id": _id("chatcmpl-"),
        "object": "chat.completion",
        "created": created,
        "model": prompt.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": _openai_usage(answer),
        "system_fingerprint": FINGERPRINT,
    }


def anthropic_events(prompt: Prompt, answer: Answer) -> list[bytes]:
    """All events of a messages stream. `message_delta` usage is cumulative."""
    message = _anthropic_message(prompt, answer, content=[], stop=None, output_tokens=1)
    block = {"type": "text", "text": ""}
    events = [
        _event({"type": "message_start", "message": message}),
        _event({"type": "content_block_start", "index": 0, "content_block": block}),
        _event({"type": "ping"}),
    ]
    events.extend(
        _event(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": piece},
            }
        )
        for piece in answer.pieces
    )
    stop = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
    usage = {"output_tokens": answer.output_tokens}
    events.append(_event({"type": "content_block_stop", "index": 0}))
    events.append(_event({"type": "message_delta", "delta": stop, "usage": usage}))
    events.append(_event({"type": "message_stop"}))
    return events


def anthropic_message(prompt: Prompt, answer: Answer) -> dict[str, object]:
    """The body of a plain message."""
    content = [{"type": "text", "text": "".join(answer.pieces)}]
    return _anthropic_message(
        prompt, answer, content, stop=_stop_reason(answer), output_tokens=answer.output_tokens
    )


@dataclass(slots=True)
class _Handlers:
    """The routes; `rate` is pieces per second, 0 means as fast as they can be written."""

    rate: float
    count: Callable[[str], int]

    async def chat(self, request: web.Request) -> web.StreamResponse:
        try:
            prompt = read_prompt(await request.read())
        except PromptError as error:
            body = {"message": str(error), "type": "invalid_request_error"}
            return _json({"error": {**body, "param": None, "code": None}}, 400)
        answer = compose(prompt, self.count)
        created = int(time())
        if prompt.stream:
            return await self._send(request, openai_chunks(prompt, answer, created))
        await self._pause(len(answer.pieces))
        return _json(openai_completion(prompt, answer, created))

    async def messages(self, request: web.Request) -> web.StreamResponse:
        try:
            prompt = read_prompt(await request.read())
        except PromptError as error:
            body = {"type": "invalid_request_error", "message": str(error)}
            return _json({"type": "error", "error": body}, 400)
        answer = compose(prompt, self.count)
        if prompt.stream:
            return await self._send(request, anthropic_events(prompt, answer))
        await self._pause(len(answer.pieces))
        return _json(anthropic_message(prompt, answer))

    async def models(self, _request: web.Request) -> web.Response:
        rows = [
            {"id": name, "object": "model", "created": 0, "owned_by": "demo"} for name in MODELS
        ]
        return _json({"object": "list", "data": rows})

    async def _send(self, request: web.Request, events: Sequence[bytes]) -> web.StreamResponse:
        headers = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "x-request-id": _id("req_"),
        }
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        async for event in self._paced(events):
            await response.write(event)
        await response.write_eof()
        return response

    async def _paced(self, events: Sequence[bytes]) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number, event in enumerate(events):
            # Due times are absolute: a late wake-up shifts one piece, never the rest.
            due = start + number / self.rate if self.rate else 0.0
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            yield event

    async def _pause(self, pieces: int) -> None:
        if self.rate:
            await asyncio.sleep(pieces / self.rate)


async def start_demo(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    rate: float = TOKENS_PER_SECOND,
    listener: socket.socket | None = None,
) -> Demo:
    """Listen and answer until `Demo.stop`. Port 0 picks a free one. Raises OSError.

    `listener`: a listening socket to use, and to close, instead of making one.
    """
    handlers = _Handlers(rate, exact_count(Tokenizer.O200K))
    app = web.Application(client_max_size=PROMPT_BYTES_MAX)
    for prefix in ("", "/v1"):
        app.router.add_post(prefix + "/chat/completions", handlers.chat)
        app.router.add_post(prefix + "/messages", handlers.messages)
        app.router.add_get(prefix + "/models", handlers.models)
    # Providers stop generating when their caller leaves; so does this.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site: web.BaseSite = web.TCPSite(runner, host, port)
        if listener is not None:
            site = web.SockSite(runner, listener)
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    name, bound = cast("tuple[str, int]", runner.addresses[0][:2])
    shown = f"[{name}]" if ":" in name else name
    return Demo(f"http://{shown}:{bound}", runner)


def main() -> None:
    """`python -m proxy.app.demo --listen HOST:PORT [--rate TOKENS]`."""
    parser = argparse.ArgumentParser(description="A demo LLM upstream, OpenAI and Anthropic.")
    parser.add_argument("--listen", default="127.0.0.1:8089", metavar="HOST:PORT")
    parser.add_argument("--rate", type=float, default=TOKENS_PER_SECOND, metavar="TOKENS_PER_S")
    options = parser.parse_args()
    host, port = host_and_port(options.listen)
    uvloop.run(_serve(host, port, options.rate))


async def _serve(host: str, port: int, rate: float) -> None:
    demo = await start_demo(host, port, rate=rate)
    print(f"demo upstream on {demo.base_url}", flush=True)  # noqa: T201 - a command's output
    try:
        await asyncio.Event().wait()
    finally:
        await demo.stop()


def _texts(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return [text for text in parts if isinstance(text, str)]
    return []


def _fit(
    words: Sequence[str], prompt: Prompt, count: Callable[[str], int]
) -> tuple[tuple[str, ...], int, bool]:
    limit = prompt.output_tokens_max
    whole = count("".join(words))
    if whole <= limit:
        return tuple(words), whole, False
    kept: list[str] = []
    for word in words:
        said = "".join(kept)
        if count(said + word) <= limit:
            kept.append(word)
            continue
        # A provider stops at a token, not at a word: keep what of this word still fits.
        parts = (word[:size] for size in range(len(word), 0, -1))
        part = next((part for part in parts if count(said + part) <= limit), "")
        kept.extend([part] if part else [])
        break
    return tuple(kept), count("".join(kept)), True


def _openai_usage(answer: Answer) -> dict[str, object]:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _anthropic_message(
    prompt: Prompt,
    answer: Answer,
    content: list[dict[str, str]],
    stop: str | None,
    output_tokens: int,
) -> dict[str, object]:
    return {
        "id": _id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": prompt.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": answer.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
        },
    }


def _stop_reason(answer: Answer) -> str:
    return "max_tokens" if answer.cut else "end_turn"


def _id(prefix: str) -> str:
    return prefix + secrets.token_hex(12)


def _data(payload: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def _event(payload: dict[str, object]) -> bytes:
    return f"event: {payload['type']}\n".encode() + _data(payload)


def _json(payload: dict[str, object], status: int = 200) -> web.Response:
    headers = {"x-request-id": _id("req_")}
    body = orjson.dumps(payload)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


if __name__ == "__main__":
    main()
