"""MP4 files last as long as their movie header says, wherever it is."""

import struct

import pytest

from proxy.core.sound.mp4 import Mp4Length
from tests.core.sound.samples import box, length, mp4, mvhd

SIZES = (1, 11, 500, 100_000)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("long", [False, True])
def test_the_length_is_in_the_movie_header(size: int, *, last: bool, long: bool) -> None:
    assert length(Mp4Length(), mp4(90_500, last=last, long=long), size) == 90_500
    assert length(Mp4Length(), mp4(3, scale=2, last=last, long=long), size) == 1_500


@pytest.mark.parametrize("size", SIZES)
def test_a_file_in_fragments_may_say_it_in_the_extension(size: int) -> None:
    for content in (bytes(4) + struct.pack(">I", 7_000), b"\x01\0\0\0" + struct.pack(">Q", 7_000)):
        movie = box(b"moov", mvhd(1_000, 0) + box(b"mvex", box(b"mehd", content)))
        assert length(Mp4Length(), movie + box(b"moof", b"\0" * 90), size) == 7_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        box(b"ftyp", b"M4A "),
        mp4(0),
        mp4(0xFFFF_FFFF),
        mp4(5, scale=0),
        mp4(5, last=True)[:-400],
        box(b"ftyp", b"M4A ") + struct.pack(">I4s", 0, b"mdat") + mp4(5),
        struct.pack(">I4s", 7, b"mdat") + mp4(5),
        struct.pack(">I4s", 1, b"mdat"),
    ],
)
def test_what_is_not_said_is_not_known(body: bytes) -> None:
    for size in SIZES:
        assert length(Mp4Length(), body, size) is None
