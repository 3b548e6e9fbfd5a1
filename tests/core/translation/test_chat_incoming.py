from typing import Any

import orjson
import pytest

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.chat_incoming import read_request, split_data_url
from proxy.core.translation.conversation import (
    Choice,
    Document,
    Effort,
    Image,
    Message,
    Refusal,
    Request,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
)

HELLO = {"role": "user", "content": "hello"}


def read(*messages: dict[str, Any], **fields: Any) -> Request:
    document = {"model": "m", "messages": list(messages or (HELLO,)), **fields}
    return read_request(orjson.dumps(document))


def parts(*content: dict[str, Any]) -> tuple[Any, ...]:
    return read({"role": "user", "content": list(content)}).messages[0].parts


def test_the_least_there_is() -> None:
    assert read() == Request("m", (Message(Role.USER, (Text("hello"),)),))


def test_instructions_stand_apart_wherever_they_are() -> None:
    found = read(
        {"role": "system", "content": "one"},
        HELLO,
        {"role": "developer", "content": [{"type": "text", "text": "two"}]},
    )
    assert [part.text for part in found.system] == ["one", "two"]
    assert len(found.messages) == 1


def test_every_field_that_other_dialects_have_is_carried() -> None:
    found = read(
        max_tokens=5,
        max_completion_tokens=7,
        temperature=0.5,
        top_p=0.9,
        stop="end",
        reasoning_effort="low",
        user="u",
        safety_identifier="s",
        stream=True,
        parallel_tool_calls=False,
        n=1,
        modalities=["text"],
        logprobs=False,
    )
    assert (found.output_tokens_max, found.temperature, found.top_p) == (7, 0.5, 0.9)
    assert (found.stop, found.effort, found.user) == (("end",), Effort.LOW, "s")
    assert found.stream
    assert found.parallel_tools is False
    assert found.left_out == ()
    assert read(stop=["a", "b"], max_tokens=3).stop == ("a", "b")
    assert read(max_tokens=3).output_tokens_max == 3


def test_fields_that_only_tune_are_named() -> None:
    found = read(seed=1, logit_bias={"1": 2}, store=True, metadata=None, unheard_of=[1])
    assert found.left_out == ("logit_bias", "seed", "store", "unheard_of")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"logprobs": True}, "logprobs"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools"),
    ],
)
def test_what_would_change_the_answer_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RelayError) as caught:
        read(**fields)
    assert (caught.value.code, caught.value.param) == (ErrorCode.INVALID_REQUEST, param)


def test_null_is_as_good_as_absent() -> None:
    assert read(audio=None, web_search_options=None, tools=None, n=None, stop=None) == read()


def test_parts_of_a_message() -> None:
    mark = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    assert parts(
        {"type": "text", "text": "a", **mark},
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}, **mark},
        {"type": "file", "file": {"file_data": "data:text/csv;base64,QQ==", "filename": "f"}},
        {"type": "file", "file": {"file_data": "QQ=="}},
    ) == (
        Text("a", cache=True),
        Image(url="https://x/y.png", detail="low"),
        Image(media_type="image/png", data="QUJD", cache=True),
        Document(media_type="text/csv", data="QQ==", name="f"),
        Document(media_type="application/pdf", data="QQ=="),
    )


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "image_url", "image_url": {"url": "data:image/png,raw"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64"}},
    ],
)
def test_parts_that_cannot_be_carried_are_refused(part: dict[str, Any]) -> None:
    with pytest.raises(RelayError) as caught:
        parts(part)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_a_data_url_without_a_type_is_text() -> None:
    assert split_data_url("data:;base64,QQ==") == ("text/plain", "QQ==")


def test_tools_their_calls_and_results() -> None:
    schema = {"type": "object"}
    found = read(
        HELLO,
        {
            "role": "assistant",
            "content": "let me see",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "2"}]},
        {"role": "user", "content": None},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c3", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        tools=[
            {
                "type": "function",
                "function": {"name": "f", "description": "d", "parameters": schema, "strict": True},
            },
            {"type": "function", "function": {"name": "g"}},
        ],
        tool_choice={"type": "function", "function": {"name": "f"}},
    )
    assert found.messages[1].parts == (
        Text("let me see"),
        ToolCall("c1", "f", '{"a":1}'),
        ToolCall("c2", "g", "{}"),
    )
    assert found.messages[2].parts == (ToolResult("c1", (Text("1"),)),)
    assert found.messages[3].parts == (ToolResult("c2", (Text("2"),)),)
    assert found.messages[4].parts == ()
    assert found.messages[5].parts == (ToolCall("c3", "f", "{}"),), "no words are no part"
    first, second = found.tools
    assert (first.name, first.description, first.strict) == ("f", "d", True)
    assert first.schema is not None
    assert orjson.loads(bytes(first.schema)) == schema
    assert (second.name, second.schema) == ("g", None)
    assert found.tool_choice == ToolChoice(Choice.NAMED, "f")


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_tool_choices_by_word(choice: str) -> None:
    assert read(tool_choice=choice).tool_choice == ToolChoice(Choice(choice))


def test_the_older_way_to_call_functions() -> None:
    found = read(
        HELLO,
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
        functions=[{"name": "f", "parameters": {}}],
        function_call={"name": "f"},
    )
    assert found.messages[1].parts == (ToolCall("f", "f", "{}"),)
    assert found.messages[2].parts == (ToolResult("f", (Text("1"),)),)
    assert found.tools[0].name == "f"
    assert found.tool_choice == ToolChoice(Choice.NAMED, "f")


def test_refusals_are_kept() -> None:
    found = read(
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "assistant", "refusal": "never"},
    )
    assert found.messages[0].parts == (Refusal("no"),)
    assert found.messages[1].parts == (Refusal("never"),)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "1"},
        {
            "role": "tool",
            "tool_call_id": "c",
            "content": [{"type": "image_url", "image_url": {"url": "https://x"}}],
        },
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]},
        {"role": "nobody", "content": "x"},
        {"role": "user", "content": [{"type": "unheard_of"}]},
        {"role": "user", "content": 7},
    ],
)
def test_messages_that_make_no_sense_are_refused(message: dict[str, Any]) -> None:
    with pytest.raises(RelayError) as caught:
        read(message)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_formats() -> None:
    assert read(response_format={"type": "text"}).format is None
    loose = read(response_format={"type": "json_object"}).format
    assert loose is not None
    assert loose.schema is None
    named = {"name": "n", "schema": {"type": "object"}, "strict": True}
    strict = read(response_format={"type": "json_schema", "json_schema": named}).format
    assert strict is not None
    assert (strict.name, strict.strict) == ("n", True)
    assert strict.schema is not None
    assert orjson.loads(bytes(strict.schema)) == {"type": "object"}
    empty = read(response_format={"type": "json_schema"}).format
    assert empty is not None
    assert empty.schema is None


def test_signatures_of_googles_chat_are_thoughts_where_they_stand() -> None:
    extra = {"google": {"thought_signature": "s"}}
    called = {"id": "c", "type": "function", "function": {"name": "f"}}
    said = {
        "role": "assistant",
        "content": "a",
        "extra_content": {"google": {"thought_signature": "t"}},
        "tool_calls": [called | {"extra_content": extra}, called],
    }
    call = ToolCall("c", "f", "{}")
    assert read(said).messages[0].parts == (
        Text("a"),
        Thinking("", "gemini:text:t"),
        Thinking("", "gemini:call:s"),
        call,
        call,
    )
