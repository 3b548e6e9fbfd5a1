"""The length of a WebM or Matroska file: what it declares, or where its last block begins.

Rules: browsers record without a declared length and with clusters of unknown size, so blocks are
walked, and the greater figure counts. Elements that hold others are opened by passing over their
header alone.

Sources: RFC 8794 (EBML: identifiers and sizes), RFC 9559 sections 5.1.2 (Info) and 5.1.3
(Cluster, SimpleBlock, BlockGroup), 10 (block header).
"""

import struct
from typing import Final

from proxy.core.sound.walker import STOP, WAIT, Walker

_SEGMENT, _INFO, _CLUSTER, _GROUP = (
    b"\x18\x53\x80\x67",
    b"\x15\x49\xa9\x66",
    b"\x1f\x43\xb6\x75",
    b"\xa0",
)
_OPENED: Final = frozenset({_SEGMENT, _INFO, _CLUSTER, _GROUP})
_SCALE, _DURATION, _TIME = b"\x2a\xd7\xb1", b"\x44\x89", b"\xe7"
_FIGURES: Final = frozenset({_SCALE, _DURATION, _TIME})
_BLOCKS: Final = frozenset({b"\xa3", b"\xa1"})
_BLOCK_BYTES: Final = 10
"""Of a block: its track, at most 8 bytes, and its time."""
_TICKS_MAX: Final = 1 << 62
_NANO: Final = 1_000_000


class MatroskaLength(Walker):
    """Measures a WebM or Matroska file."""

    __slots__ = ("_cluster", "_declared", "_last", "_scale")

    def __init__(self) -> None:
        super().__init__()
        self._scale = _NANO
        """Nanoseconds a tick."""
        self._declared = self._cluster = self._last = 0
        """In ticks."""

    def look(self, data: bytes, position: int) -> int:
        """Read one element's header, and its content if it is a figure or a block."""
        here = len(data) - position
        width = _width(data[position], 4)
        if not width:
            return STOP
        if here <= width:
            return WAIT
        name = data[position : position + width]
        digits = _width(data[position + width], 8)
        if not digits:
            return STOP
        if here < width + digits:
            return WAIT
        head = width + digits
        if name in _OPENED:
            return head
        size = int.from_bytes(data[position + width : position + head], "big")
        size &= (1 << 7 * digits) - 1
        if size == (1 << 7 * digits) - 1:
            return STOP  # Of unknown size, and not one that may be.
        if name in _FIGURES or name in _BLOCKS:
            needed = min(size, 8 if name in _FIGURES else _BLOCK_BYTES)
            if here < head + needed:
                return WAIT
            self._read(name, data[position + head : position + head + needed])
        return head + size

    def milliseconds(self) -> int | None:
        """Return the greater of what is declared and what came; None without either."""
        ticks = max(self._declared, self._last)
        return -(-ticks * self._scale // _NANO) if ticks else None

    def _read(self, name: bytes, content: bytes) -> None:
        number = int.from_bytes(content, "big")
        if name == _SCALE:
            self._scale = number or _NANO
        elif name == _TIME:
            self._cluster = number
            self._last = max(self._last, min(number, _TICKS_MAX))
        elif name == _DURATION:
            self._declared = _whole(content)
        else:
            self._read_block(content)

    def _read_block(self, content: bytes) -> None:
        track = _width(content[0], 8) if content else 0
        if not track or len(content) < track + 2:
            return
        time = int.from_bytes(content[track : track + 2], "big", signed=True)
        self._last = max(self._last, min(self._cluster + time, _TICKS_MAX))


def _width(first: int, most: int) -> int:
    """Return how many bytes a number has by its first; 0 for more than `most`."""
    width = 9 - first.bit_length()
    return width if width <= most else 0


def _whole(content: bytes) -> int:
    """Read a float of 4 or 8 bytes as ticks; 0 for anything else."""
    if len(content) not in {4, 8}:
        return 0
    (value,) = struct.unpack(">f" if len(content) == 4 else ">d", content)
    return int(value) if 0 < value < _TICKS_MAX else 0
