"""Each service has its reader."""

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
