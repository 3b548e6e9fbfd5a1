"""Streams of OpenAI's Responses, written from events of a conversation.

Rules: the one end of a stream is `response.completed` or `.incomplete`, which waits for the bill
and repeats the whole answer; so a writer holds that much, and no more than `OUTPUT_BYTES_MAX`.
`sequence_number` rises by one from 0. This module must not know other dialects, framing beyond
one event, or billing.

Sources: WIRE.md section 3; the event types of OpenAI's Python SDK 3.x (`responses/*_event.py`)
and what its stream helper checks (`lib/streaming/responses/_responses.py`).
"""

from typing import Final

import msgspec

from proxy.core.translation.conversation import (
    Closed,
    Event,
    Failed,
    Finished,
    Kind,
    Opened,
    Piece,
    Ping,
    Request,
    Signed,
    Started,
    ToolCall,
)
from proxy.core.translation.responses_items import (
    INCOMPLETE,
    RELAYED,
    RELAYED_REDACTED,
    call_item,
    frame,
    free_form_input,
    message_item,
    named,
    output_text,
    reasoning_item,
    refused,
    response_id,
    usage_object,
)

OUTPUT_BYTES_MAX: Final = 16 << 20
"""The largest answer whose last event can be told: one of some four million tokens."""
ITEM_BYTES: Final = 1 << 10
"""What a part counts for besides its text."""

_write = msgspec.json.encode
_Object = dict[str, object]


class EventWriter:
    """Writes the events of one stream as an answer to `asked`; `created` is Unix seconds."""

    def __init__(
        self, created: int, asked: Request, *, output_bytes_max: int = OUTPUT_BYTES_MAX
    ) -> None:
        self.failure: Failed | None = None
        """The failure that was told, if one was; nothing follows it."""
        self._frame = frame(asked, created)
        self._tools = named(asked.tools)
        self._room = output_bytes_max
        self._id = ""
        self._sequence = 0
        self._output: list[_Object] = []
        self._message: list[_Object] | None = None
        """The content of the message that is open; texts that follow each other share one."""
        self._opened = Opened(Kind.TEXT)
        self._item_id = ""
        self._text = bytearray()
        self._signature: str | None = None
        self._finished: Finished | None = None

    def resume(self, answer_id: str, model: str, sequence: int) -> None:
        """Go on where a stream stands that another has written: after `sequence` events."""
        self._id = answer_id or response_id("")
        self._frame = {"id": self._id, "model": model, **self._frame}
        self._sequence = sequence

    def write(self, event: Event) -> bytes:
        """Return the bytes of what `event` becomes; nothing for what this dialect does not say.

        The end is not among them: it waits for the bill (`end`).
        """
        if self.failure is not None:
            return b""
        if isinstance(event, Piece):
            return self._piece(event.text)
        if isinstance(event, Opened):
            return self._open(event)
        if isinstance(event, Closed):
            return self._close()
        if isinstance(event, Signed):
            self._signature = RELAYED + event.signature if event.signature else None
            return self._fit(len(event.signature))
        if isinstance(event, Started):
            return self._start(event)
        if isinstance(event, Finished):
            self._finished = event
            return self._end_message("incomplete" if event.finish in INCOMPLETE else "completed")
        if isinstance(event, Failed):
            return self._fail(event)
        if not isinstance(event, Ping):
            raise AssertionError(f"{type(event).__name__} is no event of a stream")
        return b""

    def end(self) -> bytes:
        """The last event, with the whole answer and its usage; nothing after a failure."""
        if self.failure is not None:
            return b""
        if self._finished is None:
            raise AssertionError("the end of an answer that goes on")
        reason = INCOMPLETE.get(self._finished.finish)
        usage = self._finished.usage
        status = "completed" if reason is None else "incomplete"
        response = self._response(status) | {
            "incomplete_details": None if reason is None else {"reason": reason},
            "usage": None if usage is None else usage_object(usage),
        }
        if reason is None:
            response["completed_at"] = response["created_at"]
        return self._event(f"response.{status}", {"response": response})

    def _start(self, event: Started) -> bytes:
        self._id = response_id(event.id)
        self._frame = {"id": self._id, "model": event.model, **self._frame}
        response: _Object = {"response": self._response("in_progress")}
        return self._event("response.created", response) + self._event(
            "response.in_progress", response
        )

    def _open(self, event: Opened) -> bytes:
        room = self._fit(ITEM_BYTES + len(event.call_id) + len(event.name))
        if room:
            return room
        out, self._opened, self._signature = b"", event, None
        self._text.clear()
        if event.kind in (Kind.TEXT, Kind.REFUSAL):
            if self._message is None:
                self._message, self._item_id = [], f"msg_{self._id}_{len(self._output)}"
                out = self._added(message_item(self._item_id, [], "in_progress"))
            return out + self._content("added", self._part(""))
        out = self._end_message("completed")
        prefix = "rs" if event.kind is not Kind.TOOL else "ctc" if self._free_form else "fc"
        self._item_id = f"{prefix}_{self._id}_{len(self._output)}"
        return out + self._added(self._item("", "in_progress"))

    def _piece(self, text: str) -> bytes:
        data = text.encode()
        room = self._fit(len(data))
        if room:
            return room
        out, first = b"", not self._text
        self._text += data
        kind = self._opened.kind
        if kind is Kind.TEXT:
            delta = {"content_index": self._place, "delta": text, "logprobs": []}
            return self._of_item("response.output_text.delta", delta)
        if kind is Kind.REFUSAL:
            delta = {"content_index": self._place, "delta": text}
            return self._of_item("response.refusal.delta", delta)
        if kind is Kind.TOOL and not self._free_form:
            return self._of_item("response.function_call_arguments.delta", {"delta": text})
        if kind is Kind.THINKING:
            if first:
                out = self._summary("part.added", {"part": {"type": "summary_text", "text": ""}})
            out += self._summary("text.delta", {"delta": text})
        return out  # redacted thoughts and free-form input are told whole, when they close

    def _close(self) -> bytes:
        text = self._text.decode()
        kind = self._opened.kind
        if kind in (Kind.TEXT, Kind.REFUSAL):
            name = "text" if kind is Kind.TEXT else "refusal"
            done: _Object = {"content_index": self._place, name: text}
            if kind is Kind.TEXT:
                name, done["logprobs"] = "output_text", []
            out = self._of_item(f"response.{name}.done", done)
            out += self._content("done", self._part(text))
            if self._message is None:
                raise AssertionError("a text outside of any message")
            self._message.append(self._part(text))
            return out
        out = b""
        if kind is Kind.THINKING and text:
            out = self._summary("text.done", {"text": text})
            out += self._summary("part.done", {"part": {"type": "summary_text", "text": text}})
        elif kind is Kind.TOOL and self._free_form:
            text = free_form_input(text)
            out = self._of_item("response.custom_tool_call_input.delta", {"delta": text})
            out += self._of_item("response.custom_tool_call_input.done", {"input": text})
        elif kind is Kind.TOOL:
            if not text:
                text = "{}"  # a call without arguments: JSON all the same, for who parses it
                out = self._of_item("response.function_call_arguments.delta", {"delta": text})
            done = {"arguments": text, "name": self._opened.name}
            out += self._of_item("response.function_call_arguments.done", done)
        return out + self._done(self._item(text, "completed"))

    def _item(self, text: str, status: str) -> _Object:
        """The open item, with what it holds by now."""
        kind = self._opened.kind
        if kind is Kind.TOOL:
            call = ToolCall(self._opened.call_id, self._opened.name, text)
            return call_item(self._item_id, call, self._tools.get(call.name), status)
        if kind is Kind.REDACTED:
            encrypted = RELAYED_REDACTED + text if text else None
            return reasoning_item(self._item_id, "", encrypted, status)
        return reasoning_item(self._item_id, text, self._signature, status)

    @property
    def _free_form(self) -> bool:
        tool = self._tools.get(self._opened.name)
        return tool is not None and tool.free_form

    @property
    def _place(self) -> int:
        return len(self._message or ())

    def _part(self, text: str) -> _Object:
        return output_text(text) if self._opened.kind is Kind.TEXT else refused(text)

    def _end_message(self, status: str) -> bytes:
        if self._message is None:
            return b""
        content, self._message = self._message, None
        return self._done(message_item(self._item_id, content, status))

    def _fit(self, size: int) -> bytes:
        """Take room for `size` more bytes; the failure there is none, nothing if there is."""
        self._room -= size
        if self._room >= 0:
            return b""
        return self._fail(
            Failed("output_too_large", "The answer is larger than can be told in this protocol.")
        )

    def _fail(self, failure: Failed) -> bytes:
        out = b"" if self._id else self._start(Started("", ""))
        self.failure = failure
        limited = failure.kind.startswith("rate_limit")
        code = failure.code or ("rate_limit_exceeded" if limited else "server_error")
        error = {"code": code, "message": failure.message, "type": failure.kind}
        response = self._response("failed") | {"error": error}
        return out + self._event("response.failed", {"response": response})

    def _response(self, status: str) -> _Object:
        return {**self._frame, "status": status, "output": self._output}

    def _added(self, item: _Object) -> bytes:
        place = {"output_index": len(self._output), "item": item}
        return self._event("response.output_item.added", place)

    def _done(self, item: _Object) -> bytes:
        place = {"output_index": len(self._output), "item": item}
        self._output.append(item)
        return self._event("response.output_item.done", place)

    def _content(self, what: str, part: _Object) -> bytes:
        fields = {"content_index": self._place, "part": part}
        return self._of_item(f"response.content_part.{what}", fields)

    def _summary(self, what: str, fields: _Object) -> bytes:
        return self._of_item(f"response.reasoning_summary_{what}", {"summary_index": 0, **fields})

    def _of_item(self, kind: str, fields: _Object) -> bytes:
        place = {"item_id": self._item_id, "output_index": len(self._output)}
        return self._event(kind, {**place, **fields})

    def _event(self, kind: str, fields: _Object) -> bytes:
        body = _write({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return b"event: " + kind.encode() + b"\ndata: " + body + b"\n\n"
