from typing import Any

import msgspec
import pytest

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.conversation import (
    Document,
    Image,
    Message,
    Part,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from proxy.core.translation.gemini_turns import Turn, conversation, texts
from proxy.core.translation.signatures import NO_SIGNATURE, sealed


def turn(role: str | None, *parts: dict[str, Any]) -> Turn:
    return msgspec.convert({"role": role, "parts": list(parts)}, Turn)


def read(role: str, *parts: dict[str, Any]) -> tuple[Part, ...]:
    return conversation([turn(role, *parts)])[0].parts


def test_turns_and_who_speaks() -> None:
    found = conversation(
        [turn(None, {"text": "a"}), turn("model", {"text": "b"}), turn("user"), Turn()]
    )
    assert found == [Message(Role.USER, (Text("a"),)), Message(Role.ASSISTANT, (Text("b"),))]


def test_what_the_model_said_in_a_row_is_one_turn() -> None:
    call = {"functionCall": {"id": "c", "name": "f", "args": {}}}
    found = conversation(
        [
            turn("user", {"text": "a"}),
            turn("model", {"text": "b"}),
            turn("model", call),
            turn("model", {"text": ""}),
            turn("user", {"text": "c"}),
            turn("user", {"text": "d"}),
        ]
    )
    assert found == [
        Message(Role.USER, (Text("a"),)),
        Message(Role.ASSISTANT, (Text("b"), ToolCall("c", "f", "{}"))),
        Message(Role.USER, (Text("c"),)),
        Message(Role.USER, (Text("d"),)),
    ]


def test_pictures_and_files() -> None:
    assert read(
        "user",
        {"inlineData": {"mimeType": "image/png", "data": "QQ=="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "QQ=="}},
        {"fileData": {"mimeType": "image/png", "fileUri": "https://x"}},
        {"fileData": {"mimeType": "text/plain", "fileUri": "https://y"}},
        {"fileData": {"fileUri": "https://z"}},
    ) == (
        Image(media_type="image/png", data="QQ=="),
        Document(media_type="application/pdf", data="QQ=="),
        Image(url="https://x", media_type="image/png"),
        Document(url="https://y", media_type="text/plain"),
        Document(url="https://z", media_type="application/pdf"),
    )


CALL: dict[str, Any] = {"functionCall": {"name": "f", "id": "c", "args": {"a": 1}}}


def test_thoughts_and_secrets_of_either_maker() -> None:
    theirs = sealed(Thinking("", "ErUB=="))
    hidden = sealed(Thinking("", redacted="xx"))
    call = ToolCall("c", "f", '{"a":1}')
    assert read(
        "model",
        {"text": "hm", "thought": True},
        {"thought": True, "thoughtSignature": "c2ln"},
        {"text": "so", "thought": True, "thoughtSignature": theirs},
        {"thought": True, "thoughtSignature": hidden},
        {"text": "a", "thoughtSignature": "c2ln"},
        {**CALL, "thoughtSignature": "c2ln"},
        {**CALL, "thoughtSignature": theirs},
        {**CALL, "thoughtSignature": NO_SIGNATURE},
    ) == (
        Thinking("hm"),
        Thinking("", "gemini:thought:c2ln"),
        Thinking("so", "ErUB=="),
        Thinking("", redacted="xx"),
        Text("a"),
        Thinking("", "gemini:text:c2ln"),
        Thinking("", "gemini:call:c2ln"),
        call,
        Thinking("", "ErUB=="),
        call,
        call,
    )
    assert read("user", {"text": "a", "thoughtSignature": "c2ln"}) == (Text("a"),)


def result(name: str = "f", call_id: str | None = None, **response: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "response": response}
    if call_id is not None:
        found["id"] = call_id
    return {"functionResponse": found}


def test_calls_without_ids_are_answered_in_order() -> None:
    call = {"functionCall": {"name": "f"}}
    other = {"functionCall": {"name": "g"}}
    found = conversation(
        [
            turn("model", call, other, call, CALL),
            turn("user", result("g"), result("f"), result("f"), result("f", "c")),
        ]
    )
    calls = [part.id for part in found[0].parts if isinstance(part, ToolCall)]
    answered = [part.call_id for part in found[1].parts if isinstance(part, ToolResult)]
    assert calls == ["call_1", "call_2", "call_3", "c"]
    assert answered == ["call_2", "call_1", "call_3", "c"]


@pytest.mark.parametrize(
    ("response", "text", "failed"),
    [
        ({"output": "7"}, "7", False),
        ({"result": "7"}, "7", False),
        ({"result": {"a": 1}}, '{"a":1}', False),
        ({"error": "no"}, "no", True),
        ({"error": "no", "b": 1}, '{"error":"no","b":1}', True),
        ({"a": "x"}, '{"a":"x"}', False),
        ({}, "{}", False),
    ],
)
def test_results_are_words_where_they_are_that(
    response: dict[str, Any], text: str, *, failed: bool
) -> None:
    (found,) = read("user", result(call_id="c", **response))
    assert found == ToolResult("c", (Text(text),), failed=failed)


def test_results_may_show_pictures_and_say_nothing() -> None:
    shown = result(call_id="c", output="")
    shown["functionResponse"]["parts"] = [{"inlineData": {"mimeType": "image/png", "data": "Q"}}]
    (found,) = read("user", shown)
    assert found == ToolResult("c", (Image(media_type="image/png", data="Q"),))


@pytest.mark.parametrize(
    ("role", "part"),
    [
        ("robot", {"text": "a"}),
        ("user", result("f")),
        ("user", {"inlineData": {"mimeType": "audio/wav", "data": "Q"}}),
        ("user", {"fileData": {"mimeType": "video/mp4", "fileUri": "x"}}),
        ("model", {"executableCode": {"code": "1"}}),
        ("model", {"codeExecutionResult": {"outcome": "OK"}}),
        ("model", {"toolCall": {}}),
        ("model", {"toolResponse": {}}),
    ],
)
def test_what_cannot_be_carried_is_refused_with_its_place(role: str, part: dict[str, Any]) -> None:
    with pytest.raises(RelayError) as caught:
        read(role, part)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert caught.value.param == "contents[0]"


def test_instructions_are_words() -> None:
    assert texts(turn(None, {"text": "a"}, {"text": "b"}), "x") == (Text("a"), Text("b"))
    assert texts(Turn(), "x") == ()
    with pytest.raises(RelayError):
        texts(turn(None, CALL), "x")
