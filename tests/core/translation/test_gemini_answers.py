from typing import Any

import orjson
import pytest

from proxy.core.entities import Usage
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.conversation import (
    Answer,
    Finish,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from proxy.core.translation.gemini_answers import read_answer


def read(*parts: dict[str, Any], finish: str | None = "STOP", **fields: Any) -> Answer:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}
    document = {"candidates": [candidate], "responseId": "r", "modelVersion": "m", **fields}
    return read_answer(orjson.dumps(document))


def call(**fields: Any) -> dict[str, Any]:
    return {"functionCall": {"name": "f", "id": "c", "args": {}}, **fields}


CALL = ToolCall("c", "f", "{}")


def test_words() -> None:
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2}
    assert read({"text": "a"}, {"text": "b"}, usageMetadata=usage) == Answer(
        "r", "m", (Text("a"), Text("b")), Finish.STOP, Usage(input_uncached=3, output=2)
    )
    assert read({"text": "a"}).usage is None


def test_calls_end_an_answer_as_such() -> None:
    found = read({"text": "a"}, call(), {"functionCall": {"name": "g", "args": {"x": 1}}})
    assert found.finish is Finish.TOOLS
    assert found.parts[:2] == (Text("a"), CALL)
    assert isinstance(found.parts[2], ToolCall)
    assert found.parts[2].arguments == '{"x":1}'


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        (
            [{"text": "h", "thought": True}, {"text": "m", "thought": True}, {"text": "a"}],
            (Thinking("hm"), Text("a")),
        ),
        ([{"text": "hm", "thought": True}], (Thinking("hm"),)),
        (
            [{"text": "hm", "thought": True, "thoughtSignature": "s"}, {"text": "a"}],
            (Thinking("hm", "gemini:thought:s"), Text("a")),
        ),
        (
            [{"text": "hm", "thought": True}, call(thoughtSignature="s"), call()],
            (Thinking("hm", "gemini:call:s"), CALL, CALL),
        ),
        ([{"text": "hm", "thought": True}, call()], (Thinking("hm"), CALL)),
        ([call(thoughtSignature="s")], (Thinking("", "gemini:call:s"), CALL)),
        ([{"text": "a", "thoughtSignature": "s"}], (Text("a"), Thinking("", "gemini:text:s"))),
        (
            [{"text": "a"}, {"text": "", "thoughtSignature": "s"}],
            (Text("a"), Thinking("", "gemini:text:s")),
        ),
        (
            [{"text": "hm", "thought": True}, {"text": "", "thoughtSignature": "s"}],
            (Thinking("hm", "gemini:text:s"),),
        ),
        ([{"text": ""}, {"executableCode": {"code": "1"}}], ()),
    ],
)
def test_thoughts_and_their_secrets(parts: list[dict[str, Any]], wanted: tuple[Part, ...]) -> None:
    assert read(*parts).parts == wanted


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [
        ("MAX_TOKENS", Finish.LENGTH),
        ("SAFETY", Finish.REFUSED),
        ("SOMETHING_NEW", Finish.STOP),
        (None, Finish.STOP),
    ],
)
def test_reasons(reason: str | None, wanted: Finish) -> None:
    assert read({"text": "a"}, finish=reason).finish is wanted


def test_a_candidate_without_content_says_nothing() -> None:
    body = b'{"candidates":[{"finishReason":"SAFETY"}]}'
    assert read_answer(body) == Answer("", "", (), Finish.REFUSED)


@pytest.mark.parametrize(
    ("feedback", "parts"),
    [
        ({"blockReason": "SAFETY"}, ()),
        (
            {"blockReason": "OTHER", "blockReasonMessage": "No."},
            (Refusal("No."),),
        ),
    ],
)
def test_a_blocked_prompt_is_a_refusal(feedback: Any, parts: tuple[Part, ...]) -> None:
    body = orjson.dumps({"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 4}})
    assert read_answer(body) == Answer("", "", parts, Finish.REFUSED, Usage(input_uncached=4))


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b"{}",
        b'{"candidates":[]}',
        b'{"promptFeedback":{}}',
        b'{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL"}]}',
        b'{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png"}}]}}]}',
    ],
)
def test_what_is_no_answer_is_the_providers_failure(body: bytes) -> None:
    with pytest.raises(RelayError) as caught:
        read_answer(body)
    assert caught.value.code is ErrorCode.UPSTREAM_ERROR
