"""Answers of Gemini's generateContent and streamGenerateContent, written from a conversation.

Rules: memory is bounded: a call is told whole, as it must be here, so its arguments are kept up to
a limit. The last event says why the answer ends and what it used, and waits for the bill, since
nothing but the end of the body follows it. Secrets of other makers go through a caller in the
place of a signature (`proxy.core.translation.signatures`). This module must not know other
dialects, framing beyond one event, or billing.

Sources: `types.py` of Google's Python SDK google-genai 3.x (GenerateContentResponse); its
`_api_client.py`, which raises on an event whose first member is `error`.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Raw

from proxy.core.deltas import UNREADABLE
from proxy.core.entities import Usage
from proxy.core.translation.conversation import (
    Answer,
    Closed,
    Event,
    Failed,
    Finish,
    Finished,
    Kind,
    Opened,
    Part,
    Piece,
    Ping,
    Refusal,
    Signed,
    Started,
    Text,
    Thinking,
    ToolCall,
)
from proxy.core.translation.signatures import Place, of_gemini, sealed

ARGUMENTS_BYTES_MAX: Final = 4 << 20
"""Of one call."""
REASONS: Final = {
    Finish.STOP: "STOP",
    Finish.STOP_SEQUENCE: "STOP",
    Finish.TOOLS: "STOP",
    Finish.PAUSED: "STOP",
    Finish.LENGTH: "MAX_TOKENS",
    Finish.REFUSED: "SAFETY",
}
_STATUSES: Final = {
    "invalid_request_error": (400, "INVALID_ARGUMENT"),
    "permission_error": (403, "PERMISSION_DENIED"),
    "not_found_error": (404, "NOT_FOUND"),
    "rate_limit_error": (429, "RESOURCE_EXHAUSTED"),
    "overloaded_error": (503, "UNAVAILABLE"),
    "timeout_error": (504, "DEADLINE_EXCEEDED"),
}
_write = msgspec.json.encode
_Object = dict[str, object]
_TOO_LARGE: Final = Failed("api_error", "A call of the provider is too large to be translated.")


def write_answer(answer: Answer) -> bytes:
    """Write a whole answer."""
    return _write(
        {
            "candidates": [_candidate(list(_parts(answer.parts)), answer.finish)],
            "usageMetadata": usage_object(answer.usage or Usage()),
            "modelVersion": answer.model,
            "responseId": answer.id,
        }
    )


def _parts(parts: Iterable[Part]) -> Iterable[_Object]:
    """The parts; a signature of this dialect's own stands on the call it is of."""
    secret: str | None = None
    for part in parts:
        if isinstance(part, Text | Refusal):
            yield {"text": part.text}
        elif isinstance(part, Thinking):
            own = of_gemini(part.signature)
            if own is not None and own[0] is Place.CALL:
                secret = own[1]
                if part.text:
                    yield {"text": part.text, "thought": True}
            else:
                yield thought(part)
        elif isinstance(part, ToolCall):
            yield call_part(part, secret)
            secret = None
        else:
            raise AssertionError(f"an answer has no {type(part).__name__}")


def thought(part: Thinking) -> _Object:
    """Thoughts with their secret, or the empty text that a text's signature stands on."""
    own, secret = of_gemini(part.signature), sealed(part)
    found: _Object = {"text": part.text}
    if own is None or own[0] is not Place.TEXT:
        found["thought"] = True
    if secret is not None:
        found["thoughtSignature"] = secret
    return found


def call_part(call: ToolCall, secret: str | None) -> _Object:
    """A call; arguments that are no object are shown as what was said, under a name."""
    try:
        given = msgspec.json.decode(call.arguments or "{}")
    except UNREADABLE:
        given = None
    arguments: object = Raw((call.arguments or "{}").encode())
    if not isinstance(given, dict):
        arguments = {"arguments": call.arguments}
    found: _Object = {"functionCall": {"id": call.id, "name": call.name, "args": arguments}}
    if secret is not None:
        found["thoughtSignature"] = secret
    return found


def _candidate(parts: list[_Object], finish: Finish | None) -> _Object:
    found: _Object = {"content": {"parts": parts, "role": "model"}}
    if finish is not None:
        found["finishReason"] = REASONS[finish]
    return {**found, "index": 0}


def usage_object(usage: Usage) -> _Object:
    """A usage report: cached tokens inside the prompt's, thoughts beside the candidates' here."""
    given = usage.prompt_total
    made = usage.completion_total
    found: _Object = {
        "promptTokenCount": given,
        "candidatesTokenCount": made - usage.reasoning,
        "totalTokenCount": given + made,
    }
    if usage.cached_total:
        found["cachedContentTokenCount"] = usage.cached_total
    if usage.reasoning:
        found["thoughtsTokenCount"] = usage.reasoning
    return found


class EventWriter:
    """Writes the events of one stream."""

    def __init__(self) -> None:
        self.failure: Failed | None = None
        """The failure that was told, if one was; nothing follows it."""
        self._head: _Object = {}
        self._opened = Opened(Kind.TEXT)
        self._arguments = bytearray()
        self._signature: str | None = None
        self._call_signature: str | None = None
        self._finished: Finished | None = None

    def write(self, event: Event) -> bytes:
        """Return the bytes of what `event` becomes; the end is not among them (`end`)."""
        if self.failure is not None:
            return b""
        if isinstance(event, Piece):
            return self._piece(event.text)
        if isinstance(event, Opened):
            self._opened, self._signature = event, None
            self._arguments.clear()
            return b""
        if isinstance(event, Closed):
            return self._close()
        if isinstance(event, Signed):
            self._signature = event.signature
        elif isinstance(event, Started):
            self._head = {"modelVersion": event.model, "responseId": event.id}
        elif isinstance(event, Finished):
            self._finished = event
        elif isinstance(event, Failed):
            return self._fail(event)
        elif not isinstance(event, Ping):
            raise AssertionError(f"{type(event).__name__} is no event of a stream")
        return b""

    def end(self) -> bytes:
        """The last event; nothing after a failure.

        It has an empty part, as Google's own has: the SDKs' chats take a turn with an event
        without parts for invalid, and leave all of it out of what they send next.
        """
        if self.failure is not None:
            return b""
        if self._finished is None:
            raise AssertionError("the end of an answer that goes on")
        usage = usage_object(self._finished.usage or Usage())
        candidate = _candidate([{"text": ""}], self._finished.finish)
        return _event({"candidates": [candidate], "usageMetadata": usage, **self._head})

    def _piece(self, text: str) -> bytes:
        kind = self._opened.kind
        if kind in (Kind.TEXT, Kind.REFUSAL):
            return self._part({"text": text})
        if kind is Kind.THINKING:
            return self._part({"text": text, "thought": True})
        self._arguments += text.encode()
        if len(self._arguments) > ARGUMENTS_BYTES_MAX:
            return self._fail(_TOO_LARGE)
        return b""

    def _close(self) -> bytes:
        kind, text = self._opened.kind, self._arguments.decode()
        if kind is Kind.TOOL:
            call = ToolCall(self._opened.call_id, self._opened.name, text)
            secret, self._call_signature = self._call_signature, None
            return self._part(call_part(call, secret))
        if kind is Kind.REDACTED:
            return self._part(thought(Thinking("", redacted=text)))
        own = of_gemini(self._signature)
        if own is not None and own[0] is Place.CALL:
            self._call_signature = own[1]
        elif self._signature is not None:
            return self._part(thought(Thinking("", self._signature)))
        return b""

    def _part(self, part: _Object) -> bytes:
        return _event({"candidates": [_candidate([part], None)], **self._head})

    def _fail(self, event: Failed) -> bytes:
        self.failure = event
        code, status = _STATUSES.get(event.kind, (500, "INTERNAL"))
        return _event({"error": {"code": code, "message": event.message, "status": status}})


def _event(document: _Object) -> bytes:
    return b"data: " + _write(document) + b"\n\n"
