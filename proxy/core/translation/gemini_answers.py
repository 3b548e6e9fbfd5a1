"""Whole answers of Gemini's generateContent, read into a conversation's.

Rules: of several candidates the first is read; a signature follows its part as thoughts, but one
of a call stands before it; an answer that is not understood, or none, raises and is then the
provider's failure. This module must not know other dialects, streams or billing.

Sources: `proxy/core/translation/gemini_parts.py`.
"""

from collections.abc import Iterable

from proxy.core.deltas import UNREADABLE
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation import gemini_parts
from proxy.core.translation.conversation import (
    Answer,
    Failed,
    Finish,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from proxy.core.translation.gemini_parts import Candidate, Response
from proxy.core.translation.signatures import Place, marked
from proxy.core.usage import UsageTally


def read_answer(body: bytes) -> Answer:
    """Read a whole answer. Raises RelayError 502 for one that is not understood."""
    try:
        found = gemini_parts.read_response(body)
    except UNREADABLE as error:
        raise _not_understood(str(error)) from None
    tally = UsageTally()
    if found.usage_metadata is not None:
        tally.gemini(found.usage_metadata)
    parts, finish = _said(found)
    usage = tally.usage() if tally.seen else None
    return Answer(found.response_id, found.model_version, tuple(parts), finish, usage)


def _said(found: Response) -> tuple[list[Part], Finish]:
    candidate = gemini_parts.first_of(found)
    if candidate is None:
        feedback = found.prompt_feedback
        if feedback is None or not feedback.block_reason:
            raise _not_understood("it has no candidate")
        why = feedback.block_reason_message
        return [Refusal(why)] if why else [], Finish.REFUSED
    _raise(gemini_parts.broken(candidate))
    parts = list(_parts(candidate, found.response_id))
    finish = gemini_parts.FINISHES.get(candidate.finish_reason or "STOP", Finish.STOP)
    if finish is Finish.STOP and any(isinstance(part, ToolCall) for part in parts):
        finish = Finish.TOOLS
    return parts, finish


def _parts(candidate: Candidate, response_id: str) -> Iterable[Part]:
    """The parts; thoughts that follow each other are one, and so is their secret with a call's."""
    thought = ""
    calls = 0
    content = candidate.content or gemini_parts.Content()
    for part in content.parts or ():
        secret = part.thought_signature
        if part.thought:
            thought += part.text or ""
            if secret:
                yield Thinking(thought, marked(Place.THOUGHT, secret))
                thought = ""
            continue
        if part.function_call is not None:
            if thought or secret:
                yield Thinking(thought, marked(Place.CALL, secret) if secret else None)
            thought = ""
            yield gemini_parts.call_of(part.function_call, response_id, calls)
            calls += 1
            continue
        _raise(gemini_parts.not_carried(part))
        if part.text:
            if thought:
                yield Thinking(thought)
            thought = ""
            yield Text(part.text)
        if secret:
            yield Thinking(thought, marked(Place.TEXT, secret))
            thought = ""
    if thought:
        yield Thinking(thought)


def _raise(failed: Failed | None) -> None:
    if failed is not None:
        raise RelayError(ErrorCode.UPSTREAM_ERROR, failed.message)


def _not_understood(why: str) -> RelayError:
    return RelayError(ErrorCode.UPSTREAM_ERROR, f"The provider's answer is not understood: {why}.")
