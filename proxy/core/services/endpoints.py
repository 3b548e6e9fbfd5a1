"""Which reader each service endpoint's body has.

Rules: one table; an endpoint that is not in it is no service. This module must not read bodies.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from proxy.core.json_members import Watch
from proxy.core.services import embeddings, images, moderations, rerank, speech, token_counts
from proxy.core.services.fields import JsonFields, JsonReader
from proxy.core.services.service import RequestReader, ServiceRequest


def _images(endpoint: str, fields: JsonFields) -> ServiceRequest:
    given = fields.members.get("images")
    return images.read(fields, endpoint, 0 if given is None else given.elements)


_Reading = tuple[Mapping[str, Watch], Callable[[JsonFields], ServiceRequest]]
_JSON: Final[Mapping[str, _Reading]] = {
    "embeddings": (embeddings.WATCHED, embeddings.read),
    "moderations": (moderations.WATCHED, moderations.read),
    "rerank": (rerank.WATCHED, rerank.read),
    "count_tokens": (token_counts.WATCHED, token_counts.read),
    "speech": (speech.WATCHED, speech.read),
    "images_generations": (images.WATCHED, partial(_images, "images_generations")),
    "images_edits": (images.WATCHED, partial(_images, "images_edits")),
}

SERVICES: Final = frozenset(_JSON) | {"gemini_count_tokens"}
"""The endpoints this package reads, as values of `core/urls.py:Endpoint`."""


def open_request(endpoint: str, content_type: str, model: str = "") -> RequestReader:
    """Return the reader for a request body.

    `content_type`: the header, empty without one; `model`: the one in the path (Gemini).
    Raises RelayError for a content type the endpoint cannot be sent in.
    """
    del content_type
    if endpoint == "gemini_count_tokens":
        return JsonReader(
            token_counts.GEMINI_WATCHED, lambda fields: token_counts.read_gemini(fields, model)
        )
    watched, read = _JSON[endpoint]
    return JsonReader(watched, read)
