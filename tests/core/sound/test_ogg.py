"""Ogg files last until where their last page has come."""

import pytest

from proxy.core.sound.ogg import OggLength
from tests.core.sound.samples import FLAC_IN_OGG, OPUS, SPEEX, VORBIS, length, ogg, page

SIZES = (1, 13, 300, 100_000)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("head", "position", "milliseconds"),
    [
        (OPUS, 48_000 * 3 + 312, 3_000),
        (VORBIS, 44_100 * 2, 2_000),
        (SPEEX, 16_000, 1_000),
        (FLAC_IN_OGG, 44_100 * 4, 4_000),
    ],
)
def test_the_length_is_where_the_sound_ends(
    head: bytes, position: int, milliseconds: int, size: int
) -> None:
    assert length(OggLength(), ogg(head, position), size) == milliseconds


@pytest.mark.parametrize("size", SIZES)
def test_only_the_first_stream_of_sound_counts(size: int) -> None:
    video = page(0, b"\x80theora" + b"\0" * 40, flags=2, serial=1)
    other = page(0, OPUS, flags=2, serial=9) + page(48_000 * 99, b"x", serial=9)
    body = video + ogg(VORBIS, 44_100) + other + page(44_100 * 50, b"x", serial=1)
    assert length(OggLength(), body, size) == 1_000


@pytest.mark.parametrize("size", SIZES)
def test_what_is_no_page_is_passed_over(size: int) -> None:
    body = ogg(OPUS, 48_312) + b"OgOggjunk" * 9 + page(48_000 * 2 + 312, b"x")
    assert length(OggLength(), body, size) == 2_000


def test_a_page_on_which_nothing_ends_has_no_position() -> None:
    assert length(OggLength(), ogg(OPUS, 48_312) + page(-1, b"x"), 99) == 1_000


@pytest.mark.parametrize(
    "body", [b"", b"OggS", b"junk", ogg(b"unknown", 9), page(0, OPUS, flags=2)]
)
def test_without_sound_there_is_no_length(body: bytes) -> None:
    assert length(OggLength(), body, 7) is None
