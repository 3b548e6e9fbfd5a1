"""Streams of Anthropic's messages: events into events of a conversation, and back.

Rules: constant memory; a reader takes the data of one event at a time; the one end of a stream is
`message_stop`. Usage is cumulative and comes in two places; the last figure of each kind counts.
This module must not know other dialects, framing beyond one event, or billing.

Sources: WIRE.md section 5.
"""

from typing import Final

import msgspec
from msgspec import Struct

from proxy.core.deltas import UNREADABLE
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
    Ping,
    Signed,
    Started,
)
from proxy.core.usage import UsageTally

STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
FINISHES: Final = {
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP_SEQUENCE,
    "max_tokens": Finish.LENGTH,
    "model_context_window_exceeded": Finish.LENGTH,
    "tool_use": Finish.TOOLS,
    "refusal": Finish.REFUSED,
    "pause_turn": Finish.PAUSED,
}
REASONS: Final = {
    Finish.STOP: "end_turn",
    Finish.STOP_SEQUENCE: "stop_sequence",
    Finish.LENGTH: "max_tokens",
    Finish.TOOLS: "tool_use",
    Finish.REFUSED: "refusal",
    Finish.PAUSED: "pause_turn",
}
_KINDS: Final = {
    "text": Kind.TEXT,
    "thinking": Kind.THINKING,
    "redacted_thinking": Kind.REDACTED,
    "tool_use": Kind.TOOL,
}


class _Block(Struct):
    type: str = ""
    id: str = ""
    name: str = ""
    text: str = ""
    thinking: str = ""
    data: str = ""


class _Delta(Struct):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    thinking: str = ""
    signature: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Message(Struct):
    id: str = ""
    model: str = ""
    usage: object = None


class _Event(Struct):
    type: str = ""
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: object = None
    error: object = None


_read = msgspec.json.Decoder(_Event).decode
_write = msgspec.json.encode


class EventReader:
    """Reads the events of one stream. One that is not understood is a failure."""

    def __init__(self) -> None:
        self._known = False
        self._finish = Finish.STOP
        self._stop_sequence: str | None = None
        self._tally = UsageTally()

    def read(self, data: bytes) -> list[Event]:
        """Return what one event's data says; types nobody knows yet say nothing."""
        try:
            event = _read(data)
        except UNREADABLE:
            return [Failed("api_error", "The provider's stream is not understood.")]
        if event.type == "content_block_delta":
            return self._delta(event.delta or _Delta())
        if event.type == "content_block_start":
            return self._start(event.content_block or _Block())
        if event.type == "content_block_stop":
            return [Closed()] if self._known else []
        if event.type == "message_start":
            return [self._begin(event.message or _Message())]
        if event.type == "message_delta":
            delta = event.delta or _Delta()
            self._tally.anthropic(event.usage)
            if delta.stop_reason is not None:
                self._finish = FINISHES.get(delta.stop_reason, Finish.STOP)
                self._stop_sequence = delta.stop_sequence
            return []
        if event.type == "message_stop":
            return self.end()
        if event.type == "error":
            return [failure(event.error)]
        return [Ping()] if event.type == "ping" else []

    def end(self) -> list[Event]:
        """What the end of a stream says, with `message_stop` or without."""
        usage = self._tally.usage() if self._tally.seen else None
        return [Finished(self._finish, usage, self._stop_sequence)]

    def _begin(self, message: _Message) -> Started:
        if message.usage is not None:
            self._tally.anthropic(message.usage, final=False)
        usage = self._tally.usage() if self._tally.seen else None
        return Started(message.id, message.model, usage)

    def _start(self, block: _Block) -> list[Event]:
        kind = _KINDS.get(block.type)
        self._known = kind is not None
        if kind is None:
            return []
        events: list[Event] = [Opened(kind, block.id, block.name)]
        text = block.text or block.thinking or block.data
        if text:
            events.append(Piece(text))
        return events

    def _delta(self, delta: _Delta) -> list[Event]:
        if not self._known:
            return []
        if delta.signature:
            return [Signed(delta.signature)]
        text = delta.text or delta.partial_json or delta.thinking
        return [Piece(text)] if text else []


def failure(error: object) -> Failed:
    """An error object of this dialect, or whatever else stood in its place."""
    if isinstance(error, dict):
        message, kind = error.get("message"), error.get("type")
        return Failed(str(kind or "api_error"), str(message or "The provider reported an error."))
    return Failed("api_error", "The provider reported an error.")


class EventWriter:
    """Writes the events of one stream."""

    def __init__(self) -> None:
        self._index = -1
        self._kind = Kind.TEXT
        self.failure: Failed | None = None
        """The failure that was told, if one was; nothing follows it."""

    def write(self, event: Event) -> bytes:
        """Return the bytes of what `event` becomes.

        The end is not among them: it waits for the bill (`end`).
        """
        if self.failure is not None:
            return b""
        if isinstance(event, Piece):
            return self._piece(event.text)
        if isinstance(event, Opened):
            return self._opened(event)
        if isinstance(event, Closed):
            return _event("content_block_stop", {"index": self._index})
        if isinstance(event, Started):
            return self._started(event)
        if isinstance(event, Signed):
            return self._delta("signature_delta", "signature", event.signature)
        if isinstance(event, Finished):
            reason, sequence = REASONS[event.finish], event.stop_sequence
            usage = usage_object(event.usage or Usage())
            delta = {"stop_reason": reason, "stop_sequence": sequence}
            return _event("message_delta", {"delta": delta, "usage": usage})
        if isinstance(event, Failed):
            self.failure = event
            return _event("error", {"error": {"type": event.kind, "message": event.message}})
        return _event("ping", {})

    def end(self) -> bytes:
        """The last event; nothing after a failure."""
        return STOP if self.failure is None else b""

    def _started(self, event: Started) -> bytes:
        message: dict[str, object] = {
            "id": message_id(event.id),
            "type": "message",
            "role": "assistant",
            "model": event.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_object(event.usage or Usage()),
        }
        return _event("message_start", {"message": message})

    def _opened(self, event: Opened) -> bytes:
        self._index += 1
        self._kind = kind = event.kind
        if kind is Kind.TOOL:
            block: dict[str, object] = {
                "type": "tool_use", "id": event.call_id, "name": event.name, "input": {},
            }  # fmt: skip
        elif kind is Kind.THINKING:
            block = {"type": "thinking", "thinking": "", "signature": ""}
        elif kind is Kind.REDACTED:
            return b""  # it stands whole in its start, which its only piece brings
        else:
            block = {"type": "text", "text": ""}
        return _event("content_block_start", {"index": self._index, "content_block": block})

    def _piece(self, text: str) -> bytes:
        if self._kind is Kind.TOOL:
            return self._delta("input_json_delta", "partial_json", text)
        if self._kind is Kind.THINKING:
            return self._delta("thinking_delta", "thinking", text)
        if self._kind is Kind.REDACTED:
            block = {"type": "redacted_thinking", "data": text}
            return _event("content_block_start", {"index": self._index, "content_block": block})
        return self._delta("text_delta", "text", text)

    def _delta(self, kind: str, name: str, value: str) -> bytes:
        delta = {"type": kind, name: value}
        return _event("content_block_delta", {"index": self._index, "delta": delta})


def message_id(given: str) -> str:
    """The id of an answer in this dialect's form, the provider's own inside."""
    return given if given.startswith("msg_") else f"msg_{given}"


def usage_object(usage: Usage) -> dict[str, object]:
    """A usage report: cached tokens beside the input's here (WIRE.md section 6 rule 5)."""
    return {
        "input_tokens": usage.input_uncached + usage.audio_input + usage.image_input,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cached_total,
        "output_tokens": usage.completion_total,
    }


def _event(kind: str, document: dict[str, object]) -> bytes:
    body = _write({"type": kind, **document})
    return b"event: " + kind.encode() + b"\ndata: " + body + b"\n\n"
