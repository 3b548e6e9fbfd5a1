"""Counting tokens costs nothing, whatever a price says."""

import json

import pytest

from proxy.core.entities import Price, Usage
from proxy.core.errors import RelayError
from proxy.core.pricing import charge
from proxy.core.services import endpoints, token_counts
from proxy.core.services.fields import JsonReader
from proxy.core.services.service import Measured, ServiceRequest, bill

MESSAGES = '"messages":[{"role":"user","content":"hi"}]'


def read(body: str) -> ServiceRequest:
    reader = JsonReader(token_counts.WATCHED, token_counts.read)
    reader.feed(body.encode())
    return reader.finish()


def test_a_count_is_free() -> None:
    request = read(f'{{"model":"claude",{MESSAGES}}}')
    price = Price("claude", 1, input=5, call=7)
    billed = bill(request, Measured(Usage(input_uncached=9)), price, complete=True)
    assert billed.usage == Usage(calls=0)
    assert charge(billed.usage, price, 1_000_000) == 0
    assert request.tokens_max == 0


@pytest.mark.parametrize("messages", ["", '"messages":[]', '"messages":"x"', '"messages":null'])
def test_messages_are_required(messages: str) -> None:
    with pytest.raises(RelayError) as caught:
        read(f'{{"model":"claude"{"," * bool(messages)}{messages}}}')
    assert caught.value.param == "messages"


def test_gemini_names_the_model_in_the_path() -> None:
    for body in (b'{"contents":[]}', b'{"generateContentRequest":{"model":"models/g"}}'):
        reader = endpoints.open_request("gemini_count_tokens", "", "g")
        reader.feed(body)
        request = reader.finish()
        assert (request.model, request.edits("g")) == ("g", ())
    reader = endpoints.open_request("gemini_count_tokens", "", "g")
    reader.feed(b"{}")
    with pytest.raises(RelayError, match="`contents` is required"):
        reader.finish()


def counted(body: bytes, model: str = "g", piece: int = 0) -> ServiceRequest:
    reader = endpoints.open_request("gemini_count_tokens", "", model)
    step = piece or len(body)
    for start in range(0, len(body), step):
        reader.feed(body[start : start + step])
    return reader.finish()


@pytest.mark.parametrize("member", ["generateContentRequest", "generate_content_request"])
@pytest.mark.parametrize("piece", [0, 1, 7])
@pytest.mark.parametrize("upstream", ["up-g", 'q"', "tunedModels/t"])
def test_the_model_within_a_whole_request_is_renamed_with_the_path(
    member: str, piece: int, upstream: str
) -> None:
    body = (
        b'{"x":{"model":1},"%s" : {"contents":[{"model":2}], "model" : "models/g","a":{}},"z":[]}'
        % member.encode()
    )
    request = counted(body, piece=piece)
    assert request.edits("g") == ()
    ((start, end, name),) = request.edits(upstream)
    assert body[start:end] == b'"models/g"'
    expected = upstream if "/" in upstream else f"models/{upstream}"
    assert json.loads(name) == expected
    assert json.loads(body[:start] + name + body[end:])[member]["model"] == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"generateContentRequest":{"contents":[]}}',
        b'{"generateContentRequest":{"model":null}}',
        b'{"generateContentRequest":null,"contents":[]}',
        b'{"generateContentRequest":3}',
        b'{"contents":[{"model":"models/other"}]}',
    ],
)
def test_where_no_model_is_named_within_none_is_written(body: bytes) -> None:
    for piece in (0, 1):
        assert counted(body, piece=piece).edits("up-g") == ()


def test_the_path_and_the_body_name_one_model() -> None:
    for said in (b'"g"', b'"models/g"', b'"models\\/g"'):
        for model in ("g", "models/g"):
            body = b'{"generateContentRequest":{"model":%s}}' % said
            assert len(counted(body, model).edits("up-g")) == 1
    for said in (b'"models/other"', b"3", b'""', b'"%s"' % (b"g" * 10_000)):
        with pytest.raises(RelayError, match="the model that the path names") as caught:
            counted(b'{"generateContentRequest":{"model":%s}}' % said)
        assert caught.value.param == "generateContentRequest.model"


def test_what_two_readers_could_read_in_two_ways_is_refused() -> None:
    with pytest.raises(RelayError, match="`model` is there twice"):
        counted(b'{"generateContentRequest":{"model":"models/g","model":"models/h"}}')
    with pytest.raises(RelayError, match="is there twice"):
        counted(b'{"generateContentRequest":{},"generate_content_request":{}}')
    with pytest.raises(RelayError, match="is not valid JSON"):
        counted(b'{"generateContentRequest":{"model":}}', piece=1)
