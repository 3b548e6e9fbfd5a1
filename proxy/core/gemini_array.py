"""A stream of Gemini's as the JSON array it is for callers who do not ask for events.

Rules: every event's data is an element, as it was sent; comments are left out. White space may
stand between elements, so that empty lines keep a caller waiting here too. An error is the last
element. This module must not know what is in an event.

Source: Google's REST reference of models.streamGenerateContent, which streams an array of
GenerateContentResponse without `alt=sse`.
"""

from typing import Final

from proxy.core.gemini_events import EVENT_BYTES_MAX
from proxy.core.sse import EventSplitter, fields

CONTENT_TYPE: Final = "application/json; charset=utf-8"
_BETWEEN: Final = b",\r\n"


class ArrayFrames:
    """Writes one stream; `feed` takes whole events."""

    __slots__ = ("_begun", "_splitter")

    def __init__(self) -> None:
        self._begun = False
        self._splitter = EventSplitter(EVENT_BYTES_MAX)

    def feed(self, events: bytes) -> bytes:
        """The elements that `events` are."""
        out = []
        for event, whole in self._splitter.receive(events):
            data = fields(event)[1] if whole else None
            if data is None:
                continue
            out.append(_BETWEEN if self._begun else b"[")
            out.append(data)
            self._begun = True
        return b"".join(out)

    def end(self, events: bytes = b"") -> bytes:
        """The last elements and the end of the array."""
        last = self.feed(events)
        return last + (b"]\n" if self._begun else b"[]\n")
