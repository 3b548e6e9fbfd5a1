from typing import Any

import orjson
import pytest

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.conversation import (
    Choice,
    Document,
    Effort,
    Image,
    Message,
    Request,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from proxy.core.translation.messages_incoming import read_request

CACHE = {"cache_control": {"type": "ephemeral"}}


def read(*content: Any, **fields: Any) -> Request:
    messages = [{"role": "user", "content": list(content) or "hello"}]
    document = {"model": "m", "max_tokens": 5, "messages": messages, **fields}
    return read_request(orjson.dumps(document))


def test_the_least_there_is() -> None:
    assert read() == Request("m", (Message(Role.USER, (Text("hello"),)),), output_tokens_max=5)


def test_every_field_that_other_dialects_have_is_carried() -> None:
    found = read(
        system=[{"type": "text", "text": "s", **CACHE}],
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        stop_sequences=["x"],
        metadata={"user_id": "u"},
        stream=True,
        output_config={
            "effort": "max",
            "format": {"type": "json_schema", "schema": {"type": "object"}},
        },
        thinking={"type": "enabled", "budget_tokens": 2048},
        cache_control={"type": "ephemeral"},
    )
    assert found.system == (Text("s", cache=True),)
    assert (found.temperature, found.top_p, found.top_k) == (0.5, 0.9, 3)
    assert (found.stop, found.user, found.stream) == (("x",), "u", True)
    assert found.format is not None
    assert found.format.strict
    assert (found.effort, found.thinking_tokens) == (Effort.MAX, 2048)
    assert found.left_out == ()
    assert read(system="s").system == (Text("s"),)
    assert read(metadata={}).user is None


@pytest.mark.parametrize(
    ("config", "tokens"),
    [({"type": "adaptive"}, None), ({"type": "disabled"}, 0), ({"type": "between_tools"}, None)],
)
def test_ways_to_think(config: dict[str, Any], tokens: int | None) -> None:
    assert read(thinking=config).thinking_tokens == tokens


def test_fields_that_only_tune_are_named() -> None:
    assert read(service_tier="auto", unheard_of=1).left_out == ("service_tier", "unheard_of")


def test_blocks() -> None:
    base64 = {"type": "base64", "media_type": "image/png", "data": "QQ=="}
    found = read(
        {"type": "text", "text": "t", **CACHE},
        {"type": "image", "source": base64},
        {"type": "image", "source": {"type": "url", "url": "https://x"}, **CACHE},
        {"type": "document", "source": {**base64, "media_type": "application/pdf"}, "title": "n"},
        {"type": "document", "source": {"type": "text", "data": "words"}, "title": "n"},
        {"type": "document", "source": {"type": "text", "data": "words"}},
    )
    assert found.messages[0].parts == (
        Text("t", cache=True),
        Image(media_type="image/png", data="QQ=="),
        Image(url="https://x", cache=True),
        Document(media_type="application/pdf", data="QQ==", name="n"),
        Text("n\n\nwords"),
        Text("words"),
    )


def test_what_the_model_said_and_did() -> None:
    document = {
        "model": "m",
        "max_tokens": 5,
        "messages": [
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "xx"},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": "1"},
                    {"type": "tool_result", "tool_use_id": "u", "is_error": True},
                    {
                        "type": "tool_result",
                        "tool_use_id": "v",
                        "content": [{"type": "text", "text": "2"}],
                    },
                ],
            },
        ],
    }
    said, given = read_request(orjson.dumps(document)).messages
    assert said.parts == (
        Thinking("hm", "s"),
        Thinking("", redacted="xx"),
        ToolCall("t", "f", '{"a":1}'),
    )
    assert given.parts == (
        ToolResult("t", (Text("1"),)),
        ToolResult("u", (), failed=True),
        ToolResult("v", (Text("2"),)),
    )


def test_tools() -> None:
    found = read(
        tools=[
            {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True},
            {"name": "g", "type": "custom"},
        ],
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    )
    first, second = found.tools
    assert (first.name, first.description, first.strict) == ("f", "d", True)
    assert first.schema is not None
    assert (second.name, second.schema) == ("g", None)
    assert found.tool_choice == ToolChoice(Choice.NAMED, "f")
    assert found.parallel_tools is False
    loose = read(tools=[], tool_choice={"type": "any"})
    assert loose.tool_choice == ToolChoice(Choice.REQUIRED)
    assert loose.parallel_tools is None


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        ((), {"tools": [{"name": "web_search", "type": "web_search_20250305"}]}),
        (({"type": "image", "source": {"type": "file", "file_id": "f"}},), {}),
        (({"type": "image", "source": {"type": "base64"}},), {}),
        (({"type": "unheard_of"},), {}),
        ((), {"max_tokens": "many"}),
        ((), {"messages": 7}),
    ],
)
def test_what_cannot_be_carried_is_refused(content: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(RelayError) as caught:
        read(*content, **fields)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compaction", {"type": "enabled"}),
        ("container", "container_1"),
        ("mcp_servers", [{"type": "url", "url": "https://a.example", "name": "a"}]),
        ("thread", {"type": "create"}),
    ],
)
def test_what_would_change_the_answer_is_refused(name: str, value: object) -> None:
    with pytest.raises(RelayError) as caught:
        read(**{name: value})
    assert (caught.value.code, caught.value.param) == (ErrorCode.INVALID_REQUEST, name)
    unsupported = {"error_code": "thread_unsupported_request"}
    assert caught.value.details == (unsupported if name == "thread" else None)
    assert read(**{name: None}).left_out == ()
    assert read(mcp_servers=[]).left_out == ()


def said(role: str, *content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content[0] if content else None, **more}


def talk(*messages: dict[str, Any], **fields: Any) -> Request:
    document = {"model": "m", "max_tokens": 5, "messages": messages, **fields}
    return read_request(orjson.dumps(document))


def test_instructions_between_turns_go_to_the_front() -> None:
    found = talk(
        said("user", "hello"),
        said("system", "be brief"),
        said("assistant", "hi"),
        said("system", "seen once", clear_at="next_user_message"),
        said("user", "go on"),
        said("system", [{"type": "text", "text": "now", **CACHE}], clear_at="next_user_message"),
        said("system", output_config={"effort": "low"}),
        system="first",
    )
    assert found.system == (Text("first"), Text("be brief"), Text("now", cache=True))
    assert [one.role for one in found.messages] == [Role.USER, Role.ASSISTANT, Role.USER]
    assert found.left_out == ("messages.output_config",)


def change(kind: str, **tool: Any) -> dict[str, Any]:
    return said("system", [{"type": f"tool_{kind}", "tool": tool}])


def test_changes_of_tools_are_made() -> None:
    tools: list[dict[str, Any]] = [{"name": name, "input_schema": {}} for name in ("a", "b", "c")]
    found = talk(
        said("user", "hello"),
        change("removal", type="tool_reference", name="a"),
        change("removal", type="tool_reference", name="b"),
        change("removal", type="tool_reference", name="unheard_of"),
        change("addition", type="tool_reference", name="a"),
        change("addition", type="tool_definition", definition={"name": "d", "description": "new"}),
        tools=tools,
    )
    assert [tool.name for tool in found.tools] == ["c", "a", "d"]
    assert found.tools[-1].description == "new"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (change("addition", type="tool_reference", name="z"), "messages"),
        (change("addition", type="mcp_tool_reference", name="a", server_name="s"), "messages"),
        (change("removal", type="mcp_toolset_reference", server_name="s"), "messages"),
        (said("system", [{"type": "thinking", "thinking": "hm"}]), "messages[1].content"),
        (change("addition", type="tool_reference", name="a") | {"role": "user"}, "messages[1].content"),
        (said("assistant"), "messages[1].content"),
    ],
)  # fmt: skip
def test_turns_that_make_no_sense_are_refused(message: dict[str, Any], param: str) -> None:
    with pytest.raises(RelayError) as caught:
        talk(said("user", "hello"), message, tools=[{"name": "a"}])
    assert (caught.value.code, caught.value.param) == (ErrorCode.INVALID_REQUEST, param)


def test_a_tool_that_was_found_is_named_to_who_knows_them_all() -> None:
    reference = {"type": "tool_reference", "tool_name": "weather"}
    found = read({"type": "tool_result", "tool_use_id": "c", "content": [reference]})
    assert found.messages[0].parts == (ToolResult("c", (Text("weather"),)),)
