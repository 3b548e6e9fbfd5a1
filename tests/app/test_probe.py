import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from proxy.app import probe
from proxy.app.demo import start_demo
from proxy.app.probe import Probe, Reply, root_of
from proxy.app.probe_failures import ProbeError
from proxy.core.entities import Dialect

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
KEY = "sk-probe"


def against(answer: Answer, ask: Callable[[Probe], Awaitable[Any]]) -> Any:
    """What `ask` gives, pointed at a server on loopback that answers everything with `answer`."""

    async def run() -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            async with Probe(f"http://127.0.0.1:{port}", KEY) as found:
                return await ask(found)
        finally:
            await runner.cleanup()

    return asyncio.run(asyncio.wait_for(run(), 20))


def replying(body: bytes, kind: str = "application/json", status: int = 200) -> Answer:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers={"content-type": kind})

    return answer


def streaming(*blocks: bytes) -> Answer:
    return replying(b"".join(blocks), "text/event-stream; charset=utf-8")


def streamed(*blocks: bytes, dialect: Dialect = Dialect.OPENAI) -> Reply:
    found: Reply = against(streaming(*blocks), lambda one: one.stream(dialect, "m", "hi", 8))
    return found


@pytest.mark.parametrize(
    "pasted",
    [
        "http://relay",
        "http://relay/",
        "http://relay/v1",
        "http://relay/v1/",
        "http://relay/v1/v1",
        "http://relay/v1/chat/completions",
        "http://relay/v1/messages",
        "http://relay/v1/models/",
    ],
)
def test_root_from_whatever_was_pasted(pasted: str) -> None:
    assert root_of(pasted) == "http://relay"


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.ANTHROPIC])
def test_calls_the_demo_upstream_in_both_dialects(dialect: Dialect) -> None:
    async def run() -> tuple[Reply, Reply, Reply]:
        demo = await start_demo()
        try:
            async with Probe(demo.base_url, KEY) as one:
                plain = await one.plain(dialect, "demo-gpt", "hello", 12)
                whole = await one.stream(dialect, "demo-gpt", "hello", 12)
                left = await one.stream(dialect, "demo-gpt", "hello", 500, stop_after=1)
                return plain, whole, left
        finally:
            await demo.stop()

    plain, whole, left = asyncio.run(asyncio.wait_for(run(), 20))
    assert plain.status == 200
    assert plain.ended
    assert plain.text == whole.text != ""
    assert plain.output_tokens == whole.output_tokens == 12
    assert whole.ended
    assert whole.arrivals > 1
    assert whole.first_at is not None
    assert not left.ended
    assert left.text


def test_models_and_their_refusals() -> None:
    names = against(replying(b'{"data":[{"id":"a"},{"id":"b"},7]}'), lambda one: one.models())
    assert names == ["a", "b"]
    with pytest.raises(ProbeError, match="status 401"):
        against(replying(b"{}", status=401), lambda one: one.models())
    with pytest.raises(ProbeError, match="no `data`"):
        against(replying(b"[]"), lambda one: one.models())


def test_error_of_a_plain_call_is_a_reply_with_its_message() -> None:
    body = b'{"error":{"message":"no money","code":"insufficient_quota"}}'
    reply = against(replying(body, status=402), lambda one: one.plain(Dialect.OPENAI, "m", "hi", 1))
    assert (reply.status, reply.error["message"]) == (402, "no money")


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ((b'data: {"choices":[]}\n\n',), "without its end"),
        ((b'data: {"error":{"message":"overloaded"}}\n\n',), "error inside the stream"),
        ((b"data: nonsense\n\n",), "not a JSON object"),
    ],
)
def test_streams_that_are_not_whole_are_told(blocks: tuple[bytes, ...], said: str) -> None:
    with pytest.raises(ProbeError, match=said):
        streamed(*blocks)


def test_stream_that_is_an_ordinary_answer_or_an_error_is_told() -> None:
    with pytest.raises(ProbeError, match="not text/event-stream"):
        against(replying(b"{}"), lambda one: one.stream(Dialect.OPENAI, "m", "hi", 1))
    with pytest.raises(ProbeError, match="status 500"):
        against(replying(b"oops", status=500), lambda one: one.stream(Dialect.OPENAI, "m", "hi", 1))


def test_reasoning_finish_and_usage_of_a_chat_stream_are_read() -> None:
    reply = streamed(
        b'data: {"choices":[{"delta":{"reasoning_content":"hm "}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"yes"},"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n',
        b"data: [DONE]\n\n",
    )
    assert (reply.text, reply.finish) == ("hm yes", "stop")
    assert (reply.input_tokens, reply.output_tokens) == (3, 2)


def test_answer_and_line_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ANSWER_BYTES_MAX", 100)
    monkeypatch.setattr(probe, "LINE_BYTES_MAX", 100)
    with pytest.raises(ProbeError, match="above 100 bytes"):
        against(replying(b"x" * 101), lambda one: one.plain(Dialect.OPENAI, "m", "hi", 1))
    with pytest.raises(ProbeError, match="above 100 bytes"):
        streamed(b"data: " + b"x" * 100)


def test_nobody_listening_is_told() -> None:
    async def run() -> None:
        async with Probe("http://127.0.0.1:9", KEY) as one:
            await one.models()

    with pytest.raises(ProbeError):
        asyncio.run(run())


def test_an_error_is_quoted_by_its_message_alone() -> None:
    body = b'{"error":{"message":"not a key of this service","type":"x"}}'
    for said, text in (
        (body, "not a key of this service"),
        (b"<html>", "<html>"),
        (b"", ".nothing"),
    ):
        with pytest.raises(ProbeError, match=f"^status 401: {text}"):
            against(replying(said, status=401), lambda one: one.models())
