"""A Gemini channel behind the relay: every other protocol's callers, billed by what it reported.

The upstream is scripted in Google's shapes; one that nobody here wrote is in `test_aimock.py`.
"""

import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.edge.harness import (
    ANN,
    CHAT,
    MESSAGES,
    WORDS,
    Relay,
    body,
    channel,
    error_of,
    plain_answer,
    price_of,
)
from tests.integration.raw_client import request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import (
    AwaitGone,
    Close,
    Flood,
    Pause,
    Script,
    Send,
    chunk,
    plain_script,
    stream_head,
    stream_script,
)

SENTENCE = "".join(WORDS)
CALLERS = [CHAT, MESSAGES, "/v1/responses"]
callers = pytest.mark.parametrize("target", CALLERS)


def event(*parts: object, finish: str | None = None, **figures: int) -> bytes:
    """One event in Google's own framing; `figures`: read, cached, written, thought."""
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return data({"candidates": [candidate], **report(**figures)})


def report(read: int = 9, cached: int = 0, written: int = 0, thought: int = 0) -> dict[str, Any]:
    names = {
        "promptTokenCount": read,
        "cachedContentTokenCount": cached,
        "candidatesTokenCount": written,
        "thoughtsTokenCount": thought,
    }
    usage = {name: figure for name, figure in names.items() if figure}
    usage["totalTokenCount"] = read + written + thought
    return {"usageMetadata": usage, "modelVersion": "up-m", "responseId": "r1"}


def data(value: object) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\r\n\r\n"


def text(word: str, **figures: Any) -> bytes:
    return event({"text": word}, **figures)


def answer(**figures: int) -> list[bytes]:
    """A whole stream."""
    figures.setdefault("written", len(WORDS))
    return [*map(text, WORDS), event({"text": ""}, finish="STOP", **figures)]


def whole(**figures: int) -> bytes:
    """The same as a plain answer, laid out as Google does."""
    content = {"parts": [{"text": SENTENCE}], "role": "model"}
    candidate = {"content": content, "finishReason": "STOP", "index": 0}
    figures.setdefault("written", len(WORDS))
    return json.dumps({"candidates": [candidate], **report(**figures)}, indent=2).encode()


def google(url: str, name: str = "main", **changes: Any) -> dict[str, Any]:
    return channel(f"{url}beta", name, dialect="gemini", **changes)


def asked(target: str, *, stream: bool = True, **more: Any) -> bytes:
    if target == "/v1/responses":
        found = {"model": "m", "input": "Say hello.", "stream": stream}
        return json.dumps(found | more).encode()
    limit: dict[str, Any] = {"max_tokens": 50} if target == MESSAGES else {}
    return body(stream=stream, **limit, **more)


def words(target: str, answered: bytes) -> str:
    """The text a stream or a plain answer says, in whichever protocol."""
    if not answered.startswith((b"data:", b"event:", b":")):
        found = json.loads(answered)
        if target == CHAT:
            return str(found["choices"][0]["message"]["content"])
        parts = found["content"] if target == MESSAGES else found["output"][0]["content"]
        return "".join(part["text"] for part in parts)
    said = [json.loads(line[6:]) for line in answered.split(b"\n") if line.startswith(b"data: {")]
    if target == CHAT:
        deltas = [one["choices"][0]["delta"] for one in said if one.get("choices")]
        return "".join(delta.get("content") or "" for delta in deltas)
    if target == MESSAGES:
        return "".join(one["delta"].get("text", "") for one in said if "delta" in one)
    kind = "response.output_text.delta"
    return "".join(one["delta"] for one in said if one["type"] == kind)


@callers
def test_a_stream_is_translated_and_billed(tmp_path: Path, target: str) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        response = relay.ask(asked(target), target)
        assert (response.status, response.whole) == (200, True)
        assert words(target, response.body) == SENTENCE
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("complete", "reported")
        assert (call["finish_reason"], call["charge"]) == ("STOP", price_of(9, len(WORDS)))
        (request,) = upstream.requests
        assert request.target == "/v1beta/models/up-m:streamGenerateContent?alt=sse"
        assert request.header("x-goog-api-key") == "sk-upstream-main-0001"
        assert request.header("authorization") is request.header("x-api-key") is None
        told = json.loads(request.body)
        assert told["contents"] == [{"role": "user", "parts": [{"text": "Say hello."}]}]
        assert "model" not in told
        assert "stream" not in told


@callers
def test_a_plain_answer_is_translated_and_billed(tmp_path: Path, target: str) -> None:
    with (
        ScriptedUpstream(plain_script(whole(cached=4, thought=3))) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        response = relay.ask(asked(target, stream=False), target)
        assert response.status == 200
        assert words(target, response.body) == SENTENCE
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("complete", "reported")
        assert (call["input_uncached"], call["cache_read"]) == (5, 4)
        assert (call["output"], call["reasoning"]) == (len(WORDS) + 3, 3)
        (request,) = upstream.requests
        assert request.target == "/v1beta/models/up-m:generateContent"


def test_a_channel_of_the_callers_own_protocol_is_preferred(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as own,
        ScriptedUpstream(plain_script(whole())) as other,
        Relay(
            tmp_path, channel(own.base_url), google(other.base_url, "second", priority=9)
        ) as relay,
    ):
        assert relay.ask(body(stream=False)).header("x-sluice-channel") == "main"
        assert not other.requests


REFUSED = {
    "error": {
        "code": 400,
        "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
        ],
    }
}
PAUSE = {
    "error": {
        "code": 429,
        "message": "You exceeded your current quota.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.4s"}],
    }
}


@callers
def test_what_the_provider_says_is_wrong_is_told(tmp_path: Path, target: str) -> None:
    said = {"error": {"code": 400, "message": "No such thing.", "status": "INVALID_ARGUMENT"}}
    script = plain_script(json.dumps(said).encode(), 400)
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        response = relay.ask(asked(target), target)
        assert response.status == 400
        assert error_of(response)["message"] == "No such thing."
        assert relay.calls()[0]["charge"] == 0


def test_a_key_that_is_not_valid_is_the_operators_matter(tmp_path: Path) -> None:
    """Google says 400 where others say 401; the caller has nothing to put right."""
    bad = plain_script(json.dumps(REFUSED).encode(), 400)
    with (
        ScriptedUpstream(bad, plain_script(whole())) as upstream,
        Relay(
            tmp_path, google(upstream.base_url, keys=["first-key-0001", "second-key-0002"])
        ) as relay,
    ):
        assert relay.ask(body(stream=False)).status == 200
        keys = [request.header("x-goog-api-key") for request in upstream.requests]
        assert sorted(map(str, keys)) == ["first-key-0001", "second-key-0002"]
    with (
        ScriptedUpstream(bad) as upstream,
        Relay(_made(tmp_path), google(upstream.base_url)) as relay,
    ):
        response = relay.ask(body(stream=False))
        assert response.status == 503
        assert b"API key" not in response.body


def _made(path: Path) -> Path:
    path = path / "second"
    path.mkdir()
    return path


def test_a_pause_is_as_long_as_the_provider_asks(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(json.dumps(PAUSE).encode(), 429)) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        response = relay.ask(body(stream=False))
        assert (response.status, response.header("retry-after")) == (429, "17")


@callers
def test_an_error_inside_a_stream_is_told_in_the_callers_way(tmp_path: Path, target: str) -> None:
    busy = data({"error": {"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE"}})
    script = stream_script([text("Hello"), busy])
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        response = relay.ask(asked(target), target)
        assert response.status == 200
        assert words(target, response.body.partition(b"event: error")[0]) == "Hello"
        assert b"Overloaded." in response.body
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("upstream_error", "counted")
        assert call["charge"] > 0


@callers
@pytest.mark.parametrize("end", ["closed", "unfinished"])
def test_a_stream_that_breaks_off_is_no_answer(tmp_path: Path, target: str, end: str) -> None:
    script: Script = [Send(stream_head()), Send(chunk(text("Hello"))), Close()]
    if end == "unfinished":
        script = stream_script([text("Hello")])
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        response = relay.ask(asked(target), target)
        for terminal in (b"[DONE]", b"message_stop", b"response.completed"):
            assert terminal not in response.body
        assert relay.calls()[0]["verdict"] == "upstream_truncated"


def test_a_call_that_is_not_well_formed_is_an_error_and_not_silence(tmp_path: Path) -> None:
    broken = event(finish="MALFORMED_FUNCTION_CALL", written=3)
    with (
        ScriptedUpstream(stream_script([text("Hello"), broken])) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        response = relay.ask(body())
        assert "MALFORMED_FUNCTION_CALL" in error_of(response)["message"]
        assert b"[DONE]" not in response.body
        (call,) = relay.calls()
        assert call["finish_reason"] == "MALFORMED_FUNCTION_CALL"
        assert call["verdict"] == "upstream_error"


@callers
def test_a_blocked_prompt_is_a_refusal_that_costs_its_prompt(tmp_path: Path, target: str) -> None:
    blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, **report()}
    with (
        ScriptedUpstream(stream_script([data(blocked)])) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        response = relay.ask(asked(target), target)
        assert response.whole
        assert any(
            reason in response.body for reason in (b'"content_filter"', b'"stop_reason":"refusal"')
        )
        (call,) = relay.calls()
        assert (call["finish_reason"], call["verdict"]) == ("PROHIBITED_CONTENT", "complete")
        assert call["charge"] == price_of(9, 0)


def test_a_slow_provider_is_waited_for_with_signs_of_life(tmp_path: Path) -> None:
    script: Script = [Send(stream_head()), Pause("think"), *stream_script(answer())[1:]]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, google(upstream.base_url), heartbeat_first_ms=10) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(), key=ANN))
        client.read_until(b": keep-alive\n\n")
        upstream.release("think")
        rest = client.read_until(b"[DONE]")
        assert words(CHAT, rest[rest.index(b"data:") :]) == SENTENCE


def test_a_long_answer_is_held_to_the_wallet(tmp_path: Path) -> None:
    """Every event is counted as it passes, though each also brings the provider's figure."""
    endless: Script = [Send(stream_head()), Flood(chunk(text(" and so on")), 40_000), AwaitGone()]
    credit = price_of(100, 200)
    with (
        ScriptedUpstream(endless) as upstream,
        Relay(tmp_path, google(upstream.base_url), credit=credit, slice_tokens=16) as relay,
    ):
        assert error_of(relay.ask(body()))["code"] == "insufficient_quota"
        (call,) = relay.calls()
        assert call["verdict"] == "cut_for_balance"
        assert 0 < call["charge"] <= credit


def test_the_openai_sdk_streams_from_a_gemini_channel(tmp_path: Path) -> None:
    call = {"functionCall": {"id": "fc1", "name": "clock", "args": {"zone": "UTC"}}}
    events = [
        event({"text": "Hm.", "thought": True}),
        event({**call, "thoughtSignature": "c2ln"}),
        event({"text": ""}, finish="STOP", written=5, thought=4),
    ]
    with (
        ScriptedUpstream(stream_script(events), stream_script(answer())) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
        openai.OpenAI(
            base_url=f"http://127.0.0.1:{relay.port}/v1", api_key=ANN, max_retries=0
        ) as client,
    ):
        tools: Any = [{"type": "function", "function": {"name": "clock", "parameters": {}}}]
        turns: list[Any] = [{"role": "user", "content": "What time is it?"}]
        with client.chat.completions.stream(model="m", messages=turns, tools=tools) as stream:
            said = stream.get_final_completion().choices[0].message
        assert said.tool_calls is not None
        (made,) = said.tool_calls
        turns += [said, {"role": "tool", "tool_call_id": made.id, "content": "noon"}]
        with client.chat.completions.stream(model="m", messages=turns, tools=tools) as stream:
            assert stream.get_final_completion().choices[0].message.content == SENTENCE
        contents = json.loads(upstream.requests[1].body)["contents"]
        assert contents[1]["parts"] == [{**call, "thoughtSignature": "c2ln"}]
        assert contents[2]["parts"] == [
            {"functionResponse": {"id": "fc1", "name": "clock", "response": {"output": "noon"}}}
        ]
        assert [row["charge"] for row in relay.calls()] == [price_of(9, 9), price_of(9, 7)]


def test_the_anthropic_sdk_streams_from_a_gemini_channel(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer(cached=4))) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
        anthropic.Anthropic(
            base_url=f"http://127.0.0.1:{relay.port}", api_key=ANN, max_retries=0
        ) as client,
    ):
        turns: Any = [{"role": "user", "content": "Hi"}]
        with client.messages.stream(model="m", max_tokens=50, messages=turns) as stream:
            found = stream.get_final_message()
        assert found.stop_reason == "end_turn"
        assert [block.text for block in found.content if block.type == "text"] == [SENTENCE]
        used = found.usage
        assert (used.input_tokens, used.cache_read_input_tokens, used.output_tokens) == (5, 4, 7)
        assert relay.calls()[0]["charge"] == price_of(9, 7)
