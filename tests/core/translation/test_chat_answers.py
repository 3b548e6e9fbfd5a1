from typing import Any

import orjson
import pytest

from proxy.core.entities import Usage
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.chat_answers import read_answer, write_answer
from proxy.core.translation.conversation import (
    Answer,
    Finish,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)


def read(finish: str | None = "stop", usage: Any = None, **message: Any) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    document = {"id": "x", "model": "m", "choices": [choice], "usage": usage}
    return read_answer(orjson.dumps(document))


def test_words() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    assert read(content="a", usage=usage) == Answer(
        "x", "m", (Text("a"),), Finish.STOP, Usage(input_uncached=3, output=2)
    )


def test_every_kind_of_part() -> None:
    calls = [{"id": "c", "function": {"name": "f", "arguments": ""}}, {"id": "d"}]
    found = read(
        reasoning_content="hm",
        content="a",
        refusal="no",
        tool_calls=calls,
        function_call={"name": "g", "arguments": "{}"},
    )
    assert found.parts == (
        Thinking("hm"),
        Text("a"),
        Refusal("no"),
        ToolCall("c", "f", "{}"),
        ToolCall("d", "", "{}"),
        ToolCall("g", "g", "{}"),
    )
    assert found.finish is Finish.TOOLS, "though the provider said stop"
    assert read(reasoning="hm").parts == (Thinking("hm"),)


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [("length", Finish.LENGTH), ("content_filter", Finish.REFUSED), (None, Finish.STOP)],
)
def test_reasons(reason: str | None, wanted: Finish) -> None:
    assert read(reason, content="a").finish is wanted


@pytest.mark.parametrize("body", [b"nonsense", b'{"choices":[]}', b'{"choices":[{}]}'])
def test_nonsense_is_the_providers_failure(body: bytes) -> None:
    with pytest.raises(RelayError) as caught:
        read_answer(body)
    assert caught.value.code is ErrorCode.UPSTREAM_ERROR


def written(*parts: Part, finish: Finish = Finish.STOP, usage: Usage | None = None) -> Any:
    return orjson.loads(write_answer(Answer("msg_1", "m", parts, finish, usage), 7))


def test_written_words() -> None:
    found = written(Text("a"), Text("b"), usage=Usage(input_uncached=1, output=2))
    assert (found["id"], found["object"], found["created"]) == (
        "chatcmpl-msg_1",
        "chat.completion",
        7,
    )
    message = found["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "ab", "refusal": None}
    assert found["usage"]["total_tokens"] == 3


def test_written_parts_of_every_kind() -> None:
    found = written(
        Thinking("hm", "s"),
        Thinking("", redacted="xx"),
        Refusal("no"),
        ToolCall("c", "f", "{}"),
        finish=Finish.TOOLS,
    )
    message = found["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, "no")
    assert message["reasoning_content"] == "hm"
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert found["choices"][0]["finish_reason"] == "tool_calls"
    assert "usage" not in found


def test_an_answer_of_nothing_has_empty_words() -> None:
    assert written()["choices"][0]["message"]["content"] == ""


def test_signatures_of_googles_chat_are_thoughts_where_they_stand() -> None:
    google = {"google": {"thought_signature": "s"}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message: dict[str, Any] = {
        "content": "a",
        "extra_content": google,
        "tool_calls": [call | {"extra_content": google}],
    }
    answer = read(**message)
    assert answer.parts == (
        Text("a"),
        Thinking("", "gemini:text:s"),
        Thinking("", "gemini:call:s"),
        ToolCall("c", "f", "{}"),
    )
    back = written(*answer.parts)["choices"][0]["message"]
    assert {name: back[name] for name in message} == message
    assert "reasoning_content" not in back
