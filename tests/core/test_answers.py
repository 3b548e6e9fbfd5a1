import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import answers
from proxy.core.answers import plain_usage
from proxy.core.entities import Dialect, Usage
from proxy.core.usage import AnthropicReport, OpenAIReport, UsageTally


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
    read = plain_usage(orjson.dumps(body), Dialect.OPENAI)
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
    read = plain_usage(body, Dialect.ANTHROPIC)
    assert (read.readable, read.error, read.finish_reason) == (True, False, "tool_use")
    assert read.texts == ("t", "hi", 'f{"a": 1}', "g")
    assert read.tally.final
    assert read.tally.usage() == Usage(input_uncached=9, output=3)


def test_usage_may_be_missing() -> None:
    plain = plain_usage(b'{"choices":[{"message":{"content":"hi"}}]}', Dialect.OPENAI)
    assert (plain.tally.seen, plain.texts, plain.finish_reason) == (False, ("hi",), None)
    plain = plain_usage(b'{"content":[{"text":"hi"}]}', Dialect.ANTHROPIC)
    assert (plain.tally.seen, plain.texts, plain.finish_reason) == (False, ("hi",), None)


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"\xff", b'{"content":['])
def test_unreadable_bodies(body: bytes, dialect: Dialect) -> None:
    read = plain_usage(body, dialect)
    assert (read.readable, read.error, read.texts) == (False, False, ())
    assert not read.tally.seen


@pytest.mark.parametrize("dialect", list(Dialect))
def test_errors_inside_a_success(dialect: Dialect) -> None:
    assert plain_usage(b'{"error":{"message":"no"}}', dialect).error
    assert not plain_usage(b'{"error":null}', dialect).error


def test_unexpected_types_are_read_tolerantly() -> None:
    body = {
        "choices": [{"message": {"content": [{"type": "text", "text": "a"}]}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }
    read = plain_usage(orjson.dumps(body), Dialect.OPENAI)
    assert (read.texts, read.tally.final) == (("a",), True)
    message = {
        "content": [{"text": ["a", "b"]}, {"name": "f", "input": {"x": 1}}, 5],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
        "error": "no",
    }
    read = plain_usage(orjson.dumps(message), Dialect.ANTHROPIC)
    assert read.texts == ("ab", 'f{"x":1}')
    assert (read.error, read.finish_reason, read.tally.final) == (True, "end_turn", True)
    assert plain_usage(b'{"content":"hi"}', Dialect.ANTHROPIC).texts == ("hi",)


KEYS = st.sampled_from(["choices", "message", "content", "usage", "text", "input"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(Dialect))
def test_no_json_value_raises(value: object, dialect: Dialect) -> None:
    read = plain_usage(json.dumps(value).encode(), dialect)
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


@given(
    OPENAI_REPORTS | ANTHROPIC_REPORTS, st.sampled_from(Dialect), st.booleans(), st.integers(0, 9)
)
def test_the_typed_report_says_what_the_members_say(
    report: dict[str, object], dialect: Dialect, complete: bool, delivered: int
) -> None:
    read = plain_usage(orjson.dumps({"usage": report}), dialect).tally
    slow = UsageTally()
    if dialect is Dialect.OPENAI:
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
    tally = plain_usage(
        b'{"usage":{"prompt_tokens":1,"completion_tokens":2}}', Dialect.OPENAI
    ).tally
    assert tally.usage() == Usage(input_uncached=1, output=2)
    assert not tally.openai_report(OpenAIReport(prompt_tokens=5, completion_tokens=5))
    tally.openai({"prompt_tokens": 3, "completion_tokens": 4})
    assert tally.usage() == Usage(input_uncached=3, output=4)
    assert not tally.anthropic_report(AnthropicReport(input_tokens=5, output_tokens=5))


def test_texts_are_read_when_they_are_asked_for() -> None:
    body = b'{"choices":[{"message":{"content":"a"},"finish_reason":"x"},{}],"usage":%b}'
    typed = plain_usage(body % b'{"prompt_tokens":1,"completion_tokens":1}', Dialect.OPENAI)
    loose = plain_usage(body % b'{"prompt_tokens":"1","completion_tokens":1}', Dialect.OPENAI)
    for read in (typed, loose):
        assert (read.texts, read.finish_reason, read.tally.final) == (("a",), "x", True)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_an_answer_that_ends_badly_is_unreadable_for_both_readers(dialect: Dialect) -> None:
    read = plain_usage(b'{"content":[],"choices":[],"usage":{}', dialect)
    assert (read.readable, read.texts) == (False, ())


def test_odd_types_without_usage_are_read_tolerantly_too() -> None:
    read = plain_usage(b'{"stop_reason":5,"content":[{"text":"a"}]}', Dialect.ANTHROPIC)
    assert (read.texts, read.tally.seen, read.finish_reason) == (("a",), False, "5")
    read = plain_usage(b'{"choices":[{"finish_reason":5}]}', Dialect.OPENAI)
    assert (read.texts, read.tally.seen, read.finish_reason) == ((), False, "5")
