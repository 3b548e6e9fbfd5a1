"""`POST /v1/completions` end to end: native channels alone, byte for byte, every choice billed."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.edge.harness import (
    ANN,
    INPUT_NANO,
    OUTPUT_NANO,
    Relay,
    anthropic_channel,
    channel,
    error_of,
    price_of,
)
from tests.integration.completion_streams import COMPLETION_STREAMS, CompletionsWriter
from tests.integration.raw_client import RawResponse, request_bytes
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
from tests.integration.stream_record import UpstreamStream, openai_usage

COMPLETIONS = "/v1/completions"
ONE_BYTE_WRITES_BYTES_MAX = 5_000
COMPLETE = [stream for stream in COMPLETION_STREAMS if stream.complete]
BROKEN = [stream for stream in COMPLETION_STREAMS if not stream.complete]


def body(prompt: Any = "Say hello.", *, stream: bool = True, **more: Any) -> bytes:
    return json.dumps({"model": "m", "prompt": prompt, "stream": stream} | more).encode()


def ask(relay: Relay, content: bytes) -> RawResponse:
    return relay.ask(content, COMPLETIONS)


def answer(*texts: str, usage: Any = None) -> bytes:
    choices = [
        {"text": text, "index": at, "logprobs": None, "finish_reason": "stop"}
        for at, text in enumerate(texts)
    ]
    told = {"id": "cmpl-1", "object": "text_completion", "choices": choices}
    return json.dumps(told if usage is None else told | {"usage": usage}, indent=1).encode()


def check_whole(tmp_path: Path, stream: UpstreamStream, script: Script, *, asked: bool) -> None:
    table = channel("", terminal=stream.terminal)
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if asked else {}
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, table | {"base_url": upstream.base_url}, credit=10**12) as relay,
    ):
        response = ask(relay, body(max_tokens=2_000, **options))
        assert (response.status, response.whole) == (200, True)
        assert response.body == stream.forwarded(usage_asked=asked)
        (call,) = relay.calls()
        assert (call["verdict"], call["endpoint"]) == ("complete", "completions")
        assert call["finish_reason"] == stream.finish
        if stream.usage is not None:
            assert call["source"] == "reported"
            # Of a report above the limit that was sent only the limit and its slack count.
            assert call["output"] == min(stream.usage.output, 2_064)
        (request,) = upstream.requests
        assert request.target.endswith("/v1/completions")
        sent = json.loads(request.body)
        assert sent["stream_options"] == {"include_usage": True}
        assert sent["model"] == "up-m"


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not-asked"])
@pytest.mark.parametrize("stream", COMPLETE, ids=lambda stream: stream.name)
def test_a_stream_comes_out_byte_for_byte(
    tmp_path: Path, stream: UpstreamStream, asked: bool
) -> None:
    events = [Send(chunk(event)) for event in stream.events]
    script = [Send(stream_head()), *events, Send(LAST_CHUNK), Close()]
    check_whole(tmp_path, stream, script, asked=asked)


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
    check_whole(tmp_path, stream, [Send(wire, 1), Close()], asked=False)


@pytest.mark.parametrize("stream", BROKEN, ids=lambda stream: stream.name)
def test_what_breaks_off_never_looks_complete(tmp_path: Path, stream: UpstreamStream) -> None:
    with (
        ScriptedUpstream(stream_script(stream.events)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = ask(relay, body())
        (call,) = relay.calls()
        assert call["verdict"] in {"upstream_truncated", "upstream_error"}
        assert b"[DONE]" not in response.body
        if response.status == 200:
            last = json.loads(response.body.rstrip().rpartition(b"data: ")[2])
            assert last["error"]["code"] == call["error_code"]
            assert (call["source"], call["charge"] > 0) == ("counted", True)
        else:
            assert error_of(response)["code"] == call["error_code"]
            assert call["charge"] == 0


@pytest.mark.parametrize(
    ("prompt", "more", "choices"),
    [
        ("a", {}, 1),
        (["a", "b"], {}, 2),
        (["a", "b"], {"n": 3}, 6),
        ([[1, 2], [3]], {"n": 2}, 4),
        ([1, 2, 3], {"best_of": 4, "n": 2}, 4),
        (None, {}, 1),
    ],
)
def test_every_completion_that_is_made_is_held_for(
    tmp_path: Path, prompt: Any, more: dict[str, Any], choices: int
) -> None:
    said = answer(*["x"] * choices, usage=openai_usage(3, 5 * choices))
    late: Script = [Pause("late"), *plain_script(said)]
    with (
        ScriptedUpstream(late) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        asked = body(prompt, stream=False, max_tokens=50, **more)
        client.send(request_bytes(COMPLETIONS, asked, key=ANN))
        offer = relay.call().offer
        assert offer.output_tokens_max == 50 * choices
        assert offer.hold == offer.ceiling == offer.quote(
            offer.request.input_tokens_estimate, 50 * choices
        )  # fmt: skip
        upstream.release("late")
        assert client.read_response().body == said
        (call,) = relay.calls()
        assert call["charge"] == price_of(3, 5 * choices)
        assert json.loads(upstream.requests[0].body)["prompt"] == prompt


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
def test_a_prompt_that_comes_back_is_not_billed_as_output(tmp_path: Path, stream: bool) -> None:
    texts = ("Say hello. Hello there", "Bye. Good bye")
    writer = CompletionsWriter("echo").text(texts[0], 0).text(texts[1], 1)
    events = writer.choice("", 0, "stop").choice("", 1, "stop").done().events
    script = stream_script(events) if stream else plain_script(answer(*texts))
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = ask(relay, body(["Say hello.", "Bye."], stream=stream, echo=True))
        assert b"Good bye" in response.body or stream
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("complete", "counted")
        assert call["output"] == 4, "` Hello there` and ` Good bye`"
        # Three and two tokens, and the mark that a text may begin with.
        assert call["input_uncached"] == 3 + 2 + 2
        assert call["charge"] == 7 * INPUT_NANO + 4 * OUTPUT_NANO


@pytest.mark.parametrize(
    ("usage", "output"),
    [
        (None, 2),
        (openai_usage(3, 0), 0),
        (openai_usage(3, -5), 2),
        (openai_usage(3, 10**12), 2),
        (openai_usage(3, 90_000), 114),
    ],
)
def test_lies_about_usage_are_bounded(tmp_path: Path, usage: Any, output: int) -> None:
    with (
        ScriptedUpstream(plain_script(answer("Hello there", usage=usage))) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        assert ask(relay, body(stream=False, max_tokens=50)).status == 200
        (call,) = relay.calls()
        assert call["output"] == output
        assert call["charge"] == call["input_uncached"] * INPUT_NANO + output * OUTPUT_NANO


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"n": 0}, "n"),
        ({"best_of": 3, "stream": True}, "best_of"),
        ({"echo": 1}, "echo"),
    ],
)
def test_bad_bodies_are_refused_with_nothing_held(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    with Relay(tmp_path, channel("http://127.0.0.1:9")) as relay:
        response = ask(relay, body(**({"stream": False} | fields)))
        assert response.status == 400
        assert error_of(response)["param"] == param
        assert relay.calls() == []


def test_a_channel_that_does_not_serve_it_is_never_translated(tmp_path: Path) -> None:
    with Relay(
        tmp_path,
        anthropic_channel("http://127.0.0.1:9"),
        channel("http://127.0.0.1:9", "chat", endpoints=["chat"]),
    ) as relay:
        error = error_of(ask(relay, body()))
        assert error["code"] == "model_endpoint_mismatch"
        assert "does not work with /v1/completions" in error["message"]
        assert "POST /v1/chat/completions" in error["message"]
        assert relay.calls() == []


def test_a_client_that_leaves_is_billed_what_it_was_sent(tmp_path: Path) -> None:
    stream = CompletionsWriter("left").text("One two three four five six")
    script: Script = [
        Send(stream_head()),
        *[Send(chunk(event)) for event in stream.events],
        AwaitGone(),
    ]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(COMPLETIONS, body(), key=ANN))
        client.read_until(stream.events[-1])
        client.leave()
        (call,) = relay.calls()
        assert (call["verdict"], call["source"], call["output"]) == ("client_gone", "counted", 6)


def test_a_wallet_that_runs_dry_is_told_in_band(tmp_path: Path) -> None:
    event = CompletionsWriter("flood").choice(" there").events[0]
    credit = price_of(100, 200)
    with (
        ScriptedUpstream([Send(stream_head()), Flood(chunk(event), 100_000)]) as upstream,
        Relay(tmp_path, channel(upstream.base_url), credit=credit, slice_tokens=16) as relay,
    ):
        response = ask(relay, body())
        last = json.loads(response.body.rstrip().rpartition(b"data: ")[2])
        assert last["error"]["code"] == "insufficient_quota"
        (call,) = relay.calls()
        assert call["verdict"] == "cut_for_balance"
        assert call["output"] == response.body.count(event) > 100
        assert 0 < call["charge"] <= credit


def test_the_sdk_reads_both(tmp_path: Path) -> None:
    streamed = next(stream for stream in COMPLETE if stream.name == "completions-short")
    with (
        ScriptedUpstream(plain_script(answer("Hello", usage=openai_usage(3, 1)))) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        openai.OpenAI(
            base_url=f"http://127.0.0.1:{relay.port}/v1", api_key=ANN, max_retries=0
        ) as client,
    ):
        plain = client.completions.create(model="m", prompt="Say hello.")
        assert plain.choices[0].text == "Hello"
        upstream.play(stream_script(streamed.events))
        chunks = list(client.completions.create(model="m", prompt="Say hello.", stream=True))
        assert "".join(chunk.choices[0].text for chunk in chunks) == streamed.text_runs["0/text"]
