import asyncio
import contextlib
from typing import Any

import orjson
import pytest

from proxy.app import trial
from proxy.app.demo import start_demo
from proxy.app.trial import Trial, try_channel
from proxy.core.entities import Channel, ChannelKey, Dialect

SECRET = "upstream-secret-canary-0123456789"


def channel(base_url: str, dialect: Dialect = Dialect.OPENAI, **changes: Any) -> Channel:
    values: dict[str, Any] = {
        "id": 1,
        "name": "main",
        "dialect": dialect,
        "base_url": base_url,
        "keys": (ChannelKey(1, SECRET),),
        "models": {"public": "upstream-name"},
        "groups": frozenset({"default"}),
        "allow_private": True,
        **changes,
    }
    return Channel(**values)


def against(answer: bytes, **changes: Any) -> tuple[Trial, bytes]:
    """Try a channel whose upstream sends `answer` and closes; also what it was asked."""

    async def run() -> tuple[Trial, bytes]:
        asked = bytearray()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.extend(await reader.readuntil(b"\r\n\r\n"))
            length = int(bytes(asked).split(b"content-length: ")[1].split(b"\r\n")[0])
            asked.extend(await reader.readexactly(length))
            writer.write(answer)
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            found = await try_channel(channel(f"http://127.0.0.1:{port}/v1", **changes), "public")
        finally:
            server.close()
            await server.wait_closed()
        return found, bytes(asked)

    return asyncio.run(asyncio.wait_for(run(), 20))


def reply(status: int, body: Any) -> bytes:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(data)) + data


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.ANTHROPIC])
def test_a_working_upstream_answers_with_its_tokens_and_times(dialect: Dialect) -> None:
    async def run() -> Trial:
        demo = await start_demo(rate=0)
        try:
            return await try_channel(channel(demo.base_url + "/v1", dialect), "public")
        finally:
            await demo.stop()

    found = asyncio.run(run())
    assert (found.ok, found.status, found.upstream_model) == (True, 200, "upstream-name")
    assert found.output_tokens == trial.OUTPUT_TOKENS
    assert found.input_tokens
    assert found.connect_ms is not None
    assert found.total_ms is not None
    assert found.total_ms >= found.connect_ms >= 0
    assert found.answer.startswith("Sluice is a relay")


def test_each_dialect_sends_its_own_credentials_to_its_own_path() -> None:
    _, asked = against(reply(200, {}))
    assert asked.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"\r\nauthorization: Bearer " + SECRET.encode() in asked
    _, asked = against(reply(200, {}), dialect=Dialect.ANTHROPIC)
    assert asked.startswith(b"POST /v1/messages HTTP/1.1\r\n")
    assert b"\r\nx-api-key: " + SECRET.encode() in asked
    assert b"anthropic-version: 2023-06-01" in asked
    assert orjson.loads(asked.split(b"\r\n\r\n")[1])["model"] == "upstream-name"


def test_azure_is_asked_for_its_deployment() -> None:
    _, asked = against(reply(200, {}), api_version="2024-10-21")
    path = b"/v1/openai/deployments/upstream-name/chat/completions?api-version=2024-10-21"
    assert asked.startswith(b"POST %b HTTP/1.1\r\n" % path)
    assert b"\r\napi-key: " + SECRET.encode() in asked
    assert b"authorization" not in asked


@pytest.mark.parametrize(
    ("endpoint", "path", "asked"),
    [
        ("responses", "/v1/responses", "input"),
        ("completions", "/v1/completions", "prompt"),
        ("gemini_generate", "/v1/models/upstream-name:generateContent", "contents"),
    ],
)
def test_a_channel_is_asked_in_a_form_it_serves(endpoint: str, path: str, asked: str) -> None:
    dialect = Dialect.GEMINI if endpoint.startswith("gemini") else Dialect.OPENAI
    endpoints = frozenset({endpoint, "speech"})
    found, sent = against(reply(200, {}), dialect=dialect, endpoints=endpoints)
    assert found.ok
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(f"POST {path} HTTP/1.1\r\n".encode())
    named = {"model"} - ({"model"} if dialect is Dialect.GEMINI else set())
    assert orjson.loads(body).keys() > named | {asked}


def test_a_channel_without_conversations_is_not_tried() -> None:
    with pytest.raises(ValueError, match="serves no conversations"):
        against(reply(200, {}), endpoints=frozenset({"speech"}))


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [{"text": "ok"}], "usage": {"prompt_tokens": 2, "completion_tokens": 1}},
        {
            "output": [{"type": "reasoning"}, {"content": [{"type": "output_text", "text": "ok"}]}],
            "usage": {"input_tokens": 2, "output_tokens": 1},
        },
        {
            "candidates": [{"content": {"parts": [{"text": "ok"}]}}],
            "usageMetadata": {"promptTokenCount": 2, "candidatesTokenCount": 1},
        },
    ],
)
def test_an_answer_of_every_form_is_read(answer: dict[str, Any]) -> None:
    found, _ = against(reply(200, answer))
    assert (found.answer, found.input_tokens, found.output_tokens) == ("ok", 2, 1)


def test_an_upstream_error_is_shown_without_the_secret() -> None:
    error = {"error": {"message": f"Incorrect API key provided: {SECRET}"}}
    found, _ = against(reply(401, error))
    assert (found.ok, found.status) == (False, 401)
    assert found.answer.startswith("Incorrect API key provided: ")
    assert SECRET not in found.answer


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (reply(502, b"<html>bad gateway"), 502, "<html>bad gateway"),
        (reply(200, b"[1]"), 200, "[1]"),
        (reply(200, {"choices": [{"message": {"content": None}}]}), 200, ""),
        (reply(200, {"content": [{"type": "text", "text": "ok"}]}), 200, "ok"),
        (reply(200, {"usage": {"prompt_tokens": "x"}}), 200, '{"usage"'),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil close", 200, "until close"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", None, "no whole answer"),
        (b"SSH-2.0-nonsense\r\n", None, "no whole answer: not an HTTP/1 response"),
        (b"", None, "no whole answer"),
    ],
)
def test_any_answer_is_told(answer: bytes, status: int | None, text: str) -> None:
    found, _ = against(answer)
    assert found.status == status
    assert found.answer.startswith(text)
    assert (found.input_tokens, found.output_tokens) == (None, None)


def test_an_endless_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "ANSWER_BYTES_MAX", 100)
    found, _ = against(reply(200, b"x" * 101))
    assert (found.status, found.ok) == (None, False)
    assert "above 1 MiB" in found.answer


def test_a_silent_upstream_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "ANSWER_SECONDS_MAX", 0.0)
    found, _ = silent()
    assert (found.status, found.total_ms) == (None, None)
    assert "within 0 s" in found.answer


def silent() -> tuple[Trial, None]:
    async def run() -> Trial:
        gone = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            gone.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        found = await try_channel(channel(f"http://127.0.0.1:{port}"), "public")
        await gone.wait()
        server.close()
        await server.wait_closed()
        return found

    return asyncio.run(asyncio.wait_for(run(), 20)), None


def test_no_connection_says_why() -> None:
    found = asyncio.run(try_channel(channel("http://127.0.0.1:1"), "public"))
    assert (found.ok, found.status, found.connect_ms) == (False, None, None)
    assert found.answer.startswith("no connection: ")
    private = asyncio.run(try_channel(channel("http://127.0.0.1:1", allow_private=False), "public"))
    assert "allow_private = true" in private.answer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {}}, "it serves no model at all"),
        ({"models": {"a": "b", "c": "d"}}, "it serves a, c"),
        ({"keys": ()}, "has no key"),
    ],
)
def test_a_channel_that_cannot_be_tried_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        asyncio.run(try_channel(channel("http://127.0.0.1:1", **changes), "public"))
