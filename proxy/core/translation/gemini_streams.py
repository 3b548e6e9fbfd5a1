"""Streams of Gemini's streamGenerateContent, `alt=sse`: events into events of a conversation.

Rules: constant memory; a reader takes the data of one event at a time. Every event is a whole
response with what is new in its parts; a call comes whole. Nothing ends a stream but its body, so
that the answer is finished by `end`. Usage is cumulative; the last figure of each kind counts.
This module must not know other dialects, framing beyond one event, or billing.

Sources: `proxy/core/translation/gemini_parts.py`; `models.py` of google-genai 3.x
(`{model}:streamGenerateContent?alt=sse`), and its `_api_client.py` for errors inside a stream.
"""

from proxy.core.deltas import UNREADABLE
from proxy.core.translation import gemini_parts
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
from proxy.core.translation.gemini_parts import Candidate, Part, Response
from proxy.core.translation.signatures import Place, marked
from proxy.core.usage import UsageTally


class EventReader:
    """Reads the events of one stream. One that is not understood is a failure."""

    def __init__(self) -> None:
        self._started = False
        self._open: Kind | None = None
        self._calls = 0
        self._response_id = ""
        self._finish = Finish.STOP
        self._tally = UsageTally()

    def read(self, data: bytes) -> list[Event]:
        """Return what one event's data says."""
        try:
            found = gemini_parts.read_response(data)
        except UNREADABLE:
            return [Failed("api_error", "The provider's stream is not understood.")]
        if found.error:
            return [gemini_parts.failure(found.error)]
        events: list[Event] = []
        if found.usage_metadata is not None:
            self._tally.gemini(found.usage_metadata)
        if not self._started:
            self._start(found, events)
        candidate = gemini_parts.first_of(found)
        if candidate is not None:
            self._candidate(candidate, events)
        elif found.prompt_feedback is not None and found.prompt_feedback.block_reason:
            self._finish = Finish.REFUSED
            why = found.prompt_feedback.block_reason_message
            if why:
                self._piece(Kind.REFUSAL, why, events)
        return events

    def end(self) -> list[Event]:
        """What the end of a stream says."""
        events: list[Event] = []
        self._close(events)
        finish = self._finish
        if finish is Finish.STOP and self._calls:
            finish = Finish.TOOLS
        events.append(Finished(finish, self._tally.usage() if self._tally.seen else None))
        return events

    def _start(self, found: Response, events: list[Event]) -> None:
        self._started = True
        self._response_id = found.response_id
        usage = self._tally.usage() if self._tally.seen else None
        events.append(Started(found.response_id, found.model_version, usage))

    def _candidate(self, candidate: Candidate, events: list[Event]) -> None:
        if candidate.content is not None:
            for part in candidate.content.parts or ():
                self._part(part, events)
        failed = gemini_parts.broken(candidate)
        if failed is not None:
            events.append(failed)
        elif candidate.finish_reason is not None:
            self._finish = gemini_parts.FINISHES.get(candidate.finish_reason, Finish.STOP)

    def _part(self, part: Part, events: list[Event]) -> None:
        secret = part.thought_signature
        failed = gemini_parts.not_carried(part)
        if failed is not None:
            events.append(failed)
        elif part.function_call is not None:
            if secret:
                self._sign(Place.CALL, secret, events)
            self._close(events)
            call = gemini_parts.call_of(part.function_call, self._response_id, self._calls)
            self._calls += 1
            events += (Opened(Kind.TOOL, call.id, call.name), Piece(call.arguments), Closed())
        else:
            if part.text:
                self._piece(Kind.THINKING if part.thought else Kind.TEXT, part.text, events)
            if secret:
                self._sign(Place.THOUGHT if part.thought else Place.TEXT, secret, events)

    def _piece(self, kind: Kind, text: str, events: list[Event]) -> None:
        if self._open is not kind:
            self._close(events)
            self._open = kind
            events.append(Opened(kind))
        events.append(Piece(text))

    def _sign(self, place: Place, secret: str, events: list[Event]) -> None:
        """Signatures are thoughts' elsewhere: of those that are open, or of some without words."""
        if self._open is not Kind.THINKING:
            self._close(events)
            self._open = Kind.THINKING
            events.append(Opened(Kind.THINKING))
        events.append(Signed(marked(place, secret)))
        self._close(events)

    def _close(self, events: list[Event]) -> None:
        if self._open is not None:
            self._open = None
            events.append(Closed())
