"""The length of a WAV file: the bytes of its data by the bytes of a second.

Rules: the rate follows from the sample rate and the size of a block, as decoders work it out, for
plain samples; a compressed format's own average is taken. A data size that was never filled in
(0, or all ones) means all that comes.

Source: Microsoft's and IBM's Multimedia Programming Interface and Data Specifications 1.0 (RIFF,
`fmt ` and `data`); EBU Tech 3306 (RF64).
"""

from typing import Final

from proxy.core.sound.walker import STOP, WAIT, Walker, ceil_milliseconds

_FORMS: Final = frozenset({b"RIFF", b"RF64", b"BW64"})
_PLAIN: Final = frozenset({1, 3, 0xFFFE})
"""PCM, float, and either described further on."""
_UNFILLED: Final = 0xFFFF_FFFF
_FORMAT_BYTES: Final = 16


class WaveLength(Walker):
    """Measures a WAV file."""

    __slots__ = ("_begun", "_data", "_rate", "_seen")

    def __init__(self) -> None:
        super().__init__()
        self._rate = 0
        """Bytes a second."""
        self._data: int | None = None
        """The size of the data as declared."""
        self._begun = 0
        """Where the data begins."""
        self._seen = 0
        """Where the walk is."""

    def look(self, data: bytes, position: int) -> int:
        """Read one chunk's header."""
        step = self._look(data, position)
        self._seen += max(0, step)
        return step

    def _look(self, data: bytes, position: int) -> int:
        if not self._seen:
            if len(data) - position < 12:
                return WAIT
            form = data[position : position + 4] in _FORMS
            return 12 if form and data[position + 8 : position + 12] == b"WAVE" else STOP
        if len(data) - position < 8:
            return WAIT
        name = data[position : position + 4]
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if name == b"data":
            self._data, self._begun = size, self._seen + 8
            return STOP
        if name == b"fmt ":
            block = data[position + 8 : position + 8 + _FORMAT_BYTES]
            if size < _FORMAT_BYTES:
                return STOP
            if len(block) < _FORMAT_BYTES:
                return WAIT
            self._read_format(block)
        return 8 + size + (size & 1)

    def milliseconds(self) -> int | None:
        """Return the length of the data that came, or was declared if that is less."""
        if self._data is None or not self._rate:
            return None
        here = max(0, self.size - self._begun)
        declared = here if self._data in {0, _UNFILLED} else self._data
        return ceil_milliseconds(min(here, declared), self._rate)

    def _read_format(self, block: bytes) -> None:
        tag = int.from_bytes(block[0:2], "little")
        samples = int.from_bytes(block[4:8], "little")
        average = int.from_bytes(block[8:12], "little")
        each = int.from_bytes(block[12:14], "little")
        self._rate = samples * each if tag in _PLAIN else average
