"""The length of an MP3 (or another MPEG audio layer, or AAC in ADTS): its frames, one by one.

Rules: every frame's header says its size and how many samples it holds, so no header about the
whole is believed, and constant and variable rates are alike. What is no frame is passed over to
where the next could be; tags before the sound (ID3v2) are skipped whole.

Sources: ISO/IEC 11172-3 and 13818-3 (header bits, bit rates, sampling rates), ISO/IEC 13818-7
(ADTS), id3.org's ID3v2.4 structure (synchsafe size, footer flag).
"""

from typing import Final, NamedTuple

from proxy.core.sound.walker import WAIT, Walker

_RATES: Final = {
    3: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8_000),
}
"""Samples a second, by the version's bits (3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5)."""
_KBITS: Final = {
    (True, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates 1 to 14, by whether it is MPEG 1 and the layer's bits (3: layer I)."""
_ADTS_RATES: Final = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
)  # fmt: skip
_ADTS_SAMPLES: Final = 1_024
_SYNC: Final = 0xFF
_TAG_BYTES: Final = 10


class _Frame(NamedTuple):
    size: int
    rate: int
    samples: int


def _frame(second: int, third: int) -> _Frame | None:
    """Read the two bytes after the first of a header; None for what no frame has."""
    version, layer = second >> 3 & 3, second >> 1 & 3
    bits, sampling, padding = third >> 4, third >> 2 & 3, third >> 1 & 1
    if second < 0xE0 or version == 1 or layer == 0 or sampling == 3 or not 0 < bits < 15:
        return None
    first = version == 3
    rate = _RATES[version][sampling]
    speed = 1_000 * _KBITS[first, layer][bits - 1]
    if layer == 3:
        return _Frame((12 * speed // rate + padding) * 4, rate, 384)
    samples = 1_152 if first or layer == 2 else 576
    return _Frame(samples // 8 * speed // rate + padding, rate, samples)


_FRAMES: Final = {
    second << 8 | third: frame
    for second in range(0xE0, 0x100)
    for third in range(0x100)
    if (frame := _frame(second, third)) is not None
}


class MpegLength(Walker):
    """Measures a file of MPEG or ADTS frames."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        super().__init__()
        self._samples: dict[int, int] = {}
        """Samples heard, by rate."""

    def look(self, data: bytes, position: int) -> int:
        """Read one frame's header, or pass over what is none."""
        if data[position] == _SYNC:
            if len(data) - position < 4:
                return WAIT
            frame = _FRAMES.get(data[position + 1] << 8 | data[position + 2])
            if frame is not None:
                self._samples[frame.rate] = self._samples.get(frame.rate, 0) + frame.samples
                return frame.size
            if data[position + 1] & 0xF6 == 0xF0:
                return self._look_adts(data, position)
            return 1
        if data.startswith(b"ID3", position):
            return self._look_tag(data, position)
        if b"ID3".startswith(data[position : position + 3]):
            return WAIT
        found = data.find(b"\xff", position)
        tag = data.find(b"ID3", position + 1)
        ends = [end for end in (found, tag) if end > 0]
        # Two bytes are left to look at again: a tag may begin with them.
        return min(ends) - position if ends else max(1, len(data) - position - 2)

    def milliseconds(self) -> int | None:
        """Return the length of all frames that began; None without any."""
        if not self._samples:
            return None
        return -sum(-count * 1_000 // rate for rate, count in self._samples.items())

    def _look_adts(self, data: bytes, position: int) -> int:
        if len(data) - position < 6:
            return WAIT
        index = data[position + 2] >> 2 & 15
        size = int.from_bytes(data[position + 3 : position + 6], "big") >> 5 & 0x1FFF
        if index >= len(_ADTS_RATES) or size < 7:
            return 1
        rate = _ADTS_RATES[index]
        self._samples[rate] = self._samples.get(rate, 0) + _ADTS_SAMPLES
        return size

    @staticmethod
    def _look_tag(data: bytes, position: int) -> int:
        if len(data) - position < _TAG_BYTES:
            return WAIT
        size = 0
        for byte in data[position + 6 : position + 10]:
            size = size << 7 | byte & 0x7F
        footer = _TAG_BYTES if data[position + 5] & 0x10 else 0
        return _TAG_BYTES + size + footer
