"""What Gemini's whole answers and streams share: candidates, their parts, and why they end.

Rules: of several candidates the first is read; parts that only the provider's own tools make are
passed over, since such tools were refused with the request. A picture or sound in an answer is
what no other dialect here can carry, and fails. Calls without an id, as older models make them,
get one that follows from the answer, so that it is the same whenever it is read. This module must
not know other dialects, framing or billing.

Sources: `types.py` of Google's Python SDK google-genai 3.x (Candidate, Part, FinishReason,
GenerateContentResponsePromptFeedback, GenerateContentResponseUsageMetadata); the guide to
thought signatures.
"""

from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Raw, Struct

from proxy.core.translation.conversation import Failed, Finish, ToolCall

FINISHES: Final = {
    "STOP": Finish.STOP,
    "MAX_TOKENS": Finish.LENGTH,
    "CONTINUATION": Finish.LENGTH,
    "SAFETY": Finish.REFUSED,
    "RECITATION": Finish.REFUSED,
    "LANGUAGE": Finish.REFUSED,
    "BLOCKLIST": Finish.REFUSED,
    "PROHIBITED_CONTENT": Finish.REFUSED,
    "SPII": Finish.REFUSED,
    "OTHER": Finish.REFUSED,
    "IMAGE_SAFETY": Finish.REFUSED,
    "IMAGE_PROHIBITED_CONTENT": Finish.REFUSED,
    "IMAGE_RECITATION": Finish.REFUSED,
    "IMAGE_OTHER": Finish.REFUSED,
    "MODEL_ARMOR": Finish.REFUSED,
    "ESCALATION": Finish.REFUSED,
    "PUP_LIMITED_DISABLED": Finish.REFUSED,
}
"""Why an answer ends, where it is an answer; a reason nobody knows yet counts as the end."""
BROKEN: Final = {
    "MALFORMED_FUNCTION_CALL": "its model made a call that is not well formed",
    "UNEXPECTED_TOOL_CALL": "its model called a function that is not among the tools",
    "TOO_MANY_TOOL_CALLS": "its model called too many tools",
    "MALFORMED_RESPONSE": "its model's answer is not well formed",
    "MISSING_THOUGHT_SIGNATURE": "a call in the conversation lacks its thought signature",
    "NO_IMAGE": "its model made no image",
}
"""Why there is no answer; an end in silence would be taken for one."""
_KINDS: Final = {
    "INVALID_ARGUMENT": "invalid_request_error",
    "FAILED_PRECONDITION": "invalid_request_error",
    "PERMISSION_DENIED": "permission_error",
    "NOT_FOUND": "not_found_error",
    "RESOURCE_EXHAUSTED": "rate_limit_error",
    "UNAVAILABLE": "overloaded_error",
    "DEADLINE_EXCEEDED": "timeout_error",
}


class _Blob(Struct, rename="camel"):
    mime_type: str = ""


class FunctionCall(Struct):
    """A call; `id` is there with newer models only."""

    name: str = ""
    args: Raw = Raw(b"{}")
    id: str | None = None


class Part(Struct, rename="camel"):
    """One part of a candidate's content; `thought`: its text is what the model thought."""

    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    inline_data: _Blob | None = None
    file_data: _Blob | None = None


class Content(Struct):
    """What a candidate says, in one event or in all."""

    parts: list[Part] | None = None


class Candidate(Struct, rename="camel"):
    """One of the answers asked for."""

    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int = 0


class PromptFeedback(Struct, rename="camel"):
    """Why a prompt was not answered."""

    block_reason: str | None = None
    block_reason_message: str | None = None


class Response(Struct, rename="camel"):
    """A GenerateContentResponse: a whole answer, or one event of a stream."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: object = None
    model_version: str = ""
    response_id: str = ""
    error: object = None


_read = msgspec.json.Decoder(Response).decode


def read_response(data: bytes) -> Response:
    """Decode a response. Raises msgspec.DecodeError for one that is not understood."""
    return _read(data)


def first_of(response: Response) -> Candidate | None:
    """The first candidate, if it is there."""
    for candidate in response.candidates or ():
        if not candidate.index:
            return candidate
    return None


def call_of(call: FunctionCall, response_id: str, place: int) -> ToolCall:
    """A call; `place` is its place among those of its answer."""
    arguments = bytes(call.args) or b"{}"
    if arguments == b"null":
        arguments = b"{}"
    call_id = call.id
    if not call_id:
        seed = b"\0".join([response_id.encode(), call.name.encode(), arguments, b"%d" % place])
        call_id = f"call_{blake2b(seed, digest_size=12).hexdigest()}"
    return ToolCall(call_id, call.name, arguments.decode())


def broken(candidate: Candidate) -> Failed | None:
    """The failure that stands in a candidate's finish reason, if one does."""
    reason = candidate.finish_reason or ""
    why = BROKEN.get(reason)
    if why is None:
        return None
    said = f" {candidate.finish_message}" if candidate.finish_message else ""
    return Failed("api_error", f"The provider gave no answer: {why} ({reason}).{said}")


def not_carried(part: Part) -> Failed | None:
    """The failure that a part is, if no other dialect has its like."""
    blob = part.inline_data or part.file_data
    if blob is None:
        return None
    kind = blob.mime_type or "unknown type"
    return Failed(
        "api_error",
        f"The model answered with a file ({kind}), which only Gemini's own protocol carries: ask "
        "for it at /v1beta/models.",
    )


def failure(error: object) -> Failed:
    """An error object of this dialect, or whatever else stood in its place."""
    if isinstance(error, dict):
        message, status = error.get("message"), str(error.get("status"))
        kind = _KINDS.get(status, "api_error")
        return Failed(kind, str(message or "The provider reported an error."))
    return Failed("api_error", "The provider reported an error.")
