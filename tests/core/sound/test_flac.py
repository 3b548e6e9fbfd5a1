"""FLAC files last as long as they declare, and as their bytes must."""

import pytest

from proxy.core.sound.flac import FlacLength
from tests.core.sound.samples import flac, length


@pytest.mark.parametrize("size", [1, 5, 100_000])
def test_the_length_is_declared(size: int) -> None:
    assert length(FlacLength(), flac(44_100 * 60), size) == 60_000


def test_a_declaration_too_small_for_the_bytes_is_not_believed() -> None:
    body = flac(44_100, size=10 * 44_100 * 4)
    assert length(FlacLength(), body, 65_536) == 9_000


@pytest.mark.parametrize("body", [b"", b"fLaC", flac(0), b"x" * 60, b"fLaC\x01" + flac(9)[5:]])
def test_what_declares_nothing_has_no_length(body: bytes) -> None:
    assert length(FlacLength(), body, 10) is None
