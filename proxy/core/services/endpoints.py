"""Which reader each service endpoint's body has.

Rules: one table; an endpoint that is not in it is no service. This module must not read bodies.
"""

from collections.abc import Callable, Mapping
from typing import Final

from proxy.core.json_members import Watch
from proxy.core.services import embeddings
from proxy.core.services.fields import JsonFields, JsonReader
from proxy.core.services.service import RequestReader, ServiceRequest

_JSON: Final[Mapping[str, tuple[Mapping[str, Watch], Callable[[JsonFields], ServiceRequest]]]] = {
    "embeddings": (embeddings.WATCHED, embeddings.read),
}

SERVICES: Final = frozenset(_JSON)
"""The endpoints this package reads, as values of `core/urls.py:Endpoint`."""


def open_request(endpoint: str, content_type: str) -> RequestReader:
    """Return the reader for a request body. `content_type`: the header, empty without one.

    Raises RelayError for a content type the endpoint cannot be sent in.
    """
    del content_type
    watched, read = _JSON[endpoint]
    return JsonReader(watched, read)
