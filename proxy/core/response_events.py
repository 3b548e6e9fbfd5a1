"""Events of a Responses stream as they pass from a native channel: texts, end, error, usage.

Rules: as for core/deltas.py: never raises, and refuses nothing a sane upstream sends. Text counts
once, by its deltas; where an item comes without any, by the event that closes it, or the answer.
llama.cpp sends no `content_index` and may repeat events; types that nobody knows yet pass, and
count as content without text. This module must not know framing, billing or translation.

Sources: WIRE.md section 3; the event types of OpenAI's Python SDK (`responses/*_event.py`).
"""

from typing import Final

import msgspec
from msgspec import Struct

from proxy.core.deltas import (
    UNREADABLE,
    RunKey,
    arguments_text,
    as_dict,
    as_index,
    as_list,
    countable_text,
    load_object,
    well_formed,
)
from proxy.core.metering import Meter
from proxy.core.sights import FAILED, GARBAGE, Sight
from proxy.core.usage_reports import SEARCHES

EVENT_BYTES_MAX: Final = 32 << 20
"""The last event repeats the whole answer, and the first two what was asked: none passes in parts,
because the last one must wait for the bill."""
ITEMS_MAX: Final = 4_096
"""Items of one answer told apart; text of any further ones counts by its deltas alone."""

_DELTAS: Final = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.function_call_arguments.delta": "tool",
    "response.custom_tool_call_input.delta": "tool",
    "response.mcp_call_arguments.delta": "tool",
    "response.code_interpreter_call_code.delta": "tool",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "summary",
    "response.audio.transcript.delta": "transcript",
}
"""Deltas that hold text, by the run it belongs to. Others (audio) hold data."""
_ENDS: Final = frozenset({"response.completed", "response.incomplete"})
_FAILURES: Final = frozenset({"response.failed", "error"})
_BEGINNINGS: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
_SILENT: Final = _BEGINNINGS | {
    "response.output_item.added",
    "response.content_part.added",
    "response.reasoning_summary_part.added",
    "keepalive",
}
"""Events without content: the next channel may still be tried."""
_QUIET_ITEMS: Final = frozenset({"message", "reasoning", "function_call", "custom_tool_call"})
"""Items that say nothing by being there; others are work the provider has begun."""
_DATA_START: Final = b"\ndata: {"
_NAME_START: Final = b"event: response."
_NAME_BYTES_MAX: Final = 64
ANSWER_ID_CHARS_MAX: Final = 256


class _Response(Struct, frozen=True, gc=False):
    id: str = ""
    status: str | None = None
    incomplete_details: object = None
    error: object = None
    usage: object = None
    output: object = None
    tool_usage: object = None


class ResponseEvent(Struct, frozen=True, gc=False):
    """One event, as far as it concerns a relay."""

    type: str = ""
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    delta: object = None
    item: object = None
    response: _Response | None = None
    error: object = None


_decode: Final = msgspec.json.Decoder(ResponseEvent).decode
_NO_EVENT: Final = ResponseEvent()


def response_event(data: bytes) -> ResponseEvent | None:
    """Decode the data of one event, None if it is no object; never raises."""
    try:
        return _decode(data)
    except UNREADABLE:
        return _tolerant(data)


class ResponseEvents:
    """Looks at the events of one stream; remembers which items have spoken."""

    __slots__ = ("_run", "_spoken")

    def __init__(self) -> None:
        self._spoken: set[int] = set()
        self._run: RunKey = (0, "text", 0)

    def take(self, data: bytes, start: int, stop: int, meter: Meter) -> bool:
        """Meter the event in `data[start:stop]` if it is a delta of text; False changes nothing."""
        if not data.startswith(_NAME_START, start):
            return False
        at = data.find(_DATA_START, start, start + _NAME_BYTES_MAX)
        if at < 0:
            return False
        event = response_event(data[at + 7 : stop - 2])
        if event is None:
            return False
        kind, text = _DELTAS.get(event.type), event.delta
        if kind is None or not isinstance(text, str) or event.error:
            return False
        meter.add_run(self._running(event, kind), text, stop - start)
        return True

    def runs(self, data: bytes) -> tuple[tuple[RunKey, str], ...]:
        """The countable texts of one event's data; changes nothing."""
        event = response_event(data)
        return () if event is None else self._texts(event)

    def ends(self, name: str, data: bytes) -> bool:
        """Whether this event is the last of its answer."""
        event = response_event(data)
        return event is not None and (event.type or name) in _ENDS

    def see(self, name: str, data: bytes) -> Sight:
        """What an event means. After `runs` of the same one, and once for each."""
        event = response_event(data)
        if event is None:
            return FAILED if name in _FAILURES else GARBAGE
        kind = event.type or name
        if kind in _FAILURES or event.error:
            return FAILED
        texts = self._texts(event)
        self._note(kind, event)
        response = event.response
        if response is None:
            return Sight(texts, content=_is_content(kind, event))
        if kind in _ENDS:
            return Sight(
                texts,
                usage=with_searches(response.usage, response.tool_usage, response.output),
                finished=((0, _reason(response)),),
                terminal=True,
                answer_id=response.id[:ANSWER_ID_CHARS_MAX],
            )
        return Sight(
            texts,
            content=_is_content(kind, event),
            answer_id=response.id[:ANSWER_ID_CHARS_MAX],
        )

    def _running(self, event: ResponseEvent, kind: str) -> RunKey:
        run, index = self._run, event.output_index
        part = event.content_index or event.summary_index
        if run[0] == index and run[1] == kind and run[2] == part and index in self._spoken:
            return run
        if len(self._spoken) < ITEMS_MAX:
            self._spoken.add(index)
        self._run = run = (index, kind, part)
        return run

    def _note(self, kind: str, event: ResponseEvent) -> None:
        if kind in _DELTAS and isinstance(event.delta, str):
            self._running(event, _DELTAS[kind])
        elif kind == "response.output_item.done" and len(self._spoken) < ITEMS_MAX:
            self._spoken.add(event.output_index)

    def _texts(self, event: ResponseEvent) -> tuple[tuple[RunKey, str], ...]:
        kind, index = event.type, event.output_index
        run = _DELTAS.get(kind)
        if run is not None:
            part = event.content_index or event.summary_index
            text = event.delta if isinstance(event.delta, str) else arguments_text(event.delta)
            return (((index, run, part), text),) if text else ()
        if kind == "response.output_item.added":
            name = countable_text(as_dict(event.item).get("name"))
            return (((index, "name", 0), name),) if name else ()
        if kind == "response.output_item.done" and index not in self._spoken:
            return item_runs(as_dict(event.item), index)
        if kind in _ENDS and not self._spoken and event.response is not None:
            return output_runs(event.response.output)
        return ()


def output_runs(output: object) -> tuple[tuple[RunKey, str], ...]:
    """The countable texts of a whole answer's `output`."""
    items = as_list(output)
    return tuple([run for at, item in enumerate(items) for run in item_runs(as_dict(item), at)])


def item_runs(item: dict[str, object], index: int) -> tuple[tuple[RunKey, str], ...]:
    """The countable texts of one whole item: content, summary, or a call with what it passes."""
    parts = (
        ("text", countable_text(item.get("content"))),
        ("summary", countable_text(item.get("summary"))),
        ("name", countable_text(item.get("name"))),
        ("tool", arguments_text(item.get("arguments")) or countable_text(item.get("input"))),
        ("tool", countable_text(item.get("code"))),
    )
    return tuple([((index, kind, 0), text) for kind, text in parts if text])


def reason_of(status: object, incomplete_details: object) -> str:
    """How an answer ended: why it is incomplete, else its status."""
    why = as_dict(incomplete_details).get("reason")
    return well_formed(str(why or status or "completed"))


def with_searches(usage: object, tool_usage: object, output: object) -> object:
    """An answer's `usage` with its web searches, which stand beside it or among its items.

    They are written as another provider writes them there. A search is billed; to open a page or
    to look for something on it is not.
    """
    searches = as_dict(as_dict(tool_usage).get("web_search")).get("num_requests")
    if searches is None:
        calls = [as_dict(item) for item in as_list(output)]
        searches = sum(
            [
                call.get("type") == "web_search_call"
                and call.get("status") != "failed"
                and as_dict(call.get("action")).get("type", "search") == "search"
                for call in calls
            ]
        )
    return {**usage, SEARCHES: searches} if searches and isinstance(usage, dict) else usage


def _reason(response: _Response) -> str:
    return reason_of(response.status, response.incomplete_details)


def _is_content(kind: str, event: ResponseEvent) -> bool:
    if kind == "response.output_item.added":
        return as_dict(event.item).get("type") not in _QUIET_ITEMS
    return kind.startswith("response.") and kind not in _SILENT


def _tolerant(data: bytes) -> ResponseEvent | None:
    """Read an event whose types surprise."""
    value = load_object(data)
    if value is None:
        return None
    response = value.get("response")
    answer = as_dict(response)
    return ResponseEvent(
        type=countable_text(value.get("type")),
        output_index=as_index(value.get("output_index")),
        content_index=as_index(value.get("content_index")),
        summary_index=as_index(value.get("summary_index")),
        delta=value.get("delta"),
        item=value.get("item"),
        response=_Response(
            well_formed(countable_text(answer.get("id"))),
            countable_text(answer.get("status")),
            answer.get("incomplete_details"),
            answer.get("error"),
            answer.get("usage"),
            answer.get("output"),
            answer.get("tool_usage"),
        )
        if isinstance(response, dict)
        else None,
        error=value.get("error"),
    )
