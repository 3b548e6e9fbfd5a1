from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import gemini_events
from proxy.core.gemini_events import GeminiEvents, endings, gemini_event
from proxy.core.metering import Meter
from proxy.core.sights import FAILED, GARBAGE, Sight


def see(choices: int = 1, /, **fields: Any) -> Sight:
    return GeminiEvents(choices).see("", orjson.dumps(fields))


def said(*parts: object, **fields: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **fields}]}


def texts(*parts: object) -> list[tuple[str, str]]:
    return [(key[1], text) for key, text in see(**said(*parts)).runs]


def test_every_text_is_counted_in_its_run() -> None:
    assert texts(
        {"text": "a"},
        {"text": "hm", "thought": True},
        {"text": "", "thoughtSignature": "x" * 99},
        {"functionCall": {"name": "f", "args": {"a": 1}}},
        {"functionCall": {"name": "g", "args": {}}},
        {"functionCall": {}},
        {"executableCode": {"code": "1"}},
        {"executableCode": {}},
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
    ) == [
        ("text", "a"),
        ("reasoning", "hm"),
        ("tool", 'f{"a":1}'),
        ("tool", "g"),
        ("code", "1"),
    ]
    assert see(**said({"text": "a"}, index=3)).runs[0][0] == (3, "text", 0)
    assert see(candidates=[{}, {"content": {}}], usageMetadata=None) == Sight()


def test_a_report_and_a_reason_may_come_with_any_words() -> None:
    usage = {"promptTokenCount": 3}
    sight = see(**said({"text": "a"}, finishReason="STOP"), usageMetadata=usage)
    assert (sight.usage, sight.finished, sight.terminal) == (usage, ((0, "STOP"),), False)


@pytest.mark.parametrize("name", ["inlineData", "fileData", "codeExecutionResult"])
def test_what_is_no_text_may_be_content(name: str) -> None:
    assert see(**said({name: {"x": 1}})).content
    assert not see(**said({"text": ""})).content


def test_a_blocked_prompt_ends_every_candidate() -> None:
    blocked = see(2, promptFeedback={"blockReason": "SAFETY"})
    assert blocked.finished == ((0, "SAFETY"), (1, "SAFETY"))
    assert see(promptFeedback={"safetyRatings": []}).finished == ()
    both = see(**said({"text": "a"}), promptFeedback={"blockReason": "SAFETY"})
    assert both.finished == ()


def test_errors_and_what_is_no_event() -> None:
    events = GeminiEvents(1)
    assert see(error={"message": "busy"}) == FAILED
    assert events.see("error", b"nonsense") == FAILED
    assert events.see("", b"[DONE]") == GARBAGE
    assert events.runs(b"[DONE]") == ()


def test_nothing_is_ordinary_and_nothing_ends_a_stream() -> None:
    events, meter = GeminiEvents(1), Meter(len)
    data = b"data: " + orjson.dumps(said({"text": "a"}, finishReason="STOP")) + b"\n\n"
    assert not events.take(data, 0, len(data), meter)
    assert not events.ends("", data)
    assert meter.written == 0


def test_shapes_that_surprise_are_read_all_the_same() -> None:
    odd = said(
        {"text": ["a", {"text": "b"}], "thought": 1},
        {"functionCall": {"name": "f", "args": [1]}},
        {"executableCode": {"code": 7}},
        "noise",
        index=-1,
        finishReason=5,
    )
    event = gemini_event(orjson.dumps(odd | {"promptFeedback": 7, "usageMetadata": 7}))
    assert event is not None
    assert event.usage_metadata == 7
    assert [text for _, text in gemini_events.event_runs(event)] == ["ab", "f[1]"]
    assert endings(event, 1) == ((0, "5"),)
    assert gemini_event(b"[]") is None
    feedback = gemini_event(b'{"candidates":7,"promptFeedback":{"blockReason":7}}')
    assert feedback is not None
    assert endings(feedback, 1) == ((0, "7"),)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["candidates", "content", "parts", "text", "functionCall", "args", "index"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(value=_json)
def test_nothing_raises(value: object) -> None:
    data = orjson.dumps(value)
    events = GeminiEvents(1)
    assert events.see("", data).runs == events.runs(data)


@pytest.mark.parametrize(("model", "searches"), [("gemini-3-pro", 2), ("gemini-2.5-pro", 1)])
def test_searches_are_told_with_the_usage_as_they_are_billed(model: str, searches: int) -> None:
    grounding = {"webSearchQueries": ["a", "b"]}
    grounded = said({"text": "a"}, groundingMetadata=grounding)
    usage = {"promptTokenCount": 1}
    for answer in (grounded, grounded | {"promptFeedback": 7}):
        found = see(**answer, usageMetadata=usage, modelVersion=model)
        assert found.usage == usage | {"num_search_queries": searches}
    assert see(**grounded).usage is None
    assert see(**said(groundingMetadata={}), usageMetadata=usage).usage == usage
