"""The length of an Ogg file: the position its last page of sound has reached.

Rules: the first stream that is sound (Opus, Vorbis, Speex, FLAC) is the one that counts. Pages are
walked by their own sizes; where none begins, the next is searched for.

Sources: RFC 3533 section 6 (pages), RFC 7845 (Opus: 48 kHz, pre-skip), the Vorbis I
specification section 4.2.2, the Speex manual's header, and RFC 9639 section 10.1 (FLAC in Ogg).
"""

from typing import Final

from proxy.core.sound.walker import WAIT, Walker, ceil_milliseconds

_MARK: Final = b"OggS"
_HEAD_BYTES: Final = 27
_FIRST_BYTES: Final = 48
"""Of a stream's first page: up to where any of them says its rate."""
_NONE: Final = (1 << 64) - 1
"""The position of a page on which nothing ends."""


class OggLength(Walker):
    """Measures an Ogg file."""

    __slots__ = ("_position", "_rate", "_serial", "_skipped")

    def __init__(self) -> None:
        super().__init__()
        self._serial = b""
        self._rate = self._skipped = self._position = 0

    def look(self, data: bytes, position: int) -> int:
        """Read one page's header."""
        if not data.startswith(_MARK, position):
            return self._lost(data, position)
        if len(data) - position < _HEAD_BYTES:
            return WAIT
        table = position + _HEAD_BYTES
        body = table + data[position + 26]
        if len(data) < body:
            return WAIT
        size = sum(data[table:body])
        if data[position + 5] & 2 and not self._rate:
            if len(data) < body + min(size, _FIRST_BYTES):
                return WAIT
            self._begin(data[position + 14 : position + 18], data[body : body + _FIRST_BYTES])
        elif data[position + 14 : position + 18] == self._serial:
            reached = int.from_bytes(data[position + 6 : position + 14], "little")
            if reached != _NONE:
                self._position = max(self._position, reached)
        return body + size - position

    def milliseconds(self) -> int | None:
        """Return how far the sound has come; None without any."""
        if not self._rate or not self._position:
            return None
        return ceil_milliseconds(max(0, self._position - self._skipped), self._rate)

    def _begin(self, serial: bytes, head: bytes) -> None:
        """Look whether a stream is sound, and how many positions it has a second."""
        if head.startswith(b"OpusHead"):
            self._rate = 48_000
            self._skipped = int.from_bytes(head[10:12], "little")
        elif head.startswith(b"\x01vorbis"):
            self._rate = int.from_bytes(head[12:16], "little")
        elif head.startswith(b"Speex   "):
            self._rate = int.from_bytes(head[36:40], "little")
        elif head.startswith(b"\x7fFLAC"):
            self._rate = int.from_bytes(head[27:30], "big") >> 4
        if self._rate:
            self._serial = serial

    @staticmethod
    def _lost(data: bytes, position: int) -> int:
        found = data.find(_MARK, position)
        if found >= 0:
            return found - position
        return max(WAIT, len(data) - position - len(_MARK) + 1)
