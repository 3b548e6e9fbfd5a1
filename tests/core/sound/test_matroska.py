"""WebM files last until their last block, or as long as they declare."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.sound.matroska import MatroskaLength
from tests.core.sound.samples import element, length, matroska

SIZES = (1, 9, 200, 100_000)
BLOCKS = ((0, 0), (0, 500), (1_000, -20), (3_000, 940))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("body", "milliseconds"),
    [
        (matroska(None, BLOCKS), 3_940),
        (matroska(9_000.5, BLOCKS), 9_000),
        (matroska(100.0, BLOCKS), 3_940),
        (matroska(-5.0, BLOCKS), 3_940),
        (matroska(float("nan"), BLOCKS), 3_940),
        (matroska(float("inf"), BLOCKS), 3_940),
        (matroska(None, BLOCKS, scale=2_000_000), 7_880),
        (matroska(None, BLOCKS, scale=0), 3_940),
        (matroska(None, BLOCKS, scale=None), 3_940),
        (matroska(77.0, ()), 77),
    ],
)
def test_the_length_is_the_greater_of_the_two(body: bytes, milliseconds: int, size: int) -> None:
    assert length(MatroskaLength(), body, size) == milliseconds


def test_a_short_float_is_read_too() -> None:
    body = element(b"\x44\x89", b"\x42\xc8\0\0") + element(b"\x44\x89", b"\x42\xc8")
    assert length(MatroskaLength(), body[:14], 99) == 100
    assert length(MatroskaLength(), body, 99) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x1a",
        b"\x1a\x45\xdf\xa3",
        b"\x01\x00",
        b"\xa3\x00",
        element(b"\xec", b"", unknown=True) + matroska(9.0, ()),
        element(b"\xa3", b""),
        element(b"\xa3", b"\x00\x00"),
        element(b"\xa3", b"\x81\x00"),
        matroska(None, ()),
    ],
)
def test_what_says_nothing_has_no_length(body: bytes) -> None:
    for size in SIZES:
        assert length(MatroskaLength(), body, size) is None


@given(st.binary(max_size=60), st.integers(1, 9))
def test_any_cut_of_anything_lasts_as_long(body: bytes, size: int) -> None:
    whole = matroska(None, BLOCKS[:2])[:30] + body
    assert length(MatroskaLength(), whole, size) == length(MatroskaLength(), whole, 1_000)
