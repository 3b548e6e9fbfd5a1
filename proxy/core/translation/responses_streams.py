"""Streams of OpenAI's Responses, read into events of a conversation.

Rules: a reader takes the data of one event at a time and needs no index of any: llama.cpp sends
none, repeats `response.created` and closes its items only at the end. What an item holds counts
once, by its pieces or, where none came, by its closing event. The one end of a stream is
`response.completed` or `.incomplete`. This module must not know other dialects, framing beyond
one event, or billing.

Sources: WIRE.md section 3; the event types of OpenAI's Python SDK 3.x (`responses/*_event.py`).
"""

from typing import Final

import msgspec
from msgspec import Struct

from proxy.core.deltas import UNREADABLE
from proxy.core.translation.conversation import (
    Closed,
    Event,
    Failed,
    Finished,
    Kind,
    Opened,
    Part,
    Piece,
    Refusal,
    Signed,
    Started,
    Text,
    Thinking,
    ToolCall,
)
from proxy.core.translation.responses_answers import Response, finish_of
from proxy.core.translation.responses_items import (
    Content,
    Item,
    parts_of,
    signature_of,
)
from proxy.core.usage import UsageTally

ITEMS_MAX: Final = 4_096
"""The most items an upstream may say."""
EVENT_BYTES_MAX: Final = 32 << 20
"""The largest event read: the last of an answer repeats all of it, the first all that was asked."""

_DELTAS: Final = {
    "response.output_text.delta": Kind.TEXT,
    "response.refusal.delta": Kind.REFUSAL,
    "response.reasoning_text.delta": Kind.THINKING,
    "response.reasoning_summary_text.delta": Kind.THINKING,
    "response.function_call_arguments.delta": Kind.TOOL,
}
_DONES: Final = {
    "response.output_text.done": Kind.TEXT,
    "response.refusal.done": Kind.REFUSAL,
    "response.reasoning_text.done": Kind.THINKING,
    "response.reasoning_summary_text.done": Kind.THINKING,
    "response.function_call_arguments.done": Kind.TOOL,
}
_PARTS: Final = {"output_text": Kind.TEXT, "refusal": Kind.REFUSAL}
_BEGINNINGS: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
_ENDS: Final = frozenset({"response.completed", "response.incomplete"})
_MIXED: Final = Failed("api_error", "The provider mixes the pieces of its tool calls.")
_FAILED: Final = "The provider reported an error."


class _Event(Struct):
    type: str = ""
    response: Response | None = None
    item: Item | None = None
    item_id: str | None = None
    output_index: int | None = None
    part: Content | None = None
    delta: object = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    error: object = None
    code: object = None
    message: object = None


_read = msgspec.json.Decoder(_Event).decode


class EventReader:
    """Reads the events of one stream. One that is not understood is a failure."""

    def __init__(self) -> None:
        self._started = False
        self._open: Kind | None = None
        self._item = ""
        """The item that the open part belongs to, or the last one begun."""
        self._spoken = False
        """Whether the open part has any piece yet."""
        self._gap = False
        """Whether the next thought begins a paragraph of its own."""
        self._known: set[str] = set()
        """Items of which parts were told, by their place or else their id."""
        self._called = False

    def read(self, data: bytes) -> list[Event]:
        """Return what one event's data says; types nobody knows yet say nothing."""
        try:
            event = _read(data)
        except UNREADABLE:
            return [Failed("api_error", "The provider's stream is not understood.")]
        kind = event.type
        if kind in {"error", "response.failed"} or event.error:
            return [_failure(event)]
        events: list[Event] = []
        if not self._started:
            self._started = True
            begun = event.response or Response()
            events.append(Started(begun.id, begun.model))
        if kind in _DELTAS:
            if isinstance(event.delta, str) and event.delta:
                self._delta(_DELTAS[kind], event.delta, self._key(event), events)
        elif kind in _DONES:
            self._done(_DONES[kind], event, events)
        elif kind in _ENDS:
            self._end(event.response or Response(), events)
        elif kind not in _BEGINNINGS:
            self._structure(kind, event, events)
        if len(self._known) > ITEMS_MAX:
            events.append(Failed("api_error", "The provider's answer has too many items."))
        return events

    def end(self) -> list[Event]:
        """What it means that the stream ended without its last event."""
        return [Failed("api_error", "The provider's stream ended before its answer did.")]

    def _key(self, event: _Event) -> str:
        """The item an event belongs to. Some providers change its id, and some tell no place."""
        if event.output_index is not None:
            return str(event.output_index)
        if event.item is not None:
            return event.item.id or event.item.call_id or ""
        return event.item_id or self._item

    def _structure(self, kind: str, event: _Event, events: list[Event]) -> None:
        """Items and parts that begin and end."""
        if kind == "response.output_item.added":
            self._added(event.item or Item(), self._key(event), events)
        elif kind == "response.output_item.done":
            self._whole(event.item or Item(), self._key(event), events)
        elif kind == "response.content_part.added":
            part = event.part or Content()
            if part.type in _PARTS:
                self._begin(_PARTS[part.type], self._key(event), events)
                self._piece(part.text or part.refusal or "", events)
        elif kind == "response.content_part.done":
            if self._open in (Kind.TEXT, Kind.REFUSAL):
                self._close(events)
        elif kind == "response.reasoning_summary_part.added":
            self._gap = self._open is Kind.THINKING and self._spoken

    def _added(self, item: Item, key: str, events: list[Event]) -> None:
        self._close(events)
        self._item = key
        self._known.discard("")  # the one before had neither id nor place
        if item.type == "function_call":
            self._called = True
            self._open, self._spoken = Kind.TOOL, False
            self._known.add(key)
            events.append(Opened(Kind.TOOL, item.call_id or item.id or "", item.name or ""))
            self._piece(_arguments(item), events)

    def _delta(self, kind: Kind, text: str, key: str, events: list[Event]) -> None:
        if self._open is not kind:
            if kind is Kind.TOOL:
                events.append(_MIXED)
                return
            self._begin(kind, key, events)
        self._piece(text, events)

    def _done(self, kind: Kind, event: _Event, events: list[Event]) -> None:
        """The whole text of a part, which matters where none of it came in pieces."""
        text = event.text or event.refusal or event.arguments or ""
        if self._open is not kind:
            if kind is Kind.TOOL or self._key(event) in self._known:
                return
            self._begin(kind, self._key(event), events)
        if not self._spoken:
            self._piece(text, events)

    def _begin(self, kind: Kind, key: str, events: list[Event]) -> None:
        self._close(events)
        self._open, self._item, self._spoken = kind, key, False
        self._known.add(key)
        events.append(Opened(kind))

    def _piece(self, text: str, events: list[Event]) -> None:
        if text:
            events.append(Piece(f"\n\n{text}" if self._gap else text))
            self._spoken, self._gap = True, False

    def _close(self, events: list[Event]) -> None:
        self._gap = False
        if self._open is not None:
            self._open = None
            events.append(Closed())

    def _whole(self, item: Item, key: str, events: list[Event]) -> None:
        """An item that ends: what was not told of it yet."""
        if key not in self._known:
            self._close(events)
            self._known.add(key)
            for part in parts_of(item):
                self._part(part, events)
        elif key == self._item and self._open is not None:
            if self._open is Kind.TOOL and not self._spoken:
                self._piece(_arguments(item), events)
            signature = signature_of(item)
            if self._open is Kind.THINKING and signature is not None:
                events.append(Signed(signature))
            self._close(events)

    def _part(self, part: Part, events: list[Event]) -> None:
        """A part told at once."""
        if isinstance(part, ToolCall):
            self._called = True
            events += [Opened(Kind.TOOL, part.id, part.name), Piece(part.arguments)]
        elif isinstance(part, Thinking):
            events.append(Opened(Kind.THINKING))
            self._piece(part.text, events)
            if part.signature is not None:
                events.append(Signed(part.signature))
        elif isinstance(part, Text | Refusal):
            kind = Kind.TEXT if isinstance(part, Text) else Kind.REFUSAL
            events.append(Opened(kind))
            self._piece(part.text, events)
        else:
            raise AssertionError(f"an answer has no {type(part).__name__}")
        events.append(Closed())

    def _end(self, response: Response, events: list[Event]) -> None:
        self._close(events)
        if not self._known:
            for place, item in enumerate(response.output or ()):
                self._whole(item, str(place), events)
        tally = UsageTally()
        if response.usage is not None:
            tally.openai(response.usage)
        finish = finish_of(response, calls=self._called)
        events.append(Finished(finish, tally.usage() if tally.seen else None))


def _arguments(item: Item) -> str:
    return item.arguments if isinstance(item.arguments, str) else ""


def _failure(event: _Event) -> Failed:
    """An error event, which is flat here, a failed response, or another dialect's error object."""
    error = event.error or (event.response.error if event.response is not None else None)
    if isinstance(error, dict):
        kind = error.get("type") or error.get("code")
        return Failed(str(kind or "api_error"), str(error.get("message") or _FAILED))
    return Failed(str(event.code or "api_error"), str(error or event.message or _FAILED))
