"""Server-sent events as whole byte spans: where one ends, and what its fields are.

Rules: the splitter never changes, drops or invents a byte: the concatenation of what it returns
is what it was given. Line ends may be LF, CR or CRLF, mixed (WHATWG HTML section 9.2.6). An
event larger than its limit comes out in parts, so memory is bounded. This module must not know
what is inside `data`.
"""

import re

EVENT_BYTES_MAX = 1 << 20

# Atomic groups, or the engine would backtrack into half a CRLF and see a blank line there.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventSplitter:
    """Cuts a body into whole events, each with the blank line that ends it.

    `oversized` is True while the parts of an event larger than `event_bytes_max` pass through.
    """

    __slots__ = ("_event_bytes_max", "_pieces", "_size", "oversized")

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._event_bytes_max = event_bytes_max
        self._pieces: list[bytes] = []
        self._size = 0
        self.oversized = False

    @property
    def idle(self) -> bool:
        """Whether no partial event is held: the next byte starts an event."""
        return not self._pieces and not self.oversized

    def receive(self, body: bytes) -> list[tuple[bytes, bool]]:
        """Take body bytes; return spans with whether each is a whole event (not a part).

        The last part of an oversized event comes with its blank line and False.
        """
        if self.idle and body.endswith(b"\n\n") and b"\r" not in body:
            return [(piece + b"\n\n", True) for piece in body[:-2].split(b"\n\n")]
        return self._receive_any(body)

    def receive_eof(self) -> bytes:
        """Return the unfinished event at the end of the body, b"" if there is none."""
        rest = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return rest

    def _receive_any(self, body: bytes) -> list[tuple[bytes, bool]]:
        # A blank line may straddle the seam, so the search starts three bytes before it; the
        # pieces are joined only when an event ends, or a 1 MiB event in 1-byte writes would be
        # copied a million times.
        spans: list[tuple[bytes, bool]] = []
        tail = b"".join(self._pieces[-4:])[-3:] if self._pieces else b""
        window = tail + body
        start = -len(tail)
        for match in _BLANK_LINE.finditer(window):
            end = match.end() - len(tail)
            if end <= 0:
                continue
            if start < 0:
                whole = b"".join(self._pieces) + body[:end]
                self._pieces.clear()
                self._size = 0
            else:
                whole = body[start:end]
            spans.append((whole, not self.oversized))
            self.oversized = False
            start = end
        rest = body[max(start, 0) :]
        if rest:
            self._pieces.append(rest)
            self._size += len(rest)
            if len(self._pieces) > 256:
                self._pieces = [b"".join(self._pieces)]
        if self._size > self._event_bytes_max:
            part = b"".join(self._pieces)
            # Keep the last bytes back: they may be the first half of the blank line.
            self._pieces = [part[-3:]]
            self._size = 3
            self.oversized = True
            spans.append((part[:-3], False))
        return spans


def fields(event: bytes) -> tuple[str, bytes | None, bool]:
    """Return an event's name, its data (lines joined by LF, None without any) and has-id.

    `retry` and unknown fields are ignored, as every SDK does.
    """
    name, data, has_id = "", None, False
    for line in _LINE_END.split(event.removeprefix(_BYTE_ORDER_MARK)):
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
