"""The length of an MP4 or M4A file: what its movie header says, wherever that is.

Rules: boxes are walked by their sizes; of the two that hold others, the movie and its extension,
the inside is walked too. A file in fragments says its length in the extension, or not at all.

Source: ISO/IEC 14496-12 sections 4.2 (boxes), 8.2.2 (mvhd) and 8.8.2 (mehd).
"""

from typing import Final

from proxy.core.sound.walker import STOP, WAIT, Walker, ceil_milliseconds

_OPENED: Final = frozenset({b"moov", b"mvex"})
_READ: Final = {b"mvhd": 40, b"mehd": 20}
"""Boxes that are read, and the bytes it takes at most, header included."""
_UNKNOWN: Final = frozenset({0, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF})


class Mp4Length(Walker):
    """Measures an MP4 file."""

    __slots__ = ("_duration", "_fragments", "_scale")

    def __init__(self) -> None:
        super().__init__()
        self._scale = self._duration = self._fragments = 0

    def look(self, data: bytes, position: int) -> int:
        """Read one box's header."""
        if len(data) - position < 8:
            return WAIT
        size = int.from_bytes(data[position : position + 4], "big")
        name = data[position + 4 : position + 8]
        head = 8
        if size == 1:
            if len(data) - position < 16:
                return WAIT
            size = int.from_bytes(data[position + 8 : position + 16], "big")
            head = 16
        if name in _OPENED:
            return head
        if size < head:
            return STOP  # 0 is a box to the end of the file; anything else is none.
        if name in _READ:
            needed = min(size, _READ[name])
            if len(data) - position < needed:
                return WAIT
            self._read(name, data[position + head : position + needed])
        return size

    def milliseconds(self) -> int | None:
        """Return the longer of the two that may be said; None without either."""
        duration = max(self._duration, self._fragments)
        return ceil_milliseconds(duration, self._scale) if duration and self._scale else None

    def _read(self, name: bytes, box: bytes) -> None:
        long = box[:1] == b"\x01"
        if name == b"mehd":
            self._fragments = _known(box[4:12] if long else box[4:8])
            return
        scale = 20 if long else 12
        self._scale = int.from_bytes(box[scale : scale + 4], "big")
        self._duration = _known(box[scale + 4 : scale + (12 if long else 8)])


def _known(field: bytes) -> int:
    value = int.from_bytes(field, "big")
    return 0 if value in _UNKNOWN else value
