import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import response_events
from proxy.core.metering import Meter
from proxy.core.response_events import (
    ANSWER_ID_CHARS_MAX,
    ResponseEvents,
    item_runs,
    output_runs,
    reason_of,
    response_event,
)
from proxy.core.sights import FAILED, GARBAGE, Sight

MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
CALL = {"type": "function_call", "name": "f", "arguments": '{"a":1}'}


def see(kind: str, *, events: ResponseEvents | None = None, **fields: object) -> Sight:
    data = orjson.dumps({"type": kind, **fields})
    return (events or ResponseEvents()).see(kind, data)


def taken(event: bytes, events: ResponseEvents | None = None) -> tuple[bool, Meter]:
    meter = Meter(len)
    found = (events or ResponseEvents()).take(b"#" + event, 1, 1 + len(event), meter)
    return found, meter


def wire(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: ".encode() + orjson.dumps({"type": kind, **fields}) + b"\n\n"


@pytest.mark.parametrize(
    ("kind", "run"),
    [
        ("output_text", "text"),
        ("refusal", "refusal"),
        ("function_call_arguments", "tool"),
        ("custom_tool_call_input", "tool"),
        ("mcp_call_arguments", "tool"),
        ("code_interpreter_call_code", "tool"),
        ("reasoning_text", "reasoning"),
        ("reasoning_summary_text", "summary"),
        ("audio.transcript", "transcript"),
    ],
)
def test_each_delta_of_text_is_metered_in_its_run(kind: str, run: str) -> None:
    name = f"response.{kind}.delta"
    sight = see(name, output_index=3, content_index=1, delta="Hi")
    assert sight == Sight((((3, run, 1), "Hi"),), content=True)
    found, meter = taken(wire(name, output_index=3, content_index=1, delta="Hi"))
    assert (found, meter.advance(), meter.run) == (True, 2, (3, run, 1))


def test_a_summary_has_an_index_of_its_own_and_llama_has_none() -> None:
    summary = see("response.reasoning_summary_text.delta", summary_index=2, delta="a")
    assert summary.runs == (((0, "summary", 2), "a"),)
    assert see("response.output_text.delta", delta="a").runs == (((0, "text", 0), "a"),)


@pytest.mark.parametrize(
    "event",
    [
        b"data: {}\n\n",
        b"event: response.output_text.delta\n\n",
        b"event: response.output_text.delta\ndata: {nonsense}\n\n",
        b"event: response." + b"x" * 80 + b'\ndata: {"type":"response.output_text.delta"}\n\n',
        wire("response.created", response={"id": "r"}),
        wire("response.audio.delta", delta="UklGRg"),
        wire("response.output_text.delta", delta={"odd": 1}),
        wire("response.output_text.delta", delta="a", error={"message": "no"}),
        wire("response.completed", response={"status": "completed"}),
    ],
)
def test_what_is_not_ordinary_is_left_alone(event: bytes) -> None:
    found, meter = taken(event)
    assert not found
    assert meter.taken == 0


def test_the_runs_of_a_stream_that_goes_to_and_fro() -> None:
    events, meter = ResponseEvents(), Meter(len)
    for index in (0, 0, 1, 1, 0):
        event = wire("response.output_text.delta", output_index=index, delta=str(index))
        assert events.take(event, 0, len(event), meter)
    assert meter.advance() == 5


def test_text_counts_by_its_deltas_or_else_by_what_closes_it() -> None:
    events = ResponseEvents()
    spoken = see("response.output_text.delta", events=events, output_index=0, delta="Hi")
    assert spoken.runs

    def done(index: int, item: dict[str, Any]) -> Sight:
        return see("response.output_item.done", events=events, output_index=index, item=item)

    assert done(0, MESSAGE).runs == ()
    closed = done(1, CALL)
    assert closed.runs == (((1, "name", 0), "f"), ((1, "tool", 0), '{"a":1}'))
    assert done(1, CALL).runs == (), "counted once"
    end = {"id": "r", "status": "completed", "output": [MESSAGE]}
    assert see("response.completed", events=events, response=end).runs == ()
    assert see("response.completed", response=end).runs == (((0, "text", 0), "Hi"),)


def test_what_was_taken_is_not_counted_again_either() -> None:
    events = ResponseEvents()
    assert taken(wire("response.output_text.delta", delta="Hi"), events)[0]
    end = {"status": "completed", "output": [MESSAGE]}
    assert see("response.completed", events=events, response=end).runs == ()


def test_the_name_of_a_tool_counts_when_it_is_called() -> None:
    sight = see("response.output_item.added", output_index=2, item=CALL)
    assert sight == Sight((((2, "name", 0), "f"),))


def test_items_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_events, "ITEMS_MAX", 2)
    events = ResponseEvents()
    for index in range(5):
        see("response.output_text.delta", events=events, output_index=index, delta="a")
        see("response.output_item.done", events=events, output_index=index, item={})
    assert len(events._spoken) == 2


@pytest.mark.parametrize(
    ("status", "details", "reason"),
    [
        ("completed", None, "completed"),
        ("incomplete", {"reason": "max_output_tokens"}, "max_output_tokens"),
        ("incomplete", {}, "incomplete"),
        (None, "odd", "completed"),
    ],
)
def test_the_end_says_how_it_ended_and_what_was_used(
    status: str | None, details: object, reason: str
) -> None:
    usage = {"input_tokens": 3, "output_tokens": 2}
    response = {"id": "r" * 999, "status": status, "incomplete_details": details, "usage": usage}
    sight = see("response.incomplete", response=response)
    assert (sight.terminal, sight.usage, sight.finished) == (True, usage, ((0, reason),))
    assert sight.answer_id == "r" * ANSWER_ID_CHARS_MAX
    assert reason_of(status, details) == reason


def test_an_end_without_an_answer_is_no_end() -> None:
    assert not see("response.completed").terminal


@pytest.mark.parametrize("kind", ["response.created", "response.in_progress", "response.queued"])
def test_a_beginning_names_the_answer_and_is_not_worth_showing(kind: str) -> None:
    assert see(kind, response={"id": "resp_1"}) == Sight(answer_id="resp_1")


@pytest.mark.parametrize(
    ("kind", "fields", "shown"),
    [
        ("response.output_item.added", {"item": {"type": "message"}}, False),
        ("response.output_item.added", {"item": {"type": "reasoning"}}, False),
        ("response.output_item.added", {"item": {"type": "web_search_call"}}, True),
        ("response.content_part.added", {}, False),
        ("response.reasoning_summary_part.added", {}, False),
        ("response.web_search_call.searching", {}, True),
        ("response.output_text.delta", {"delta": ""}, True),
        ("response.whatever_comes_next", {}, True),
        ("keepalive", {}, False),
        ("", {}, False),
    ],
)
def test_what_is_worth_showing(kind: str, fields: dict[str, Any], shown: bool) -> None:
    assert see(kind, **fields) == Sight(content=shown)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("error", b'{"type":"error","message":"no"}'),
        ("", b'{"type":"response.failed","response":{"error":{"message":"no"}}}'),
        ("", b'{"error":{"message":"no"}}'),
        ("error", b"nonsense"),
    ],
)
def test_errors(name: str, data: bytes) -> None:
    assert ResponseEvents().see(name, data) is FAILED


def test_no_event_of_this_form() -> None:
    assert ResponseEvents().see("", b"[DONE]") is GARBAGE
    assert response_event(b"[]") is None
    assert not ResponseEvents().runs(b"[]")


def test_odd_types_are_read_tolerantly() -> None:
    event = response_event(
        b'{"type":"response.completed","output_index":"7","delta":[1],'
        b'"response":{"id":5,"status":["x"],"usage":7,"output":{}}}'
    )
    assert event is not None
    assert (event.type, event.output_index, event.delta) == ("response.completed", 0, [1])
    assert event.response is not None
    assert (event.response.id, event.response.usage) == ("", 7)
    bare = response_event(b'{"type":5,"response":[]}')
    assert bare is not None
    assert (bare.type, bare.response) == ("", None)
    half = response_event(
        rb'{"response":{"id":"r\ud83d","incomplete_details":{"reason":"\ude00"}}}'
    )
    assert half is not None
    assert half.response is not None
    assert half.response.id == "r?"
    assert reason_of("", half.response.incomplete_details) == "?"
    assert see("response.mcp_call_arguments.delta", delta={"a": 1}).runs == (
        ((0, "tool", 0), '{"a":1}'),
    )


def test_the_texts_of_whole_items() -> None:
    thought = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "s"}],
        "content": [{"type": "reasoning_text", "text": "r"}],
    }
    free = {"type": "custom_tool_call", "name": "g", "input": "in"}
    code = {"type": "code_interpreter_call", "code": "x = 1"}
    runs = output_runs([MESSAGE, thought, CALL, free, code, "odd", None])
    assert [text for _, text in runs] == ["Hi", "r", "s", "f", '{"a":1}', "g", "in", "x = 1"]
    assert {run[0] for run, _ in runs} == {0, 1, 2, 3, 4}
    assert item_runs({}, 0) == ()
    assert output_runs("odd") == ()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "delta", "item", "response", "id", "usage", "output", "text"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KINDS = ["response.output_text.delta", "response.completed", "response.output_item.done", "error"]


@given(VALUES, st.sampled_from(KINDS))
def test_no_json_raises(value: object, kind: str) -> None:
    if isinstance(value, dict):
        value["type"] = kind
    data = json.dumps(value).encode()
    events = ResponseEvents()
    before = events.runs(data)
    sight = events.see(kind, data)
    assert sight.failed or sight.garbage or sight.runs == before
    events.ends(kind, data)
    event = b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
    events.take(event, 0, len(event), Meter(len))


SEARCH = {"type": "web_search_call", "status": "completed", "action": {"type": "search"}}
USED = {"input_tokens": 1}


@pytest.mark.parametrize(
    ("tool_usage", "output", "searches"),
    [
        (None, [SEARCH, SEARCH, {"type": "message"}], 2),
        ({"web_search": {"num_requests": 1}}, [SEARCH, SEARCH], 1),
        ({"web_search": {"num_requests": 0}}, [SEARCH], 0),
        (None, [SEARCH | {"action": {"type": "open_page"}}, SEARCH | {"status": "failed"}], 0),
        (None, [{"type": "web_search_call"}], 1),
        ("odd", "odd", 0),
    ],
)
def test_searches_stand_beside_the_usage_or_among_the_items(
    tool_usage: object, output: object, searches: int
) -> None:
    expected = USED | ({"num_search_queries": searches} if searches else {})
    assert response_events.with_searches(USED, tool_usage, output) == expected
    assert response_events.with_searches(None, tool_usage, output) is None
