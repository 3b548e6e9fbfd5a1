"""Speech: characters are counted, what is spoken of them is estimated."""

import pytest

from proxy.core.entities import Usage, UsageSource
from proxy.core.errors import RelayError
from proxy.core.services import speech
from proxy.core.services.fields import JsonReader, TextSize
from proxy.core.services.service import ServiceRequest


def read(members: str) -> ServiceRequest:
    reader = JsonReader(speech.WATCHED, speech.read)
    reader.feed(f'{{"model":"tts-1","voice":"alloy"{members}}}'.encode())
    return reader.finish()


def test_characters_are_those_of_the_input_alone() -> None:
    request = read(',"input":"caf\\u00e9 ol\u00e9","instructions":"softly, please"')
    assert request.usage_known.characters == 8
    assert request.usage_max.characters == request.usage_bound.characters == 8
    assert request.units_source is UsageSource.COUNTED
    assert not request.stream


def test_a_minute_of_speech_is_what_the_price_page_says() -> None:
    assert speech.spoken_tokens(TextSize(900, 0)) == 1_250
    assert speech.spoken_tokens(TextSize(0, 250)) == 1_250
    assert speech.spoken_tokens(TextSize(1, 0)) == 2
    text = "x" * 900
    request = read(f',"input":"{text}","instructions":"1234"')
    assert request.usage_known == Usage(input_uncached=226, output=1_250, characters=900)
    assert request.usage_max.output == 2_500
    assert request.usage_bound.output == 5_512
    assert request.usage_bound.input_uncached == 904 + 512


def test_only_sse_is_a_stream_of_events() -> None:
    assert read(',"input":"x","stream_format":"sse"').stream
    assert not read(',"input":"x","stream_format":"audio","response_format":"opus"').stream


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ("", "input"),
        (',"input":null', "input"),
        (',"input":""', "input"),
        (',"input":["x"]', "input"),
        (',"input":"x","instructions":1', "instructions"),
        (',"input":"x","stream_format":true', "stream_format"),
        (',"input":"x","response_format":1', "response_format"),
    ],
)
def test_what_cannot_be_spoken_is_refused(members: str, param: str) -> None:
    with pytest.raises(RelayError) as caught:
        read(members)
    assert caught.value.param == param
