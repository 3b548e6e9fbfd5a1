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
from proxy.core.translation.gemini_outgoing import (
    STOP_SEQUENCES_MAX,
    unsaid,
    write_request,
)
from proxy.core.translation.signatures import NO_SIGNATURE

HELLO = Message(Role.USER, (Text("hello"),))
SCHEMA = Raw(b'{"type":"object"}')
TOOL = Tool("f")
CALL = ToolCall("c1", "f", '{"a":1}')
RESULT = ToolResult("c1", (Text("7"),))
NEW, OLD = "gemini-3-pro", "gemini-2.5-flash"


def written(*messages: Message, model: str = OLD, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(
        write_request(Request(model, tuple(messages or (HELLO,)), **fields))
    )
    return found


def parts(role: Role, *said: Part) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = written(Message(role, said))["contents"][0]["parts"]
    return found


def test_the_least_there_is() -> None:
    assert written() == {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}


def test_every_field_has_its_place() -> None:
    found = written(
        system=(Text("s", cache=True), Text("")),
        output_tokens_max=9,
        temperature=1.5,
        top_p=0.5,
        top_k=3,
        stop=("a",),
        stream=True,
        tools=(Tool("f", "d", SCHEMA, strict=True), TOOL),
        format=Format(SCHEMA),
    )
    assert found["systemInstruction"] == {"parts": [{"text": "s"}]}
    assert found["tools"] == [
        {
            "functionDeclarations": [
                {"name": "f", "description": "d", "parametersJsonSchema": {"type": "object"}},
                {"name": "f"},
            ]
        }
    ]
    assert found["generationConfig"] == {
        "maxOutputTokens": 9,
        "temperature": 1.5,
        "topP": 0.5,
        "topK": 3,
        "stopSequences": ["a"],
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
    }
    assert "toolConfig" not in found


def test_json_without_a_schema() -> None:
    assert written(format=Format())["generationConfig"] == {"responseMimeType": "application/json"}


@pytest.mark.parametrize(
    ("model", "fields", "wanted"),
    [
        (OLD, {}, None),
        (OLD, {"effort": Effort.NONE}, {"thinkingBudget": 0}),
        (OLD, {"thinking_tokens": 0}, {"thinkingBudget": 0}),
        (OLD, {"effort": Effort.LOW}, {"thinkingBudget": 1024, "includeThoughts": True}),
        (
            OLD,
            {"effort": Effort.LOW, "thinking_tokens": 2048},
            {"thinkingBudget": 2048, "includeThoughts": True},
        ),
        ("gemma-3", {"effort": Effort.HIGH}, {"thinkingBudget": 24576, "includeThoughts": True}),
        (NEW, {"effort": Effort.NONE}, {"thinkingLevel": "MINIMAL"}),
        (NEW, {"effort": Effort.MAX}, {"thinkingLevel": "HIGH", "includeThoughts": True}),
        (NEW, {"thinking_tokens": 99}, {"thinkingBudget": 99, "includeThoughts": True}),
        (
            NEW,
            {"effort": Effort.MEDIUM, "thinking_tokens": 99},
            {"thinkingLevel": "MEDIUM", "includeThoughts": True},
        ),
    ],
)
def test_ways_to_think(model: str, fields: dict[str, Any], wanted: object) -> None:
    found = written(model=model, **fields).get("generationConfig", {})
    assert found.get("thinkingConfig") == wanted


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (None, None),
        (ToolChoice(Choice.AUTO), {"mode": "AUTO"}),
        (ToolChoice(Choice.NONE), {"mode": "NONE"}),
        (ToolChoice(Choice.REQUIRED), {"mode": "ANY"}),
        (ToolChoice(Choice.NAMED, "f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_tool_choices(choice: ToolChoice | None, wanted: object) -> None:
    found = written(tools=(TOOL,), tool_choice=choice).get("toolConfig")
    assert found == (None if wanted is None else {"functionCallingConfig": wanted})
    assert "toolConfig" not in written(tool_choice=choice)


def test_turns_of_one_role_are_joined_and_results_come_first() -> None:
    found = written(
        HELLO,
        Message(Role.ASSISTANT, (CALL, ToolCall("c2", "g", ""))),
        Message(Role.USER, (RESULT,)),
        Message(Role.USER, (Text("well?"),)),
        Message(
            Role.USER,
            (ToolResult("c2", (Text("no"), Image(media_type="image/png", data="QQ==")), failed=True),),
        ),
    )["contents"]  # fmt: skip
    assert [turn["role"] for turn in found] == ["user", "model", "user"]
    assert found[1]["parts"] == [
        {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}},
        {"functionCall": {"id": "c2", "name": "g", "args": {}}},
    ]
    assert found[2]["parts"] == [
        {"functionResponse": {"id": "c1", "name": "f", "response": {"output": "7"}}},
        {"functionResponse": {"id": "c2", "name": "g", "response": {"error": "no"}}},
        {"text": "well?"},
        {"inlineData": {"mimeType": "image/png", "data": "QQ=="}},
    ]


def test_empty_words_and_turns_are_left_away() -> None:
    assert written(Message(Role.USER, (Text(""),)))["contents"] == []
    found = written(Message(Role.ASSISTANT, (Text(""),)), HELLO)["contents"]
    assert [turn["role"] for turn in found] == ["user"]


def test_pictures_files_and_refusals() -> None:
    assert parts(
        Role.USER,
        Image(url="https://x.example/a.PNG?b=c.d#e"),
        Image(media_type="image/png", data="QQ=="),
        Document(media_type="application/pdf", data="QQ==", name="n"),
        Document(url="https://y.example/a", media_type="text/plain"),
        Document(data="QQ=="),
        Refusal("no"),
    ) == [
        {
            "fileData": {
                "mimeType": "image/png",
                "fileUri": "https://x.example/a.PNG?b=c.d#e",
            }
        },
        {"inlineData": {"mimeType": "image/png", "data": "QQ=="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "QQ=="}},
        {"fileData": {"mimeType": "text/plain", "fileUri": "https://y.example/a"}},
        {"inlineData": {"mimeType": "application/octet-stream", "data": "QQ=="}},
        {"text": "no"},
    ]


def test_signatures_go_back_to_where_they_stood() -> None:
    assert parts(
        Role.ASSISTANT,
        Thinking("hm", "gemini:thought:s0"),
        Text("a"),
        Thinking("", "gemini:text:s1"),
        Thinking("", "gemini:text:s2"),
        Thinking("other", "ErUB=="),
        Thinking("unsigned"),
        Thinking("so", "gemini:call:s3"),
        Text(""),
        CALL,
        ToolCall("c2", "f", "{}"),
        Refusal("no"),
    ) == [
        {"text": "hm", "thought": True, "thoughtSignature": "s0"},
        {"text": "a", "thoughtSignature": "s1"},
        {"text": "", "thoughtSignature": "s2"},
        {
            "functionCall": {"id": "c1", "name": "f", "args": {"a": 1}},
            "thoughtSignature": "s3",
        },
        {"functionCall": {"id": "c2", "name": "f", "args": {}}},
        {"text": "no"},
    ]


def test_newer_models_are_told_of_calls_without_a_signature() -> None:
    two = Message(Role.ASSISTANT, (Text("a"), CALL, ToolCall("c2", "f", "{}")))
    results = Message(Role.USER, (RESULT, ToolResult("c2", ())))
    kept = Message(Role.ASSISTANT, (Thinking("", "gemini:call:s"), ToolCall("c3", "f", "{}")))
    after = Message(Role.USER, (ToolResult("c3", ()),))
    spoken = Message(Role.ASSISTANT, (Text("b"),))
    first = written(HELLO, two, results, spoken, model=NEW)["contents"]
    then = written(HELLO, two, results, spoken, HELLO, two, results, kept, after, model=NEW)
    assert first[1]["parts"][1]["thoughtSignature"] == NO_SIGNATURE
    secrets = [part.get("thoughtSignature") for turn in then["contents"] for part in turn["parts"]]
    of_the_step, kept_one = [None, NO_SIGNATURE, None, None, None], ["s", None]
    assert secrets == [None] * 7 + [None, *of_the_step, *kept_one], "earlier turns are not checked"
    contents = written(HELLO, two, results)["contents"]
    assert not any("thoughtSignature" in part for turn in contents for part in turn["parts"])
    assert written(two, results, model=NEW)["contents"][0]["parts"][1]["thoughtSignature"]


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ((Message(Role.USER, (RESULT,)),), {}),
        ((Message(Role.USER, (Image(url="https://x.example/a"),)),), {}),
        ((Message(Role.ASSISTANT, (ToolCall("c", "f", "[1]"),)),), {}),
        ((HELLO,), {"stop": ("x",) * (STOP_SEQUENCES_MAX + 1)}),
    ],
)
def test_what_cannot_be_asked_is_refused(
    messages: tuple[Message, ...], fields: dict[str, Any]
) -> None:
    with pytest.raises(RelayError) as caught:
        written(*messages, **fields)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("message", [
    Message(Role.USER, (CALL,)), Message(Role.ASSISTANT, (Image(url="x"),)),
])  # fmt: skip
def test_parts_in_the_wrong_mouth_are_our_mistake(message: Message) -> None:
    with pytest.raises(AssertionError):
        written(message)


STRICT = Tool("f", strict=True)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, ()),
        ({"user": "u"}, ("user",)),
        ({"parallel_tools": False}, ()),
        ({"parallel_tools": False, "tools": (TOOL,)}, ("parallel_tools",)),
        ({"tools": (STRICT,)}, ("strict",)),
        ({"tools": (STRICT,), "tool_choice": ToolChoice(Choice.AUTO)}, ("strict",)),
        ({"tools": (STRICT,), "tool_choice": ToolChoice(Choice.REQUIRED)}, ()),
        ({"effort": Effort.MAX}, ("effort",)),
        ({"effort": Effort.NONE}, ()),
        ({"effort": Effort.NONE, "model": NEW}, ("effort",)),
        ({"system": (Text("s", cache=True),)}, ("cache_control",)),
        ({"messages": (Message(Role.USER, (Image(url="x", detail="auto"),)),)}, ()),
        ({"messages": (Message(Role.USER, (Image(url="x", detail="low"),)),)}, ("detail",)),
        (
            {"messages": (Message(Role.USER, (ToolResult("c", (Document(name="n"),)),)),)},
            ("filename",),
        ),
    ],
)
def test_what_cannot_be_said_is_named(fields: dict[str, Any], wanted: tuple[str, ...]) -> None:
    assert unsaid(Request(**{"model": OLD, "messages": (HELLO,), **fields})) == wanted
