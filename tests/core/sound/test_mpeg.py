"""MPEG and ADTS sound lasts as long as its frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.sound.mpeg import MpegLength
from tests.core.sound.samples import adts, length, mpeg

SIZES = (1, 3, 64, 100_000)
TAG = b"ID3\x04\x00\x00\x00\x00\x01\x00" + b"\xff\xfb\x90\x00" * 32
SECOND = 39  # frames, and a bit


@pytest.mark.parametrize("size", SIZES)
def test_the_length_is_that_of_all_frames(size: int) -> None:
    assert length(MpegLength(), mpeg(SECOND), size) == 1_019
    assert length(MpegLength(), adts(43), size) == 999


@pytest.mark.parametrize("size", SIZES)
def test_tags_are_passed_over(size: int) -> None:
    assert length(MpegLength(), TAG + mpeg(SECOND), size) == 1_019
    footer = TAG[:5] + b"\x10" + TAG[6:] + b"3DI\x04\x00\x10\x00\x00\x01\x00"
    assert length(MpegLength(), footer + mpeg(SECOND), size) == 1_019
    assert length(MpegLength(), mpeg(SECOND) + b"TAG" + b"x" * 125, size) == 1_019


@pytest.mark.parametrize("size", SIZES)
def test_what_is_no_frame_is_passed_over(size: int) -> None:
    junk = (
        b"\0\0IIDI\0\xff\x00\xff\xff\xff\0\0\0"
        b"\xff\xf1\xfc\x00\x00\x00\x00"
        b"\xff\xf1\x50\x00\x00\x00\x00"
    )
    assert length(MpegLength(), junk + mpeg(SECOND), size) == 1_019
    assert length(MpegLength(), b"\0ab" + TAG + mpeg(SECOND), size) == 1_019
    assert length(MpegLength(), mpeg(20) + b"\0\0" + mpeg(19), size) == 1_019


@pytest.mark.parametrize(
    ("header", "size", "samples", "rate"),
    [
        (b"\xff\xff\x18\x00", 32, 384, 32_000),  # layer I, 32 kbit/s
        (b"\xff\xfd\x14\x00", 96, 1_152, 48_000),  # layer II
        (b"\xff\xf3\x10\x00", 26, 576, 22_050),  # MPEG 2 layer III, 8 kbit/s
        (b"\xff\xe3\x18\x00", 72, 576, 8_000),  # MPEG 2.5
        (b"\xff\xfb\x92\x00", 418, 1_152, 44_100),  # padded
    ],
)
def test_every_kind_of_frame_has_its_size(
    header: bytes, size: int, samples: int, rate: int
) -> None:
    if header[1] == 0xFF:
        size = 12 * 32_000 // 32_000 * 4
    body = (header + bytes(size - 4)) * 500
    assert length(MpegLength(), body, 1_000) == -(-500 * samples * 1_000 // rate)


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"\xff\xfb", b"ID3", b"no sound at all", b"\xff\xf1\x50"]
)
def test_without_a_frame_there_is_no_length(body: bytes) -> None:
    assert length(MpegLength(), body, 2) is None


PIECES = st.lists(
    st.sampled_from(
        [b"\xff", b"I", b"ID3", b"\xff\xfb\x90\x00", b"\xff\xf1\x50\x80", b"\0", b"\x10"]
    ),
    max_size=40,
).map(b"".join)


@given(PIECES, st.integers(1, 9))
def test_any_cut_of_anything_lasts_as_long(body: bytes, size: int) -> None:
    assert length(MpegLength(), body, size) == length(MpegLength(), body, len(body) + 1)
