from typing import Any

import orjson
import pytest

from proxy.core.entities import Usage
from proxy.core.translation.conversation import (
    Closed,
    Event,
    Failed,
    Finish,
    Finished,
    Kind,
    Opened,
    Piece,
    Signed,
    Started,
)
from proxy.core.translation.gemini_streams import EventReader


def read(*events: dict[str, Any] | bytes) -> list[Event]:
    reader, found = EventReader(), []
    for event in events:
        found += reader.read(event if isinstance(event, bytes) else orjson.dumps(event))
    return found + reader.end()


def said(*parts: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "responseId": "r", "modelVersion": "m", **fields}


def usage(given: int, made: int | None = None) -> dict[str, Any]:
    found = {"promptTokenCount": given}
    if made is not None:
        found["candidatesTokenCount"] = made
    return {"usageMetadata": found}


CALL: dict[str, Any] = {"functionCall": {"name": "f", "id": "c", "args": {"a": 1}}}
CALLED = [Opened(Kind.TOOL, "c", "f"), Piece('{"a":1}'), Closed()]
BEGUN = Started("r", "m")


def test_words_and_their_end() -> None:
    found = read(
        said({"text": "a"}, **usage(3)),
        said({"text": "b"}, **usage(3, 1)),
        said({"text": ""}, finish="MAX_TOKENS", **usage(3, 2)),
    )
    assert found == [
        Started("r", "m", Usage(input_uncached=3)),
        Opened(Kind.TEXT),
        Piece("a"),
        Piece("b"),
        Closed(),
        Finished(Finish.LENGTH, Usage(input_uncached=3, output=2)),
    ]


def test_thoughts_are_parts_of_their_own() -> None:
    found = read(
        said({"text": "h", "thought": True}),
        said({"text": "m", "thought": True}, {"text": "a"}),
        said(finish="STOP"),
    )
    assert found == [
        BEGUN,
        Opened(Kind.THINKING),
        Piece("h"),
        Piece("m"),
        Closed(),
        Opened(Kind.TEXT),
        Piece("a"),
        Closed(),
        Finished(Finish.STOP),
    ]


def test_calls_come_whole() -> None:
    found = read(said({"text": "a"}, CALL), said(CALL, finish="STOP"))
    assert found == [
        BEGUN,
        Opened(Kind.TEXT),
        Piece("a"),
        Closed(),
        *CALLED,
        *CALLED,
        Finished(Finish.TOOLS),
    ]


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        (
            [{**CALL, "thoughtSignature": "s"}],
            [Opened(Kind.THINKING), Signed("gemini:call:s"), Closed(), *CALLED],
        ),
        (
            [{"text": "hm", "thought": True}, {**CALL, "thoughtSignature": "s"}],
            [Opened(Kind.THINKING), Piece("hm"), Signed("gemini:call:s"), Closed(), *CALLED],
        ),
        (
            [{"text": "a"}, {"text": "", "thoughtSignature": "s"}],
            [
                Opened(Kind.TEXT),
                Piece("a"),
                Closed(),
                Opened(Kind.THINKING),
                Signed("gemini:text:s"),
                Closed(),
            ],
        ),
        (
            [{"text": "hm", "thought": True, "thoughtSignature": "s"}],
            [Opened(Kind.THINKING), Piece("hm"), Signed("gemini:thought:s"), Closed()],
        ),
    ],
)
def test_signatures_are_of_thoughts(parts: list[dict[str, Any]], wanted: list[Event]) -> None:
    assert read(said(*parts))[1:-1] == wanted


def test_a_blocked_prompt_is_a_refusal() -> None:
    blocked = {"blockReason": "SAFETY"}
    assert read({"promptFeedback": blocked}) == [Started("", ""), Finished(Finish.REFUSED)]
    told = {"promptFeedback": blocked | {"blockReasonMessage": "No."}}
    assert read(told)[1:] == [
        Opened(Kind.REFUSAL),
        Piece("No."),
        Closed(),
        Finished(Finish.REFUSED),
    ]
    assert read({"promptFeedback": {}})[-1] == Finished(Finish.STOP)


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        (b"nonsense", Failed("api_error", "The provider's stream is not understood.")),
        (
            {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}},
            Failed("overloaded_error", "busy"),
        ),
    ],
)
def test_errors(event: dict[str, Any] | bytes, wanted: Failed) -> None:
    assert read(said({"text": "a"}), event)[3] == wanted


def test_what_is_no_answer_is_a_failure() -> None:
    broken = [each for each in read(said({"text": "a"}, finish="MALFORMED_FUNCTION_CALL"))
              if isinstance(each, Failed)]  # fmt: skip
    assert len(broken) == 1
    assert "MALFORMED_FUNCTION_CALL" in broken[0].message
    image = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
    assert isinstance(read(said(image))[1], Failed)


def test_a_second_candidate_and_parts_nobody_knows_say_nothing() -> None:
    other = {"candidates": [{"index": 1, "content": {"parts": [{"text": "x"}]}}]}
    unknown = said({"executableCode": {"code": "1"}})
    assert read(said({"text": "a"}), other, unknown, {"candidates": [{}]})[1:-2] == [
        Opened(Kind.TEXT),
        Piece("a"),
    ]
