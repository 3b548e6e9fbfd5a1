"""`POST /v1/responses` end to end: translated for either dialect, billed by what was said there."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from proxy.core.prompts import MESSAGE_TOKENS
from proxy.edge.open_call import Notice
from tests.edge.harness import (
    ANN,
    CONTENT,
    ROLE,
    WORDS,
    Relay,
    answer,
    anthropic_channel,
    channel,
    data,
    error_of,
    message,
    plain_answer,
    price_of,
)
from tests.integration.raw_client import RawResponse, request_bytes
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

RESPONSES = "/v1/responses"
DELTA = "response.output_text.delta"
SENTENCE = "".join(WORDS)
COUNTED = 3 + 2 * MESSAGE_TOKENS
"""Tokens of `Say hello.` where nobody reports them."""


def body(wire: Any = "Say hello.", *, stream: bool = True, **more: Any) -> bytes:
    return json.dumps({"model": "m", "input": wire, "stream": stream} | more).encode()


def ask(relay: Relay, content: bytes) -> RawResponse:
    return relay.ask(content, RESPONSES)


def events(response: RawResponse) -> list[dict[str, Any]]:
    """What a stream says; every event is named, and they are counted from 0 without a gap."""
    assert (response.status, response.whole) == (200, True)
    found = []
    for event in response.body.removesuffix(b"\n\n").split(b"\n\n"):
        if event.startswith(b":"):
            continue
        name, _, payload = event.partition(b"\ndata: ")
        said = json.loads(payload)
        assert name == b"event: " + said["type"].encode()
        found.append(said)
    assert [said["sequence_number"] for said in found] == list(range(len(found)))
    return found


def words(found: list[dict[str, Any]]) -> str:
    return "".join(said["delta"] for said in found if said["type"] == DELTA)


def failure(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The error a stream ends with; nothing else in it is an end."""
    assert [said["type"] for said in found[:2]] == ["response.created", "response.in_progress"]
    ends = ("response.completed", "response.incomplete", "response.failed", "error")
    assert [said["type"] for said in found if said["type"] in ends] == ["response.failed"]
    error = found[-1]["response"]["error"]
    assert found[-1]["response"]["status"] == "failed"
    assert isinstance(error, dict)
    return error


def said_by(dialect: str) -> list[bytes]:
    return answer() if dialect == "openai" else message()


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_stream_is_translated_and_billed(tmp_path: Path, dialect: str) -> None:
    with (
        ScriptedUpstream(stream_script(said_by(dialect))) as upstream,
        Relay(tmp_path, channel(upstream.base_url, dialect=dialect)) as relay,
    ):
        response = ask(relay, body(max_output_tokens=50))
        found = events(response)
        assert words(found) == SENTENCE
        last = found[-1]
        assert last["type"] == "response.completed"
        told = last["response"]
        assert told["output"][0]["content"][0]["text"] == SENTENCE
        figures = {"input_tokens": 9, "output_tokens": len(WORDS), "total_tokens": 9 + len(WORDS)}
        assert told["usage"].items() >= figures.items()
        assert response.header("x-request-id") is not None
        assert response.header("x-sluice-channel") == "main"
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("complete", "reported")
        assert (call["endpoint"], call["dialect"]) == ("responses", "openai")
        assert call["charge"] == price_of(9, len(WORDS))
        (request,) = upstream.requests
        path = "/chat/completions" if dialect == "openai" else "/messages"
        assert request.target.endswith(path)
        asked = json.loads(request.body)
        assert asked["model"] == "up-m"
        (turn,) = asked["messages"]
        assert turn["role"] == "user"
        assert "Say hello." in json.dumps(turn["content"])
        limit = "max_completion_tokens" if dialect == "openai" else "max_tokens"
        assert asked[limit] == 50
        assert b"responses" in relay.do(relay.world.metrics.state)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_plain_answer_is_translated_and_billed(tmp_path: Path, dialect: str) -> None:
    spoken = (
        b'{"id":"msg_1","type":"message","content":[{"type":"text","text":"Hello there"}],'
        b'"stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":2}}'
    )
    said = plain_answer() if dialect == "openai" else spoken
    with (
        ScriptedUpstream(plain_script(said)) as upstream,
        Relay(tmp_path, channel(upstream.base_url, dialect=dialect)) as relay,
    ):
        response = ask(relay, body(stream=False))
        assert response.status == 200
        told = json.loads(response.body)
        assert (told["object"], told["status"]) == ("response", "completed")
        assert told["output"][0]["content"][0]["text"] == "Hello there"
        assert (told["usage"]["input_tokens"], told["usage"]["output_tokens"]) == (9, 2)
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("complete", price_of(9, 2))


def test_channels_of_the_openai_dialect_come_first(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(
            tmp_path,
            anthropic_channel("http://127.0.0.1:9", "theirs", priority=9),
            channel(upstream.base_url, "ours"),
        ) as relay,
    ):
        response = ask(relay, body())
        assert words(events(response)) == SENTENCE
        assert response.header("x-sluice-channel") == "ours"


def test_headers_of_the_callers_protocol_stay_here(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        beta = {"OpenAI-Beta": "responses=v1"}
        client.send(request_bytes(RESPONSES, body(), key=ANN, headers=beta))
        events(client.read_response())
        assert upstream.requests[0].header("openai-beta") is None


def test_what_only_tunes_is_named_in_a_header(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = ask(relay, body(tools=[{"type": "web_search"}], prompt_cache_key="k"))
        left_out = response.header("x-sluice-left-out")
        assert left_out is not None
        assert "tools.web_search" in left_out.split(", ")
        assert words(events(response)) == SENTENCE
        assert "tools" not in json.loads(upstream.requests[0].body)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "file_search"}]}, "tools"),
        ({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_what_cannot_be_carried_is_refused_with_nothing_held(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = ask(relay, body(**fields))
        assert response.status == 400
        error = error_of(response)
        assert (error["code"], error["param"]) == ("invalid_request", param)
        assert relay.calls() == []
        assert upstream.requests == []


def test_a_body_without_input_is_told_what_is_missing(tmp_path: Path) -> None:
    with Relay(tmp_path, channel("http://127.0.0.1:9")) as relay:
        error = error_of(ask(relay, json.dumps({"model": "m", "messages": []}).encode()))
        assert error["message"] == "`input` is required: send a string or an array of items."


def test_a_wallet_that_does_not_cover_the_call_names_the_field_that_would(tmp_path: Path) -> None:
    credit = price_of(100, 50)
    with Relay(tmp_path, channel("http://127.0.0.1:9"), credit=credit) as relay:
        response = ask(relay, body(stream=False))
        assert response.status == 402
        assert "`max_output_tokens` of at most" in error_of(response)["message"]


def test_an_error_before_content_is_the_usual_one(tmp_path: Path) -> None:
    said = b'{"error":{"message":"That is too long.","type":"invalid_request_error"}}'
    with (
        ScriptedUpstream(plain_script(said, 400)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = ask(relay, body())
        assert response.status == 400
        assert error_of(response)["message"] == "That is too long."
        (call,) = relay.calls()
        assert (call["charge"], call["error_code"]) == (0, error_of(response)["code"])


def test_an_upstream_error_after_content_is_a_failed_response(tmp_path: Path) -> None:
    script = [ROLE, *CONTENT[:2], data({"error": {"message": "It broke.", "code": "x"}})]
    with (
        ScriptedUpstream(stream_script(script)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        found = events(ask(relay, body()))
        assert words(found) == "".join(WORDS[:2])
        assert failure(found) == {
            "code": "upstream_error", "message": "It broke.", "type": "upstream_error",
        }  # fmt: skip
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("upstream_error", "counted")
        assert call["output"] == 2


def test_what_cannot_be_translated_any_further_is_a_failed_response(tmp_path: Path) -> None:
    broken = [*message()[:4], b'event: x\ndata: {"type":7}\n\n', *message()[4:]]
    with (
        ScriptedUpstream(stream_script(broken)) as upstream,
        Relay(tmp_path, anthropic_channel(upstream.base_url)) as relay,
    ):
        found = events(ask(relay, body()))
        assert words(found) == "".join(WORDS[:2])
        assert failure(found) == {
            "code": "server_error",
            "message": "The provider's stream is not understood.",
            "type": "api_error",
        }
        (call,) = relay.calls()
        assert (call["verdict"], call["error_code"]) == ("upstream_error", "upstream_error")


def test_a_failure_after_heartbeats_alone_begins_a_response_all_the_same(tmp_path: Path) -> None:
    begun: Script = [Send(stream_head()), Send(chunk(ROLE)), Pause("late"), Close()]
    with (
        ScriptedUpstream(begun) as upstream,
        Relay(
            tmp_path, channel(upstream.base_url), heartbeat_first_ms=10, heartbeat_ms=10
        ) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(RESPONSES, body(), key=ANN))
        client.read_until(b": keep-alive\n\n")
        upstream.release("late")
        found = events(client.read_response())
        assert failure(found)["code"] == "upstream_truncated"
        assert len(found) == 3
        (call,) = relay.calls()
        assert call["charge"] == 0


def test_a_wallet_that_runs_dry_ends_in_a_failed_response(tmp_path: Path) -> None:
    script = [Send(stream_head()), Flood(chunk(CONTENT[1]), 100_000)]
    credit = price_of(100, 200)
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), credit=credit, slice_tokens=16) as relay,
    ):
        found = events(ask(relay, body()))
        error = failure(found)
        assert (error["code"], error["type"]) == ("insufficient_quota", "insufficient_quota")
        (call,) = relay.calls()
        assert call["verdict"] == "cut_for_balance"
        assert 0 < call["charge"] <= credit
        assert call["output"] == words(found).count(" there") > 100


def test_a_charge_that_cannot_be_written_takes_the_place_of_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script: Script = [*stream_script(answer())[:4], Pause("late"), *stream_script(answer())[4:]]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), commit_wait_ms_max=1) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(RESPONSES, body(), key=ANN))
        client.read_until(DELTA.encode())
        held = relay.hold_commits(monkeypatch)
        upstream.release("late")
        found = events(client.read_response())
        held.set()
        assert words(found) == SENTENCE
        assert failure(found)["code"] == "settlement_unavailable"
        assert found[-1]["response"]["output"][0]["content"][0]["text"] == SENTENCE


def test_a_restart_ends_in_a_failed_response(tmp_path: Path) -> None:
    script: Script = [Send(stream_head()), Send(chunk(ROLE)), Send(chunk(CONTENT[0])), AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(RESPONSES, body(), key=ANN))
        client.read_until(DELTA.encode())
        call = relay.call()
        relay.do(lambda: call.cut(Notice.SHUTDOWN))
        error = failure(events(client.read_response()))
        assert error["code"] == "server_restarting"
        (row,) = relay.calls()
        assert (row["verdict"], row["charge"]) == ("cut_by_shutdown", price_of(COUNTED, 1))


def test_the_sdk_hands_a_failure_out_with_its_code(tmp_path: Path) -> None:
    script = [Send(stream_head()), Flood(chunk(CONTENT[1]), 100_000)]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(
            tmp_path, channel(upstream.base_url), credit=price_of(100, 200), slice_tokens=16
        ) as relay,
        openai.OpenAI(
            base_url=f"http://127.0.0.1:{relay.port}/v1", api_key=ANN, max_retries=0
        ) as client,
        client.responses.stream(model="m", input="Say hello.") as stream,
    ):
        *told, last = list(stream)
        assert last.type == "response.failed"
        assert last.response.error is not None
        assert str(last.response.error.code) == "insufficient_quota"
        said = [event.delta for event in told if event.type == "response.output_text.delta"]
        assert len(said) > 100


def test_a_client_that_leaves_is_billed_what_it_was_sent(tmp_path: Path) -> None:
    script: Script = [
        Send(stream_head()),
        *[Send(chunk(event)) for event in (ROLE, *CONTENT[:3])],
        AwaitGone(),
    ]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(RESPONSES, body(), key=ANN))
        client.read_until(lambda sent: sent.count(b"event: " + DELTA.encode()) == 3)
        client.leave()
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("client_gone", "counted")
        assert call["output"] == 3
        assert call["charge"] == price_of(COUNTED, 3)


def test_a_prompt_nobody_reported_is_counted(tmp_path: Path) -> None:
    unreported = [event for event in answer() if b'"usage"' not in event]
    with (
        ScriptedUpstream(stream_script(unreported)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        found = events(ask(relay, body([{"role": "user", "content": "Say hello."}])))
        assert found[-1]["response"]["usage"] is None
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("complete", "counted")
        assert call["charge"] == price_of(COUNTED, len(WORDS))


def test_thinking_asked_for_holds_the_ceiling(tmp_path: Path) -> None:
    waiting: Script = [*stream_script(answer())[:2], Pause("end"), *stream_script(answer())[2:]]
    with (
        ScriptedUpstream(waiting) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        asked = body(reasoning={"effort": "low"}, max_output_tokens=1_500)
        client.send(request_bytes(RESPONSES, asked, key=ANN))
        offer = relay.call().offer
        assert (offer.strict, offer.hold) == (True, offer.ceiling)
        assert offer.output_tokens_max == 1_500
        upstream.release("end")
        events(client.read_response())
    assert json.loads(upstream.requests[0].body)["reasoning_effort"] == "low"
