from typing import Any

import orjson
import pytest

from proxy.core.entities import Usage
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.conversation import (
    Answer,
    Finish,
    Image,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from proxy.core.translation.messages_answers import read_answer, write_answer


def read(*content: dict[str, Any], **fields: Any) -> Answer:
    document = {"id": "msg_1", "model": "m", "content": list(content), **fields}
    return read_answer(orjson.dumps(document))


def test_every_kind_of_part() -> None:
    found = read(
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "xx"},
        {"type": "text", "text": "a"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        {"type": "server_tool_use", "id": "s"},
        stop_reason="tool_use",
        usage={"input_tokens": 3, "output_tokens": 2},
    )
    assert found == Answer(
        "msg_1",
        "m",
        (
            Thinking("hm", "s"),
            Thinking("", redacted="xx"),
            Text("a"),
            ToolCall("t", "f", '{"a":1}'),
        ),
        Finish.TOOLS,
        Usage(input_uncached=3, output=2),
    )


def test_reasons() -> None:
    assert read().finish is Finish.STOP
    assert read().usage is None
    assert read(stop_reason="unheard_of").finish is Finish.STOP
    found = read(stop_reason="stop_sequence", stop_sequence="x")
    assert (found.finish, found.stop_sequence) == (Finish.STOP_SEQUENCE, "x")


@pytest.mark.parametrize("body", [b"nonsense", b'{"content":7}', b"{}"])
def test_nonsense_is_the_providers_failure(body: bytes) -> None:
    with pytest.raises(RelayError) as caught:
        read_answer(body)
    assert caught.value.code is ErrorCode.UPSTREAM_ERROR


def written(*parts: Part, usage: Usage | None = None) -> Any:
    return orjson.loads(write_answer(Answer("x", "m", parts, Finish.LENGTH, usage)))


def test_written_parts_of_every_kind() -> None:
    found = written(
        Thinking("hm", "s"),
        Thinking("mm"),
        Thinking("", redacted="xx"),
        Text("a"),
        Refusal("no"),
        ToolCall("t", "f", '{"a":1}'),
        ToolCall("u", "f", ""),
        ToolCall("v", "f", "[1]"),
        ToolCall("w", "f", "nonsense"),
        usage=Usage(input_uncached=1, output=2),
    )
    assert found["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "thinking", "thinking": "mm", "signature": ""},
        {"type": "redacted_thinking", "data": "xx"},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "no"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "u", "name": "f", "input": {}},
        {"type": "tool_use", "id": "v", "name": "f", "input": {"arguments": "[1]"}},
        {"type": "tool_use", "id": "w", "name": "f", "input": {"arguments": "nonsense"}},
    ]
    assert (found["id"], found["stop_reason"]) == ("msg_x", "max_tokens")
    assert found["usage"]["output_tokens"] == 2


def test_parts_no_answer_has_are_our_fault() -> None:
    with pytest.raises(AssertionError):
        written(Image(url="https://x"))
    assert written()["usage"]["output_tokens"] == 0
