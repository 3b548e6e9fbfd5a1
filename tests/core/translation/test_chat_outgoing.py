from typing import Any

import orjson
import pytest
from msgspec import Raw

from proxy.core.errors import RelayError
from proxy.core.translation.chat_outgoing import unsaid, write_request
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

HELLO = Message(Role.USER, (Text("hello"),))
SCHEMA = Raw(b'{"type":"object"}')


def written(*messages: Message, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(
        write_request(Request("m", tuple(messages or (HELLO,)), **fields))
    )
    return found


def turns(role: Role, *parts: Part) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = written(Message(role, parts))["messages"]
    return found


def test_the_least_there_is() -> None:
    assert written() == {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def test_a_stream_asks_for_usage() -> None:
    found = written(stream=True)
    assert (found["stream"], found["stream_options"]) == (True, {"include_usage": True})


def test_every_field_has_its_place() -> None:
    found = written(
        system=(Text("one"), Text("two")),
        output_tokens_max=9,
        temperature=0.0,
        top_p=0.5,
        stop=("a", "b"),
        user="u",
        tools=(Tool("f", "d", SCHEMA, strict=True), Tool("g")),
        tool_choice=ToolChoice(Choice.NAMED, "f"),
        parallel_tools=False,
        format=Format(SCHEMA, "n", strict=True),
        effort=Effort.HIGH,
    )
    assert found["messages"][0] == {"role": "system", "content": "one\n\ntwo"}
    assert (found["max_completion_tokens"], found["temperature"], found["top_p"]) == (9, 0.0, 0.5)
    assert (found["stop"], found["user"]) == (["a", "b"], "u")
    assert found["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "d",
                "parameters": {"type": "object"},
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "g"}},
    ]
    assert found["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert found["parallel_tool_calls"] is False
    assert found["response_format"]["json_schema"] == {
        "name": "n",
        "schema": {"type": "object"},
        "strict": True,
    }
    assert found["reasoning_effort"] == "high"


def test_looser_forms() -> None:
    assert written(format=Format())["response_format"] == {"type": "json_object"}
    loose = written(format=Format(SCHEMA))["response_format"]["json_schema"]
    assert "strict" not in loose
    assert written(tool_choice=ToolChoice(Choice.AUTO))["tool_choice"] == "auto"
    assert "parallel_tool_calls" not in written(parallel_tools=True)


@pytest.mark.parametrize(
    ("effort", "budget", "wanted"),
    [
        (None, None, None),
        (Effort.MAX, None, "xhigh"),
        (Effort.LOW, 50_000, "low"),
        (None, 0, "none"),
        (None, 2_000, "low"),
        (None, 10_000, "medium"),
        (None, 50_000, "high"),
    ],
)
def test_budgets_become_levels(
    effort: Effort | None, budget: int | None, wanted: str | None
) -> None:
    assert written(effort=effort, thinking_tokens=budget).get("reasoning_effort") == wanted


def test_results_of_tools_go_ahead_of_what_the_user_says() -> None:
    picture = Image(media_type="image/png", data="QQ==")
    assert turns(
        Role.USER,
        ToolResult("c1", (Text("1"), Text("2"))),
        Text("and now?"),
        ToolResult("c2", (picture,), failed=True),
    ) == [
        {"role": "tool", "tool_call_id": "c1", "content": "1\n2"},
        {"role": "tool", "tool_call_id": "c2", "content": "Error: "},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "and now?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}},
            ],
        },
    ]


def test_pictures_and_files() -> None:
    found = turns(
        Role.USER,
        Image(url="https://x", detail="high"),
        Document(media_type="application/pdf", data="QQ==", name="n.pdf"),
        Document(data="QQ=="),
    )
    assert found[0]["content"] == [
        {"type": "image_url", "image_url": {"url": "https://x", "detail": "high"}},
        {
            "type": "file",
            "file": {"filename": "n.pdf", "file_data": "data:application/pdf;base64,QQ=="},
        },
        {
            "type": "file",
            "file": {
                "filename": "document.pdf",
                "file_data": "data:application/octet-stream;base64,QQ==",
            },
        },
    ]
    with pytest.raises(RelayError, match="by its URL"):
        turns(Role.USER, Document(url="https://x"))


def test_what_the_model_said() -> None:
    assert turns(
        Role.ASSISTANT, Thinking("hm"), Text("a"), Text("b"), ToolCall("c", "f", "{}")
    ) == [
        {
            "role": "assistant",
            "content": "ab",
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        }
    ]
    assert turns(Role.ASSISTANT, Refusal("no")) == [
        {"role": "assistant", "content": None, "refusal": "no"}
    ]
    assert turns(Role.ASSISTANT) == [{"role": "assistant", "content": ""}]


def test_parts_nobody_can_have_said_are_our_fault() -> None:
    with pytest.raises(AssertionError):
        turns(Role.USER, Text("a"), Thinking("hm"))


def test_what_cannot_be_said_is_named() -> None:
    assert unsaid(Request("m", (HELLO,), top_k=3)) == ("top_k",)
    assert unsaid(Request("m", (HELLO,))) == ()


def test_results_alone_make_no_further_turn() -> None:
    found = turns(Role.USER, ToolResult("c1", (Text("1"),)))
    assert found == [{"role": "tool", "tool_call_id": "c1", "content": "1"}]


def test_signatures_of_googles_chat_go_back_to_it() -> None:
    google = {"google": {"thought_signature": "s"}}
    (turn,) = turns(
        Role.ASSISTANT,
        Text("a"),
        Thinking("", "gemini:text:s"),
        Thinking("hm", "gemini:call:s"),
        ToolCall("c", "f", "{}"),
    )
    assert turn["extra_content"] == turn["tool_calls"][0]["extra_content"] == google
