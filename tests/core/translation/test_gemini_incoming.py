from typing import Any

import orjson
import pytest

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.conversation import (
    Choice,
    Effort,
    Format,
    Message,
    Request,
    Role,
    Text,
    ToolCall,
    ToolChoice,
)
from proxy.core.translation.gemini_incoming import camel_case, json_schema, read_request

HELLO = {"role": "user", "parts": [{"text": "hello"}]}
TOOLS = [{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}]


def read(**fields: Any) -> Request:
    return read_request(orjson.dumps({"contents": [HELLO], **fields}))


def configured(**fields: Any) -> Request:
    return read(generationConfig=fields)


def test_the_least_there_is() -> None:
    assert read() == Request("", (Message(Role.USER, (Text("hello"),)),))


def test_every_field_that_other_dialects_have_is_carried() -> None:
    found = read(
        model="models/m",
        systemInstruction={"parts": [{"text": "s"}]},
        generationConfig={
            "maxOutputTokens": "9",
            "temperature": 1,
            "topP": 0.5,
            "topK": 3.0,
            "stopSequences": ["a"],
            "candidateCount": 1,
            "responseModalities": ["TEXT"],
            "responseMimeType": "text/plain",
            "thinkingConfig": {"thinkingBudget": 99, "thinkingLevel": "low"},
        },
    )
    assert found.system == (Text("s"),)
    assert (found.output_tokens_max, found.temperature, found.top_p) == (9, 1.0, 0.5)
    assert (found.top_k, found.stop, found.format) == (3, ("a",), None)
    assert (found.effort, found.thinking_tokens) == (Effort.LOW, 99)
    assert found.left_out == ()
    assert configured(thinkingConfig={"thinkingBudget": -1}).thinking_tokens is None


def test_names_come_in_either_case_but_the_callers_own_stay() -> None:
    asked = {
        "contents": [
            {"role": "model", "parts": [{"function_call": {"name": "f", "args": {"a_b": 1}}}]}
        ],
        "system_instruction": {"parts": [{"text": "s"}]},
        "generation_config": {"max_output_tokens": 9},
        "tools": [
            {
                "function_declarations": [
                    {"name": "f", "parameters_json_schema": {"properties": {"a_b": {}}}}
                ]
            }
        ],
    }
    found = read_request(orjson.dumps(asked))
    assert found.messages[0].parts == (ToolCall("call_1", "f", '{"a_b":1}'),)
    assert (found.system, found.output_tokens_max) == ((Text("s"),), 9)
    assert bytes(found.tools[0].schema or b"") == b'{"properties":{"a_b":{}}}'
    assert camel_case({"_x": [{"a_b": 1}], "a_b": 2}) == {"_x": [{"aB": 1}], "aB": 2}
    assert camel_case([{"a_b": [1]}], 1) == [{"a_b": [1]}]
    assert camel_case([[1]], 0) == [[1]]


def test_fields_that_only_tune_are_named() -> None:
    found = read(
        safetySettings=[{"category": "x"}],
        labels={},
        generationConfig={"seed": 1, "presencePenalty": 0, "mediaResolution": "LOW"},
    )
    assert found.left_out == (
        "generationConfig.mediaResolution",
        "generationConfig.seed",
        "safetySettings",
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"cachedContent": "cachedContents/1"},
        {"continuationToken": "x"},
        {"generationConfig": {"responseLogprobs": True}},
        {"generationConfig": {"speechConfig": {"x": 1}}},
        {"generationConfig": {"candidateCount": 2}},
        {"generationConfig": {"responseModalities": ["IMAGE"]}},
        {"generationConfig": {"responseMimeType": "text/x.enum"}},
        {"tools": [{"googleSearch": {"x": 1}}]},
        {"tools": [{"functionDeclarations": [{"description": "nameless"}]}]},
        {"tools": TOOLS, "toolConfig": {"functionCallingConfig": {"mode": "SOME"}}},
        {"contents": "hello"},
        {"generationConfig": {"maxOutputTokens": "many"}},
    ],
)
def test_what_would_change_the_answer_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RelayError) as caught:
        read(**fields)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("body", [b"nonsense", b"[]", b"{}", b'{"contents":' + b"[" * 9999])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(RelayError):
        read_request(body)


def test_tools_in_either_form_of_schema() -> None:
    declared = [
        {"name": "f", "description": "d", "parameters": {"type": "OBJECT"}},
        {"name": "g", "parametersJsonSchema": {"type": "object"}},
        {"name": "h"},
    ]
    found = read(tools=[{"functionDeclarations": declared}, {"googleSearch": None}]).tools
    assert [(tool.name, tool.description) for tool in found] == [
        ("f", "d"),
        ("g", None),
        ("h", None),
    ]
    assert [bytes(tool.schema or b"") for tool in found] == [
        b'{"type":"object"}',
        b'{"type":"object"}',
        b"",
    ]


@pytest.mark.parametrize(
    ("calling", "offered", "wanted"),
    [
        (None, 2, None),
        ({}, 2, ToolChoice(Choice.AUTO)),
        ({"mode": "VALIDATED"}, 2, ToolChoice(Choice.AUTO)),
        ({"mode": "none", "allowedFunctionNames": ["f"]}, 2, ToolChoice(Choice.NONE)),
        ({"mode": "ANY"}, 2, ToolChoice(Choice.REQUIRED)),
        ({"mode": "ANY", "allowedFunctionNames": ["f"]}, 2, ToolChoice(Choice.NAMED, "f")),
        ({"mode": "AUTO", "allowedFunctionNames": ["f"]}, 1, ToolChoice(Choice.AUTO)),
        ({"mode": "ANY", "allowedFunctionNames": ["f", "x"]}, 1, ToolChoice(Choice.REQUIRED)),
    ],
)
def test_tool_choices(calling: Any, offered: int, wanted: ToolChoice | None) -> None:
    found = read(tools=TOOLS, toolConfig={"functionCallingConfig": calling})
    assert (len(found.tools), found.tool_choice) == (offered, wanted)
    assert read(toolConfig={"functionCallingConfig": {}}).tool_choice is None


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, b""),
        ({"responseSchema": {"type": "STRING"}}, b'{"type":"string"}'),
        ({"responseJsonSchema": {"type": "string"}}, b'{"type":"string"}'),
    ],
)
def test_formats(fields: dict[str, Any], wanted: bytes) -> None:
    found = configured(responseMimeType="application/json", **fields).format
    assert isinstance(found, Format)
    assert bytes(found.schema or b"") == wanted


def test_a_schema_of_googles_own_is_told_as_json_schema() -> None:
    google = {
        "type": "OBJECT",
        "properties": {
            "type": {"type": "STRING", "nullable": True, "enum": ["A"]},
            "list": {"type": "ARRAY", "items": {"type": "INTEGER"}, "minItems": "2", "maxItems": 3},
            "any": {"anyOf": [{"type": "NUMBER"}, "x"], "nullable": False},
            "none": {"nullable": True},
        },
        "propertyOrdering": ["type"],
        "required": ["type"],
        "items": "x",
        "maxLength": "many",
    }
    assert json_schema(google) == {
        "type": "object",
        "properties": {
            "type": {"type": ["string", "null"], "enum": ["A"]},
            "list": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3},
            "any": {"anyOf": [{"type": "number"}, "x"]},
            "none": {},
        },
        "required": ["type"],
        "items": "x",
        "maxLength": "many",
    }
    assert json_schema({"items": {"type": "X"}}, 0) == {"items": {"type": "X"}}
