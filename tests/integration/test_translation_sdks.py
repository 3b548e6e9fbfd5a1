"""The real SDKs read what the translation makes of every provider's answers, over real HTTP.

A server on loopback (`translation_server.py`) takes the SDK's request, translates it for the
provider, and answers with the provider's stream or answer (`provider_answers.py`, written by
hand) translated back. What the SDK then holds is compared with what the scenario says: words,
thoughts, calls, why it ended, what it used. Google's SDK is in `test_translation_gemini.py`.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

from proxy.core.translation.conversation import (
    Part,
    Text,
    ToolCall,
    ToolResult,
    Wire,
)
from proxy.core.translation.translator import SIDES, Translator
from tests.integration.provider_answers import PROVIDERS, SCENARIOS, Scenario
from tests.integration.translation_seen import (
    ARROWS,
    ERROR,
    FROM_GEMINI,
    NAMED,
    Seen,
    expected,
    reason_of,
)
from tests.integration.translation_server import Bench, Handler, served

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with served() as found:
        yield found


# What each SDK holds, asked in each of its ways.

CHAT_TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": PARAMETERS}}
    for name in ("weather", "clock")
]
CHAT_ASK: Any = {
    "model": "alias",
    "messages": [{"role": "user", "content": "hi"}],
    "tools": CHAT_TOOLS,
}
USAGE: Any = {"stream_options": {"include_usage": True}}


def _chat(message: Any, finish: str | None, usage: Any) -> Seen:
    calls = [
        (call.id, call.function.name, json.loads(call.function.arguments))
        for call in message.tool_calls or ()
    ]
    details = usage.prompt_tokens_details
    return Seen(
        message.content or "",
        message.refusal or "",
        getattr(message, "reasoning_content", None) or "",
        [],
        calls,
        finish,
        (usage.prompt_tokens, details.cached_tokens, usage.completion_tokens),
    )


def chat_plain(client: openai.OpenAI) -> Seen:
    found = client.chat.completions.create(**CHAT_ASK)
    return _chat(found.choices[0].message, found.choices[0].finish_reason, found.usage)


def chat_stream(client: openai.OpenAI) -> Seen:
    """Added up by hand, as most callers do."""
    words: dict[str, str] = {"content": "", "refusal": "", "reasoning_content": ""}
    calls: dict[int, list[str]] = {}
    finish = usage = None
    for chunk in client.chat.completions.create(**CHAT_ASK, **USAGE, stream=True):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for name in words:
                words[name] += getattr(choice.delta, name, None) or ""
            for call in choice.delta.tool_calls or ():
                if call.id is not None:
                    calls[call.index] = [call.id, call.function.name or "", ""]
                calls[call.index][2] += call.function.arguments or ""
    assert usage is not None
    return Seen(
        words["content"],
        words["refusal"],
        words["reasoning_content"],
        [],
        [(call_id, name, json.loads(said)) for call_id, name, said in calls.values()],
        finish,
        (
            usage.prompt_tokens,
            usage.prompt_tokens_details.cached_tokens,
            usage.completion_tokens,
        ),
    )


def chat_helper(client: openai.OpenAI) -> Seen:
    """The helper raises where an answer was cut short, with what there is of it."""
    cut = (openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError)
    found: Any
    with client.chat.completions.stream(**CHAT_ASK, **USAGE) as stream:
        try:
            found = stream.get_final_completion()
        except cut as error:
            found = error.completion
    return _chat(found.choices[0].message, found.choices[0].finish_reason, found.usage)


MESSAGES_ASK: Any = {
    "model": "alias",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hi"}],
    "tools": [{"name": name, "input_schema": PARAMETERS} for name in ("weather", "clock")],
}


def _message(found: Any) -> Seen:
    blocks = found.content
    secrets = [block.signature for block in blocks if block.type == "thinking" and block.signature]
    secrets += [block.data for block in blocks if block.type == "redacted_thinking"]
    usage = found.usage
    given = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    return Seen(
        "".join(block.text for block in blocks if block.type == "text"),
        "",
        "".join(block.thinking for block in blocks if block.type == "thinking"),
        secrets,
        [(block.id, block.name, block.input) for block in blocks if block.type == "tool_use"],
        found.stop_sequence or found.stop_reason,
        (given, usage.cache_read_input_tokens, usage.output_tokens),
    )


def messages_plain(client: anthropic.Anthropic) -> Seen:
    return _message(client.messages.create(**MESSAGES_ASK))


def messages_helper(client: anthropic.Anthropic) -> Seen:
    with client.messages.stream(**MESSAGES_ASK) as stream:
        return _message(stream.get_final_message())


def messages_stream(client: anthropic.Anthropic) -> Seen:
    """Added up by hand: every block begins, goes on and ends under its index."""
    blocks: list[dict[str, Any]] = []
    finish, usage, open_at = None, None, -1
    for event in client.messages.create(**MESSAGES_ASK, stream=True):
        if event.type == "content_block_start":
            assert (event.index, open_at) == (len(blocks), -1)
            open_at = event.index
            blocks.append(event.content_block.model_dump() | {"json": ""})
        elif event.type == "content_block_delta":
            assert event.index == open_at
            for kind, text in event.delta.model_dump().items():
                if kind in ("text", "thinking", "signature"):
                    blocks[-1][kind] += text
                elif kind == "partial_json":
                    blocks[-1]["json"] += text
        elif event.type == "content_block_stop":
            assert event.index == open_at
            open_at = -1
        elif event.type == "message_delta":
            finish = event.delta.stop_sequence or event.delta.stop_reason
            usage = event.usage
    assert usage is not None

    def every(name: str) -> str:
        return "".join(block.get(name) or "" for block in blocks)

    secrets = [block["signature"] for block in blocks if block.get("signature")]
    secrets += [block["data"] for block in blocks if block.get("data")]
    calls = [
        (block["id"], block["name"], json.loads(block["json"] or "{}"))
        for block in blocks
        if block["type"] == "tool_use"
    ]
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    tokens = ((usage.input_tokens or 0) + read + written, read, usage.output_tokens)
    return Seen(every("text"), "", every("thinking"), secrets, calls, finish, tokens)


RESPONSES_ASK: Any = {
    "model": "alias",
    "input": "hi",
    "tools": [
        {"type": "function", "name": name, "parameters": PARAMETERS, "strict": False}
        for name in ("weather", "clock")
    ],
    "include": ["reasoning.encrypted_content"],
    "store": False,
}


def _response(found: Any) -> Seen:
    content = [part for item in found.output if item.type == "message" for part in item.content]
    thoughts = [item for item in found.output if item.type == "reasoning"]
    usage = found.usage
    cut = found.incomplete_details
    return Seen(
        found.output_text,
        "".join(part.refusal for part in content if part.type == "refusal"),
        "".join(part.text for item in thoughts for part in item.summary),
        [item.encrypted_content for item in thoughts if item.encrypted_content],
        [
            (item.call_id, item.name, json.loads(item.arguments))
            for item in found.output
            if item.type == "function_call"
        ],
        found.status if cut is None else cut.reason,
        (usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens),
    )


def responses_plain(client: openai.OpenAI) -> Seen:
    return _response(client.responses.create(**RESPONSES_ASK))


def responses_stream(client: openai.OpenAI) -> Seen:
    """The deltas must add up to what the last event repeats."""
    added = {"text": "", "thinking": "", "refusal": ""}
    arguments: dict[int, str] = {}
    names = {
        "response.output_text.delta": "text",
        "response.reasoning_summary_text.delta": "thinking",
        "response.refusal.delta": "refusal",
    }
    events = list(client.responses.create(**RESPONSES_ASK, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    for event in events:
        if event.type in names:
            added[names[event.type]] += event.delta
        elif event.type == "response.function_call_arguments.delta":
            arguments[event.output_index] = arguments.get(event.output_index, "") + event.delta
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    seen = _response(last.response)
    assert added == {"text": seen.text, "thinking": seen.thinking, "refusal": seen.refusal}
    assert [json.loads(said) for said in arguments.values()] == [one[2] for one in seen.calls]
    return seen


def responses_helper(client: openai.OpenAI) -> Seen:
    with client.responses.stream(**RESPONSES_ASK) as stream:
        last = list(stream)[-1]
        if last.type == "response.completed":
            return _response(stream.get_final_response())
        assert last.type == "response.incomplete", "for which the helper has no final response"
        return _response(last.response)


WAYS: dict[Wire, tuple[Callable[[Any], Seen], ...]] = {
    Wire.CHAT: (chat_plain, chat_stream, chat_helper),
    Wire.MESSAGES: (messages_plain, messages_stream, messages_helper),
    Wire.RESPONSES: (responses_plain, responses_stream, responses_helper),
}


arrows = pytest.mark.parametrize(
    ("caller", "upstream"), ARROWS, ids=lambda wire: wire.value if isinstance(wire, Wire) else None
)


@pytest.mark.client(name="openai for Python", package="development/openai",
                    upstream="golden transcripts",
                    shows="every translation, whole, streamed, by the helpers; loops of tools; errors inside streams")  # fmt: skip
@pytest.mark.client(name="anthropic for Python", package="development/anthropic",
                    upstream="golden transcripts",
                    shows="every translation, whole, streamed, by the helper; loops of tools by `tool_runner`; errors inside streams")  # fmt: skip
@arrows
@pytest.mark.parametrize("scenario", NAMED, ids=lambda scenario: scenario.name)
def test_sdks_hold_what_the_provider_said(
    bench: Bench, caller: Wire, upstream: Wire, scenario: Scenario
) -> None:
    wanted = expected(scenario, caller, upstream)
    client = bench.client(caller, upstream, scenario.name)
    for way in WAYS[caller]:
        assert way(client) == wanted, way.__name__


def asked_again(client: Any, caller: Wire) -> None:
    """Go once round a loop of tools, as the SDK's users do: its objects go back as they are."""
    if caller is Wire.CHAT:
        first = client.chat.completions.create(**CHAT_ASK).choices[0].message
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": f"{call.function.name} says 7"}
            for call in first.tool_calls
        ]
        turns = [*CHAT_ASK["messages"], first, *results]
        client.chat.completions.create(**CHAT_ASK | {"messages": turns})
    elif caller is Wire.MESSAGES:
        said = client.messages.create(**MESSAGES_ASK).content
        shown = [
            {"type": "tool_result", "tool_use_id": one.id, "content": f"{one.name} says 7"}
            for one in said
            if one.type == "tool_use"
        ]
        turns = [
            *MESSAGES_ASK["messages"],
            {"role": "assistant", "content": said},
            {"role": "user", "content": shown},
        ]
        client.messages.create(**MESSAGES_ASK | {"messages": turns})
    else:
        output = client.responses.create(**RESPONSES_ASK).output
        given = [
            {"type": "function_call_output", "call_id": one.call_id, "output": f"{one.name} says 7"}
            for one in output
            if one.type == "function_call"
        ]
        turns = [{"role": "user", "content": "hi"}, *output, *given]
        client.responses.create(**RESPONSES_ASK | {"input": turns})


@arrows
@pytest.mark.parametrize("name", ["thinking-text-and-calls", "parallel-calls"])
def test_loops_of_tools_go_round(bench: Bench, caller: Wire, upstream: Wire, name: str) -> None:
    """The provider is told its own calls with what they gave, in one turn each, in order."""
    asked_again(bench.client(caller, upstream, name), caller)
    request = SIDES[upstream].read_request(Handler.sent[-1])
    (scenario,) = (one for one in SCENARIOS if one.name == name)
    parts = [part for message in request.messages[1:] for part in message.parts]
    wanted: list[Part] = [Text(said.text) for said in scenario.of("text")]
    wanted += [
        ToolCall(said.call_id, said.name, json.dumps(json.loads(said.text)))
        for said in scenario.of("call")
    ]
    wanted += [
        ToolResult(said.call_id, (Text(f"{said.name} says 7"),)) for said in scenario.of("call")
    ]
    plain = [
        ToolCall(part.id, part.name, json.dumps(json.loads(part.arguments)))
        if isinstance(part, ToolCall)
        else part
        for part in parts
        if isinstance(part, Text | ToolCall | ToolResult)
    ]
    assert plain == wanted
    assert sum(isinstance(part, ToolCall) for part in request.messages[1].parts) == len(
        scenario.of("call")
    )


@pytest.mark.parametrize("upstream", [Wire.CHAT, Wire.RESPONSES, Wire.GEMINI])
def test_the_runner_of_tools_goes_round_without_a_thread(bench: Bench, upstream: Wire) -> None:
    """It begins a thread that the provider would keep; refused, it sends the whole conversation."""

    @anthropic.beta_tool
    def clock() -> str:
        """Tell the time."""
        return "clock says 7"

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"weather of {city} says 7"

    client = bench.client(Wire.MESSAGES, upstream, "thinking-text-and-calls")
    runner = client.beta.messages.tool_runner(
        **MESSAGES_ASK | {"tools": [clock, weather]}, max_iterations=2
    )
    assert len(list(runner)) == 2
    request = SIDES[upstream].read_request(Handler.sent[-1])
    results = [
        part for one in request.messages for part in one.parts if isinstance(part, ToolResult)
    ]
    assert results == [
        ToolResult("call_1", (Text("weather of Kiel says 7"),)),
        ToolResult("call_2", (Text("clock says 7"),)),
    ]


@pytest.mark.parametrize("upstream", [Wire.MESSAGES, Wire.RESPONSES, Wire.GEMINI])
def test_the_openai_sdk_raises_on_an_error_inside_a_chat(bench: Bench, upstream: Wire) -> None:
    client = bench.client(Wire.CHAT, upstream, ERROR.name)
    for way in (chat_stream, chat_helper):
        with pytest.raises(openai.APIError, match=reason_of(ERROR)):
            way(client)


@pytest.mark.parametrize("upstream", [Wire.CHAT, Wire.RESPONSES, Wire.GEMINI])
def test_the_anthropic_sdk_raises_on_an_error_inside_a_message(
    bench: Bench, upstream: Wire
) -> None:
    client = bench.client(Wire.MESSAGES, upstream, ERROR.name)
    for way in (messages_stream, messages_helper):
        with pytest.raises(anthropic.APIStatusError, match=reason_of(ERROR)):
            way(client)


@pytest.mark.parametrize("upstream", [Wire.CHAT, Wire.MESSAGES, Wire.GEMINI])
def test_the_openai_sdk_shows_an_error_inside_a_response(bench: Bench, upstream: Wire) -> None:
    client = bench.client(Wire.RESPONSES, upstream, ERROR.name)
    last = list(client.responses.create(**RESPONSES_ASK, stream=True))[-1]
    with client.responses.stream(**RESPONSES_ASK) as stream:
        helped = list(stream)[-1]
    for event in (last, helped):
        assert event.type == "response.failed"
        assert event.response.status == "failed"
        assert event.response.error.message == reason_of(ERROR)


@pytest.mark.parametrize(("caller", "upstream"), [*ARROWS, *FROM_GEMINI], ids=str)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_it_does_not_matter_where_a_stream_is_split(
    caller: Wire, upstream: Wire, scenario: Scenario
) -> None:
    told = PROVIDERS[upstream](scenario)
    body = told.events

    def answer(*pieces: bytes) -> bytes:
        translator = Translator(caller, upstream, 7, include_usage=True)
        out = b"".join([translator.feed(piece) for piece in pieces])
        return out + (translator.finish(told.terminal) + translator.end() if told.plain else b"")

    whole = answer(body)
    assert answer(*(body[place : place + 1] for place in range(len(body)))) == whole
    # Both sides of every byte of an event's seam and inside it; the reader sees whole events only.
    for cut in range(0, len(body), 1 if len(body) < 3_000 else 97):
        assert answer(body[:cut], body[cut:]) == whole
