"""Counting a prompt's tokens before it is sent: free of charge, but an answer like any other.

Rules: nothing is used, not even a call, so that no price makes it cost anything. What is counted
is the upstream's to read, but for Gemini's model: it is in the path and, within a
`generateContentRequest`, a second time in the body, where it must be the same and is renamed with
it. This module must not know prompts.

Sources: anthropic-sdk-python `types/message_count_tokens_params.py` (model and messages are
required) and `message_tokens_count.py`; Google's Gemini API reference of models.countTokens (the
model is in the path; `contents` or `generateContentRequest`, whose `model` is `models/{model}`);
zed-industries/zed#29630 (the prefix is required there).
"""

from collections.abc import Mapping
from typing import Final

import orjson

from proxy.core.entities import Usage, UsageSource
from proxy.core.json_members import Member, MemberScanner, Watch
from proxy.core.services.fields import MODEL, JsonFields, JsonReader, NamedModel, invalid, refused
from proxy.core.services.service import ModelPlace, ServiceRequest

_SEEN: Final = Watch(measure=True)
WATCHED: Final = {"model": MODEL, "messages": _SEEN}
_WHOLE: Final = ("generateContentRequest", "generate_content_request")
_GEMINI_WATCHED: Final = {"contents": _SEEN, _WHOLE[0]: Watch(), _WHOLE[1]: Watch()}
_PREFIX: Final = "models/"
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


class GeminiCountReader:
    """Reads a request for Gemini's count of a `model` named in the path; a `RequestReader`.

    A whole request within the body is read by a scanner of its own, for the model it names.
    """

    __slots__ = ("_inner", "_model", "_outer", "_reader", "_whole")

    def __init__(self, model: str) -> None:
        self._model = model
        self._reader = JsonReader(_GEMINI_WATCHED, self._read)
        self._outer: Mapping[str, Member] = self._reader.members
        self._whole: Member | None = None
        self._inner = MemberScanner({"model": MODEL})

    def feed(self, piece: bytes) -> None:
        """Take the next bytes. Raises RelayError."""
        begin = self._reader.size
        self._reader.feed(piece)
        if self._whole is None:
            self._whole = next(filter(None, map(self._outer.get, _WHOLE)), None)
        whole = self._whole
        if whole is None or whole.kind != "object":
            return
        end = len(piece) if whole.end < 0 else max(whole.end - begin, 0)
        self._inner.feed(piece[max(whole.start - begin, 0) : end])
        if self._inner.fault is not None:
            raise refused(self._inner.fault)

    def finish(self) -> ServiceRequest:
        """Say that the body has ended. Raises RelayError."""
        return self._reader.finish()

    def _read(self, fields: JsonFields) -> ServiceRequest:
        if not fields.has("contents") and not any(map(fields.has, _WHOLE)):
            raise invalid("contents", "is required: send an array of contents")
        if all(name in fields.members for name in _WHOLE):
            raise invalid(_WHOLE[0], "is there twice: send it once")
        place = ModelPlace(0, 0)
        named = self._inner.members.get("model")
        if self._whole is not None and named is not None and named.kind != "null":
            name = orjson.loads(named.value) if named.value and named.kind == "string" else ""
            if name.removeprefix(_PREFIX) != self._model.removeprefix(_PREFIX):
                raise invalid(f"{_WHOLE[0]}.model", "must be the model that the path names")
            start = self._whole.start
            place = ModelPlace(start + named.start, start + named.end, prefix=_PREFIX)
        return _request("gemini_count_tokens", NamedModel(self._model, place, given=True))


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
