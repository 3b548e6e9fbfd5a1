"""Server-sent events as whole byte spans: where one ends, and what its fields are.

Rules: the splitter never changes, drops or invents a byte: the concatenation of what it returns
is what it was given, and where it cuts does not depend on how the body was cut before. Line ends
may be LF, CR or CRLF, mixed (WHATWG HTML section 9.2.6). An event larger than its limit comes
out in parts, so memory is bounded. This module must not know what is inside `data`.
"""

import re
from typing import Final

EVENT_BYTES_MAX: Final = 1 << 20

# Atomic groups, or the engine would backtrack into half a CRLF and see a blank line there. A CR
# after CRLF or LF ends the event only once the next byte is known not to be its LF: else the end
# of a CRLF stream would be cut in two wherever the network did. After a lone CR nobody waits,
# for a stream written so would stall on every event.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n)(?>\r\n|\n|\r(?=[^\n]))|\r\r")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_LF: Final = 10
_CR: Final = 13  # looked for as a number it costs a tenth of what it costs as bytes
_SEAM_BYTES = 3  # a blank line has at most four
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class EventSplitter:
    """Cuts a body into whole events, each with the blank line that ends it.

    `oversized` is True while the parts of an event larger than `event_bytes_max` pass through.
    """

    __slots__ = ("_partial", "event_bytes_max", "oversized")

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self.event_bytes_max = event_bytes_max
        self._partial = bytearray()
        self.oversized = False

    @property
    def idle(self) -> bool:
        """Whether no partial event is held: the next byte starts an event."""
        return not self._partial and not self.oversized

    def receive(self, body: bytes) -> list[tuple[bytes, bool]]:
        """Take body bytes; return spans with whether each is a whole event within the limit.

        The last part of an oversized event comes with its blank line and False.
        """
        if (
            not self._partial
            and not self.oversized
            and _CR not in body
            and len(body) <= self.event_bytes_max
        ):
            pieces = body.split(b"\n\n")
            if pieces.pop():  # something behind the last blank line
                return self._receive_any(body)
            for piece in pieces:
                if not piece or piece[0] == _LF:  # a blank line longer than two line feeds
                    return self._receive_any(body)
            return [(piece + b"\n\n", True) for piece in pieces]
        return self._receive_any(body)

    def receive_eof(self) -> tuple[bytes, bool]:
        """Return what is held at the end of the body, and whether it is a whole event after all.

        A last CR can no longer be half of a CRLF. Anything else was cut short: no client
        dispatches an event without its blank line (WIRE.md section 2).
        """
        rest = bytes(self._partial)
        self._partial.clear()
        return rest, not self.oversized and rest.endswith(b"\n\r")

    def _receive_any(self, body: bytes) -> list[tuple[bytes, bool]]:
        """Cut anywhere. The search starts before the seam, where a blank line may straddle it."""
        spans: list[tuple[bytes, bool]] = []
        partial, limit = self._partial, self.event_bytes_max
        tail = bytes(partial[-_SEAM_BYTES:])
        start = 0
        for match in _BLANK_LINE.finditer(tail + body):
            end = match.end() - len(tail)
            event = bytes(partial) + body[start:end] if partial else body[start:end]
            partial.clear()
            spans.append((event, not self.oversized and len(event) <= limit))
            self.oversized = False
            start = end
        partial += body[start:]
        if len(partial) > limit:
            # The last bytes stay: they may be the first part of the blank line.
            spans.append((bytes(partial[:-_SEAM_BYTES]), False))
            del partial[:-_SEAM_BYTES]
            self.oversized = True
        return spans


def fields(event: bytes) -> tuple[str, bytes | None, bool]:
    """Return an event's name, its data (lines joined by LF, None without any) and has-id.

    `retry` and unknown fields are ignored, as every SDK does; so is a line behind a byte order
    mark, which means something only at the very start of a stream.
    """
    if _CR not in event:
        # Nearly every event is one line of data, in Anthropic's dialect behind one with its name.
        first, _, rest = event.partition(b"\n")
        if rest == b"\n":
            only = first.removeprefix(b"data: ")
            if only != first:
                return "", only, False
        else:
            second, _, end = rest.partition(b"\n")
            only, named = second.removeprefix(b"data: "), first.removeprefix(b"event: ")
            if end == b"\n" and only != second and named != first:
                return named.strip().decode("utf-8", "replace"), only, False
    return _any_fields(event)


def _any_fields(event: bytes) -> tuple[str, bytes | None, bool]:
    name, data, has_id = "", None, False
    for line in _LINE_END.split(event) if b"\r" in event else event.split(b"\n"):
        if line.startswith(b"data:"):
            value = line[6:] if line.startswith(b"data: ") else line[5:]
            data = value if data is None else data + b"\n" + value
        elif line.startswith(b"event:"):
            name = line[6:].strip().decode("utf-8", "replace")
        elif line.startswith(b"id:") or line == b"id":
            has_id = True
        elif line == b"data":
            data = b"" if data is None else data + b"\n"
    return name, data, has_id
