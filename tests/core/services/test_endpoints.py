"""Each service has its reader."""

import pytest

from proxy.core.entities import ENDPOINTS
from proxy.core.services import endpoints


def test_every_service_is_an_endpoint_of_a_model() -> None:
    assert endpoints.SERVICES <= ENDPOINTS


def test_a_body_is_read_by_its_endpoints_reader() -> None:
    reader = endpoints.open_request("embeddings", "application/json")
    reader.feed(b'{"model":"e","in')
    reader.feed(b'put":"hello"}')
    request = reader.finish()
    assert (request.endpoint, request.model) == ("embeddings", "e")


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("moderations", b'{"input":"x"}'),
        ("rerank", b'{"model":"m","query":"q","documents":["d"]}'),
        ("count_tokens", b'{"model":"m","messages":[{}]}'),
        ("gemini_count_tokens", b'{"contents":[]}'),
        ("speech", b'{"model":"m","input":"x"}'),
        ("images_generations", b'{"prompt":"x"}'),
        ("images_edits", b'{"prompt":"x"}'),
    ],
)
def test_a_request_knows_its_endpoint(endpoint: str, body: bytes) -> None:
    reader = endpoints.open_request(endpoint, "application/json", "g")
    reader.feed(body)
    assert reader.finish().endpoint == endpoint
