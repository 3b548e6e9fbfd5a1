"""WAV files last as long as their data."""

import io
import struct
import wave as standard

import pytest

from proxy.core.sound.wave import WaveLength
from tests.core.sound.samples import length, wave

SIZES = (1, 7, 64, 100_000)


@pytest.mark.parametrize("size", SIZES)
def test_the_length_is_that_of_the_data(size: int) -> None:
    assert length(WaveLength(), wave(1_234), size) == 1_234
    odd = b"LIST" + struct.pack("<I", 5) + b"abcde\0"
    assert length(WaveLength(), wave(1_000, extra=odd), size) == 1_000
    assert length(WaveLength(), wave(1_000) + b"LIST\4\0\0\0abcd", size) == 1_000


@pytest.mark.parametrize("claimed", [0, 0xFFFF_FFFF, 0x7FFF_FFFF])
def test_a_size_that_was_never_filled_in_means_all_that_came(claimed: int) -> None:
    assert length(WaveLength(), wave(1_000, size=claimed), 999) == 1_000


def test_a_decoder_hears_no_more_than_is_declared() -> None:
    assert length(WaveLength(), wave(1_000, size=1_600), 999) == 100


def test_the_standard_library_writes_the_same() -> None:
    file = io.BytesIO()
    with standard.open(file, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(3)
        writer.setframerate(44_100)
        writer.writeframes(bytes(6 * 44_100 * 2))
    assert length(WaveLength(), file.getvalue(), 4_096) == 2_000


def test_a_compressed_format_has_its_own_average() -> None:
    body = wave(1_000).replace(
        struct.pack("<HHIIH", 1, 1, 8_000, 16_000, 2),
        struct.pack("<HHIIH", 2, 1, 8_000, 4_000, 256),
    )
    assert length(WaveLength(), body, 50) == 4_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"RIFF\0\0\0\0AVI LIST\0\0\0\0",
        b"XXXX\0\0\0\0WAVEdata\0\0\0\0",
        wave(10)[:30],
        wave(10)[:12] + wave(10)[36:],
        wave(10).replace(b"fmt \x10", b"fmt \x08"),
        wave(10).replace(b"data", b"dada"),
    ],
)
def test_what_is_no_wave_has_no_length(body: bytes) -> None:
    for size in SIZES:
        assert length(WaveLength(), body, size) is None
