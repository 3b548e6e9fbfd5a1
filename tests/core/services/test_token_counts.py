"""Counting tokens costs nothing, whatever a price says."""

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
