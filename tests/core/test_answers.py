import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import answers
from proxy.core.answers import plain_usage
from proxy.core.deltas import FINISH_REASON_CHARACTERS_MAX
from proxy.core.entities import Usage, Wire
from proxy.core.usage import UsageTally
from proxy.core.usage_reports import AnthropicReport, OpenAIReport

FORMS = list(answers.READINGS)


def test_an_openai_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "load_object", lambda _: pytest.fail("read twice"))
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    message = {"role": "assistant", "content": "hi", "refusal": None, "tool_calls": [call]}
    body = {
        "choices": [
            {"index": 0, "message": message, "finish_reason": "tool_calls"},
            {"index": 1, "message": {"content": None, "reasoning_content": "hm"}},
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3},
    }
    read = plain_usage(orjson.dumps(body), Wire.CHAT)
    assert (read.readable, read.error, read.finish_reason) == (True, False, "tool_calls")
    assert read.texts == ("hi", 'f{"a":1}', "hm")
    assert read.tally.final
    assert read.tally.usage() == Usage(input_uncached=9, output=3)


def test_an_anthropic_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "load_object", lambda _: pytest.fail("read twice"))
    body = (
        b'{"type":"message","content":[{"type":"thinking","thinking":"t","signature":"AA"},'
        b'{"type":"text","text":"hi"},{"type":"tool_use","name":"f","input":{"a": 1}},'
        b'{"type":"tool_use","name":"g","input":{}},{"type":"redacted_thinking","data":"AA"}],'
        b'"stop_reason":"tool_use","usage":{"input_tokens":9,"output_tokens":3}}'
    )
    read = plain_usage(body, Wire.MESSAGES)
    assert (read.readable, read.error, read.finish_reason) == (True, False, "tool_use")
    assert read.texts == ("t", "hi", 'f{"a": 1}', "g")
    assert read.tally.final
    assert read.tally.usage() == Usage(input_uncached=9, output=3)


RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "output": [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
        {"type": "function_call", "name": "f", "arguments": "{}"},
    ],
    "usage": {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 12,
    },
}


def test_a_response(monkeypatch: pytest.MonkeyPatch) -> None:
    read = plain_usage(orjson.dumps(RESPONSE), Wire.RESPONSES)
    assert (read.readable, read.error, read.finish_reason) == (True, False, "completed")
    assert read.answer_id == "resp_1"
    assert read.texts == ("hm", "hi", "f", "{}")
    assert read.tally.final
    assert read.tally.usage() == Usage(
        input_uncached=3, cache_read=4, cache_write_5m=2, output=3, reasoning=1
    )
    monkeypatch.setattr(answers, "load_object", lambda _: None)
    assert len(read.texts) == 0


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"status": "failed"}, True, "failed"),
        ({"error": {"message": "no"}}, True, "completed"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            False,
            "max_output_tokens",
        ),
        ({"id": 5, "status": None, "usage": None}, False, "completed"),
    ],
)
def test_how_a_response_may_end(change: dict[str, object], error: bool, reason: str) -> None:
    read = plain_usage(orjson.dumps(RESPONSE | change), Wire.RESPONSES)
    assert (read.readable, read.error, read.finish_reason) == (True, error, reason)
    assert read.tally.seen is ("usage" not in change)


def test_searches_of_a_response_are_billed() -> None:
    answer = {
        "usage": {"input_tokens": 9, "output_tokens": 4},
        "output": [{"type": "web_search_call", "action": {"type": "search", "query": "x"}}],
    }
    read = plain_usage(json.dumps(answer).encode(), Wire.RESPONSES)
    assert read.tally.usage() == Usage(input_uncached=9, output=4, searches=1)


def test_an_answer_of_gemini(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [{"text": "hm", "thought": True}, {"text": "hi"}, {"functionCall": {"name": "f"}}]
    answer = {
        "candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3},
    }
    read = plain_usage(orjson.dumps(answer), Wire.GEMINI)
    assert (read.readable, read.error, read.finish_reason) == (True, False, "STOP")
    assert read.texts == ("hm", "hi", "f")
    assert read.tally.usage() == Usage(input_uncached=9, output=3)
    bare = plain_usage(b'{"error":{"code":503}}', Wire.GEMINI)
    assert (bare.error, bare.finish_reason, bare.tally.seen) == (True, None, False)
    monkeypatch.setattr(answers, "gemini_event", lambda _: None)
    assert len(read.texts) == 0


def test_a_text_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    body = {
        "choices": [
            {"text": "hi", "index": 0, "logprobs": None, "finish_reason": "length"},
            {"text": "", "index": 1, "finish_reason": "stop"},
            {"index": 2},
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    }
    read = plain_usage(orjson.dumps(body), Wire.COMPLETIONS)
    assert (read.readable, read.error, read.finish_reason) == (True, False, "stop")
    assert read.texts == ("hi", "", "")
    assert read.tally.usage() == Usage(input_uncached=9, output=3)
    assert plain_usage(b'{"error":{"message":"no"}}', Wire.COMPLETIONS).error
    odd = plain_usage(
        b'{"choices":[{"text":["a"]}],"usage":{"prompt_tokens":"9"}}', Wire.COMPLETIONS
    )
    assert (odd.texts, odd.tally.usage().input_uncached) == (("a",), 9)


def test_usage_may_be_missing() -> None:
    plain = plain_usage(b'{"choices":[{"message":{"content":"hi"}}]}', Wire.CHAT)
    assert (plain.tally.seen, plain.texts, plain.finish_reason) == (False, ("hi",), None)
    plain = plain_usage(b'{"content":[{"text":"hi"}]}', Wire.MESSAGES)
    assert (plain.tally.seen, plain.texts, plain.finish_reason) == (False, ("hi",), None)


@pytest.mark.parametrize("wire", FORMS)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"\xff", b'{"content":['])
def test_unreadable_bodies(body: bytes, wire: Wire) -> None:
    read = plain_usage(body, wire)
    assert (read.readable, read.error, read.texts) == (False, False, ())
    assert not read.tally.seen


@pytest.mark.parametrize("wire", FORMS)
def test_errors_inside_a_success(wire: Wire) -> None:
    assert plain_usage(b'{"error":{"message":"no"}}', wire).error
    assert not plain_usage(b'{"error":null}', wire).error


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (Wire.CHAT, b'{"choices":[{"finish_reason":"%b"}]}'),
        (Wire.COMPLETIONS, b'{"choices":[{"finish_reason":"%b"}]}'),
        (Wire.MESSAGES, b'{"stop_reason":"%b"}'),
        (Wire.RESPONSES, b'{"status":"%b"}'),
        (Wire.GEMINI, b'{"candidates":[{"finishReason":"%b"}]}'),
    ],
)
@pytest.mark.parametrize("size", [FINISH_REASON_CHARACTERS_MAX, 1 << 20])
def test_how_an_answer_ended_is_kept_bounded(wire: Wire, body: bytes, size: int) -> None:
    read = plain_usage(body % (b"r" * size), wire)
    assert (read.readable, read.finish_reason) == (True, "r" * FINISH_REASON_CHARACTERS_MAX)


def test_unexpected_types_are_read_tolerantly() -> None:
    body = {
        "choices": [{"message": {"content": [{"type": "text", "text": "a"}]}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }
    read = plain_usage(orjson.dumps(body), Wire.CHAT)
    assert (read.texts, read.tally.final) == (("a",), True)
    message = {
        "content": [{"text": ["a", "b"]}, {"name": "f", "input": {"x": 1}}, 5],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
        "error": "no",
    }
    read = plain_usage(orjson.dumps(message), Wire.MESSAGES)
    assert read.texts == ("ab", 'f{"x":1}')
    assert (read.error, read.finish_reason, read.tally.final) == (True, "end_turn", True)
    assert plain_usage(b'{"content":"hi"}', Wire.MESSAGES).texts == ("hi",)
    half = plain_usage(rb'{"id":"r\ud83d","status":"\ude00"}', Wire.RESPONSES)
    assert (half.answer_id, half.finish_reason) == ("r?", "?")


KEYS = st.sampled_from(["choices", "message", "content", "usage", "text", "input"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(FORMS))
def test_no_json_value_raises(value: object, wire: Wire) -> None:
    read = plain_usage(json.dumps(value).encode(), wire)
    assert read.readable is isinstance(value, dict)


FIGURES = st.none() | st.integers(-2, 60) | st.sampled_from([2.0, 2.5, True, "7", 10**10, []])
PROMPT_DETAILS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("cached_tokens", "cache_write_tokens", "audio_tokens", "x"), FIGURES),
)
COMPLETION_DETAILS = st.fixed_dictionaries(
    {}, optional={"reasoning_tokens": FIGURES, "audio_tokens": FIGURES}
)
OPENAI_REPORTS = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": FIGURES,
        "completion_tokens": FIGURES,
        "total_tokens": FIGURES,
        "prompt_tokens_details": st.none() | PROMPT_DETAILS,
        "completion_tokens_details": st.none() | COMPLETION_DETAILS,
        "input_tokens": st.integers(0, 3),
        "output_tokens_details": st.none() | COMPLETION_DETAILS,
        "prompt_cache_hit_tokens": FIGURES,
    },
)
CREATION = st.fixed_dictionaries(
    {}, optional={"ephemeral_5m_input_tokens": FIGURES, "ephemeral_1h_input_tokens": FIGURES}
)
ANTHROPIC_REPORTS = st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": FIGURES,
        "output_tokens": FIGURES,
        "cache_read_input_tokens": FIGURES,
        "cache_creation_input_tokens": FIGURES,
        "cache_creation": st.none() | CREATION,
        "output_tokens_details": st.none()
        | st.fixed_dictionaries({}, optional={"thinking_tokens": FIGURES}),
    },
)


REPORTING = [wire for wire in FORMS if wire is not Wire.GEMINI]  # whose report has no typed reading


@given(
    OPENAI_REPORTS | ANTHROPIC_REPORTS, st.sampled_from(REPORTING), st.booleans(), st.integers(0, 9)
)
def test_the_typed_report_says_what_the_members_say(
    report: dict[str, object], wire: Wire, complete: bool, delivered: int
) -> None:
    read = plain_usage(orjson.dumps({"usage": report}), wire).tally
    slow = UsageTally()
    if wire is not Wire.MESSAGES:
        slow.openai(report)
    else:
        slow.anthropic(report)
    assert read.usage() == slow.usage()
    assert (read.final, read.input_seen) == (slow.final, slow.input_seen)
    bills = [
        tally.bill(complete=complete, input_tokens=7, output_tokens=delivered)
        for tally in (read, slow)
    ]
    assert bills[0] == bills[1]


def test_a_later_report_is_not_hidden_by_a_typed_one() -> None:
    tally = plain_usage(b'{"usage":{"prompt_tokens":1,"completion_tokens":2}}', Wire.CHAT).tally
    assert tally.usage() == Usage(input_uncached=1, output=2)
    assert not tally.openai_report(OpenAIReport(prompt_tokens=5, completion_tokens=5))
    tally.openai({"prompt_tokens": 3, "completion_tokens": 4})
    assert tally.usage() == Usage(input_uncached=3, output=4)
    assert not tally.anthropic_report(AnthropicReport(input_tokens=5, output_tokens=5))


def test_texts_are_read_when_they_are_asked_for() -> None:
    body = b'{"choices":[{"message":{"content":"a"},"finish_reason":"x"},{}],"usage":%b}'
    typed = plain_usage(body % b'{"prompt_tokens":1,"completion_tokens":1}', Wire.CHAT)
    loose = plain_usage(body % b'{"prompt_tokens":"1","completion_tokens":1}', Wire.CHAT)
    for read in (typed, loose):
        assert (read.texts, read.finish_reason, read.tally.final) == (("a",), "x", True)


@pytest.mark.parametrize("wire", FORMS)
def test_an_answer_that_ends_badly_is_unreadable_for_both_readers(wire: Wire) -> None:
    read = plain_usage(b'{"content":[],"choices":[],"usage":{}', wire)
    assert (read.readable, read.texts) == (False, ())


def test_odd_types_without_usage_are_read_tolerantly_too() -> None:
    read = plain_usage(b'{"stop_reason":5,"content":[{"text":"a"}]}', Wire.MESSAGES)
    assert (read.texts, read.tally.seen, read.finish_reason) == (("a",), False, "5")
    read = plain_usage(b'{"choices":[{"finish_reason":5}]}', Wire.CHAT)
    assert (read.texts, read.tally.seen, read.finish_reason) == ((), False, "5")
