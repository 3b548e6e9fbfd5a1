from typing import Any

import orjson
import pytest

from proxy.core.entities import Usage
from proxy.core.translation import responses_streams
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
from proxy.core.translation.responses_streams import EventReader


def read(*events: dict[str, Any] | bytes, started: bool = True) -> list[Event]:
    """What a stream says; behind a beginning nobody needs to see, unless `started` is False."""
    reader, found = EventReader(), []
    if started:
        assert reader.read(orjson.dumps(CREATED)) == [Started("resp_1", "m")]
    for event in events:
        found += reader.read(event if isinstance(event, bytes) else orjson.dumps(event))
    return found


CREATED = {
    "type": "response.created",
    "response": {"id": "resp_1", "model": "m", "status": "in_progress", "output": []},
    "sequence_number": 0,
}


def at(place: int | None, kind: str, **fields: Any) -> dict[str, Any]:
    index = {} if place is None else {"output_index": place}
    return {"type": f"response.{kind}", **index, **fields}


def added(place: int | None, kind: str, **item: Any) -> dict[str, Any]:
    return at(place, "output_item.added", item={"type": kind, **item})


def done(place: int | None, kind: str, **item: Any) -> dict[str, Any]:
    return at(place, "output_item.done", item={"type": kind, **item})


def part(place: int | None, kind: str, what: str = "added", **fields: Any) -> dict[str, Any]:
    return at(place, f"content_part.{what}", part={"type": kind, **fields})


def text(place: int | None, delta: object) -> dict[str, Any]:
    return at(place, "output_text.delta", delta=delta)


def end(status: str = "completed", *output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    response = {"id": "resp_1", "status": status, "output": list(output), **fields}
    return {"type": f"response.{status}", "response": response}


TEXT = (Opened(Kind.TEXT), Piece("a"), Closed())


def test_words_and_their_end() -> None:
    content = [{"type": "output_text", "text": "ab", "annotations": []}]
    usage = {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 8,
    }
    assert read(
        CREATED,
        {"type": "response.in_progress", "response": {"id": "resp_1"}},
        added(0, "message", id="msg_1", content=[]),
        part(0, "output_text", text=""),
        text(0, "a"),
        text(0, ""),
        text(0, None),
        text(0, "b"),
        at(0, "output_text.done", text="ab"),
        part(0, "output_text", "done", text="ab"),
        done(0, "message", id="msg_1", content=content),
        end("completed", {"type": "message", "content": content}, usage=usage),
        started=False,
    ) == [
        Started("resp_1", "m"),
        Opened(Kind.TEXT),
        Piece("a"),
        Piece("b"),
        Closed(),
        Finished(
            Finish.STOP,
            Usage(input_uncached=2, cache_read=2, cache_write_5m=1, output=3, reasoning=1),
        ),
    ]


def test_what_llama_cpp_sends() -> None:
    """No places, a beginning before every call's piece, and every closing event at the end."""
    call = {"type": "function_call", "call_id": "fc_9", "name": "f"}
    words = [{"type": "output_text", "text": "a"}]
    begun = {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}
    assert read(
        begun,
        added(None, "reasoning", id="rs_1", summary=[], content=[], encrypted_content=""),
        at(None, "reasoning_text.delta", item_id="rs_1", delta="hm"),
        added(None, "message", id="msg_1", content=[]),
        part(None, "output_text", text="") | {"item_id": "msg_1"},
        text(None, "a") | {"item_id": "msg_1"},
        begun,
        added(None, "function_call", **call, arguments=""),
        begun,
        at(None, "function_call_arguments.delta", item_id="fc_9", delta="{}"),
        at(None, "reasoning_text.done", item_id="rs_1", text="hm"),
        done(None, "reasoning", id="rs_1", summary=[], encrypted_content=""),
        at(None, "output_text.done", item_id="msg_1", text="a"),
        part(None, "output_text", "done", text="a") | {"item_id": "msg_1"},
        done(None, "message", id="msg_1", content=words),
        done(None, "function_call", **call, arguments="{}"),
        end(),
        started=False,
    ) == [
        Started("resp_1", ""),
        Opened(Kind.THINKING), Piece("hm"), Closed(),
        *TEXT,
        Opened(Kind.TOOL, "fc_9", "f"), Piece("{}"), Closed(),
        Finished(Finish.TOOLS),
    ]  # fmt: skip


def test_calls_of_tools() -> None:
    assert read(
        added(0, "function_call", id="fc_1", call_id="a", name="f", arguments=""),
        at(0, "function_call_arguments.delta", item_id="fc_1", delta='{"x"'),
        at(0, "function_call_arguments.delta", item_id="changed", delta=":1}"),
        at(0, "function_call_arguments.done", arguments='{"x":1}'),
        done(0, "function_call", id="changed", call_id="a", name="f", arguments='{"x":1}'),
        added(1, "function_call", id="fc_2", name="g"),
        at(1, "function_call_arguments.done", arguments="{}"),
        done(1, "function_call", id="fc_2", call_id="b", name="g", arguments="{}"),
        added(2, "function_call", call_id="c", name="h"),
        done(2, "function_call", call_id="c", name="h", arguments="{}"),
        added(3, "function_call", call_id="d", name="i"),
        done(3, "function_call", call_id="d", name="i", arguments={}),
        done(4, "function_call", call_id="e", name="j", arguments="{}"),
        end(),
    ) == [
        Opened(Kind.TOOL, "a", "f"), Piece('{"x"'), Piece(":1}"), Closed(),
        Opened(Kind.TOOL, "fc_2", "g"), Piece("{}"), Closed(),
        Opened(Kind.TOOL, "c", "h"), Piece("{}"), Closed(),
        Opened(Kind.TOOL, "d", "i"), Closed(),
        Opened(Kind.TOOL, "e", "j"), Piece("{}"), Closed(),
        Finished(Finish.TOOLS),
    ]  # fmt: skip


def test_pieces_of_calls_that_are_mixed_are_a_failure() -> None:
    late = at(0, "function_call_arguments.delta", delta="x")
    call = added(0, "function_call", call_id="a", name="f")
    assert isinstance(read(call, text(1, "t"), late)[-1], Failed)
    stale = at(0, "function_call_arguments.done", arguments="x")
    assert read(call, text(1, "t"), stale)[-1] == Piece("t"), "the whole of it was known before"


def test_thoughts_with_their_secret() -> None:
    summary = [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}]
    assert read(
        added(0, "reasoning", id="rs_1", summary=[]),
        at(0, "reasoning_summary_part.added", part={"type": "summary_text", "text": ""}),
        at(0, "reasoning_summary_text.delta", delta="one"),
        at(0, "reasoning_summary_text.done", text="one"),
        at(0, "reasoning_summary_part.added", part={"type": "summary_text", "text": ""}),
        at(0, "reasoning_summary_text.delta", delta="two"),
        done(0, "reasoning", id="rs_1", summary=summary, encrypted_content="xx"),
        done(1, "reasoning", id="rs_2", summary=[], encrypted_content="yy"),
        done(2, "reasoning", id="rs_3", summary=summary[:1]),
        done(3, "reasoning", id="rs_4", summary=[]),
        at(4, "reasoning_text.done", text="all"),
        text(5, "a"),
    ) == [
        Opened(Kind.THINKING), Piece("one"), Piece("\n\ntwo"), Signed("responses:rs_1:xx"),
        Closed(),
        Opened(Kind.THINKING), Signed("responses:rs_2:yy"), Closed(),
        Opened(Kind.THINKING), Piece("one"), Closed(),
        Opened(Kind.THINKING), Piece("all"), Closed(),
        Opened(Kind.TEXT), Piece("a"),
    ]  # fmt: skip


def test_parts_of_one_message_are_parts_of_their_own() -> None:
    assert read(
        added(0, "message", id="m"),
        part(0, "output_text", text="already"),
        part(0, "output_text", "done"),
        part(0, "refusal"),
        at(0, "refusal.delta", delta="no"),
        at(0, "refusal.done", refusal="no"),
        part(0, "refusal", "done"),
        part(0, "output_text"),
        at(0, "output_text.done", text="late"),
        done(0, "message", id="m"),
        part(1, "reasoning_text"),
    ) == [
        Opened(Kind.TEXT), Piece("already"), Closed(),
        Opened(Kind.REFUSAL), Piece("no"), Closed(),
        Opened(Kind.TEXT), Piece("late"), Closed(),
    ]  # fmt: skip


def test_items_told_only_when_they_end_and_answers_only_at_their_end() -> None:
    content = [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}]
    refusal = (Opened(Kind.REFUSAL), Piece("no"), Closed())
    message = {"type": "message", "content": content}
    assert read(done(0, "message", content=content)) == [*TEXT, *refusal]
    nameless = (added(None, "message"), done(None, "message", content=content))
    assert read(*nameless, *nameless) == [*TEXT, *refusal, *TEXT, *refusal]
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    thought = {"type": "reasoning", "id": "r", "encrypted_content": "x", "summary": []}
    assert read(end("completed", message, call, thought)) == [
        *TEXT, *refusal,
        Opened(Kind.TOOL, "c", "f"), Piece("{}"), Closed(),
        Opened(Kind.THINKING), Signed("responses:r:x"), Closed(),
        Finished(Finish.TOOLS),
    ]  # fmt: skip


def test_what_nobody_knows_yet_says_nothing() -> None:
    assert read(
        added(0, "web_search_call", id="ws", action={"query": "x"}),
        at(0, "web_search_call.searching"),
        done(0, "web_search_call", id="ws", status="completed"),
        at(0, "output_text.annotation.added", annotation={}),
        {"type": "response.output_item.added"},
        {"type": "response.output_item.done"},
        {"type": "response.content_part.added"},
        {"type": "unheard_of"},
    ) == []  # fmt: skip
    assert read({"type": "response.completed"}) == [Finished(Finish.STOP)]
    assert read({"type": "response.created"}, started=False) == [Started("", "")]


@pytest.mark.parametrize(
    ("details", "wanted"),
    [
        ({"reason": "max_output_tokens"}, Finish.LENGTH),
        ({"reason": "content_filter"}, Finish.REFUSED),
    ],
)
def test_reasons(details: dict[str, str], wanted: Finish) -> None:
    assert read(text(0, "a"), end("incomplete", incomplete_details=details))[-1] == Finished(wanted)


UNKNOWN = "The provider reported an error."


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        (
            {"type": "error", "code": "server_error", "message": "busy", "param": None},
            Failed("server_error", "busy"),
        ),
        ({"type": "error"}, Failed("api_error", UNKNOWN)),
        ({"error": {"type": "x", "message": "busy"}}, Failed("x", "busy")),
        ({"error": "busy"}, Failed("api_error", "busy")),
        (end("failed", error={"code": "c", "message": "busy"}), Failed("c", "busy")),
        (end("failed", error={}), Failed("api_error", UNKNOWN)),
        (end("failed"), Failed("api_error", UNKNOWN)),
        ({"type": "response.failed"}, Failed("api_error", UNKNOWN)),
    ],
)
def test_errors(event: dict[str, Any], wanted: Failed) -> None:
    assert read(event) == [wanted]


def test_nonsense_and_a_missing_end_are_failures() -> None:
    assert isinstance(read(b"nonsense")[0], Failed)
    assert isinstance(read(b'{"output_index":"x"}')[0], Failed)
    assert isinstance(EventReader().end()[0], Failed)


def test_items_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses_streams, "ITEMS_MAX", 2)
    assert not any(isinstance(event, Failed) for event in read(text(0, "a"), text(1, "b")))
    content = [{"type": "output_text", "text": "a"}]
    items = [done(place, "message", content=content) for place in range(3)]
    assert isinstance(read(*items)[-1], Failed)
