"""Streams of OpenAI's chat completions: chunks into events of a conversation, and back.

Rules: constant memory; a reader takes the data of one event at a time, whatever was split on the
wire; the one end of a stream is `[DONE]`, and only then is the answer finished, because usage
comes after the finish reason. Of several choices the first is read. This module must not know
other dialects, framing beyond one event, or billing.

Sources: WIRE.md section 1; `proxy/core/translation/signatures.py` for `extra_content`.
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
from proxy.core.translation.signatures import (
    Place,
    extra_content,
    from_extra_content,
    of_gemini,
)
from proxy.core.usage import UsageTally

DONE: Final = b"data: [DONE]\n\n"
FINISHES: Final = {
    "stop": Finish.STOP,
    "length": Finish.LENGTH,
    "tool_calls": Finish.TOOLS,
    "function_call": Finish.TOOLS,
    "content_filter": Finish.REFUSED,
}
REASONS: Final = {
    Finish.STOP: "stop",
    Finish.STOP_SEQUENCE: "stop",
    Finish.LENGTH: "length",
    Finish.TOOLS: "tool_calls",
    Finish.REFUSED: "content_filter",
    Finish.PAUSED: "stop",
}


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None
    extra_content: object = None


class _Delta(Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None
    extra_content: object = None


class _Choice(Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: object = None
    error: object = None


_read = msgspec.json.Decoder(_Chunk).decode
_write = msgspec.json.encode


class ChunkReader:
    """Reads the chunks of one stream. A chunk that is not understood is a failure."""

    def __init__(self) -> None:
        self._started = False
        self._open: Kind | None = None
        self._tool = -1
        self._finish = Finish.STOP
        self._tally = UsageTally()

    def read(self, data: bytes) -> list[Event]:
        """Return what one event's data says; `[DONE]` ends the answer."""
        if data.startswith(b"[DONE]"):
            return self.end()
        try:
            chunk = _read(data)
        except UNREADABLE:
            return [Failed("api_error", "The provider's stream is not understood.")]
        if chunk.error:
            return [failure(chunk.error)]
        events: list[Event] = []
        if not self._started:
            self._started = True
            events.append(Started(chunk.id or "", chunk.model or ""))
        if chunk.usage:
            self._tally.openai(chunk.usage)
        for choice in chunk.choices or ():
            if choice.index:
                continue
            if choice.delta is not None:
                self._delta(choice.delta, events)
            if choice.finish_reason is not None:
                self._finish = FINISHES.get(choice.finish_reason, Finish.STOP)
        return events

    def _delta(self, delta: _Delta, events: list[Event]) -> None:
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            self._piece(Kind.THINKING, thought, events)
        if delta.content:
            self._piece(Kind.TEXT, delta.content, events)
        if delta.refusal:
            self._piece(Kind.REFUSAL, delta.refusal, events)
        if delta.extra_content is not None:
            self._sign(from_extra_content(delta.extra_content, Place.TEXT), events)
        for call in delta.tool_calls or ():
            self._call(call, events)

    def _piece(self, kind: Kind, text: str, events: list[Event]) -> None:
        if self._open is not kind:
            self._close(events)
            self._open = kind
            events.append(Opened(kind))
        events.append(Piece(text))

    def _call(self, call: _Call, events: list[Event]) -> None:
        function = call.function or _Function()
        if call.index < self._tool or (self._open is not Kind.TOOL and call.index == self._tool):
            events.append(Failed("api_error", "The provider mixes the pieces of its tool calls."))
            return
        if call.index > self._tool:
            if call.extra_content is not None:
                self._sign(from_extra_content(call.extra_content, Place.CALL), events)
            self._close(events)
            self._open, self._tool = Kind.TOOL, call.index
            events.append(Opened(Kind.TOOL, call.id or "", function.name or ""))
        if function.arguments:
            events.append(Piece(function.arguments))

    def _sign(self, signature: str | None, events: list[Event]) -> None:
        """A signature is of thoughts without words, after a text and before a call."""
        if signature is not None:
            self._close(events)
            events += (Opened(Kind.THINKING), Signed(signature), Closed())

    def _close(self, events: list[Event]) -> None:
        if self._open is not None:
            self._open = None
            events.append(Closed())

    def end(self) -> list[Event]:
        """What the end of a stream says, with `[DONE]` or without."""
        events: list[Event] = []
        self._close(events)
        usage = self._tally.usage() if self._tally.seen else None
        finish = self._finish
        if finish is Finish.STOP and self._tool >= 0:
            finish = Finish.TOOLS  # some providers say `stop` after calls
        events.append(Finished(finish, usage))
        return events


def failure(error: object) -> Failed:
    """An error object of this dialect, or whatever else stood in its place."""
    if isinstance(error, dict):
        message, kind = error.get("message"), error.get("type")
        return Failed(str(kind or "api_error"), str(message or "The provider reported an error."))
    return Failed("api_error", str(error))


class ChunkWriter:
    """Writes the chunks of one stream; `created` is Unix seconds."""

    def __init__(self, created: int, *, include_usage: bool) -> None:
        self._head: dict[str, object] = {"object": "chat.completion.chunk", "created": created}
        self._include_usage = include_usage
        self._kind = Kind.TEXT
        self._tool = -1
        self._spoken = False
        self._signature: str | None = None
        """Of the call that comes next."""
        self.failure: Failed | None = None
        """The failure that was told, if one was; nothing follows it."""

    def write(self, event: Event) -> bytes:
        """Return the bytes of what `event` becomes; nothing for what this dialect does not say.

        The end is not among them: it waits for the bill (`end`).
        """
        if self.failure is not None:
            return b""
        if isinstance(event, Piece):
            self._spoken = True
            return self._piece(event.text)
        if isinstance(event, Opened):
            return self._opened(event)
        if isinstance(event, Started):
            self._head = {"id": completion_id(event.id), **self._head, "model": event.model}
            return self._chunk({"role": "assistant", "content": ""})
        if isinstance(event, Finished):
            return self._finished(event)
        if isinstance(event, Closed):
            # A call without arguments: JSON all the same, for who parses it.
            return self._piece("{}") if self._kind is Kind.TOOL and not self._spoken else b""
        if isinstance(event, Failed):
            self.failure = event
            error = {"message": event.message, "type": event.kind, "param": None, "code": None}
            return _event({"error": error})
        if isinstance(event, Signed):
            return self._signed(event.signature)
        if not isinstance(event, Ping):
            raise AssertionError(f"{type(event).__name__} is no event of a stream")
        return b""

    def end(self) -> bytes:
        """The last event; nothing after a failure."""
        return DONE if self.failure is None else b""

    def _opened(self, event: Opened) -> bytes:
        self._kind, self._spoken = event.kind, False
        if event.kind is not Kind.TOOL:
            return b""
        self._tool += 1
        call: dict[str, object] = {
            "index": self._tool,
            "id": event.call_id,
            "type": "function",
            "function": {"name": event.name, "arguments": ""},
        }
        if self._signature is not None:
            call["extra_content"] = extra_content(self._signature)
            self._signature = None
        return self._chunk({"tool_calls": [call]})

    def _signed(self, signature: str) -> bytes:
        """A call's signature waits for it; one of another maker has no place in a chat."""
        place, secret = of_gemini(signature) or (None, "")
        if place is Place.CALL:
            self._signature = secret
        return self._chunk({"extra_content": extra_content(secret)}) if place is Place.TEXT else b""

    def _piece(self, text: str) -> bytes:
        if self._kind is Kind.TEXT:
            return self._chunk({"content": text})
        if self._kind is Kind.TOOL:
            call = {"index": self._tool, "function": {"arguments": text}}
            return self._chunk({"tool_calls": [call]})
        if self._kind is Kind.THINKING:
            return self._chunk({"reasoning_content": text})
        return self._chunk({"refusal": text}) if self._kind is Kind.REFUSAL else b""

    def _finished(self, event: Finished) -> bytes:
        last = self._chunk({}, REASONS[event.finish])
        if self._include_usage and event.usage is not None:
            last += _event({**self._head, "choices": [], "usage": usage_object(event.usage)})
        return last

    def _chunk(self, delta: dict[str, object], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**self._head, "choices": [choice]})


def completion_id(given: str) -> str:
    """The id of an answer in this dialect's form, the provider's own inside."""
    return given if given.startswith("chatcmpl-") else f"chatcmpl-{given}"


def usage_object(usage: Usage) -> dict[str, object]:
    """A usage report: cached tokens inside the prompt's here (WIRE.md section 6 rule 5)."""
    prompt, completion = usage.prompt_total, usage.completion_total
    given: dict[str, object] = {
        "cached_tokens": usage.cached_total,
        "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "audio_tokens": usage.audio_input + usage.cache_read_audio,
    }
    made = {"reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_output}
    # OpenAI names these only where it counts images apart.
    images = usage.image_input + usage.cache_read_image
    if images:
        given["image_tokens"] = images
    if usage.image_output:
        made["image_tokens"] = usage.image_output
    if usage.cache_read_audio or usage.cache_read_image:
        cached = {"audio_tokens": usage.cache_read_audio, "image_tokens": usage.cache_read_image}
        given["cached_tokens_details"] = cached
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": given,
        "completion_tokens_details": made,
    }


def _event(document: dict[str, object]) -> bytes:
    return b"data: " + _write(document) + b"\n\n"
