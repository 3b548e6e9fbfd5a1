"""How long a recording is, whatever file it is in, as far as its bytes tell.

Rules: the first bytes say which format it is; a name or a content type is not believed. What is
not known has no length, and the caller bounds it by its size. This module must not know formats.

Source: OpenAI's transcription endpoint takes flac, mp3, mp4, mpeg, mpga, m4a, ogg, wav and webm
(openai-python `types/audio/transcription_create_params.py`).
"""

from collections.abc import Callable
from typing import Final

from proxy.core.sound.flac import FlacLength
from proxy.core.sound.matroska import MatroskaLength
from proxy.core.sound.mp4 import Mp4Length
from proxy.core.sound.mpeg import MpegLength
from proxy.core.sound.ogg import OggLength
from proxy.core.sound.walker import Walker
from proxy.core.sound.wave import WaveLength

_SNIFFED_BYTES: Final = 12
_BEGINNINGS: Final[tuple[tuple[int, bytes, Callable[[], Walker]], ...]] = (
    (0, b"RIFF", WaveLength),
    (0, b"RF64", WaveLength),
    (0, b"BW64", WaveLength),
    (0, b"fLaC", FlacLength),
    (0, b"OggS", OggLength),
    (4, b"ftyp", Mp4Length),
    (4, b"moov", Mp4Length),
    (4, b"mdat", Mp4Length),
    (0, b"\x1a\x45\xdf\xa3", MatroskaLength),
    (0, b"ID3", MpegLength),
    (0, b"\xff", MpegLength),
)


class SoundLength:
    """Measures a recording as it passes; a `Sink` of core/multipart.py."""

    __slots__ = ("_first", "_walker", "size")

    def __init__(self) -> None:
        self.size = 0
        """Bytes fed."""
        self._first = b""
        self._walker: Walker | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the file."""
        self.size += len(piece)
        if self._walker is not None:
            self._walker.feed(piece)
        elif len(self._first) < _SNIFFED_BYTES:
            self._first += piece
            if len(self._first) >= _SNIFFED_BYTES:
                self._walker = _walker(self._first)
                if self._walker is not None:
                    self._walker.feed(self._first)
                self._first = self._first[:_SNIFFED_BYTES]

    def milliseconds(self) -> int | None:
        """Return its length, rounded up; None when it cannot be told."""
        return None if self._walker is None else self._walker.milliseconds()


def _walker(first: bytes) -> Walker | None:
    for offset, mark, walker in _BEGINNINGS:
        if first.startswith(mark, offset):
            return walker()
    return None
