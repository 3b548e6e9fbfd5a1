"""The length of a FLAC file: the samples its first block declares.

Rules: a declaration is believed unless more sound came than it allows: compressed without loss, a
file is never larger than its samples by more than the frames' headers.

Source: RFC 9639 section 8.2 (STREAMINFO).
"""

from typing import Final

from proxy.core.sound.walker import STOP, WAIT, Walker, ceil_milliseconds

_HEAD_BYTES: Final = 26
"""Up to the number of samples: the mark, the block's header, sizes, and 8 bytes of bit fields."""


class FlacLength(Walker):
    """Measures a FLAC file."""

    __slots__ = ("_bits", "_rate", "_samples")

    def __init__(self) -> None:
        super().__init__()
        self._rate = self._bits = self._samples = 0

    def look(self, data: bytes, position: int) -> int:
        """Read the first block."""
        if len(data) - position < _HEAD_BYTES:
            return WAIT
        if data.startswith(b"fLaC", position) and data[position + 4] & 0x7F == 0:
            fields = int.from_bytes(data[position + 18 : position + 26], "big")
            self._rate = fields >> 44
            channels, each = (fields >> 41 & 7) + 1, (fields >> 36 & 31) + 1
            self._bits = self._rate * channels * each
            self._samples = fields & (1 << 36) - 1
        return STOP

    def milliseconds(self) -> int | None:
        """Return the length declared, or what the bytes alone must last; None without either."""
        if not self._rate or not self._samples:
            return None
        declared = ceil_milliseconds(self._samples, self._rate)
        return max(declared, self.size * 8 * 1_000 * 9 // 10 // self._bits)
