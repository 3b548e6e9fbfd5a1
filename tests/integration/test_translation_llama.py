"""The real llama.cpp answers translated requests in each protocol it serves, and is translated back.

It serves three of the four: Gemini's callers ask, and there is no Gemini here to be asked.
Its Responses stream is the odd one: no places, no content index, `response.created` again and
again, items closed only at the end. Every caller must hold the words the same server's own
closing event repeats, and the usage it reports.
"""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.core.catalog import TRANSLATED
from proxy.core.sse import EventSplitter, fields
from proxy.core.translation.conversation import Event, Wire
from proxy.core.translation.translator import SIDES, Translator
from tests.integration.llama import MODEL_NAME, LlamaServer

PATHS = {
    Wire.CHAT: "/v1/chat/completions",
    Wire.MESSAGES: "/v1/messages",
    Wire.RESPONSES: "/v1/responses",
}
"""What the server serves."""
ARROWS = [
    (caller, upstream) for caller in TRANSLATED for upstream in PATHS if caller is not upstream
]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TURNS = (
    ("user", "Which way?"),
    ("assistant", "Let me look."),
)


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaServer]:
    with LlamaServer() as server:
        yield server


def post(llama: LlamaServer, upstream: Wire, body: bytes) -> bytes:
    connection = http.client.HTTPConnection(llama.base_url.removeprefix("http://"), timeout=30)
    headers = {"content-type": "application/json"}
    connection.request("POST", PATHS[upstream], body, headers)
    answer = connection.getresponse()
    found = answer.read()
    connection.close()
    assert answer.status == 200, found
    return found


def ask(caller: Wire, *, stream: bool) -> bytes:
    """A turn with a call and its result behind it, as each protocol says it.

    Gemini's body names no model and asks for no stream: its path does.
    """
    call = {"call_id": "call_1", "name": "weather", "arguments": '{"city":"Kiel"}'}
    said: list[Any] = [{"role": role, "content": text} for role, text in TURNS]
    document: dict[str, Any] = {"model": "alias", "stream": stream, "temperature": 0}
    if caller is Wire.RESPONSES:
        result = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
        document |= {
            "input": [*said, {"type": "function_call", **call}, result],
            "tools": [{"type": "function", "name": "weather", "parameters": SCHEMA}],
            "instructions": "Be brief.",
            "max_output_tokens": 24,
        }
    elif caller is Wire.CHAT:
        function = {"name": "weather", "arguments": call["arguments"]}
        said[1]["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
        result = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
        document |= {
            "messages": [{"role": "system", "content": "Be brief."}, *said, result],
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}],
            "max_tokens": 24,
        }
    elif caller is Wire.GEMINI:
        used = {"functionCall": {"name": "weather", "args": {"city": "Kiel"}}}
        returned = {"functionResponse": {"name": "weather", "response": {"result": "rain"}}}
        document = {
            "contents": [
                {"role": "user", "parts": [{"text": TURNS[0][1]}]},
                {"role": "model", "parts": [{"text": TURNS[1][1]}, used]},
                {"role": "user", "parts": [returned]},
            ],
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "tools": [{"functionDeclarations": [{"name": "weather", "parameters": SCHEMA}]}],
            "generationConfig": {"maxOutputTokens": 24, "temperature": 0},
        }
    else:
        use = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Kiel"}}
        said[1]["content"] = [{"type": "text", "text": TURNS[1][1]}, use]
        answer = {"type": "tool_result", "tool_use_id": "call_1", "content": "rain"}
        document |= {
            "messages": [*said, {"role": "user", "content": [answer]}],
            "system": "Be brief.",
            "tools": [{"name": "weather", "input_schema": SCHEMA}],
            "max_tokens": 24,
        }
    return json.dumps(document).encode()


def words(events: bytes, wire: Wire) -> tuple[str, int]:
    """The text of a stream and the output tokens it reports, by that protocol's own reader."""
    text, output = "", -1
    reader = SIDES[wire].reader()
    said: list[Event] = []
    for event, _ in EventSplitter(1 << 24).receive(events):
        data = fields(event)[1]
        said += reader.read(data) if data is not None else ()
    for found in (*said, *reader.end()):  # a stream of Gemini's has no last event of its own
        text += getattr(found, "text", "")
        usage = getattr(found, "usage", None)
        output = usage.output if usage is not None else output
    return text, output


@pytest.mark.parametrize(("caller", "upstream"), ARROWS, ids=str)
def test_streams_of_a_real_server(llama: LlamaServer, caller: Wire, upstream: Wire) -> None:
    translator = Translator(caller, upstream, 7, include_usage=True)
    body, left_out = translator.request(
        ask(caller, stream=True),
        model=MODEL_NAME,
        output_tokens_max=None,
        limit=99,
        stream=caller is Wire.GEMINI,
    )
    assert left_out == ()
    told = post(llama, upstream, body)
    cut = told.rstrip().rfind(b"\n\n") + 2
    out = translator.feed(told[:cut]) + translator.finish(told[cut:]) + translator.end()
    assert translator.failure is None
    wanted = words(told, upstream)
    assert wanted[0]
    assert 0 < wanted[1] <= 24
    assert words(out, caller) == wanted


@pytest.mark.parametrize(("caller", "upstream"), ARROWS, ids=str)
def test_whole_answers_of_a_real_server(llama: LlamaServer, caller: Wire, upstream: Wire) -> None:
    translator = Translator(caller, upstream, 7)
    body, _ = translator.request(
        ask(caller, stream=False), model=MODEL_NAME, output_tokens_max=None, limit=99
    )
    told = post(llama, upstream, body)
    wanted = SIDES[upstream].read_answer(told)
    found = SIDES[caller].read_answer(translator.answer(told))
    assert wanted.parts
    assert (found.parts, found.usage) == (wanted.parts, wanted.usage)
