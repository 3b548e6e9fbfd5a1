"""Google's real SDK asks every other provider, and Gemini's signatures go round with every SDK.

The server and the answers are those of `test_translation_sdks.py`. A signature that does not come
back to where it stood makes newer models refuse the next turn, so it is looked for in the very
request the provider would be sent.
"""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import errors, types

from proxy.core.entities import Dialect
from proxy.core.translation.conversation import Text, ToolCall, ToolResult, Wire
from proxy.core.translation.signatures import NO_SIGNATURE
from proxy.core.translation.translator import SIDES
from proxy.edge.downstream import HEARTBEATS
from tests.integration.provider_answers import SCENARIOS, Scenario
from tests.integration.test_translation_sdks import CHAT_ASK, MESSAGES_ASK, RESPONSES_ASK
from tests.integration.translation_seen import (
    ERROR,
    FROM_GEMINI,
    NAMED,
    Seen,
    expected,
    reason_of,
)
from tests.integration.translation_server import Bench, Handler, served

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
CONFIG = types.GenerateContentConfig(
    tools=[
        types.Tool(
            function_declarations=[
                types.FunctionDeclaration(name=name, parameters_json_schema=PARAMETERS)
                for name in ("weather", "clock")
            ]
        )
    ]
)
from_gemini = pytest.mark.parametrize(("caller", "upstream"), FROM_GEMINI, ids=str)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with served() as found:
        yield found


def google(bench: Bench, upstream: Wire, name: str) -> genai.Client:
    options = types.HttpOptions(base_url=f"{bench.url}/{name}/{upstream.value}", timeout=20_000)
    return genai.Client(api_key="k", http_options=options)


def _seen(responses: list[types.GenerateContentResponse]) -> Seen:
    """What the parts of one or more responses add up to."""
    parts = [
        part
        for one in responses
        for candidate in one.candidates or ()
        if candidate.content is not None
        for part in candidate.content.parts or ()
    ]
    calls = [part.function_call for part in parts if part.function_call is not None]
    last = responses[-1]
    assert last.candidates is not None
    assert last.candidates[0].finish_reason is not None
    used = last.usage_metadata
    assert used is not None
    output = (used.candidates_token_count or 0) + (used.thoughts_token_count or 0)
    return Seen(
        "".join(part.text or "" for part in parts if not part.thought),
        "",
        "".join(part.text or "" for part in parts if part.thought),
        [part.thought_signature.decode() for part in parts if part.thought_signature],
        [(call.id or "", call.name or "", call.args) for call in calls],
        last.candidates[0].finish_reason.value,
        (used.prompt_token_count or 0, used.cached_content_token_count or 0, output),
    )


def plain(client: genai.Client) -> Seen:
    found = client.models.generate_content(model="alias", contents="hi", config=CONFIG)
    return _seen([found])


def stream(client: genai.Client) -> Seen:
    events = client.models.generate_content_stream(model="alias", contents="hi", config=CONFIG)
    return _seen(list(events))


def chat(client: genai.Client) -> Seen:
    """The helper that keeps a history."""
    events = list(client.chats.create(model="alias", config=CONFIG).send_message_stream("hi"))
    return _seen(events)


@pytest.mark.client(name="google-genai for Python", package="development/google-genai",
                    upstream="golden transcripts",
                    shows="every translation, whole, streamed, by its chat")  # fmt: skip
@from_gemini
@pytest.mark.parametrize("scenario", NAMED, ids=lambda scenario: scenario.name)
def test_googles_sdk_holds_what_the_provider_said(
    bench: Bench, caller: Wire, upstream: Wire, scenario: Scenario
) -> None:
    wanted = expected(scenario, caller, upstream)
    with google(bench, upstream, scenario.name) as client:
        for way in (plain, stream, chat):
            assert way(client) == wanted, way.__name__


@from_gemini
@pytest.mark.parametrize("name", ["thinking-text-and-calls", "parallel-calls"])
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
def test_loops_of_tools_go_round(
    bench: Bench, caller: Wire, upstream: Wire, name: str, streamed: bool
) -> None:
    """The provider is told its own calls with what they gave, and gets its own secrets."""
    with google(bench, upstream, name) as client:
        talk = client.chats.create(model="alias", config=CONFIG)
        if streamed:
            events = list(talk.send_message_stream("hi"))
            made = [part.function_call for one in events for part in one.parts or ()]
        else:
            made = [part.function_call for part in talk.send_message("hi").parts or ()]
        results = [
            types.Part(
                function_response=types.FunctionResponse(
                    id=call.id, name=call.name, response={"output": f"{call.name} says 7"}
                )
            )
            for call in made
            if call is not None
        ]
        talk.send_message(results)
    sent = Handler.sent[-1]
    request = SIDES[upstream].read_request(sent)
    (scenario,) = (one for one in SCENARIOS if one.name == name)
    calls = scenario.of("call")
    parts = [part for message in request.messages[1:] for part in message.parts]
    assert [part.text for part in parts if isinstance(part, Text)] == [
        said.text for said in scenario.of("text")
    ]
    assert [
        (part.id, part.name, json.loads(part.arguments))
        for part in parts
        if isinstance(part, ToolCall)
    ] == [(said.call_id, said.name, json.loads(said.text)) for said in calls]
    assert [part for part in parts if isinstance(part, ToolResult)] == [
        ToolResult(said.call_id, (Text(f"{said.name} says 7"),)) for said in calls
    ]
    if upstream is not Wire.CHAT:
        secrets = [said.signature for said in scenario.said if said.signature]
        assert all(secret.encode() in sent for secret in secrets)
        assert b"relayed" not in sent


@pytest.mark.parametrize("upstream", [Wire.CHAT, Wire.MESSAGES, Wire.RESPONSES])
def test_googles_sdk_raises_on_an_error_inside_a_stream(bench: Bench, upstream: Wire) -> None:
    with google(bench, upstream, ERROR.name) as client:
        for way in (stream, chat):
            with pytest.raises(errors.APIError, match=reason_of(ERROR)) as raised:
                way(client)
            assert raised.value.status is not None


def test_a_stream_kept_alive_by_empty_lines_is_read_as_if_they_were_not_there() -> None:
    """A comment, which SSE allows, is taken for a part of the answer by this SDK."""
    event = b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\n\n'

    def read(body: bytes) -> list[str | None]:
        answer = httpx2.Response(200, content=body, headers={"content-type": "text/event-stream"})
        transport = httpx2.MockTransport(lambda _: answer)
        options = types.HttpOptions(httpx_client=httpx2.Client(transport=transport))
        with genai.Client(api_key="k", http_options=options) as client:
            events = client.models.generate_content_stream(model="m", contents="hi")
            return [one.text for one in events]

    assert read(event + HEARTBEATS[Dialect.GEMINI] + event) == ["a", "a"]
    with pytest.raises(errors.UnknownApiResponseError):
        read(event + HEARTBEATS[Dialect.OPENAI] + event)


# Signatures of Gemini's, through the other SDKs and back.

SIGNED = "thinking-text-and-calls"


def through_chat(client: Any) -> None:
    first = client.chat.completions.create(**CHAT_ASK).choices[0].message
    _chat_again(client, first)


def through_a_chats_stream(client: Any) -> None:
    with client.chat.completions.stream(**CHAT_ASK) as events:
        first = events.get_final_completion().choices[0].message
    _chat_again(client, first)


def _chat_again(client: Any, first: Any) -> None:
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": "7"} for call in first.tool_calls
    ]
    turns = [*CHAT_ASK["messages"], first, *results]
    client.chat.completions.create(**CHAT_ASK | {"messages": turns})


def through_messages(client: Any) -> None:
    _messages_again(client, client.messages.create(**MESSAGES_ASK))


def through_a_stream_of_messages(client: Any) -> None:
    with client.messages.stream(**MESSAGES_ASK) as events:
        _messages_again(client, events.get_final_message())


def _messages_again(client: Any, first: Any) -> None:
    results = [
        {"type": "tool_result", "tool_use_id": one.id, "content": "7"}
        for one in first.content
        if one.type == "tool_use"
    ]
    turns = [
        *MESSAGES_ASK["messages"],
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": results},
    ]
    client.messages.create(**MESSAGES_ASK | {"messages": turns})


def through_responses(client: Any) -> None:
    _responses_again(client, client.responses.create(**RESPONSES_ASK))


def through_a_stream_of_responses(client: Any) -> None:
    with client.responses.stream(**RESPONSES_ASK) as events:
        _responses_again(client, events.get_final_response())


def _responses_again(client: Any, first: Any) -> None:
    results = [
        {"type": "function_call_output", "call_id": one.call_id, "output": "7"}
        for one in first.output
        if one.type == "function_call"
    ]
    turns = [{"role": "user", "content": "hi"}, *first.output, *results]
    client.responses.create(**RESPONSES_ASK | {"input": turns})


LOOPS: list[tuple[Wire, Callable[[Any], None]]] = [
    (Wire.CHAT, through_chat),
    (Wire.CHAT, through_a_chats_stream),
    (Wire.MESSAGES, through_messages),
    (Wire.MESSAGES, through_a_stream_of_messages),
    (Wire.RESPONSES, through_responses),
    (Wire.RESPONSES, through_a_stream_of_responses),
]


loops = pytest.mark.parametrize(("caller", "loop"), LOOPS, ids=[loop.__name__ for _, loop in LOOPS])


def calls_sent() -> list[dict[str, Any]]:
    """The parts of the last request that are calls, as Gemini is told them."""
    contents = json.loads(Handler.sent[-1])["contents"]
    return [part for turn in contents for part in turn["parts"] if "functionCall" in part]


@loops
def test_a_signature_comes_back_to_its_call(
    bench: Bench, caller: Wire, loop: Callable[[Any], None]
) -> None:
    loop(bench.client(caller, Wire.GEMINI, SIGNED))
    first, second = calls_sent()
    assert first["thoughtSignature"] == "c2ln"
    assert "thoughtSignature" not in second


@loops
def test_a_call_without_a_signature_is_said_to_have_none(
    bench: Bench, caller: Wire, loop: Callable[[Any], None]
) -> None:
    loop(bench.client(caller, Wire.GEMINI, "parallel-calls"))
    signatures = [part.get("thoughtSignature") for part in calls_sent()]
    assert signatures == [NO_SIGNATURE, None, None]


def test_a_signature_is_what_google_calls_base64() -> None:
    """Its SDK decodes what it is given and encodes it again."""
    part = types.Part.model_validate({"text": "", "thoughtSignature": "c2ln+/8="})
    assert part.thought_signature == base64.b64decode("c2ln+/8=")
