"""Any recording is told by its first bytes, and lasts as long however it was cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.sound.length import SoundLength
from tests.core.sound import samples
from tests.core.sound.samples import length

RECORDINGS = {
    "wav": (samples.wave(1_000), 1_000),
    "rf64": (samples.wave(1_000, size=0xFFFF_FFFF).replace(b"RIFF", b"RF64", 1), 1_000),
    "mp3": (samples.mpeg(10), 262),
    "mp3 with a tag": (b"ID3\x04\0\0\0\0\0\x05hello" + samples.mpeg(10), 262),
    "aac": (samples.adts(10), 233),
    "flac": (samples.flac(44_100), 1_000),
    "ogg": (samples.ogg(samples.OPUS, 48_312), 1_000),
    "m4a": (samples.mp4(1_234), 1_234),
    "mov": (samples.mp4(1_234)[16:], 1_234),
    "webm": (samples.matroska(None, ((0, 0), (0, 980))), 980),
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_is_told_by_its_first_bytes(name: str) -> None:
    body, milliseconds = RECORDINGS[name]
    for size in (1, 5, 12, 13, 1_000, len(body)):
        meter = SoundLength()
        assert length(meter, body, size) == milliseconds
        assert meter.size == len(body)


@pytest.mark.parametrize("body", [b"", b"RIFF", b"no sound at all", b"{" * 100, b"%PDF-1.7" * 9])
def test_what_is_none_has_no_length(body: bytes) -> None:
    for size in (1, 5, 1_000):
        meter = SoundLength()
        assert length(meter, body, size) is None
        assert meter.size == len(body)


MARKS = st.sampled_from([body[:16] for body, _ in RECORDINGS.values()])


@given(MARKS, st.binary(max_size=120), st.integers(1, 30))
def test_nothing_raises_and_cuts_do_not_matter(mark: bytes, rest: bytes, size: int) -> None:
    body = mark + rest
    assert length(SoundLength(), body, size) == length(SoundLength(), body, len(body))
