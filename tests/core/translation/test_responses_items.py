from typing import Any

import msgspec
import orjson
import pytest
from msgspec import Raw
from openai.types.responses import Response

from proxy.core.entities import Usage
from proxy.core.translation.conversation import (
    Choice,
    Effort,
    Format,
    Part,
    Refusal,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
)
from proxy.core.translation.responses_items import (
    Item,
    call_item,
    frame,
    free_form_arguments,
    free_form_input,
    full_name,
    message_item,
    named,
    output_text,
    own_reasoning,
    parts_of,
    reasoning_item,
    refused,
    relayed_thinking,
    response_id,
    usage_object,
    written_choice,
    written_format,
    written_tool,
)


def said(**fields: Any) -> list[Part]:
    return list(parts_of(msgspec.convert(fields, Item)))


def plain(document: object) -> Any:
    return orjson.loads(msgspec.json.encode(document))


def test_what_items_say() -> None:
    content = [
        {"type": "output_text", "text": "a"},
        {"type": "refusal", "refusal": "no"},
        {"type": "output_text"},
        {"type": "refusal"},
        {"type": "unheard_of"},
    ]
    assert said(type="message", content=content) == [
        Text("a"), Refusal("no"), Text(""), Refusal(""),
    ]  # fmt: skip
    assert said(type="message", content=7) == said(type="message") == []
    assert said(type="web_search_call", content={"a": 1}) == []


def test_calls() -> None:
    call = {"type": "function_call", "name": "f"}
    assert said(**call, call_id="c", arguments='{"a":1}') == [ToolCall("c", "f", '{"a":1}')]
    assert said(**call, id="fc", arguments={}) == [ToolCall("fc", "f", "{}")]
    assert said(type="function_call") == [ToolCall("", "", "{}")]


def test_thoughts_are_what_is_shown_of_them() -> None:
    summary = [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]
    content = [{"type": "reasoning_text", "text": "all"}]
    reasoning = {"type": "reasoning", "id": "rs_1"}
    assert said(**reasoning, summary=summary) == [Thinking("a\n\nb")]
    assert said(**reasoning, summary=summary, content=content) == [Thinking("all")]
    assert said(**reasoning, encrypted_content="xx") == [Thinking("", "responses:rs_1:xx")]
    assert said(type="reasoning", encrypted_content="xx") == [Thinking("", "responses::xx")]
    assert said(**reasoning) == []


def test_secrets_come_back_to_their_maker_alone() -> None:
    assert own_reasoning("responses:rs_1:x:y") == ("rs_1", "x:y")
    assert own_reasoning("ErUB") is own_reasoning(None) is None
    assert relayed_thinking("hm", "relayed:ErUB") == Thinking("hm", "ErUB")
    assert relayed_thinking("", "relayed-redacted:xx") == Thinking("", redacted="xx")
    assert relayed_thinking("hm", "gAAA") == relayed_thinking("hm", None) == Thinking("hm")


def test_items_of_every_kind() -> None:
    assert message_item("m", [output_text("a"), refused("no")], "completed") == {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
            {"type": "refusal", "refusal": "no"},
        ],
    }
    assert reasoning_item("r", "hm", "x", "completed") == {
        "id": "r",
        "type": "reasoning",
        "status": "completed",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "x",
    }
    bare = reasoning_item("r", "", None, "in_progress")
    assert bare["summary"] == []
    assert "encrypted_content" not in bare


FREE = Tool("patch", "d", free_form=True)
GROUPED = Tool("box__open", group="box")


def test_calls_are_told_as_the_caller_named_their_tools() -> None:
    call = ToolCall("c", "f", "{}")
    assert call_item("fc", call, None, "completed") == {
        "id": "fc", "type": "function_call", "status": "completed", "call_id": "c", "name": "f",
        "arguments": "{}",
    }  # fmt: skip
    assert call_item("ctc", ToolCall("", "patch", "+a"), FREE, "completed") == {
        "id": "ctc", "type": "custom_tool_call", "status": "completed", "call_id": "ctc",
        "name": "patch", "input": "+a",
    }  # fmt: skip
    grouped = call_item("fc", ToolCall("c", "box__open", "{}"), GROUPED, "completed")
    assert (grouped["name"], grouped["namespace"]) == ("open", "box")
    assert full_name("box", "open") == "box__open"
    assert full_name(None, "open") == "open"
    assert named([Tool("f"), FREE, GROUPED]) == {"patch": FREE, "box__open": GROUPED}


@pytest.mark.parametrize("text", ["", '+a\n"b" \\ é 🚤', '{"input":"nested"}'])
def test_free_form_text_survives_as_arguments(text: str) -> None:
    assert free_form_input(free_form_arguments(text)) == text


@pytest.mark.parametrize("odd", ["plain", "[1]", '{"other":1}', '{"input":1}', ""])
def test_arguments_that_hold_no_text_are_shown_themselves(odd: str) -> None:
    assert free_form_input(odd) == odd


def test_ids() -> None:
    assert response_id("resp_1") == "resp_1"
    assert response_id("msg_1") == "resp_msg_1"


def test_usage_counts_every_token_once() -> None:
    usage = Usage(
        input_uncached=1, cache_read=2, cache_write_5m=4, cache_write_1h=8, output=16,
        reasoning=3, audio_input=32, audio_output=64,
    )  # fmt: skip
    assert usage_object(usage) == {
        "input_tokens": 47,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 12},
        "output_tokens": 80,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 127,
    }


def test_the_frame_is_a_response_to_the_sdk() -> None:
    nothing = frame(Request("m", ()), 7)
    Response.model_validate({"id": "resp_1", "model": "m", "output": [], **plain(nothing)})
    asked = Request(
        "m",
        (),
        system=(Text("not repeated"),),
        tools=(Tool("f", "d", Raw(b'{"type":"object"}'), strict=True), FREE, GROUPED,
               Tool("box__shut", group="box", free_form=True)),
        tool_choice=ToolChoice(Choice.NAMED, "patch"),
        parallel_tools=False,
        output_tokens_max=5,
        temperature=0.5,
        format=Format(),
        effort=Effort.LOW,
    )  # fmt: skip
    document = {"id": "resp_1", "model": "m", "output": [], **plain(frame(asked, 7))}
    found = Response.model_validate(document)
    assert (found.created_at, found.object, found.instructions) == (7, "response", None)
    assert (found.parallel_tool_calls, found.max_output_tokens) == (False, 5)
    assert found.reasoning is not None
    assert found.reasoning.effort == "low"
    assert document["tool_choice"] == {"type": "custom", "name": "patch"}
    function, custom, space = document["tools"]
    assert function["parameters"] == {"type": "object"}
    assert custom == {"type": "custom", "name": "patch", "description": "d"}
    assert [tool["name"] for tool in space["tools"]] == ["open", "shut"]
    assert [tool["type"] for tool in space["tools"]] == ["function", "custom"]


def test_tools_choices_and_formats() -> None:
    assert plain(written_tool(Tool("f"))) == {
        "type": "function",
        "name": "f",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    }
    assert written_choice(None, {}) is None
    assert written_choice(ToolChoice(Choice.REQUIRED), {}) == "required"
    named_one = ToolChoice(Choice.NAMED, "f")
    assert written_choice(named_one, {}) == {"type": "function", "name": "f"}
    assert written_format(None) == {"type": "text"}
    assert written_format(Format()) == {"type": "json_object"}
    schema = Raw(b"{}")
    form = written_format(Format(schema, "n", strict=True))
    assert form == {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    assert "strict" not in written_format(Format(schema))
