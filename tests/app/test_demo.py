import asyncio
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import pytest

from proxy.app.demo import Demo, start_demo
from proxy.app.demo_words import ANSWER, MODELS, compose, read_prompt
from proxy.core.entities import Tokenizer
from proxy.core.tokenizers import exact_count

COUNT = exact_count(Tokenizer.O200K)
ASK = {"model": "demo-gpt", "messages": [{"role": "user", "content": "say something nice"}]}


def against_demo(
    client: Callable[[aiohttp.ClientSession, Demo], Awaitable[Any]], rate: float = 0
) -> Any:
    async def run() -> Any:
        demo = await start_demo(rate=rate)
        try:
            async with aiohttp.ClientSession() as session:
                return await client(session, demo)
        finally:
            await demo.stop()

    return asyncio.run(asyncio.wait_for(run(), 20))


def post(path: str, body: Any, rate: float = 0) -> tuple[int, bytes]:
    async def client(session: aiohttp.ClientSession, demo: Demo) -> tuple[int, bytes]:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        async with session.post(demo.base_url + path, data=data) as response:
            return response.status, await response.read()

    found: tuple[int, bytes] = against_demo(client, rate)
    return found


def events(body: bytes) -> list[tuple[str | None, Any]]:
    found = []
    for block in body.decode().removesuffix("\n\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        data = lines["data"]
        found.append((lines.get("event"), data if data == "[DONE]" else orjson.loads(data)))
    return found


def test_openai_stream_has_one_role_chunk_then_text_then_reason_then_done() -> None:
    status, body = post("/v1/chat/completions", {**ASK, "stream": True})
    found = [data for _, data in events(body)]
    assert status == 200
    assert found[-1] == "[DONE]"
    chunks = found[:-1]
    assert len({(c["id"], c["created"], c["model"], c["system_fingerprint"]) for c in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks)
    assert text.startswith(ANSWER)
    assert text.endswith('say something nice".')
    assert [c["choices"][0]["finish_reason"] for c in chunks[-2:]] == [None, "stop"]
    assert all("usage" not in c for c in chunks)


def test_openai_usage_comes_in_a_chunk_of_its_own_when_asked_for() -> None:
    ask = {**ASK, "stream": True, "stream_options": {"include_usage": True}}
    found = [data for _, data in events(post("/chat/completions", ask)[1])]
    assert all(chunk["usage"] is None for chunk in found[:-2])
    assert found[-2]["choices"] == []
    usage = found[-2]["usage"]
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in found[:-2])
    assert (
        usage["completion_tokens"] == compose(read_prompt(orjson.dumps(ask)), COUNT).output_tokens
    )
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] == COUNT(text)


def test_openai_plain_answer_equals_the_stream() -> None:
    plain = orjson.loads(post("/v1/chat/completions", ASK)[1])
    choice = plain["choices"][0]
    assert plain["object"] == "chat.completion"
    assert choice["message"]["content"] == "".join(
        compose(read_prompt(orjson.dumps(ASK)), COUNT).pieces
    )
    assert choice["finish_reason"] == "stop"
    assert plain["usage"]["completion_tokens"] > 0


def test_anthropic_stream_has_every_event_in_order() -> None:
    status, body = post("/v1/messages", {**ASK, "max_tokens": 500, "stream": True})
    found = events(body)
    assert status == 200
    assert all(name == data["type"] for name, data in found)
    names = [name for name, _ in found]
    assert names[:3] == ["message_start", "content_block_start", "ping"]
    assert set(names[3:-3]) == {"content_block_delta"}
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert found[0][1]["message"]["usage"]["input_tokens"] > 0
    last = found[-2][1]
    assert last["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert last["usage"]["output_tokens"] > 10


def test_anthropic_plain_message() -> None:
    body = {**ASK, "max_tokens": 5, "system": [{"type": "text", "text": "be brief"}]}
    plain = orjson.loads(post("/messages", body)[1])
    assert plain["stop_reason"] == "max_tokens"
    assert plain["usage"]["output_tokens"] == 5
    assert plain["content"][0]["text"]
    assert ANSWER.startswith(plain["content"][0]["text"])


@pytest.mark.parametrize("limit", [1, 2, 7, 30])
def test_a_token_limit_is_met_exactly_and_reported(limit: int) -> None:
    body = {**ASK, "max_completion_tokens": limit}
    plain = orjson.loads(post("/v1/chat/completions", body)[1])
    assert plain["choices"][0]["finish_reason"] == "length"
    assert plain["usage"]["completion_tokens"] == limit


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"{}", b'{"messages": [1]}', b'{"messages": [], "max_tokens": "x"}']
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_bad_requests_get_a_400_in_the_dialect(path: str, body: bytes) -> None:
    status, answer = post(path, body)
    error = orjson.loads(answer)
    assert status == 400
    assert error["error"]["type"] == "invalid_request_error"
    assert ("type" in error) is (path == "/v1/messages")


def test_models_are_listed() -> None:
    async def client(session: aiohttp.ClientSession, demo: Demo) -> Any:
        async with session.get(demo.base_url + "/v1/models") as response:
            return await response.json()

    assert [row["id"] for row in against_demo(client)["data"]] == list(MODELS)


def test_pieces_are_paced_on_an_absolute_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds:  # the server's own code yields with zeroes
            waits.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr("proxy.app.demo.asyncio.sleep", sleep)
    _, body = post("/v1/chat/completions", {**ASK, "stream": True, "max_tokens": 3}, rate=0.001)
    # Nothing was waited for, so every due time is still ahead, one period further each time.
    assert [round(wait, -3) for wait in waits] == [1000.0 * n for n in range(1, len(waits) + 1)]
    assert len(waits) == len(events(body)) - 1
    waits.clear()
    plain = orjson.loads(post("/v1/chat/completions", {**ASK, "max_tokens": 3}, rate=0.001)[1])
    assert waits == [1000.0 * len(plain["choices"][0]["message"]["content"].split())]


def test_a_busy_port_is_an_oserror_and_leaves_nothing_open() -> None:
    async def run() -> None:
        demo = await start_demo(rate=0)
        port = int(demo.base_url.rsplit(":", 1)[1])
        try:
            with pytest.raises(OSError):
                await start_demo(port=port)
        finally:
            await demo.stop()

    asyncio.run(run())


def test_it_runs_as_a_program_of_its_own() -> None:
    command = [sys.executable, "-m", "proxy.app.demo", "--listen", "127.0.0.1:0", "--rate", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            url = child.stdout.readline().decode().split()[-1]
            with urllib.request.urlopen(f"{url}/v1/models", timeout=10) as answer:
                assert answer.status == 200
        finally:
            child.kill()


@pytest.mark.parametrize(
    ("path", "body", "shape"),
    [
        ("/v1/completions", {"prompt": 5}, "param"),
        ("/v1/responses", {"input": None}, "param"),
        ("/v1beta/models/demo-gpt:generateContent", {"contents": 5}, "status"),
        ("/v1/embeddings", {}, "param"),
        ("/v1/messages/count_tokens", {}, "type"),
        ("/v1beta/models/org/demo:countTokens", {}, "status"),
    ],
)
def test_every_endpoint_refuses_in_its_own_dialect(path: str, body: Any, shape: str) -> None:
    status, answer = post(path, body)
    assert status == 400
    assert shape in orjson.loads(answer)["error"]


def test_a_model_may_be_in_the_path() -> None:
    ask = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
    _, whole = post("/v1beta/models/org/demo-x:generateContent", ask)
    assert orjson.loads(whole)["modelVersion"] == "org/demo-x"
    _, streamed = post("/v1beta/models/demo-x:streamGenerateContent?alt=sse", ask)
    assert streamed.count(b"\r\n\r\n") > 10
    _, counted = post("/v1beta/models/demo-x:countTokens", ask)
    assert orjson.loads(counted)["totalTokens"] > 1


def test_files_come_in_forms() -> None:
    async def client(session: aiohttp.ClientSession, demo: Demo) -> Any:
        form = aiohttp.FormData()
        form.add_field("model", "demo-hear")
        form.add_field("file", b"0" * 16_000, filename="a.mp3", content_type="audio/mpeg")
        async with session.post(f"{demo.base_url}/v1/audio/transcriptions", data=form) as answer:
            assert answer.status == 200
            return await answer.json()

    assert against_demo(client) == {
        "text": "This recording has 16000 bytes.",
        "usage": {"type": "duration", "seconds": 1},
    }
