"""A read that needs no state: canonical chunks, and in each one whole event.

Rules: nearly every provider writes nearly every event so. What is taken here is what
`proxy.core.http1.ResponseParser` and `proxy.core.sse.EventSplitter` would make of it; at the first
byte that may be anything else it ends, and the rest is theirs. This module must not know what an
event means.
"""

from typing import Final

from proxy.core.http1 import SIZES

_CR: Final = 13


def events_in_chunks(data: bytes, event_bytes_max: int) -> list[tuple[bytes, bytes | None, int]]:
    """Return the whole events that `data`, which begins a chunk, begins with, one to a chunk.

    Of each its bytes, its data if it has nothing else (None: read its fields), and where in `data`
    its chunk ends.
    """
    found: list[tuple[bytes, bytes | None, int]] = []
    end = 0
    lines = data.split(b"\r\n")
    index, last = 0, len(lines) - 2  # behind the last line is no line end
    while index < last:
        line, event = lines[index], lines[index + 1]
        index += 2
        size = len(event)
        if SIZES.get(line) != size or size > event_bytes_max or _CR in event:
            break
        first, _, rest = event.partition(b"\n")
        payload: bytes | None = first.removeprefix(b"data: ")
        if rest != b"\n" or payload is first:  # CPython's, where there is nothing to take off
            if not 0 < event.find(b"\n\n") == size - 2:
                break
            payload = None
        end += len(line) + size + 4
        found.append((event, payload, end))
    return found
