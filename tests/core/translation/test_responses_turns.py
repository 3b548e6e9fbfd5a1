from typing import Any

import orjson
import pytest
from msgspec import Raw

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.conversation import (
    Document,
    Image,
    Message,
    Refusal,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from proxy.core.translation.responses_turns import conversation

HELLO = {"role": "user", "content": "hello"}


def read(*items: Any) -> tuple[list[Message], list[str], set[str]]:
    system: list[Text] = []
    left_out: set[str] = set()
    found = conversation([Raw(orjson.dumps(item)) for item in items], system, left_out)
    return found, [part.text for part in system], left_out


def turns(*items: Any) -> list[Message]:
    return read(*items)[0]


def parts(*content: dict[str, Any]) -> tuple[Any, ...]:
    return turns({"role": "user", "content": list(content)})[0].parts


def refused(*items: Any) -> RelayError:
    with pytest.raises(RelayError) as caught:
        read(*items)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    return caught.value


def test_a_string_is_what_the_user_says() -> None:
    assert conversation("hi", [], set()) == [Message(Role.USER, (Text("hi"),))]


def test_messages_easy_and_full() -> None:
    full = {
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": "a"}],
    }
    answer = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": "b", "annotations": []},
            {"type": "refusal", "refusal": "no"},
        ],
    }
    assert turns(HELLO, full, answer) == [
        Message(Role.USER, (Text("hello"),)),
        Message(Role.USER, (Text("a"),)),
        Message(Role.ASSISTANT, (Text("b"), Refusal("no"))),
    ]


def test_instructions_stand_apart_wherever_they_are() -> None:
    found, system, _ = read(
        {"role": "developer", "content": "one"},
        HELLO,
        {"role": "system", "content": [{"type": "input_text", "text": "two"}]},
    )
    assert (len(found), system) == (1, ["one", "two"])
    picture = {"type": "input_image", "image_url": "https://x/y.png"}
    assert "text only" in refused({"role": "system", "content": [picture]}).message


def test_what_the_assistant_says_in_items_is_one_turn() -> None:
    found = turns(
        HELLO,
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"role": "assistant", "content": "wait"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x":1}'},
        {"type": "function_call", "call_id": "b", "name": "g", "arguments": ""},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "function_call_output", "call_id": "b", "output": []},
    )
    assert found[1:] == [
        Message(
            Role.ASSISTANT,
            (Thinking("hm"), Text("wait"), ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", "{}")),
        ),
        Message(Role.USER, (ToolResult("a", (Text("1"),)),)),
        Message(Role.USER, (ToolResult("b", ()),)),
    ]


def test_tools_this_protocol_alone_has() -> None:
    found = turns(
        {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": '+"a"'},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
        {
            "type": "function_call",
            "call_id": "d",
            "namespace": "box",
            "name": "open",
            "arguments": "{}",
        },
    )
    assert found == [
        Message(Role.ASSISTANT, (ToolCall("c", "patch", '{"input":"+\\"a\\""}'),)),
        Message(Role.USER, (ToolResult("c", (Text("done"),)),)),
        Message(Role.ASSISTANT, (ToolCall("d", "box__open", "{}"),)),
    ]


def test_results_may_show_pictures_but_decline_nothing() -> None:
    output = [
        {"type": "input_text", "text": "a"},
        {"type": "input_image", "image_url": "https://x/y.png"},
        {"type": "refusal", "refusal": "no"},
    ]
    (turn,) = turns({"type": "function_call_output", "call_id": "c", "output": output})
    assert turn.parts == (ToolResult("c", (Text("a"), Image(url="https://x/y.png"))),)


def test_thoughts_and_their_secrets() -> None:
    summary = [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]
    reasoning = {"type": "reasoning", "id": "rs", "summary": summary}
    assert turns({**reasoning, "encrypted_content": "relayed:s"})[0].parts == (
        Thinking("a\n\nb", "s"),
    )
    redacted = {"type": "reasoning", "summary": [], "encrypted_content": "relayed-redacted:xx"}
    assert turns(redacted)[0].parts == (Thinking("", redacted="xx"),)
    content = [{"type": "reasoning_text", "text": "all"}]
    assert turns({**reasoning, "content": content})[0].parts == (Thinking("all"),)
    found, _, left_out = read({**reasoning, "summary": [], "encrypted_content": "gAAA"}, HELLO)
    assert (len(found), left_out) == (1, {"input.encrypted_content"})
    assert turns({"type": "reasoning"}) == []


def test_parts_of_a_message() -> None:
    mark = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    assert parts(
        {"type": "input_text", "text": "a", **mark},
        {"type": "text"},
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
        {
            "type": "input_image",
            "image_url": "data:image/png;base64,QUJD",
            "detail": "auto",
            **mark,
        },
        {"type": "input_file", "file_data": "data:text/csv;base64,QQ==", "filename": "f"},
        {"type": "input_file", "file_data": "QQ=="},
        {"type": "input_file", "file_url": "https://x/y.pdf"},
    ) == (
        Text("a", cache=True),
        Text(""),
        Image(url="https://x/y.png", detail="low"),
        Image(media_type="image/png", data="QUJD", cache=True),
        Document(media_type="text/csv", data="QQ==", name="f"),
        Document(media_type="application/pdf", data="QQ=="),
        Document(url="https://x/y.pdf"),
    )


def test_what_cannot_be_told_is_named() -> None:
    picture = {"type": "input_image", "image_url": "https://x/y.png", "detail": "original"}
    found, _, left_out = read(
        {"role": "user", "content": [picture]},
        {"role": "assistant", "content": "a", "phase": "commentary"},
    )
    assert found[0].parts == (Image(url="https://x/y.png", detail="high"),)
    assert left_out == {"input.detail", "input.phase"}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_audio", "input_audio": {}},
        {"type": "input_image", "image_url": "data:image/png,raw"},
        {"type": "input_file", "file_data": "data:image/png;base64"},
    ],
)
def test_parts_that_cannot_be_carried_are_refused(part: dict[str, Any]) -> None:
    assert refused(HELLO, {"role": "user", "content": [part]}).param == "input[1]"


def test_a_data_url_without_a_type_is_text() -> None:
    part = {"type": "input_file", "file_data": "data:;base64,QQ=="}
    assert parts(part) == (Document(media_type="text/plain", data="QQ=="),)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "msg_1"},
        {"id": "msg_1"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "computer_call_output", "call_id": "c", "output": {"type": "screenshot"}},
        {"type": "local_shell_call", "id": "l", "action": {}},
        {"type": "tool_search_call", "arguments": {}},
        {"type": "additional_tools", "role": "developer", "tools": []},
        {"type": "mcp_call", "id": "m"},
        {"role": "critic", "content": "x"},
        {"type": "function_call", "name": "no call_id"},
        7,
    ],
)
def test_items_that_cannot_be_carried_are_refused_at_their_place(item: Any) -> None:
    error = refused(HELLO, item)
    assert error.param == "input[1]"
    assert "input[1]" in error.message
