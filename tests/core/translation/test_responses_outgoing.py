from typing import Any

import orjson
import pytest
from msgspec import Raw

from proxy.core.errors import ErrorCode, RelayError
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
from proxy.core.translation.responses_outgoing import unsaid, write_request


def written(*messages: Message, **fields: Any) -> Any:
    return orjson.loads(write_request(Request("m", messages, **fields)))


def user(*parts: Part) -> list[Any]:
    return written(Message(Role.USER, parts))["input"]


def assistant(*parts: Part) -> list[Any]:
    return written(Message(Role.ASSISTANT, parts))["input"]


def test_the_least_there_is() -> None:
    assert written(Message(Role.USER, (Text("hi"),))) == {
        "model": "m",
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "hi"}],
            }
        ],
        "store": False,
    }


def test_every_field() -> None:
    found = written(
        system=(Text("one"), Text("two")),
        tools=(Tool("f", "d", Raw(b'{"type":"object"}'), strict=True), Tool("g")),
        tool_choice=ToolChoice(Choice.NAMED, "f"),
        parallel_tools=False,
        output_tokens_max=7,
        temperature=0.5,
        top_p=0.9,
        format=Format(Raw(b"{}"), "n", strict=True),
        effort=Effort.MAX,
        user="u",
        stream=True,
    )
    assert found == {
        "model": "m",
        "instructions": "one\n\ntwo",
        "input": [],
        "tools": [
            {
                "type": "function",
                "name": "f",
                "description": "d",
                "parameters": {"type": "object"},
                "strict": True,
            },
            {
                "type": "function",
                "name": "g",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            },
        ],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": False,
        "max_output_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}},
        "reasoning": {"effort": "max"},
        "include": ["reasoning.encrypted_content"],
        "user": "u",
        "store": False,
        "stream": True,
    }


def test_thinking_is_asked_for_only_where_it_is_wanted() -> None:
    assert "include" not in written(effort=Effort.NONE)
    assert written(thinking_tokens=0)["reasoning"] == {"effort": "none"}
    assert written(thinking_tokens=9_999)["include"] == ["reasoning.encrypted_content"]
    assert "parallel_tool_calls" not in written(parallel_tools=True)


def test_stop_sequences_are_refused_and_top_k_is_named() -> None:
    with pytest.raises(RelayError, match="stop sequences") as caught:
        written(stop=("end",))
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert unsaid(Request("m", (), top_k=3)) == ("top_k",)
    assert unsaid(Request("m", ())) == ()


def test_results_come_ahead_of_what_the_user_says() -> None:
    picture = Image(url="https://x/y.png")
    items = user(
        Text("so?"),
        ToolResult("a", (Text("1"), Text("2"))),
        ToolResult("b", (Text("no such file"),), failed=True),
        ToolResult("c", (Text("see"), picture)),
        ToolResult("d", (picture,), failed=True),
        ToolResult("e", ()),
    )
    shown = {"type": "input_image", "image_url": "https://x/y.png", "detail": "auto"}
    assert [(item["call_id"], item["output"]) for item in items[:-1]] == [
        ("a", "1\n2"),
        ("b", "Error: no such file"),
        ("c", [{"type": "input_text", "text": "see"}, shown]),
        ("d", [{"type": "input_text", "text": "Error:"}, shown]),
        ("e", ""),
    ]
    assert items[-1]["role"] == "user"
    assert len(user(ToolResult("a", ()))) == 1


def test_pictures_and_documents() -> None:
    (item,) = user(
        Image(media_type="image/png", data="QUJD", detail="low"),
        Document(url="https://x/y.pdf"),
        Document(media_type="text/csv", data="QQ==", name="f.csv"),
        Document(data="QQ=="),
        Image(),
    )
    assert item["content"] == [
        {"type": "input_image", "image_url": "data:image/png;base64,QUJD", "detail": "low"},
        {"type": "input_file", "file_url": "https://x/y.pdf"},
        {"type": "input_file", "filename": "f.csv", "file_data": "data:text/csv;base64,QQ=="},
        {
            "type": "input_file",
            "filename": "document.pdf",
            "file_data": "data:application/octet-stream;base64,QQ==",
        },
        {
            "type": "input_image",
            "image_url": "data:application/octet-stream;base64,",
            "detail": "auto",
        },
    ]


def test_what_the_assistant_said_keeps_its_order() -> None:
    items = assistant(
        Thinking("hm", "responses:rs_1:xx"),
        Thinking("another maker's", "ErUB"),
        Thinking("", "responses:rs_2:yy"),
        Text("a"),
        Refusal("no"),
        ToolCall("c", "f", ""),
        Text("b"),
    )
    assert items == [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "xx",
        },
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "yy"},
        {
            "type": "message",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "a", "annotations": []},
                {"type": "refusal", "refusal": "no"},
            ],
        },
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "b", "annotations": []}],
        },
    ]
    assert assistant(ToolCall("c", "f", "{}"))[0]["type"] == "function_call"


def test_parts_in_the_wrong_mouth_are_our_fault() -> None:
    with pytest.raises(AssertionError):
        user(ToolCall("c", "f", "{}"))
    with pytest.raises(AssertionError):
        assistant(Image())
