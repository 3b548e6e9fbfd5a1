"""The generated streams say what they claim: read by both SDKs straight from the wire."""

import json
from typing import Any

import anthropic
import openai
import pytest

from proxy.core.entities import Dialect
from tests.integration.anthropic_streams import ANTHROPIC_STREAMS
from tests.integration.openai_streams import OPENAI_STREAMS
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import stream_script
from tests.integration.stream_record import UpstreamStream
from tests.integration.streams import BY_NAME, COMPLETE_STREAMS, STREAMS

# The SDKs' own limits (WIRE.md section 2): an event with a `data` they cannot parse.
SDK_CANNOT_READ = {"openai-named-events"}


def test_there_are_enough_streams_each_with_its_own_name() -> None:
    assert len(BY_NAME) == len(STREAMS) >= 60
    assert {stream.dialect for stream in COMPLETE_STREAMS} == {Dialect.OPENAI, Dialect.ANTHROPIC}
    assert any(len(event) > 200_000 for stream in STREAMS for event in stream.events)


@pytest.mark.parametrize("stream", COMPLETE_STREAMS, ids=lambda stream: stream.name)
def test_what_may_be_forwarded_ends_in_the_terminal_event(stream: UpstreamStream) -> None:
    body = stream.forwarded(usage_asked=True)
    assert stream.body.startswith(body)
    if stream.terminal == "done":
        last = body.rstrip().splitlines()[-1]
        ends = (b"[DONE]", b'"message_stop"', b'"response.completed"', b'"response.incomplete"')
        assert any(end in last for end in ends)
    if stream.usage_only:
        assert len(stream.forwarded(usage_asked=False)) < len(body)


@pytest.mark.parametrize(
    "stream",
    [s for s in OPENAI_STREAMS if s.complete and s.name not in SDK_CANNOT_READ],
    ids=lambda stream: stream.name,
)
def test_openai_sdk_reads_the_expected_text_and_usage(stream: UpstreamStream) -> None:
    with ScriptedUpstream(stream_script(stream.events)) as upstream:
        client = openai.OpenAI(base_url=upstream.base_url, api_key="sk-x", max_retries=0)
        chunks = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], stream=True
        )
        runs: dict[str, str] = {}
        usage = None
        for chunk in chunks:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                for run, text in _openai_texts(choice.delta.model_dump()):
                    runs[f"{choice.index}/{run}"] = runs.get(f"{choice.index}/{run}", "") + text
        client.close()
    assert runs == stream.text_runs
    assert (usage is None) == (stream.usage is None)
    if usage is not None and stream.usage is not None:
        assert usage.prompt_tokens == stream.usage.input_total
        assert usage.completion_tokens == stream.usage.output + stream.usage.audio_output


def _openai_texts(delta: dict[str, Any]) -> list[tuple[str, str]]:
    reasoning = delta.get("reasoning_content") or delta.get("reasoning")
    found = [("content", delta["content"]), ("refusal", delta["refusal"]), ("reasoning", reasoning)]
    found += [("function", (delta["function_call"] or {}).get("arguments"))]
    for call in delta["tool_calls"] or []:
        found.append((f"tool/{call['index']}", call["function"]["arguments"]))
    return [(run, text) for run, text in found if text]


@pytest.mark.parametrize(
    "stream", [s for s in ANTHROPIC_STREAMS if s.complete], ids=lambda stream: stream.name
)
def test_anthropic_sdk_reads_the_expected_text_and_usage(stream: UpstreamStream) -> None:
    with ScriptedUpstream(stream_script(stream.events)) as upstream:
        client = anthropic.Anthropic(base_url=upstream.origin, api_key="sk-x", max_retries=0)
        events = client.messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}], stream=True
        )
        runs: dict[str, str] = {}
        output = 0
        for event in events:
            if event.type == "content_block_start" and event.content_block.type == "text":
                _add(runs, f"{event.index}/text", event.content_block.text)
            if event.type == "content_block_delta":
                delta = event.delta.model_dump()
                _add(runs, f"{event.index}/text", delta.get("text"))
                _add(runs, f"{event.index}/thinking", delta.get("thinking"))
                _add(runs, f"{event.index}/input", delta.get("partial_json"))
            if event.type == "message_delta":
                output = event.usage.output_tokens
            if event.type == "message_stop":
                break  # this SDK would read on to the end of the response
        events.close()
        client.close()
    assert runs == stream.text_runs
    assert stream.usage is not None
    assert output == stream.usage.output


def _add(runs: dict[str, str], run: str, text: str | None) -> None:
    if text:
        runs[run] = runs.get(run, "") + text


def test_incomplete_streams_never_hold_an_end_that_a_client_could_take_for_one() -> None:
    for stream in STREAMS:
        if stream.complete or stream.name == "openai-error-then-done":
            continue
        body = stream.forwarded(usage_asked=True)
        if stream.name.partition("-")[0] not in {"responses", "gemini"}:  # no end of theirs
            assert b"[DONE]" not in body
        assert b'"message_stop"' not in body


def test_payloads_are_json() -> None:
    for event in BY_NAME["openai-tool-calls-parallel"].events[:-1]:
        assert json.loads(event.removeprefix(b"data: "))["object"] == "chat.completion.chunk"
