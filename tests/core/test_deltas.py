import json

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import deltas
from proxy.core.deltas import (
    ANTHROPIC_GARBAGE,
    OPENAI_GARBAGE,
    AnthropicEvent,
    OpenAIChunk,
    anthropic_event,
    anthropic_runs,
    arguments_text,
    countable_text,
    is_set,
    load_object,
    openai_delta,
    openai_runs,
)
from proxy.core.metering import Meter


def delta_text(chunk: OpenAIChunk) -> str:
    return "".join([text for _, text in openai_runs(chunk)])


def anthropic_text(event: AnthropicEvent) -> str:
    return "".join([text for _, text in anthropic_runs(event)])


def is_ordinary(chunk: OpenAIChunk) -> bool:
    return Meter(len).add_openai(chunk, 1)


def chunk(delta: object, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}
    return orjson.dumps(body | more)


def block_delta(delta: object, index: object = 0) -> bytes:
    return orjson.dumps({"type": "content_block_delta", "index": index, "delta": delta})


def test_the_event_of_the_hot_path() -> None:
    read = openai_delta(chunk({"content": " hello"}, usage=None))
    assert is_ordinary(read)
    assert delta_text(read) == " hello"
    assert (read.usage, read.error, read.choices[0].finish_reason) == (None, None, None)


@pytest.mark.parametrize("more", [{}, {"usage": None}, {"error": None}, {"x": [1, {"y": 2}]}])
def test_usage_and_unknown_fields_stay_on_the_typed_path(
    more: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deltas, "load_object", lambda _: pytest.fail("read twice"))
    usage = {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}}
    assert delta_text(openai_delta(chunk({"content": "a", "role": "assistant"}, **more))) == "a"
    assert openai_delta(orjson.dumps({"choices": [], "usage": usage})).usage == usage
    assert openai_delta(orjson.dumps({"error": {"message": "no"}})).error == {"message": "no"}
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 5}}}
    read = anthropic_event(orjson.dumps(start))
    assert read.message is not None
    assert read.message.usage == {"input_tokens": 5}


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
        {"content": "a", "reasoning_content": "hm"},
        {"refusal": "no"},
        {"function_call": {"name": "f"}},
    ],
)
def test_anything_but_one_text_is_not_ordinary(delta: dict[str, object]) -> None:
    assert not is_ordinary(openai_delta(chunk(delta)))


def test_ends_reports_and_several_choices_are_not_ordinary() -> None:
    content = {"content": "x"}
    finish = {"index": 0, "delta": content, "finish_reason": "stop"}
    second = {"index": 1, "delta": content}
    for body in (
        [finish],
        [second, second],
        [{"index": 0}],
        [],
    ):
        assert not is_ordinary(openai_delta(orjson.dumps({"choices": body})))
    assert not is_ordinary(openai_delta(chunk(content, usage={})))
    assert not is_ordinary(openai_delta(chunk(content, error="x")))
    assert is_ordinary(openai_delta(orjson.dumps({"choices": [second]})))


def test_an_empty_finish_reason_is_none_yet() -> None:
    body = {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": ""}]}
    read = openai_delta(orjson.dumps(body))
    assert is_ordinary(read)
    assert not read.choices[0].finish_reason


def test_role_only_chunks_hold_no_text() -> None:
    assert delta_text(openai_delta(chunk({"role": "assistant"}))) == ""
    assert delta_text(openai_delta(orjson.dumps({"choices": [{"index": 0}]}))) == ""


def test_runs_of_choices_kinds_and_tools_are_apart() -> None:
    body = {
        "choices": [
            {
                "index": 0,
                "delta": {
                    "content": "a",
                    "reasoning": "b",
                    "reasoning_content": "b",
                    "refusal": "c",
                    "tool_calls": [
                        {"index": 0, "id": "x", "function": {"name": "f", "arguments": ""}},
                        {"index": 1, "function": {"arguments": "{}"}},
                        {"index": 2},
                    ],
                },
            },
            {"index": 1, "delta": {"content": "d", "function_call": {"name": "g"}}},
            {"index": 2, "delta": None},
        ]
    }
    read = openai_delta(orjson.dumps(body))
    assert list(openai_runs(read)) == [
        ((0, "text", 0), "a"),
        ((0, "reasoning", 0), "b"),
        ((0, "refusal", 0), "c"),
        ((0, "tool", 0), "f"),
        ((0, "tool", 1), "{}"),
        ((1, "text", 0), "d"),
        ((1, "function", 0), "g"),
    ]
    assert delta_text(read) == "abcf{}dg"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"choices": [{"delta": {"content": [{"type": "text", "text": "a"}, "b"]}}]}, "ab"),
        (
            {"choices": [{"index": None, "delta": {"content": [{"thinking": [{"text": "t"}]}]}}]},
            "t",
        ),
        ({"choices": [{"index": "0", "delta": {"content": "a"}}]}, "a"),
        ({"choices": [{"index": 0, "delta": {"content": 5, "refusal": "r"}}]}, "r"),
        ({"choices": [{"delta": {"reasoning": {"text": "r"}, "content": "a"}}]}, "ar"),
        (
            {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": {"a": 1}}}]}}]},
            '{"a":1}',
        ),
        ({"choices": [{"delta": {"function_call": {"name": "f", "arguments": []}}}]}, "f"),
        ({"choices": [{"delta": {"tool_calls": {}}}, 7]}, ""),
        ({"choices": None}, ""),
        ({"choices": {"0": 1}}, ""),
        ({"choices": [{"delta": "text"}]}, ""),
    ],
)
def test_unexpected_types_are_read_tolerantly(body: dict[str, object], text: str) -> None:
    read = openai_delta(orjson.dumps(body))
    assert read is not OPENAI_GARBAGE
    assert delta_text(read) == text


def test_the_tolerant_reading_keeps_reports_and_ends() -> None:
    body = {
        "choices": [{"index": 3, "delta": {"content": ["x"]}, "finish_reason": 1}],
        "usage": {"prompt_tokens": 1},
        "error": "no",
    }
    read = openai_delta(orjson.dumps(body))
    assert [(one.index, one.finish_reason) for one in read.choices] == [(3, "1")]
    assert (read.usage, read.error) == ({"prompt_tokens": 1}, "no")


def test_what_is_kept_of_an_event_has_no_half_of_a_surrogate_pair() -> None:
    read = openai_delta(rb'{"choices":[{"delta":{"content":"\ud83d"},"finish_reason":"a\ud83d"}]}')
    assert [one.finish_reason for one in read.choices] == ["a?"]
    assert delta_text(read) == "\ud83d"  # the other half may come, and is counted with it
    last = anthropic_event(rb'{"type":"message_delta","delta":{"stop_reason":"\ude00"}}').delta
    assert last is not None
    assert last.stop_reason == "?"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"5",
        b"\xff",
        b"{'a':1}",
        b'{"choices":' + b"[" * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"choices":null,"index":"","x":' + b"9" * 5_000 + b"}",
    ],
)
def test_garbage_is_told_by_identity(payload: bytes) -> None:
    assert openai_delta(payload) is OPENAI_GARBAGE
    assert anthropic_event(payload) is ANTHROPIC_GARBAGE
    assert not is_ordinary(openai_delta(payload))
    assert not Meter(len).add_anthropic(anthropic_event(payload), 1)


def test_an_empty_object_is_no_garbage() -> None:
    assert openai_delta(b"{}") is not OPENAI_GARBAGE
    assert anthropic_event(b"{}") is not ANTHROPIC_GARBAGE
    assert openai_delta(b'{"choices":null}') is not OPENAI_GARBAGE


def test_lone_surrogates_and_bad_utf8_still_have_text() -> None:
    half = b'{"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}'
    assert delta_text(openai_delta(half)) == "\ud83d"
    bad = b'{"choices":[{"index":0,"delta":{"content":"a\xff"}}]}'
    assert delta_text(openai_delta(bad)) == "a\ufffd"


def test_whitespace_around_the_object_is_fine() -> None:
    assert delta_text(openai_delta(b" " + chunk({"content": "x"}) + b"\r")) == "x"


@pytest.mark.parametrize(
    ("value", "truth"),
    [(None, False), ({}, False), ("", False), (False, False), ({"m": 1}, True), ("x", True)],
)
def test_only_a_truthy_error_is_an_error(value: object, truth: bool) -> None:
    assert is_set(openai_delta(orjson.dumps({"error": value})).error) is truth


def test_block_deltas() -> None:
    assert Meter(len).add_anthropic(anthropic_event(block_delta({"text": "a"}, 1)), 1)
    assert not Meter(len).add_anthropic(anthropic_event(b'{"type":"ping"}'), 1)
    for delta, expected in (
        ({"type": "text_delta", "text": "a"}, "a"),
        ({"type": "input_json_delta", "partial_json": "{"}, "{"),
        ({"type": "thinking_delta", "thinking": "t"}, "t"),
        ({"type": "signature_delta", "signature": "AAAA"}, ""),
        ({"type": "citations_delta", "citation": {"cited_text": "c"}}, ""),
    ):
        assert anthropic_text(anthropic_event(block_delta(delta))) == expected


def test_block_starts_name_their_tool() -> None:
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    start = anthropic_event(
        orjson.dumps({"type": "content_block_start", "index": 2, "content_block": block})
    )
    assert list(anthropic_runs(start)) == [((2, "text", 0), "f")]
    empty = {"type": "content_block_start", "content_block": {"type": "text", "text": ""}}
    assert list(anthropic_runs(anthropic_event(orjson.dumps(empty)))) == []


def test_message_delta_and_error() -> None:
    body = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 9},
    }
    read = anthropic_event(orjson.dumps(body))
    assert read.delta is not None
    assert (read.delta.stop_reason, read.usage) == ("end_turn", {"output_tokens": 9})
    error = anthropic_event(b'{"type":"error","error":{"type":"overloaded_error"}}')
    assert (error.type, is_set(error.error)) == ("error", True)


def test_events_of_unexpected_types() -> None:
    body = {
        "type": "content_block_delta",
        "index": "1",
        "delta": {"text": ["a"], "partial_json": {"b": 1}, "stop_reason": None},
        "content_block": {"name": 7, "text": "c"},
        "usage": {"output_tokens": 2},
        "error": {},
    }
    read = anthropic_event(orjson.dumps(body))
    assert (read.index, read.message, read.usage) == (0, None, {"output_tokens": 2})
    assert [text for _, text in anthropic_runs(read)] == ["c", "a"]
    odd = anthropic_event(orjson.dumps({"type": "x", "index": [], "message": {"usage": {}}}))
    assert odd.message is not None
    assert odd.message.usage == {}


def test_countable_text_is_bounded_in_depth() -> None:
    nested: object = "deep"
    for _ in range(deltas.TEXT_DEPTH_MAX):
        nested = [nested]
    assert countable_text(nested) == "deep"
    assert countable_text([nested]) == ""
    assert countable_text(None) == ""
    assert arguments_text(None) == ""
    assert arguments_text({}) == ""
    assert arguments_text("{}") == "{}"


def test_load_object_takes_objects_only() -> None:
    assert load_object(b'{"a":1}') == {"a": 1}
    assert load_object(b'{"a":NaN}') is not None
    assert load_object(b"[1]") is None
    assert load_object(b"[NaN]") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "content", "index", "usage", "type", "tool_calls", "function"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_json_value_raises(value: object) -> None:
    payload = json.dumps(value).encode()
    read = openai_delta(payload)
    assert (read is OPENAI_GARBAGE) == (not isinstance(value, dict))
    delta_text(read)
    is_ordinary(read)
    event = anthropic_event(payload)
    assert (event is ANTHROPIC_GARBAGE) == (not isinstance(value, dict))
    anthropic_text(event)
    Meter(len).add_anthropic(event, 1)


@given(st.binary(max_size=60))
def test_no_bytes_raise(payload: bytes) -> None:
    openai_delta(payload)
    anthropic_event(payload)


@given(st.binary(max_size=20), st.integers(0, 90))
def test_a_damaged_event_never_raises(noise: bytes, at: int) -> None:
    good = chunk({"content": "hello"})
    openai_delta(good[:at] + noise + good[at:])
    anthropic_event(good[:at])


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_typed_and_tolerant_agree(text: str) -> None:
    body: dict[str, object] = {"choices": [{"index": 0, "delta": {"content": text}}]}
    typed = openai_delta(orjson.dumps(body))
    tolerant = deltas.chunk_of(body, "delta")
    assert delta_text(typed) == delta_text(tolerant) == text


def test_the_structs_are_frozen() -> None:
    with pytest.raises(AttributeError):
        msgspec.convert({}, deltas.OpenAIChunk).usage = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("payload", "other"),
    [
        (b'{"choices":[{"delta":{"role":"assistant","content":""}}]}', False),
        (b'{"choices":[{"delta":{"role":"assistant","content":null,"tool_calls":[]}}]}', False),
        (b'{"choices":[{"delta":null},{"delta":{}},{}]}', False),
        (b'{"choices":[],"prompt_filter_results":[{}]}', False),
        (b'{"choices":null}', False),
        (b"not json", False),
        (b'{"choices":[{"delta":{"audio":{"id":"a"}}}]}', True),
        (b'{"choices":[{},{"delta":{"role":"assistant","images":["x"]}}]}', True),
    ],
)
def test_content_that_is_no_text_is_noticed(payload: bytes, other: bool) -> None:
    assert deltas.has_other_content(payload) is other


MEMBERS: st.SearchStrategy[dict[str, object]] = st.dictionaries(
    st.sampled_from(
        ["role", "content", "refusal", "reasoning", "tool_calls", "function_call", "x"]
    ),
    st.sampled_from([None, "", "a", [], [{}], {}, {"name": "f"}, 1, ["a"]]),
)
CHOICES = st.lists(
    st.one_of(
        st.just({}),
        st.builds(
            lambda delta, index, reason: {"delta": delta, "index": index, "finish_reason": reason},
            st.one_of(MEMBERS, st.none()),
            st.sampled_from([0, 1, "0", None]),
            st.sampled_from([None, "", "stop", 1]),
        ),
    ),
    max_size=3,
)
NAMES = ("content", "refusal", "reasoning_content", "reasoning", "thinking")


@given(choices=CHOICES, usage=st.sampled_from([None, {"x": 1}]), error=st.sampled_from([None, "e"]))
def test_a_first_event_is_decoded_as_any_other(
    choices: list[object], usage: object, error: object
) -> None:
    payload = orjson.dumps({"id": "x", "choices": choices, "usage": usage, "error": error})
    chunk, read = deltas.openai_first(payload)
    expected = deltas.openai_delta(payload)
    assert list(deltas.openai_runs(chunk)) == list(deltas.openai_runs(expected))
    assert (chunk.usage, chunk.error) == (expected.usage, expected.error)
    assert [(choice.index, choice.finish_reason) for choice in chunk.choices] == [
        (choice.index, choice.finish_reason) for choice in expected.choices
    ]
    meters = Meter(len), Meter(len)
    assert meters[0].add_openai(chunk, 9) is meters[1].add_openai(expected, 9)
    assert meters[0].last == meters[1].last
    if read and meters[0].written and not meters[0].last:
        assert not deltas.has_other_content(payload)


def test_whether_a_first_event_was_read_whole_depends_on_its_deltas_alone() -> None:
    plain = b'{"x":[1],"choices":[{"y":1,"delta":{"role":"assistant","content":""}}]}'
    assert deltas.openai_first(plain)[1]
    more = b'{"choices":[{"delta":{"role":"assistant","audio":{}}}]}'
    assert not deltas.openai_first(more)[1]
    assert deltas.openai_first(b"[]") == (deltas.OPENAI_GARBAGE, False)
    assert deltas.openai_first(b"{")[0] is deltas.OPENAI_GARBAGE
