from typing import Any

import orjson
import pytest

from proxy.core.entities import Usage
from proxy.core.translation.conversation import (
    Answer,
    Closed,
    Event,
    Failed,
    Finish,
    Finished,
    Image,
    Kind,
    Opened,
    Part,
    Piece,
    Ping,
    Refusal,
    Signed,
    Started,
    Text,
    Thinking,
    ToolCall,
)
from proxy.core.translation.gemini_writer import (
    ARGUMENTS_BYTES_MAX,
    REASONS,
    EventWriter,
    usage_object,
    write_answer,
)
from proxy.core.translation.signatures import sealed

CALL = {"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}}


def parts(*said: Part) -> list[dict[str, Any]]:
    found = orjson.loads(write_answer(Answer("r", "m", said, Finish.STOP)))
    content: list[dict[str, Any]] = found["candidates"][0]["content"]["parts"]
    return content


def test_words() -> None:
    usage = Usage(input_uncached=3, output=2)
    found = orjson.loads(write_answer(Answer("r", "m", (Text("a"),), Finish.LENGTH, usage)))
    assert found == {
        "candidates": [
            {
                "content": {"parts": [{"text": "a"}], "role": "model"},
                "finishReason": "MAX_TOKENS",
                "index": 0,
            }
        ],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
        "modelVersion": "m",
        "responseId": "r",
    }
    assert set(REASONS) == set(Finish)


def test_every_kind_of_part() -> None:
    assert parts(
        Thinking("hm"),
        Thinking("so", "ErUB=="),
        Thinking("", redacted="xx"),
        Thinking("own", "gemini:thought:s"),
        Text("a"),
        Thinking("", "gemini:text:s"),
        Refusal("no"),
        Thinking("why", "gemini:call:s"),
        ToolCall("c", "f", '{"a":1}'),
        Thinking("", "gemini:call:t"),
        ToolCall("c", "f", "[1]"),
        ToolCall("c", "f", "nonsense"),
        ToolCall("c", "f", ""),
    ) == [
        {"text": "hm", "thought": True},
        {"text": "so", "thought": True, "thoughtSignature": sealed(Thinking("", "ErUB=="))},
        {"text": "", "thought": True, "thoughtSignature": sealed(Thinking("", redacted="xx"))},
        {"text": "own", "thought": True, "thoughtSignature": "s"},
        {"text": "a"},
        {"text": "", "thoughtSignature": "s"},
        {"text": "no"},
        {"text": "why", "thought": True},
        {**CALL, "thoughtSignature": "s"},
        {
            "functionCall": {"id": "c", "name": "f", "args": {"arguments": "[1]"}},
            "thoughtSignature": "t",
        },
        {"functionCall": {"id": "c", "name": "f", "args": {"arguments": "nonsense"}}},
        {"functionCall": {"id": "c", "name": "f", "args": {}}},
    ]
    with pytest.raises(AssertionError):
        parts(Image(url="x"))


def test_usage_counts_every_token_once() -> None:
    usage = Usage(
        input_uncached=1, cache_read=2, cache_write_5m=4, cache_write_1h=8, output=16,
        reasoning=3, audio_input=32, audio_output=64,
    )  # fmt: skip
    assert usage_object(usage) == {
        "promptTokenCount": 47,
        "cachedContentTokenCount": 2,
        "candidatesTokenCount": 77,
        "thoughtsTokenCount": 3,
        "totalTokenCount": 127,
    }


def write(*events: Event) -> list[dict[str, Any]]:
    writer = EventWriter()
    out = b"".join([writer.write(event) for event in events]) + writer.end()
    return [orjson.loads(part.removeprefix(b"data: ")) for part in out.split(b"\n\n")[:-1]]


def said(*events: Event) -> list[dict[str, Any]]:
    found = write(Started("r", "m"), *events, Finished(Finish.STOP))
    assert all((one["modelVersion"], one["responseId"]) == ("m", "r") for one in found)
    return [one["candidates"][0]["content"]["parts"][0] for one in found[:-1]]


def test_the_end_tells_why_and_what_was_used() -> None:
    usage = Usage(input_uncached=3, output=2)
    first, last = write(
        Started("r", "m"), Opened(Kind.TEXT), Piece("a"), Closed(), Ping(),
        Finished(Finish.REFUSED, usage),
    )  # fmt: skip
    assert "usageMetadata" not in first
    assert last["candidates"] == [
        {
            "content": {"parts": [{"text": ""}], "role": "model"},
            "finishReason": "SAFETY",
            "index": 0,
        }
    ]
    assert last["usageMetadata"]["totalTokenCount"] == 5


def test_written_parts_of_every_kind() -> None:
    assert said(
        Opened(Kind.THINKING), Piece("hm"), Signed("ErUB=="), Closed(),
        Opened(Kind.THINKING), Piece("x"), Closed(),
        Opened(Kind.REDACTED), Piece("xx"), Closed(),
        Opened(Kind.TEXT), Piece("a"), Piece("b"), Closed(),
        Opened(Kind.REFUSAL), Piece("no"), Closed(),
        Opened(Kind.THINKING), Signed("gemini:call:s"), Closed(),
        Opened(Kind.TOOL, "c", "f"), Piece('{"a"'), Piece(":1}"), Closed(),
        Opened(Kind.TOOL, "c", "f"), Closed(),
        Opened(Kind.THINKING), Signed("gemini:text:s"), Closed(),
    ) == [
        {"text": "hm", "thought": True},
        {"text": "", "thought": True, "thoughtSignature": sealed(Thinking("", "ErUB=="))},
        {"text": "x", "thought": True},
        {"text": "", "thought": True, "thoughtSignature": sealed(Thinking("", redacted="xx"))},
        {"text": "a"},
        {"text": "b"},
        {"text": "no"},
        {**CALL, "thoughtSignature": "s"},
        {"functionCall": {"id": "c", "name": "f", "args": {}}},
        {"text": "", "thoughtSignature": "s"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("failure", "code", "status"),
    [
        (Failed("overloaded_error", "busy"), 503, "UNAVAILABLE"),
        (Failed("odd", "busy"), 500, "INTERNAL"),
    ],
)
def test_a_written_failure_is_what_sdks_raise_on(failure: Failed, code: int, status: str) -> None:
    writer = EventWriter()
    out = writer.write(failure)
    assert out.startswith(b'data: {"error":')
    assert orjson.loads(out.removeprefix(b"data: "))["error"] == {
        "code": code, "message": "busy", "status": status,
    }  # fmt: skip
    assert (writer.write(Piece("late")), writer.end(), writer.failure) == (b"", b"", failure)


def test_a_call_is_kept_up_to_its_limit() -> None:
    writer = EventWriter()
    writer.write(Started("r", "m"))
    writer.write(Opened(Kind.TOOL, "c", "f"))
    assert writer.write(Piece("x" * ARGUMENTS_BYTES_MAX)) == b""
    assert b'"error"' in writer.write(Piece("x"))
    assert writer.failure is not None


def test_an_end_before_its_time_and_events_that_are_none_are_our_fault() -> None:
    with pytest.raises(AssertionError):
        EventWriter().end()
    with pytest.raises(AssertionError):
        EventWriter().write("text")  # type: ignore[arg-type]
