"""Embeddings: what their input weighs, and which are refused."""

import pytest

from proxy.core.entities import UsageSource
from proxy.core.errors import RelayError
from proxy.core.services import embeddings
from proxy.core.services.fields import JsonReader
from proxy.core.services.service import ServiceRequest

ESTIMATED, COUNTED = UsageSource.ESTIMATED, UsageSource.COUNTED


def read(source: str, extra: str = "") -> ServiceRequest:
    reader = JsonReader(embeddings.WATCHED, embeddings.read)
    reader.feed(f'{{"input":{source},"model":"e"{extra}}}'.encode())
    return reader.finish()


@pytest.mark.parametrize(
    ("source", "held", "known", "bound", "how"),
    [
        ('"hello wor"', 5, 3, 9 + 8, ESTIMATED),
        ('["hell","world"]', 5, 3, 9 + 16, ESTIMATED),
        ("[1,2,3]", 3, 3, 3 + 8, COUNTED),
        ("[[1,2,3],[4]]", 4, 4, 4 + 16, COUNTED),
        ('"日本"', 4, 2, 8 + 8, ESTIMATED),
        ('[{"text":"abcd"},"abcd"]', 4, 2, 8 + 16, ESTIMATED),
        ("[[]]", 1, 1, 8, COUNTED),
    ],
)
def test_the_input_is_weighed(
    source: str, held: int, known: int, bound: int, how: UsageSource
) -> None:
    request = read(source)
    assert request.usage_max.input_uncached == held
    assert request.usage_known.input_uncached == known
    assert request.usage_bound.input_uncached == bound
    assert request.known_source is how
    assert request.model == "e"
    assert request.usage_max.calls == 1


def test_other_members_are_looked_at() -> None:
    assert read('"x"', ',"encoding_format":"base64","dimensions":256,"user":"u"').model == "e"


@pytest.mark.parametrize(
    ("source", "extra", "param"),
    [
        ('""', "", "input"),
        ("[]", "", "input"),
        ("7", "", "input"),
        ("null", "", "input"),
        ("{}", "", "input"),
        ('["a",null]', "", "input"),
        ("[true]", "", "input"),
        ('"a"', ',"encoding_format":1', "encoding_format"),
        ('"a"', ',"dimensions":0', "dimensions"),
        ('"a"', ',"dimensions":"256"', "dimensions"),
    ],
)
def test_what_cannot_be_embedded_is_refused(source: str, extra: str, param: str) -> None:
    with pytest.raises(RelayError) as caught:
        read(source, extra)
    assert caught.value.param == param


def test_input_and_model_are_required() -> None:
    for body, param in ((b'{"model":"e"}', "input"), (b'{"input":"x"}', "model")):
        reader = JsonReader(embeddings.WATCHED, embeddings.read)
        reader.feed(body)
        with pytest.raises(RelayError, match="is required") as caught:
            reader.finish()
        assert caught.value.param == param
