from typing import Any

import orjson
import pytest
from msgspec import Raw

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.conversation import (
    Choice,
    Effort,
    Format,
    Message,
    Request,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from proxy.core.translation.responses_incoming import read_request

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION = {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}
FREE_FORM = Raw(
    b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],'
    b'"additionalProperties":false}'
)


def read(**fields: Any) -> Request:
    return read_request(orjson.dumps({"model": "m", "input": "hello", **fields}))


def refused(**fields: Any) -> RelayError:
    with pytest.raises(RelayError) as caught:
        read(**fields)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    return caught.value


def test_the_least_there_is() -> None:
    assert read() == Request("m", (Message(Role.USER, (Text("hello"),)),))


def test_every_field_that_other_dialects_have_is_carried() -> None:
    found = read(
        input=[{"role": "developer", "content": "two"}, {"role": "user", "content": "hi"}],
        instructions="one",
        max_output_tokens=7,
        temperature=0.5,
        top_p=0.9,
        parallel_tool_calls=False,
        reasoning={"effort": "xhigh"},
        text={"format": {"type": "text"}},
        user="u",
        safety_identifier="s",
        stream=True,
        stream_options={"include_obfuscation": False},
        store=False,
        truncation="disabled",
        include=["reasoning.encrypted_content"],
        background=False,
        top_logprobs=0,
        previous_response_id=None,
    )
    assert found == Request(
        "m",
        (Message(Role.USER, (Text("hi"),)),),
        system=(Text("one"), Text("two")),
        parallel_tools=False,
        output_tokens_max=7,
        temperature=0.5,
        top_p=0.9,
        effort=Effort.XHIGH,
        user="s",
        stream=True,
    )


def test_fields_that_only_tune_are_named() -> None:
    found = read(
        store=True,
        include=["web_search_call.action.sources"],
        truncation="auto",
        stream_options={"include_obfuscation": True, "other": 1},
        metadata={"a": "b"},
        prompt_cache_key="k",
        service_tier="flex",
        max_tool_calls=3,
        client_metadata={"x": "y"},
        reasoning={"effort": "low", "summary": "auto", "context": None},
        text={"verbosity": "low"},
        unheard_of=[1],
    )
    assert found.left_out == (
        "client_metadata", "include", "max_tool_calls", "metadata", "prompt_cache_key",
        "reasoning.summary", "service_tier", "store", "stream_options.include_obfuscation",
        "stream_options.other", "text.verbosity", "truncation", "unheard_of",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools"),
        ({"tools": [{"type": "computer_use_preview"}]}, "tools"),
        ({"tools": [{"type": "code_interpreter", "container": "c"}]}, "tools"),
        ({"tools": [{"type": "mcp", "server_label": "s"}]}, "tools"),
        ({"tools": [{"type": "local_shell"}]}, "tools"),
        ({"tools": [{"type": "tool_search"}]}, "tools"),
        ({"tool_choice": {"type": "web_search_preview"}}, "tool_choice"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
    ],
)
def test_what_would_change_the_answer_is_refused(fields: dict[str, Any], param: str) -> None:
    error = refused(**fields)
    assert error.param == param
    assert "speaks another protocol" in error.message


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"input": 7}, "$.input"),
        ({"reasoning": {"effort": "unheard_of"}}, "$.reasoning.effort"),
        ({"tools": [{"type": "function"}]}, "`name`"),
        ({"tools": [7]}, "`tools`"),
        ({"tool_choice": {"type": "function"}}, "`tool_choice`"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(fields: dict[str, Any], said: str) -> None:
    assert said in refused(**fields).message


def test_tools() -> None:
    found = read(
        tools=[
            {**FUNCTION, "description": "d", "defer_loading": True, "output_schema": None},
            {"type": "function", "name": "g", "parameters": None, "strict": False},
        ],
        tool_choice="required",
    )
    schema = Raw(orjson.dumps(SCHEMA))
    assert found.tools == (
        Tool("f", "d", schema, strict=True),
        Tool("g", None, None, strict=False),
    )
    assert found.tool_choice == ToolChoice(Choice.REQUIRED)
    assert found.left_out == ("tools.defer_loading",)


def test_a_custom_tool_becomes_a_function_of_one_string() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}
    found = read(
        tools=[
            {"type": "custom", "name": "patch", "description": "d", "format": grammar},
            {"type": "custom", "name": "note", "format": {"type": "text"}},
            {"type": "custom", "name": "bare"},
        ],
        tool_choice={"type": "custom", "name": "patch"},
    )
    patch, note, bare = found.tools
    told = "d\n\nThe input follows this lark grammar:\nstart: /a/"
    assert patch == Tool("patch", told, FREE_FORM, free_form=True)
    assert (note, bare.description) == (Tool("note", None, FREE_FORM, free_form=True), None)
    assert found.tool_choice == ToolChoice(Choice.NAMED, "patch")
    assert found.left_out == ("tools.format",)


def test_tools_of_a_namespace_have_its_name_before_theirs() -> None:
    space = {
        "type": "namespace",
        "name": "box",
        "description": "d",
        "tools": [
            {"type": "function", "name": "open", "parameters": SCHEMA},
            {"type": "custom", "name": "note"},
        ],
    }
    schema = Raw(orjson.dumps(SCHEMA))
    assert read(tools=[space]).tools == (
        Tool("box__open", None, schema, group="box"),
        Tool("box__note", None, FREE_FORM, free_form=True, group="box"),
    )
    assert refused(tools=[{**space, "tools": [space]}]).param == "tools"


def test_only_allowed_tools_are_offered() -> None:
    allowed = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "g"}],
    }
    found = read(tools=[FUNCTION, {**FUNCTION, "name": "g"}], tool_choice=allowed)
    assert [tool.name for tool in found.tools] == ["g"]
    assert found.tool_choice == ToolChoice(Choice.REQUIRED)
    named = read(tools=[FUNCTION], tool_choice={"type": "function", "name": "f"})
    assert named.tool_choice == ToolChoice(Choice.NAMED, "f")


def test_formats() -> None:
    form = {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}
    schema = Raw(orjson.dumps(SCHEMA))
    assert read(text={"format": form}).format == Format(schema, "n", strict=True)
    assert read(text={"format": {"type": "json_object"}}).format == Format()
    assert read(text={"format": {"type": "json_schema"}}).format == Format(None)
    assert read(text={}).format is None


def test_what_codex_sends_is_carried() -> None:
    """The fields of codex-rs' request, with a turn of tools behind it."""
    found = read(
        instructions="You are a coding agent.",
        input=[
            {
                "type": "message",
                "role": "developer",
                "content": [{"type": "input_text", "text": "<permissions>"}],
            },
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "fix it"}],
            },
            {
                "type": "reasoning",
                "summary": [],
                "content": None,
                "encrypted_content": "relayed:ErUB",
            },
            {
                "type": "custom_tool_call",
                "status": "completed",
                "call_id": "c",
                "name": "apply_patch",
                "input": "*** Begin Patch",
            },
            {"type": "custom_tool_call_output", "call_id": "c", "output": "Done"},
        ],
        tools=[
            {**FUNCTION, "name": "exec_command", "strict": False},
            {"type": "custom", "name": "apply_patch", "description": "Edits files."},
        ],
        tool_choice="auto",
        parallel_tool_calls=True,
        reasoning={"effort": "medium", "summary": "auto"},
        store=False,
        stream=True,
        include=["reasoning.encrypted_content"],
        prompt_cache_key="0198",
        text={"verbosity": "medium"},
        client_metadata={"x-codex-installation-id": "1"},
    )
    assert [part.text for part in found.system] == ["You are a coding agent.", "<permissions>"]
    assert [tool.name for tool in found.tools] == ["exec_command", "apply_patch"]
    call = found.messages[1].parts[1]
    assert isinstance(call, ToolCall)
    assert orjson.loads(call.arguments) == {"input": "*** Begin Patch"}
    assert found.left_out == (
        "client_metadata", "prompt_cache_key", "reasoning.summary", "text.verbosity",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["web_search", "web_search_preview", "web_search_2025_08_26"])
def test_web_search_is_left_out_by_name_where_it_is_not_demanded(kind: str) -> None:
    tools = [FUNCTION, {"type": kind, "search_context_size": "low"}]
    function = Tool("f", schema=Raw(orjson.dumps(SCHEMA)), strict=True)
    for choice in (None, "auto", "required"):
        found = read(tools=tools, tool_choice=choice)
        assert (found.tools, found.left_out) == ((function,), ("tools.web_search",))
    allowed = {"type": "allowed_tools", "tools": [{"type": kind}], "mode": "auto"}
    found = read(tools=tools, tool_choice=allowed)
    assert (found.tools, found.tool_choice) == ((), ToolChoice(Choice.AUTO))
    assert refused(tools=tools, tool_choice=allowed | {"mode": "required"}).param == "tool_choice"
