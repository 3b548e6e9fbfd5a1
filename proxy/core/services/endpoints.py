"""Which reader each service endpoint's body has.

Rules: one table for JSON, one for forms; an endpoint that is in neither is no service. This module
must not read bodies.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.json_members import Watch
from proxy.core.multipart import FilePart, Sink
from proxy.core.services import (
    embeddings,
    images,
    moderations,
    rerank,
    speech,
    token_counts,
    transcriptions,
)
from proxy.core.services.fields import JsonFields, JsonReader, invalid
from proxy.core.services.forms import FormFields, FormReader
from proxy.core.services.service import RequestReader, ServiceRequest
from proxy.core.sound.length import SoundLength

_FORM: Final = "multipart/form-data"


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


def _recording(endpoint: str, content_type: str, model: str) -> RequestReader:
    sound = SoundLength()

    def watch(file: FilePart) -> Sink | None:
        return sound if file.name == "file" else None

    def read(form: FormFields) -> ServiceRequest:
        return transcriptions.read(form, endpoint, sound)

    return FormReader(content_type, read, watch, model)


def _pictures(endpoint: str, content_type: str, model: str) -> RequestReader:
    def read(form: FormFields) -> ServiceRequest:
        files = [file for file in form.files if file.name.partition("[")[0] == "image"]
        if not files:
            raise invalid("image", "is required: send the image as a file")
        if not all(file.size for file in files):
            raise invalid("image", "is empty: send the whole file")
        return images.read(form, endpoint, len(files))

    return FormReader(content_type, read, lambda _file: None, model)


_FORMS: Final[Mapping[str, Callable[[str, str, str], RequestReader]]] = {
    "images_edits": _pictures,
    "images_variations": _pictures,
    "transcriptions": _recording,
    "translations": _recording,
}

SERVICES: Final = frozenset({*_JSON, *_FORMS, "gemini_count_tokens"})
"""The endpoints this package reads, as values of `core/urls.py:Endpoint`."""


def open_request(endpoint: str, content_type: str, model: str = "") -> RequestReader:
    """Return the reader for a request body.

    `content_type`: the header, empty without one; `model`: the one in the path (Gemini, Azure).
    Raises RelayError for a content type the endpoint cannot be sent in.
    """
    if endpoint == "gemini_count_tokens":
        return token_counts.GeminiCountReader(model)
    is_form = content_type.partition(";")[0].strip(" \t").lower() == _FORM
    if endpoint in _FORMS and (is_form or endpoint not in _JSON):
        return _FORMS[endpoint](endpoint, content_type, model)
    if is_form:
        raise RelayError(
            ErrorCode.INVALID_REQUEST,
            "This endpoint takes a JSON object, but the content type is multipart/form-data.",
        )
    watched, read = _JSON[endpoint]
    return JsonReader(watched, read, model)
