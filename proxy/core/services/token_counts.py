"""Counting a prompt's tokens before it is sent: free of charge, but an answer like any other.

Rules: nothing is used, not even a call, so that no price makes it cost anything. What is counted
is the upstream's to read. This module must not know prompts.

Sources: anthropic-sdk-python `types/message_count_tokens_params.py` (model and messages are
required) and `message_tokens_count.py`; Google's Gemini API reference of models.countTokens (the
model is in the path; `contents` or `generateContentRequest`).
"""

from typing import Final

from proxy.core.entities import Usage, UsageSource
from proxy.core.json_members import Watch
from proxy.core.services.fields import MODEL, JsonFields, NamedModel, invalid
from proxy.core.services.service import ModelPlace, ServiceRequest

_SEEN: Final = Watch(measure=True)
WATCHED: Final = {"model": MODEL, "messages": _SEEN}
GEMINI_WATCHED: Final = {"contents": _SEEN, "generateContentRequest": _SEEN}
_NOTHING: Final = Usage(calls=0)


def read(fields: JsonFields) -> ServiceRequest:
    """Read a request for Anthropic's count. Raises RelayError."""
    model = fields.model()
    messages = fields.members.get("messages")
    if messages is None:
        raise invalid("messages", "is required: send an array of messages")
    if messages.kind != "array" or not messages.elements:
        raise invalid("messages", "must be an array of at least one message")
    return _request("count_tokens", model)


def read_gemini(fields: JsonFields, model: str) -> ServiceRequest:
    """Read a request for Gemini's count of a `model` named in the path. Raises RelayError."""
    if not fields.has("contents") and not fields.has("generateContentRequest"):
        raise invalid("contents", "is required: send an array of contents")
    return _request("gemini_count_tokens", NamedModel(model, ModelPlace(0, 0), given=True))


def _request(endpoint: str, model: NamedModel) -> ServiceRequest:
    return ServiceRequest(
        endpoint=endpoint,
        model=model.name,
        place=model.place,
        model_given=model.given,
        usage_max=_NOTHING,
        usage_bound=_NOTHING,
        usage_known=_NOTHING,
        known_source=UsageSource.COUNTED,
    )
