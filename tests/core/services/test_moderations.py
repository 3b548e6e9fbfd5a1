"""Moderations: what their input weighs, and which are refused."""

import pytest

from proxy.core.errors import RelayError
from proxy.core.services import moderations
from proxy.core.services.fields import JsonReader
from proxy.core.services.service import ServiceRequest


def read(body: str) -> ServiceRequest:
    reader = JsonReader(moderations.WATCHED, moderations.read)
    reader.feed(body.encode())
    return reader.finish()


@pytest.mark.parametrize(
    ("source", "held", "known", "bound"),
    [
        ('"hello"', 3, 2, 32_768),
        ('["hello","world"]', 5, 3, 65_536),
        ('[{"type":"text","text":"hello"}]', 5, 3, 32_768),
        ('"' + "x" * 1_000_000 + '"', 32_768, 32_768, 32_768),
        ('""', 0, 0, 32_768),
    ],
)
def test_the_input_is_weighed(source: str, held: int, known: int, bound: int) -> None:
    request = read(f'{{"input":{source},"model":"m"}}')
    assert request.usage_max.input_uncached == held
    assert request.usage_known.input_uncached == known
    assert request.usage_bound.input_uncached == bound


def test_without_a_model_it_is_the_documented_one_and_is_put_in() -> None:
    body = '{"input":"x"}'
    request = read(body)
    assert request.model == "omni-moderation-latest"
    ((start, end, text),) = request.edits("up")
    assert body[:start] + text.decode() + body[end:] == '{"model":"up","input":"x"}'


@pytest.mark.parametrize("source", ["7", "null", "{}", "[]", "[1]", "[null]", '["a",["b"]]'])
def test_what_cannot_be_moderated_is_refused(source: str) -> None:
    with pytest.raises(RelayError) as caught:
        read(f'{{"input":{source}}}')
    assert caught.value.param == "input"


def test_input_is_required() -> None:
    with pytest.raises(RelayError, match="`input` is required"):
        read("{}")
