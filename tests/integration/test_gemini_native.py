"""Gemini's own endpoints, asked by Google's real SDK: byte for byte, billed and held.

The upstream is scripted in Google's shapes, or another provider's where the call is translated.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from proxy.core.entities import Dialect
from proxy.edge.downstream import HEARTBEATS
from tests.edge.harness import (
    ANN,
    BOB,
    WORDS,
    Relay,
    anthropic_channel,
    channel,
    message,
    plain_answer,
    price_of,
)
from tests.edge.harness import (
    answer as openai_answer,
)
from tests.integration.raw_client import RawResponse, dechunk, request_bytes
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
from tests.integration.test_gemini_channel import answer, data, event, google, report, text, whole

SENTENCE = "".join(WORDS)
STREAM = "/v1beta/models/m:streamGenerateContent?alt=sse"
GENERATE = "/v1beta/models/m:generateContent"


def asked(content: str = "Say hello.", **more: Any) -> bytes:
    return json.dumps({"contents": [{"parts": [{"text": content}]}], **more}).encode()


@contextmanager
def client(relay: Relay, base: str = "", key: str = ANN, **options: Any) -> Iterator[genai.Client]:
    """Google's SDK, as a user makes it."""
    http = types.HttpOptions(
        base_url=f"http://127.0.0.1:{relay.port}{base}",
        timeout=20_000,
        retry_options=types.HttpRetryOptions(attempts=1),
        **options,
    )
    with genai.Client(api_key=key, http_options=http) as found:
        yield found


def error_of(response: RawResponse) -> dict[str, Any]:
    """The error of a body, or of the last event of a stream, in Google's shape."""
    last = response.body.rstrip().rpartition(b"data: ")[2]
    found: dict[str, Any] = json.loads(last)["error"]
    assert set(found) >= {"code", "message", "status"}
    return found


def test_a_stream_passes_byte_for_byte_and_is_billed(tmp_path: Path) -> None:
    events = answer(cached=4, thought=3)
    with (
        ScriptedUpstream(stream_script(events)) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        body = asked(generationConfig={"maxOutputTokens": 50}, safetySettings=[])
        response = relay.ask(body, STREAM)
        assert (response.status, response.whole) == (200, True)
        assert response.body == b"".join(events)
        assert response.header("content-type") == "text/event-stream; charset=utf-8"
        assert response.header("x-ratelimit-remaining-requests") is not None
        assert response.header("x-sluice-model") == "up-m"
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("complete", "reported")
        assert (call["endpoint"], call["dialect"]) == ("gemini_stream", "gemini")
        assert (call["input_uncached"], call["cache_read"]) == (5, 4)
        assert call["charge"] == price_of(9, len(WORDS) + 3)
        (request,) = upstream.requests
        assert request.body == body, "the model is named by the path alone"
        assert request.target == "/v1beta/models/up-m:streamGenerateContent?alt=sse"
        assert request.header("x-goog-api-key") == "sk-upstream-main-0001"


def test_a_plain_answer_passes_byte_for_byte_and_is_billed(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(whole())) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        response = relay.ask(asked(), GENERATE)
        assert (response.status, response.body) == (200, whole())
        (call,) = relay.calls()
        assert (call["endpoint"], call["charge"]) == ("gemini_generate", price_of(9, 7))
        (request,) = upstream.requests
        assert request.target == "/v1beta/models/up-m:generateContent"


@pytest.mark.parametrize("base", ["", "/v1beta", "/v1", "/v1beta/models/x:generateContent"])
def test_googles_sdk_at_any_base_url(tmp_path: Path, base: str) -> None:
    scripts = (plain_script(whole()), stream_script(answer()))
    with (
        ScriptedUpstream(*scripts) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
        client(relay, base) as sdk,
    ):
        found = sdk.models.generate_content(model="m", contents="Hi")
        assert found.text == SENTENCE
        assert found.usage_metadata is not None
        assert found.usage_metadata.total_token_count == 16
        events = sdk.models.generate_content_stream(model="models/m", contents="Hi")
        assert "".join(one.text or "" for one in events) == SENTENCE
        assert [row["charge"] for row in relay.calls()] == [price_of(9, 7)] * 2


def test_googles_sdk_runs_a_loop_of_tools(tmp_path: Path) -> None:
    called = event(
        {"functionCall": {"id": "fc1", "name": "clock", "args": {"zone": "UTC"}},
         "thoughtSignature": "c2ln"},
        finish="STOP", written=5,
    )  # fmt: skip
    told = []

    def clock(zone: str) -> str:
        """Tell the time."""
        told.append(zone)
        return "noon"

    plain = json.loads(called.removeprefix(b"data: "))
    scripts = (plain_script(json.dumps(plain).encode()), plain_script(whole()))
    with (
        ScriptedUpstream(*scripts) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
        client(relay) as sdk,
    ):
        config = types.GenerateContentConfig(tools=[clock])
        found = sdk.models.generate_content(model="m", contents="What time is it?", config=config)
        assert (found.text, told) == (SENTENCE, ["UTC"])
        contents = json.loads(upstream.requests[1].body)["contents"]
        assert contents[1]["parts"][0]["thoughtSignature"] == "c2ln"
        assert contents[2]["parts"][0]["functionResponse"]["response"] == {"result": "noon"}
        assert len(relay.calls()) == 2


@pytest.mark.parametrize("stream", [True, False])
def test_googles_sdk_on_other_providers_channels(tmp_path: Path, stream: bool) -> None:
    spoken = (
        b'{"id":"msg_1","type":"message","content":[{"type":"text","text":"Hello there"}],'
        b'"stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":2}}'
    )
    chat = stream_script(openai_answer()) if stream else plain_script(plain_answer())
    messages = stream_script(message()) if stream else plain_script(spoken)
    for number, (script, one) in enumerate(((chat, channel), (messages, anthropic_channel))):
        path = tmp_path / str(number)
        path.mkdir()
        with (
            ScriptedUpstream(script) as upstream,
            Relay(path, one(upstream.base_url)) as relay,
            client(relay) as sdk,
        ):
            config = types.GenerateContentConfig(max_output_tokens=50, system_instruction="Brief.")
            ask: Any = {"model": "m", "contents": "Say hello.", "config": config}
            if stream:
                said = "".join(
                    each.text or "" for each in sdk.models.generate_content_stream(**ask)
                )
            else:
                said = sdk.models.generate_content(**ask).text or ""
            assert said == (SENTENCE if stream else "Hello there")
            (call,) = relay.calls()
            assert (call["verdict"], call["source"]) == ("complete", "reported")
            told = json.loads(upstream.requests[0].body)
            assert (told["model"], bool(told.get("stream"))) == ("up-m", stream)


# Keys


@pytest.mark.parametrize(
    ("target", "headers", "key"),
    [
        (GENERATE, {"x-goog-api-key": ANN}, None),
        (f"{GENERATE}?key={ANN}", {}, None),
        (f"{GENERATE}?key={ANN}&alt=json", {"x-goog-api-key": ANN}, None),
        (GENERATE, {}, ANN),
    ],
)
def test_a_key_may_stand_where_google_has_it(
    tmp_path: Path, target: str, headers: dict[str, str], key: str | None
) -> None:
    with (
        ScriptedUpstream(plain_script(whole())) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        assert relay.ask(asked(), target, key=key, headers=headers).status == 200
        (request,) = upstream.requests
        assert ANN.encode() not in request.raw
        assert "key=" not in request.target


@pytest.mark.parametrize(
    ("target", "headers", "code"),
    [
        (GENERATE, {}, "INVALID_API_KEY"),
        (f"{GENERATE}?key={BOB}", {"x-goog-api-key": ANN}, "INVALID_API_KEY"),
        (f"/v1/chat/completions?key={ANN}", {}, None),
    ],
)
def test_a_key_that_is_missing_or_ambiguous_is_refused(
    tmp_path: Path, target: str, headers: dict[str, str], code: str | None
) -> None:
    with (
        ScriptedUpstream(plain_script(whole())) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        response = relay.ask(asked(), target, key=None, headers=headers)
        assert response.status == 401
        assert ANN.encode() not in response.body
        if code is not None:
            error = error_of(response)
            assert (error["code"], error["status"]) == (401, "UNAUTHENTICATED")
            assert error["details"][0]["reason"] == code
        assert not upstream.requests


# What is refused, and how


@pytest.mark.parametrize(
    ("target", "body", "status", "google_status"),
    [
        ("/v1beta/models/nobody:generateContent", asked(), 404, "NOT_FOUND"),
        (GENERATE, b"{}", 400, "INVALID_ARGUMENT"),
        (GENERATE, asked(generationConfig={"candidateCount": 99}), 400, "INVALID_ARGUMENT"),
        (GENERATE, b"nonsense", 400, "INVALID_ARGUMENT"),
        ("/v1beta/models/m:embedContent", b"{}", 404, "NOT_FOUND"),
        ("/v1beta/cachedContents", b"{}", 404, "NOT_FOUND"),
        ("/v1beta/models/m", b"{}", 405, None),
    ],
)
def test_errors_are_in_googles_shape(
    tmp_path: Path, target: str, body: bytes, status: int, google_status: str | None
) -> None:
    with (
        ScriptedUpstream(plain_script(whole())) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        response = relay.ask(body, target)
        error = error_of(response)
        assert (response.status, error["code"]) == (status, status)
        assert google_status in (None, error["status"])
        assert not upstream.requests
        assert not relay.calls()


def test_googles_sdk_raises_what_it_is_told(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(whole())) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
        client(relay) as sdk,
    ):
        with pytest.raises(errors.ClientError, match="does not exist") as raised:
            sdk.models.generate_content(model="mm", contents="Hi")
        assert (raised.value.code, raised.value.status) == (404, "NOT_FOUND")
        assert "/v1/models" in str(raised.value.message)
    broken: Script = [Send(stream_head()), Send(chunk(text("Hello"))), Close()]
    (tmp_path / "2").mkdir()
    with (
        ScriptedUpstream(broken) as upstream,
        Relay(tmp_path / "2", google(upstream.base_url)) as relay,
        client(relay) as sdk,
    ):
        with pytest.raises(errors.APIError, match="broke off"):
            list(sdk.models.generate_content_stream(model="m", contents="Hi"))
        assert relay.calls()[0]["verdict"] == "upstream_truncated"


def test_the_providers_own_error_reaches_googles_sdk(tmp_path: Path) -> None:
    said = {"error": {"code": 400, "message": "Unknown name.", "status": "INVALID_ARGUMENT"}}
    with (
        ScriptedUpstream(plain_script(json.dumps(said).encode(), 400)) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
        client(relay) as sdk,
        pytest.raises(errors.ClientError, match="Unknown name") as raised,
    ):
        sdk.models.generate_content(model="m", contents="Hi")
    assert raised.value.status == "INVALID_ARGUMENT"


# Money


def test_a_plain_call_holds_what_its_limit_and_candidates_may_cost(tmp_path: Path) -> None:
    script: Script = [Pause("hold"), *plain_script(whole())]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
        relay.client() as raw,
    ):
        config = {"maxOutputTokens": 100, "candidateCount": 3}
        raw.send(request_bytes(GENERATE, asked(generationConfig=config), key=ANN))
        call = relay.call()
        estimate = relay.do(lambda: call.offer.request.input_tokens_estimate)
        assert relay.do(lambda: call.offer.hold) == price_of(estimate, 300)
        upstream.release("hold")
        assert raw.read_response().status == 200


@pytest.mark.parametrize(
    ("thinking", "strict"),
    [
        ({"thinkingBudget": 0}, False),
        ({"thinkingBudget": 99}, True),
        ({"thinkingLevel": "LOW"}, True),
    ],
)
def test_thinking_that_is_asked_for_holds_the_ceiling(
    tmp_path: Path, thinking: dict[str, Any], strict: bool
) -> None:
    script: Script = [Send(stream_head()), Pause("hold"), *stream_script(answer())[1:]]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, google(upstream.base_url), slice_tokens=16) as relay,
        relay.client() as raw,
    ):
        config = {"maxOutputTokens": 1_000, "thinkingConfig": thinking}
        raw.send(request_bytes(STREAM, asked(generationConfig=config), key=ANN))
        call = relay.call()
        held = relay.do(lambda: (call.offer.hold, call.offer.ceiling))
        assert (held[0] == held[1]) is strict
        upstream.release("hold")
        assert raw.read_response().status == 200


def test_a_lowered_limit_is_written_into_the_request(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(whole()), plain_script(whole())) as upstream,
        Relay(tmp_path, google(upstream.base_url), group={"output_tokens_max": 40}) as relay,
    ):
        response = relay.ask(asked(), GENERATE)
        assert response.header("x-sluice-max-tokens") == "40"
        relay.ask(asked(generation_config={"max_output_tokens": 9}), GENERATE)
        sent = [json.loads(request.body) for request in upstream.requests]
        assert sent[0]["generationConfig"] == {"maxOutputTokens": 40}
        assert sent[1]["generation_config"] == {"max_output_tokens": 9}
        assert len(sent[1]) == 2


def test_a_wallet_that_runs_dry_ends_the_stream_in_googles_way(tmp_path: Path) -> None:
    endless: Script = [Send(stream_head()), Flood(chunk(text(" and so on")), 40_000), AwaitGone()]
    credit = price_of(100, 200)
    with (
        ScriptedUpstream(endless) as upstream,
        Relay(tmp_path, google(upstream.base_url), credit=credit, slice_tokens=16) as relay,
    ):
        error = error_of(relay.ask(asked(), STREAM))
        assert (error["code"], error["details"][0]["reason"]) == (402, "INSUFFICIENT_QUOTA")
        (call,) = relay.calls()
        assert call["verdict"] == "cut_for_balance"
        assert 0 < call["charge"] <= credit


def test_every_candidate_must_end(tmp_path: Path) -> None:
    one = [text("a"), event(finish="STOP", written=1)]
    other = {"content": {"parts": [{"text": "b"}]}, "finishReason": "STOP", "index": 1}
    two = [*one, data({"candidates": [other], **report(written=2)})]
    body = asked(generationConfig={"candidateCount": 2})
    with (
        ScriptedUpstream(stream_script(one), stream_script(two)) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        assert b'"error"' in relay.ask(body, STREAM).body
        assert relay.ask(body, STREAM).body == b"".join(two)
        verdicts = [call["verdict"] for call in relay.calls()]
        assert verdicts == ["upstream_truncated", "complete"]


def test_a_stream_is_kept_alive_in_a_way_googles_sdk_reads_past(tmp_path: Path) -> None:
    script: Script = [Send(stream_head()), Pause("think"), *stream_script(answer())[1:]]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, google(upstream.base_url), heartbeat_first_ms=10) as relay,
        client(relay) as sdk,
    ):

        def ask() -> str:
            events = sdk.models.generate_content_stream(model="m", contents="Hi")
            return "".join(one.text or "" for one in events)

        with ThreadPoolExecutor(1) as thread:
            said = thread.submit(ask)
            call = relay.call()
            relay.until(lambda: call.client.begun)
            upstream.release("think")
            assert said.result(20) == SENTENCE
        assert HEARTBEATS[Dialect.GEMINI] == b"\n\n"


# Streams as an array, for who does not ask for events

ARRAY = "/v1beta/models/m:streamGenerateContent"


@pytest.mark.parametrize("translated", [False, True], ids=["native", "translated"])
def test_a_stream_is_an_array_where_events_are_not_asked_for(
    tmp_path: Path, translated: bool
) -> None:
    told = openai_answer() if translated else [b": hello\n\n", *answer(cached=4)]
    one = channel if translated else google
    with (
        ScriptedUpstream(stream_script(told)) as upstream,
        Relay(tmp_path, one(upstream.base_url)) as relay,
    ):
        response = relay.ask(asked(), ARRAY)
        assert (response.status, response.whole) == (200, True)
        assert response.header("content-type") == "application/json; charset=utf-8"
        found = json.loads(response.body)
        parts = [
            part
            for event in found
            for candidate in event["candidates"]
            for part in candidate["content"]["parts"]
        ]
        assert "".join(part["text"] for part in parts) == SENTENCE
        assert found[-1]["candidates"][0]["finishReason"] == "STOP"
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("complete", price_of(9, 7))
        if not translated:
            assert upstream.requests[0].target.endswith("?alt=sse")
            assert [json.loads(event.removeprefix(b"data: ")) for event in told[1:]] == found


def test_an_array_that_breaks_off_ends_in_an_error_and_is_json_all_the_same(
    tmp_path: Path,
) -> None:
    script: Script = [Send(stream_head()), Send(chunk(text("Hello"))), Pause("on"), Close()]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, google(upstream.base_url), heartbeat_first_ms=10) as relay,
        relay.client() as raw,
    ):
        raw.send(request_bytes(ARRAY, asked(), key=ANN))
        raw.read_until(b"Hello")
        upstream.release("on")
        rest = raw.read_until(b"0\r\n\r\n")
        body = dechunk(rest[rest.index(b"\r\n\r\n") + 4 :])[0]
        first, last = json.loads(body)
        assert first["candidates"][0]["content"]["parts"] == [{"text": "Hello"}]
        assert last["error"]["status"] == "INTERNAL"
        assert relay.calls()[0]["verdict"] == "upstream_truncated"


def test_an_array_waits_with_white_space(tmp_path: Path) -> None:
    script: Script = [Send(stream_head()), Pause("think"), *stream_script(answer())[1:]]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, google(upstream.base_url), heartbeat_first_ms=10) as relay,
        relay.client() as raw,
    ):
        raw.send(request_bytes(ARRAY, asked(), key=ANN))
        raw.read_until(b"\n\n\r\n")
        upstream.release("think")
        rest = raw.read_until(b"0\r\n\r\n")
        assert len(json.loads(dechunk(rest[rest.index(b"\r\n\r\n") + 4 :])[0])) == 8


def test_an_array_that_fails_before_its_first_element_has_its_true_status(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(b"{}", 500)) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        response = relay.ask(asked(), ARRAY)
        assert response.status in (502, 503)
        assert error_of(response)["code"] == response.status


# Models


def test_googles_sdk_lists_the_models(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(whole())) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
    ):
        for version in ("v1", "v1beta"):
            with client(relay, api_version=version) as sdk:
                found = list(sdk.models.list(config={"page_size": 2}))
                assert [model.name for model in found] == [
                    "models/guess", "models/m", "models/thinker",
                ]  # fmt: skip
                one = sdk.models.get(model="m")
                assert (one.name, one.input_token_limit) == ("models/m", 100_000)
                assert one.output_token_limit == 2_000
                assert "generateContent" in (one.supported_actions or ())
                with pytest.raises(errors.ClientError, match="does not exist"):
                    sdk.models.get(model="nobody")
        response = relay.get("/v1beta/models?pageSize=-1")
        assert (response.status, error_of(response)["status"]) == (400, "INVALID_ARGUMENT")
        assert json.loads(relay.get("/v1/models").body)["object"] == "list"


# Counts


def test_googles_sdk_counts_tokens_free_of_charge(tmp_path: Path) -> None:
    counted = b'{"totalTokens": 31, "promptTokensDetails": [{"modality": "TEXT"}]}'
    with (
        ScriptedUpstream(plain_script(counted)) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
        client(relay) as sdk,
    ):
        assert sdk.models.count_tokens(model="m", contents="Hi").total_tokens == 31
        (request,) = upstream.requests
        assert request.target == "/v1beta/models/up-m:countTokens"
        assert request.header("x-goog-api-key") == "sk-upstream-main-0001"
        (call,) = relay.calls()
        assert (call["endpoint"], call["charge"], call["calls"]) == ("gemini_count_tokens", 0, 0)
        assert relay.ask(asked("Hi"), "/v1beta/models/m:countTokens").body == counted
        said = b'{"generateContentRequest": {"model": "models/%s", "contents": []}}'
        assert relay.ask(said % b"m", "/v1beta/models/m:countTokens").body == counted
        assert upstream.requests[-1].body == said % b"up-m"
        assert relay.ask(said % b"other", "/v1beta/models/m:countTokens").status == 400


@pytest.mark.parametrize("inside", [False, True], ids=["contents", "whole-request"])
def test_where_nobody_counts_as_google_does_the_count_is_made_here(
    tmp_path: Path, inside: bool
) -> None:
    said = {"contents": [{"parts": [{"text": "hello " * 50}]}]}
    body = json.dumps({"generateContentRequest": said} if inside else said).encode()
    with (
        ScriptedUpstream(plain_script(b"{}")) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body, "/v1beta/models/m:countTokens")
        assert response.header("x-sluice-estimate") == "true"
        assert 50 < json.loads(response.body)["totalTokens"] < 80
        assert not upstream.requests
        assert relay.calls()[0]["charge"] == 0
        refused = relay.ask(b"{}", "/v1beta/models/m:countTokens")
        assert (refused.status, error_of(refused)["status"]) == (400, "INVALID_ARGUMENT")
