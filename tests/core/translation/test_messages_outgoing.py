from typing import Any

import orjson
import pytest
from msgspec import Raw

from proxy.core.translation.conversation import (
    Choice,
    Document,
    Effort,
    Format,
    Image,
    Message,
    Part,
    Refusal,
    Request,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from proxy.core.translation.messages_outgoing import unsaid, write_request

HELLO = Message(Role.USER, (Text("hello"),))
SCHEMA = Raw(b'{"type":"object"}')
TOOL = Tool("f")


def written(*messages: Message, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(
        write_request(Request("m", tuple(messages or (HELLO,)), **fields), 4096)
    )
    return found


def blocks(role: Role, *parts: Part) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = written(Message(role, parts))["messages"][0]["content"]
    return found


def test_the_least_there_is() -> None:
    assert written() == {
        "model": "m",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
    }


def test_every_field_has_its_place() -> None:
    found = written(
        system=(Text("s", cache=True), Text("")),
        output_tokens_max=9,
        temperature=1.5,
        top_p=0.5,
        top_k=3,
        stop=("a",),
        user="u",
        stream=True,
        tools=(Tool("f", "d", SCHEMA, strict=True), TOOL),
        effort=Effort.MINIMAL,
        thinking_tokens=2048,
        format=Format(SCHEMA),
    )
    assert found["system"] == [
        {"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}
    ]
    assert (found["max_tokens"], found["temperature"]) == (9, 1.0)
    assert (found["top_p"], found["top_k"], found["stop_sequences"]) == (0.5, 3, ["a"])
    assert (found["metadata"], found["stream"]) == ({"user_id": "u"}, True)
    assert found["tools"] == [
        {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True},
        {"name": "f", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert found["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert found["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": {"type": "object"}},
    }


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"effort": Effort.NONE}, {"type": "disabled"}),
        ({"thinking_tokens": 0}, {"type": "disabled"}),
        ({"effort": Effort.HIGH}, None),
    ],
)
def test_ways_to_think(fields: dict[str, Any], wanted: object) -> None:
    assert written(**fields).get("thinking") == wanted


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"tool_choice": ToolChoice(Choice.AUTO)}, None),
        ({"tools": (TOOL,)}, None),
        ({"tools": (TOOL,), "parallel_tools": True}, None),
        ({"tools": (TOOL,), "tool_choice": ToolChoice(Choice.REQUIRED)}, {"type": "any"}),
        ({"tools": (TOOL,), "tool_choice": ToolChoice(Choice.NONE)}, {"type": "none"}),
        (
            {"tools": (TOOL,), "tool_choice": ToolChoice(Choice.NAMED, "f")},
            {"type": "tool", "name": "f"},
        ),
        (
            {"tools": (TOOL,), "parallel_tools": False},
            {"type": "auto", "disable_parallel_tool_use": True},
        ),
        (
            {
                "tools": (TOOL,),
                "parallel_tools": False,
                "tool_choice": ToolChoice(Choice.NONE),
            },
            {"type": "none"},
        ),
    ],
)
def test_tool_choices(fields: dict[str, Any], wanted: object) -> None:
    assert written(**fields).get("tool_choice") == wanted


def test_turns_of_one_role_are_joined_and_results_come_first() -> None:
    found = written(
        Message(Role.USER, (Text("q"),)),
        Message(Role.ASSISTANT, (ToolCall("c1", "f", '{"a":1}'), ToolCall("c2", "f", ""))),
        Message(Role.USER, (ToolResult("c1", (Text("1"),)),)),
        Message(Role.USER, (Text("well?"),)),
        Message(Role.USER, (ToolResult("c2", (), failed=True),)),
    )["messages"]
    assert [turn["role"] for turn in found] == ["user", "assistant", "user"]
    assert found[1]["content"] == [
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
    ]
    assert found[2]["content"] == [
        {
            "type": "tool_result",
            "tool_use_id": "c1",
            "content": [{"type": "text", "text": "1"}],
        },
        {"type": "tool_result", "tool_use_id": "c2", "is_error": True},
        {"type": "text", "text": "well?"},
    ]


def test_empty_words_and_turns_are_left_away_because_the_provider_refuses_them() -> None:
    assert written(Message(Role.USER, (Text(""),)))["messages"] == []
    found = written(Message(Role.ASSISTANT, (Text(""),)), HELLO)["messages"]
    assert [turn["role"] for turn in found] == ["user"]
    assert written(HELLO, Message(Role.ASSISTANT, (Text(""),)))["messages"][-1]["role"] == "user"


def test_pictures_files_and_refusals() -> None:
    assert blocks(
        Role.USER,
        Image(url="https://x", cache=True),
        Image(media_type="image/png", data="QQ=="),
        Document(media_type="application/pdf", data="QQ==", name="n"),
        Document(url="https://y"),
        Refusal("no"),
    ) == [
        {
            "type": "image",
            "source": {"type": "url", "url": "https://x"},
            "cache_control": {"type": "ephemeral"},
        },
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="},
        },
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="},
            "title": "n",
        },
        {"type": "document", "source": {"type": "url", "url": "https://y"}},
        {"type": "text", "text": "no"},
    ]


def test_thoughts_go_back_only_with_their_signature_and_only_to_their_maker() -> None:
    assert blocks(
        Role.ASSISTANT,
        Thinking("hm", "s"),
        Thinking("", redacted="xx"),
        Thinking("x"),
        Thinking("x", "gemini:call:s"),
        Thinking("x", "responses:rs_1:s"),
        Text("a"),
    ) == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "xx"},
        {"type": "text", "text": "a"},
    ]


def test_what_cannot_be_said_is_named() -> None:
    found = unsaid(Request("m", (HELLO,), temperature=1.2, format=Format()))
    assert found == ("temperature", "format")
    assert unsaid(Request("m", (HELLO,), temperature=1.0, format=Format(SCHEMA))) == ()
