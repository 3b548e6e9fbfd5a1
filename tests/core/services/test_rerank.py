"""Rerank: units and tokens of a query and its documents."""

import pytest

from proxy.core.entities import Usage
from proxy.core.errors import RelayError
from proxy.core.services import rerank
from proxy.core.services.fields import JsonReader
from proxy.core.services.service import ServiceRequest


def read(query: str, documents: str, extra: str = "") -> ServiceRequest:
    reader = JsonReader(rerank.WATCHED, rerank.read)
    members = [
        '"model":"r"',
        query and f'"query":{query}',
        documents and f'"documents":{documents}',
    ]
    reader.feed(f"{{{','.join(filter(None, members))}{extra}}}".encode())
    return reader.finish()


def test_the_query_is_read_with_every_document() -> None:
    request = read('"1234"', '["12345678",{"text":"1234"}]', ',"top_n":1')
    assert request.usage_known == Usage(input_uncached=2 * 1 + 3, searches=1)
    assert request.usage_max == Usage(input_uncached=2 * 2 + 6 + 16, searches=1)
    assert request.usage_bound == Usage(input_uncached=2 * 4 + 12 + 16, searches=1)


def test_a_hundred_documents_are_one_unit_and_long_ones_count_as_several() -> None:
    many = read('"q"', "[" + ",".join(['"d"'] * 101) + "]")
    assert many.usage_known.searches == 2
    long = read('"q"', '["' + "x" * 100_000 + '"]')
    assert long.usage_known.searches == 1
    assert long.usage_max.searches == 2


@pytest.mark.parametrize(
    ("query", "documents", "extra", "param"),
    [
        ("", '["d"]', "", "query"),
        ("7", '["d"]', "", "query"),
        ("null", '["d"]', "", "query"),
        ('"q"', "", "", "documents"),
        ('"q"', '"d"', "", "documents"),
        ('"q"', "[]", "", "documents"),
        ('"q"', "[1]", "", "documents"),
        ('"q"', '["d",null]', "", "documents"),
        ('"q"', '["d"]', ',"top_n":0', "top_n"),
        ('"q"', '["d"]', ',"top_n":"1"', "top_n"),
    ],
)
def test_what_cannot_be_ranked_is_refused(
    query: str, documents: str, extra: str, param: str
) -> None:
    with pytest.raises(RelayError) as caught:
        read(query, documents, extra)
    assert caught.value.param == param
