"""How an exchange looks at the events of each wire form: one row a form, in `LOOKS`.

Rules: a look reads and decides nothing: what is passed, metered or held is the exchange's to say
(core/exchange.py). What a form needs to remember of its own stream lives in an object that its row
makes anew. Chat and messages have a `see` inside the exchange, which makes no record per event.
This module must not know holds, phases or sockets.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from proxy.core.deltas import (
    ANTHROPIC_GARBAGE,
    RunKey,
    anthropic_event,
    anthropic_runs,
    openai_delta,
    openai_runs,
)
from proxy.core.entities import Wire
from proxy.core.gemini_events import EVENT_BYTES_MAX as GEMINI_EVENT_BYTES_MAX
from proxy.core.gemini_events import GeminiEvents
from proxy.core.outcomes import Expectation
from proxy.core.passthrough import LESSONS_MAX, Take, take_anthropic, take_openai
from proxy.core.response_events import EVENT_BYTES_MAX as RESPONSES_EVENT_BYTES_MAX
from proxy.core.response_events import ResponseEvents
from proxy.core.sights import Sight
from proxy.core.text_chunks import TextChunks
from proxy.core.usage import UsageTally


class Look(Struct, frozen=True):
    """One form's way to look at events, each without its framing."""

    take: Take
    """Meters one event of a chunk if it is ordinary; for the fast paths (core/passthrough.py)."""
    runs: Callable[[bytes], Sequence[tuple[RunKey, str]]]
    """The countable texts of an event's data. Changes nothing."""
    ends: Callable[[str, bytes], bool]
    """Whether an event of this name and data is the form's last."""
    see: Callable[[str, bytes], Sight] | None = None
    """What an event of this name and data means; None where the exchange itself says."""
    report: Callable[[UsageTally, object], None] = UsageTally.openai
    """How the usage in a `Sight` is taken."""
    lessons: int = LESSONS_MAX
    """Patterns learnt in vain before giving up; 0 for events that never repeat themselves."""
    endless: bool = False
    """No event is the last: a stream is complete when every choice finished and its body ends."""
    event_bytes_max: int = 0
    """Events must be whole up to so many bytes, and fail beyond; 0: the exchange's own limit, and
    larger ones pass in parts."""


def _chat_runs(data: bytes) -> list[tuple[RunKey, str]]:
    return list(openai_runs(openai_delta(data)))


def _chat_ends(_name: str, data: bytes) -> bool:
    return data.startswith(b"[DONE]")


def _messages_runs(data: bytes) -> list[tuple[RunKey, str]]:
    return list(anthropic_runs(anthropic_event(data)))


def _messages_ends(name: str, data: bytes) -> bool:
    message = anthropic_event(data)
    return message is not ANTHROPIC_GARBAGE and (message.type or name) == "message_stop"


_CHAT: Final = Look(take_openai, _chat_runs, _chat_ends)
_MESSAGES: Final = Look(take_anthropic, _messages_runs, _messages_ends)


def _chat(_expect: Expectation) -> Look:
    return _CHAT


def _messages(_expect: Expectation) -> Look:
    return _MESSAGES


def _responses(_expect: Expectation) -> Look:
    events = ResponseEvents()
    return Look(
        events.take,
        events.runs,
        events.ends,
        events.see,
        lessons=0,  # every event has a number of its own
        event_bytes_max=RESPONSES_EVENT_BYTES_MAX,
    )


def _completions(expect: Expectation) -> Look:
    chunks = TextChunks(expect.echoed)
    return Look(chunks.take, chunks.runs, chunks.ends, chunks.see)


def _gemini(expect: Expectation) -> Look:
    events = GeminiEvents(expect.choices)
    return Look(
        events.take,
        events.runs,
        events.ends,
        events.see,
        report=UsageTally.gemini,
        lessons=0,  # every event brings usage
        endless=True,
        event_bytes_max=GEMINI_EVENT_BYTES_MAX,
    )


LOOKS: Final[Mapping[Wire, Callable[[Expectation], Look]]] = {
    Wire.CHAT: _chat,
    Wire.MESSAGES: _messages,
    Wire.RESPONSES: _responses,
    Wire.COMPLETIONS: _completions,
    Wire.GEMINI: _gemini,
}
"""What makes the look of one stream, by its wire form."""
