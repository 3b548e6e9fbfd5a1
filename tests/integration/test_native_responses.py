"""`POST /v1/responses` to a channel that serves it itself: events byte for byte, and the bill.

What is not asked in this form by its caller is translated (test_responses.py).
"""

import json
import re
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.edge.harness import ANN, INPUT_NANO, OUTPUT_NANO, Relay, channel, error_of, price_of
from tests.integration.raw_client import RawResponse, request_bytes
from tests.integration.response_streams import RESPONSE_STREAMS, ResponsesWriter
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import (
    LAST_CHUNK,
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
from tests.integration.stream_record import UpstreamStream

RESPONSES = "/v1/responses"
ONE_BYTE_WRITES_BYTES_MAX = 5_000
HEARTBEAT = re.compile(rb": keep-alive\n\n")
COMPLETE = [stream for stream in RESPONSE_STREAMS if stream.complete]
BROKEN = [stream for stream in RESPONSE_STREAMS if not stream.complete]
ANSWER: dict[str, Any] = {
    "id": "resp_theirs",
    "object": "response",
    "status": "completed",
    "error": None,
    "model": "up-m",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi there"}]}],
    "usage": {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 11,
    },
}


def native(url: str, name: str = "main", **changes: Any) -> dict[str, Any]:
    return channel(url, name, **({"endpoints": ["responses"]} | changes))


def body(wire: Any = "Say hello.", *, stream: bool = True, **more: Any) -> bytes:
    return json.dumps({"model": "m", "input": wire, "stream": stream} | more).encode()


def ask(relay: Relay, content: bytes) -> RawResponse:
    return relay.ask(content, RESPONSES)


def shown(response: RawResponse) -> bytes:
    assert (response.status, response.whole) == (200, True), response.body[:300]
    return HEARTBEAT.sub(b"", response.body)


def last_event(response: RawResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(response.body.rstrip().rpartition(b"\ndata: ")[2])
    return found


def check_whole(tmp_path: Path, stream: UpstreamStream, script: Script) -> None:
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, native(upstream.base_url), credit=10**12) as relay,
    ):
        response = ask(relay, body(max_output_tokens=100_000))
        assert shown(response) == stream.forwarded(usage_asked=True)
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("complete", "reported")
        assert stream.usage is not None
        for kind in ("input_uncached", "cache_read", "cache_write_5m", "output", "reasoning"):
            assert call[kind] == getattr(stream.usage, kind), kind
        assert call["finish_reason"] == stream.finish
        (request,) = upstream.requests
        assert request.target.endswith("/v1/responses")
        assert json.loads(request.body)["model"] == "up-m"
        assert b"stream_options" not in request.body


@pytest.mark.parametrize("stream", COMPLETE, ids=lambda stream: stream.name)
def test_a_stream_comes_out_byte_for_byte(tmp_path: Path, stream: UpstreamStream) -> None:
    events = [Send(chunk(event)) for event in stream.events]
    check_whole(tmp_path, stream, [Send(stream_head()), *events, Send(LAST_CHUNK), Close()])


@pytest.mark.slow
@pytest.mark.parametrize(
    "stream",
    [stream for stream in COMPLETE if len(stream.body) <= ONE_BYTE_WRITES_BYTES_MAX],
    ids=lambda stream: stream.name,
)
def test_a_stream_in_one_byte_writes_comes_out_byte_for_byte(
    tmp_path: Path, stream: UpstreamStream
) -> None:
    wire = stream_head() + b"".join(map(chunk, stream.events)) + LAST_CHUNK
    check_whole(tmp_path, stream, [Send(wire, 1), Close()])


@pytest.mark.parametrize("stream", BROKEN, ids=lambda stream: stream.name)
def test_what_breaks_off_never_looks_complete(tmp_path: Path, stream: UpstreamStream) -> None:
    events = [Send(chunk(event)) for event in stream.events]
    with (
        ScriptedUpstream([Send(stream_head()), *events, Send(LAST_CHUNK), Close()]) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
    ):
        response = ask(relay, body())
        (call,) = relay.calls()
        assert call["verdict"] in {"upstream_truncated", "upstream_error"}
        assert b"sk-secret" not in response.body or b'"message":"sk-secret"' in response.body
        if response.status != 200:
            assert error_of(response)["code"] == call["error_code"]
            assert call["charge"] == 0
            return
        assert not re.search(rb"event: response\.(completed|incomplete)\n", response.body)
        # What passed is the upstream's; the last event is ours, numbered on from there.
        passed, _, ours = response.body.rpartition(b"event: response.failed\n")
        assert stream.body.startswith(passed)
        assert passed
        failed = last_event(response)
        assert ours.endswith(b"\n\n")
        assert failed["sequence_number"] == len(re.findall(rb"^event: ", passed, re.MULTILINE))
        told = failed["response"]
        assert (told["id"], told["status"]) == (f"resp_{stream.name[10:]}", "failed")
        assert told["error"]["code"] == call["error_code"]
        assert call["source"] == "counted"
        assert call["charge"] > 0


def test_a_failure_after_heartbeats_alone_begins_a_response_all_the_same(tmp_path: Path) -> None:
    stream = ResponsesWriter("late").start()
    begun: Script = [Send(stream_head()), Send(chunk(stream.events[0])), Pause("late"), Close()]
    with (
        ScriptedUpstream(begun) as upstream,
        Relay(tmp_path, native(upstream.base_url), heartbeat_first_ms=10, heartbeat_ms=10) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(RESPONSES, body(), key=ANN))
        client.read_until(b": keep-alive\n\n")
        upstream.release("late")
        response = client.read_response()
        kinds = re.findall(rb"^event: (.*)$", response.body, re.MULTILINE)
        assert kinds == [b"response.created", b"response.in_progress", b"response.failed"]
        failed = last_event(response)
        assert failed["sequence_number"] == 2
        assert failed["response"]["error"]["code"] == "upstream_truncated"
        (call,) = relay.calls()
        assert call["charge"] == 0


def test_the_next_channel_is_tried_before_content(tmp_path: Path) -> None:
    failing = next(stream for stream in BROKEN if stream.name.endswith("failed-before-content"))
    good = next(stream for stream in COMPLETE if stream.name == "responses-short")
    with (
        ScriptedUpstream(stream_script(failing.events)) as bad,
        ScriptedUpstream(stream_script(good.events)) as fine,
        Relay(
            tmp_path, native(bad.base_url, "bad", priority=9), native(fine.base_url, "fine")
        ) as relay,
    ):
        response = ask(relay, body())
        assert shown(response) == good.body
        assert response.header("x-sluice-channel") == "fine"
        (call,) = relay.calls()
        assert call["charge"] == 12 * INPUT_NANO + 33 * OUTPUT_NANO


def test_a_plain_answer_comes_out_byte_for_byte(tmp_path: Path) -> None:
    said = json.dumps(ANSWER, indent=1).encode()
    with (
        ScriptedUpstream(plain_script(said)) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
    ):
        response = ask(relay, body(stream=False))
        assert (response.status, response.body) == (200, said)
        assert response.header("x-sluice-cost") == str(price_of(9, 2))
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("complete", "reported")
        assert (call["charge"], call["finish_reason"]) == (price_of(9, 2), "completed")


@pytest.mark.parametrize(
    ("change", "output"),
    [
        ({"usage": None}, 2),
        ({"usage": ANSWER["usage"] | {"output_tokens": 0}}, 0),
        ({"usage": ANSWER["usage"] | {"output_tokens": -5}}, 2),
        ({"usage": ANSWER["usage"] | {"output_tokens": 10**12}}, 2),
        ({"usage": ANSWER["usage"] | {"output_tokens": "2"}}, 2),
        ({"usage": {"output_tokens": 2, "input_tokens": 9}}, 2),
        ({"usage": ANSWER["usage"] | {"output_tokens": 90_000}}, 2_064),
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
def test_lies_about_usage_are_bounded(
    tmp_path: Path, change: dict[str, Any], output: int, stream: bool
) -> None:
    writer = ResponsesWriter("liar").start().text("Hi there")
    told = writer.response("completed") | {"output": writer.output} | change
    writer.event("response.completed", response=told)
    script = stream_script(writer.events) if stream else plain_script(
        json.dumps(ANSWER | change).encode()
    )  # fmt: skip
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
    ):
        assert ask(relay, body(stream=stream)).status == 200
        (call,) = relay.calls()
        assert call["verdict"] == "complete"
        assert call["output"] == output
        assert call["charge"] == (
            call["input_uncached"] * INPUT_NANO + call["output"] * OUTPUT_NANO
        )


def test_a_plain_answer_that_failed_is_an_error_and_free(tmp_path: Path) -> None:
    failed = ANSWER | {"status": "failed", "error": {"code": "x", "message": "It broke."}}
    with (
        ScriptedUpstream(plain_script(json.dumps(failed).encode())) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
    ):
        response = ask(relay, body(stream=False))
        assert response.status == 502
        assert error_of(response)["message"] == "It broke."
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("upstream_error", 0)


def test_a_wallet_that_runs_dry_ends_in_a_failed_response(tmp_path: Path) -> None:
    writer = ResponsesWriter("flood", numbered=False).start()
    writer.of_item("response.output_text.delta", content_index=0, delta=" there")
    script = [
        Send(stream_head()),
        *[Send(chunk(event)) for event in writer.events],
        Flood(chunk(writer.events[-1]), 100_000),
    ]
    credit = price_of(100, 200)
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, native(upstream.base_url), credit=credit, slice_tokens=16) as relay,
    ):
        response = ask(relay, body())
        failed = last_event(response)
        assert failed["response"]["error"]["code"] == "insufficient_quota"
        deltas = response.body.count(b"event: response.output_text.delta\n")
        assert failed["sequence_number"] == deltas + 2
        (call,) = relay.calls()
        assert call["verdict"] == "cut_for_balance"
        assert 0 < call["charge"] <= credit
        assert call["output"] == deltas > 50


def test_a_client_that_leaves_is_billed_what_it_was_sent(tmp_path: Path) -> None:
    stream = ResponsesWriter("left").start().text("One two three four five six")
    script: Script = [
        Send(stream_head()),
        *[Send(chunk(event)) for event in stream.events],
        AwaitGone(),
    ]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(RESPONSES, body(), key=ANN))
        client.read_until(b"event: response.output_item.done\n")
        client.leave()
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("client_gone", "counted")
        assert call["output"] == 6


@pytest.mark.parametrize("tool", ["web_search", "code_interpreter", "function"])
def test_tools_of_the_provider_hold_the_ceiling(tmp_path: Path, tool: str) -> None:
    stream = next(stream for stream in COMPLETE if stream.name == "responses-short")
    script: Script = [Send(stream_head()), Pause("late"), *stream_script(stream.events)[1:]]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, native(upstream.base_url), slice_tokens=16) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(RESPONSES, body(tools=[{"type": tool, "name": "f"}]), key=ANN))
        offer = relay.call().offer
        assert offer.strict is (tool != "function")
        assert (offer.hold == offer.ceiling) is offer.strict
        upstream.release("late")
        shown(client.read_response())
        assert b'"tools": [{"type": "%b"' % tool.encode() in upstream.requests[0].body


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"background": True}, "background"), ({"conversation": "conv_1"}, "conversation")],
)
def test_what_cannot_be_billed_or_kept_apart_is_refused(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    with Relay(tmp_path, native("http://127.0.0.1:9")) as relay:
        response = ask(relay, body(**fields))
        assert response.status == 400
        assert error_of(response)["param"] == param
        assert relay.calls() == []


def test_a_lowered_limit_is_written_in_its_own_name(tmp_path: Path) -> None:
    said = json.dumps(ANSWER).encode()
    with (
        ScriptedUpstream(plain_script(said)) as upstream,
        Relay(tmp_path, native(upstream.base_url), group={"output_tokens_max": 50}) as relay,
    ):
        assert ask(relay, body(stream=False)).header("x-sluice-max-tokens") == "50"
        assert json.loads(upstream.requests[0].body)["max_output_tokens"] == 50


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("caller", ["chat", "messages"])
def test_callers_of_other_forms_are_served_by_such_a_channel_too(
    tmp_path: Path, caller: str, stream: bool
) -> None:
    good = next(one for one in COMPLETE if one.name == "responses-short")
    script = stream_script(good.events) if stream else plain_script(json.dumps(ANSWER).encode())
    target = "/v1/chat/completions" if caller == "chat" else "/v1/messages"
    asked = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
    ):
        response = relay.ask(json.dumps(asked | {"stream": stream}).encode(), target)
        assert response.status == 200, response.body
        assert response.whole
        assert upstream.requests[0].target.endswith("/v1/responses")
        assert json.loads(upstream.requests[0].body)["max_output_tokens"] == 50
        end = b"message_stop" if caller == "messages" else b"[DONE]"
        assert (end in response.body) is stream
        (call,) = relay.calls()
        assert call["verdict"] == "complete"
        expected = price_of(12, 33) if stream else price_of(9, 2)
        assert call["charge"] == expected


def test_the_sdk_reads_a_stream_and_hands_a_failure_out(tmp_path: Path) -> None:
    rich = ResponsesWriter("sdk").start().thinking("Hm.").text("It is 42.").tool("f", {"a": 1})
    record = rich.end(9, 30, reasoning=5)
    failing = ResponsesWriter("sdk-fails").start().text("Half")
    with (
        ScriptedUpstream(stream_script(record.events)) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
        openai.OpenAI(
            base_url=f"http://127.0.0.1:{relay.port}/v1", api_key=ANN, max_retries=0
        ) as client,
    ):
        with client.responses.stream(model="m", input="Say hello.") as stream:
            told = list(stream)
            answer = stream.get_final_response()
        assert answer.output_text == "It is 42."
        assert answer.usage is not None
        assert answer.usage.output_tokens == 30
        assert told[-1].type == "response.completed"
        upstream.play(stream_script(failing.events))
        with client.responses.stream(model="m", input="Say hello.") as stream:
            *_, last = list(stream)
        assert last.type == "response.failed"
        assert last.response.error is not None
        assert str(last.response.error.code) == "upstream_truncated"
        assert last.response.id == "resp_sdk-fails"
