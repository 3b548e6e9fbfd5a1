"""Recordings weigh what their bytes say they last."""

import pytest

from proxy.core.entities import Usage, UsageSource
from proxy.core.errors import RelayError
from proxy.core.services import endpoints, transcriptions
from proxy.core.services.service import ServiceRequest
from tests.core.sound import samples


def read(file: bytes, *fields: tuple[str, str], endpoint: str = "transcriptions") -> ServiceRequest:
    head = '--B\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
    body = head.format("file", '; filename="a.wav"').encode() + file + b"\r\n"
    for name, value in (("model", "whisper-1"), *fields):
        body += head.format(name, "").encode() + value.encode() + b"\r\n"
    reader = endpoints.open_request(endpoint, "multipart/form-data; boundary=B")
    reader.feed(body + b"--B--\r\n")
    return reader.finish()


def test_a_recording_lasts_as_long_as_it_says() -> None:
    request = read(samples.wave(60_000), ("prompt", "12345678"))
    assert request.usage_known == Usage(
        input_uncached=2, audio_input=600, output=240, audio_ms=60_000
    )
    assert request.usage_max == Usage(
        input_uncached=4 + 256, audio_input=610, output=488 + 256, audio_ms=61_000
    )
    # 960,044 bytes at 8 kbit/s are 16 minutes, and a minute on top.
    assert request.usage_bound.audio_ms == 1_020_044
    assert request.units_source is UsageSource.COUNTED
    assert not request.stream


def test_an_unknown_recording_is_bounded_by_its_size() -> None:
    request = read(b"?" * 8_000)
    assert request.usage_known.audio_ms == 8_000_000 // transcriptions.BYTES_A_SECOND
    assert request.usage_max.audio_ms == 8_000
    assert request.usage_bound.audio_ms == 76_000
    assert request.units_source is UsageSource.ESTIMATED


def test_only_a_transcription_can_be_a_stream() -> None:
    assert read(b"?", ("stream", "true")).stream
    assert not read(b"?", ("stream", "true"), endpoint="translations").stream


@pytest.mark.parametrize("name", ["response_format", "language", "prompt", "stream"])
def test_a_field_is_there_once(name: str) -> None:
    with pytest.raises(RelayError) as caught:
        read(b"?", (name, "a"), (name, "b"))
    assert caught.value.param == name


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(RelayError, match="`file` is empty"):
        read(b"")
