"""What may pass unopened: canonical chunks of ordinary events, told by tables and one decode.

Rules: canonical means lower-case hexadecimal without padding or extension (RFC 9112 section 7.1
allows more; the rest takes the slow way and is re-framed). Comparing with a table is cheaper than
parsing; sizes beyond the tables are rare. A function here meters an event or changes nothing.
This module must not know holds, phases, nor what becomes of an event.
"""

from proxy.core.deltas import UNREADABLE, anthropic_event, openai_delta, plain_content
from proxy.core.metering import Meter

SIZE_MAX = 8_192
SIZES = {b"%x" % size: size for size in range(SIZE_MAX + 1)}
"""Size by its chunk-size line."""

OPENAI_START = b"data: {"
BLOCK_DELTA_START = b"event: content_block_delta\ndata: {"
_BLOCK_DELTA_DATA = len(BLOCK_DELTA_START) - 1


def _starts() -> list[bytes]:
    # A start that begins with a NUL matches no chunk: for lengths that no chunk can have.
    starts = [b"\0"] * (SIZE_MAX + len(b"%x" % SIZE_MAX) + 5)
    for line, size in SIZES.items():
        starts[len(line) + size + 4] = line + b"\r\n" + OPENAI_START
    return starts


OPENAI_STARTS = _starts()
"""How one whole chunk of one OpenAI event begins, by the length of the whole chunk."""
EVENT_BYTES_BEYOND_START = 5
"""Chunk length less start length plus this is the chunk's size (2 line ends, less 7 + 2)."""


def plain_chunk(data: bytes, end: int, meter: Meter) -> int:
    """Meter the commonest read of all: one chunk, one OpenAI event, nothing but content.

    `end` is the length of `data`. Returns the event's size, 0 when it is anything else.
    """
    if end >= len(OPENAI_STARTS):
        return 0
    start = OPENAI_STARTS[end]
    if not data.startswith(start) or not data.endswith(b"}\n\n\r\n"):
        return 0
    try:
        text = plain_content(data[len(start) - 1 : -4]).choices[0].delta.content
    except UNREADABLE:
        return 0
    size = end - len(start) + EVENT_BYTES_BEYOND_START
    meter.add(text or "", size)
    return size


def take_openai(data: bytes, start: int, stop: int, meter: Meter) -> bool:
    """Meter the one event in `data[start:stop]` if it is ordinary; False changes nothing."""
    if not data.startswith(OPENAI_START, start):
        return False
    payload = data[start + 6 : stop - 2]
    try:
        text = plain_content(payload).choices[0].delta.content
    except UNREADABLE:
        # Reasoning, tool arguments, a second choice: ordinary too, at twice the cost.
        return meter.add_openai(openai_delta(payload), stop - start)
    meter.add(text or "", stop - start)
    return True


def take_anthropic(data: bytes, start: int, stop: int, meter: Meter) -> bool:
    """The same for a content_block_delta."""
    if not data.startswith(BLOCK_DELTA_START, start):
        return False
    return meter.add_anthropic(
        anthropic_event(data[start + _BLOCK_DELTA_DATA : stop - 2]), stop - start
    )
