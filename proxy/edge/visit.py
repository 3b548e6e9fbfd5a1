"""What follows from a request's head alone: worked out once for all requests that begin alike.

A client sends the same head with every call, so the connection's memory of heads keeps this with
it (`RequestHead.memo`). This module must not know bodies, nor anything that changes.
"""

from typing import Final

from proxy.core.asks import asks_anything
from proxy.core.entities import Dialect, Wire
from proxy.core.http1_request import RequestHead
from proxy.core.services.endpoints import SERVICES
from proxy.core.urls import Endpoint, deployment_name, dialect_of, model_name, resolve

REFERENCE_CHARS_MAX: Final = 128

_ANTHROPIC: Final = Dialect.ANTHROPIC

_CALLS: Final = {
    Endpoint.CHAT: Wire.CHAT,
    Endpoint.MESSAGES: Wire.MESSAGES,
    Endpoint.RESPONSES: Wire.RESPONSES,
    Endpoint.COMPLETIONS: Wire.COMPLETIONS,
    Endpoint.GEMINI_GENERATE: Wire.GEMINI,
    Endpoint.GEMINI_STREAM: Wire.GEMINI,
}
"""The form of the bodies of each endpoint that is a call."""

FORWARDED_HEADERS: Final = (
    "anthropic-version",
    "anthropic-beta",
    "openai-beta",
    "accept-language",
    "x-stainless-helper-method",
)
"""Request headers that go on; everything else stays here, credentials above all."""


class Visit:
    """What follows from a request's head alone, worked out once for all that look the same."""

    __slots__ = (
        "asking", "deployment", "dialect", "digest", "endpoint", "endpoint_name", "forwarded",
        "id_line", "is_browsers", "is_call", "is_passed_on", "is_service", "model", "reference",
        "streams", "wire",
    )  # fmt: skip

    def __init__(self, head: RequestHead) -> None:
        self.endpoint = resolve(head.path)
        self.wire = None if self.endpoint is None else _CALLS.get(self.endpoint)
        self.is_call = head.method == "POST" and self.wire is not None
        self.is_service = head.method == "POST" and self.endpoint in SERVICES
        self.is_browsers = "origin" in head.values
        self.is_passed_on = "x-forwarded-for" in head.values
        """Whether it says who asked somebody in front of us."""
        self.endpoint_name = "other" if self.endpoint is None else self.endpoint.value
        self.dialect = dialect_of(
            head.path,
            anthropic_version="anthropic-version" in head.values,
            google_key="x-goog-api-key" in head.values,
        )
        self.model = model_name(head.path) if self.wire is Wire.GEMINI else ""
        """What a path names that also says whether to stream (`streams`)."""
        self.streams = self.endpoint is Endpoint.GEMINI_STREAM
        self.deployment = deployment_name(head.path)
        """The model an Azure client's path names, for a body that names none."""
        reference = head.get("x-request-id")
        self.reference = None if reference is None else reference[:REFERENCE_CHARS_MAX]
        """The caller's own id for this call, stored and never trusted."""
        self.id_line = "request-id: " if self.dialect is _ANTHROPIC else "x-request-id: "
        """The line of the answer's head that says ours, but for the id."""
        self.digest = b""
        """Of the key it carries, once that was found well-formed."""
        self.asking = asks_anything(head.values)
        """Whether it asks something of the relay itself (core/asks.py)."""
        self.forwarded = tuple(
            [
                (name, value)
                for name in FORWARDED_HEADERS
                if (value := head.get(name)) is not None and value.isascii() and value.isprintable()
            ]
        )
