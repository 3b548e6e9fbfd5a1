"""Events of a Gemini stream as they pass or are translated: texts, usage, why it ends, errors.

Rules: as for core/deltas.py: never raises, and refuses nothing a sane upstream sends. Every event
is a whole response with what is new in it, and the usage so far; a call comes whole. No event ends
a stream: it is complete when every candidate has its reason, or the prompt was blocked, and the
body ends. This module must not know framing, billing or translation.

Sources: `types.py` of Google's Python SDK google-genai 3.x (GenerateContentResponse, Candidate,
Part), its `_api_client.py` for errors inside a stream; Google's guide to grounding with its search
(`ai.google.dev/gemini-api/docs/google-search`) for what is billed of it.
"""

from typing import Final

import msgspec
from msgspec import Raw, Struct

from proxy.core.deltas import (
    UNREADABLE,
    RunKey,
    arguments_text,
    as_dict,
    as_index,
    as_list,
    as_reason,
    countable_text,
    load_object,
)
from proxy.core.metering import Meter
from proxy.core.sights import FAILED, GARBAGE, Sight
from proxy.core.usage_reports import SEARCHES

EVENT_BYTES_MAX: Final = 32 << 20
"""A picture comes in one event, which holds the usage too: none passes in parts."""
BLOCKED: Final = "BLOCKED"
"""Why an answer ends that never began, where the provider does not say."""
_ONCE_A_PROMPT: Final = ("gemini-1", "gemini-2")
"""Models whose searches Google bills once for a prompt; with later ones each query counts."""
_NO_ARGUMENTS: Final = (b"", b"{}", b"null")


class _Call(Struct, frozen=True, gc=False):
    name: str = ""
    args: Raw = Raw(b"")


class _Code(Struct, frozen=True, gc=False):
    code: str = ""


class _Part(Struct, frozen=True, gc=False, rename="camel"):
    text: str = ""
    thought: bool = False
    function_call: _Call | None = None
    executable_code: _Code | None = None
    inline_data: object = None
    file_data: object = None
    code_execution_result: object = None


class _Content(Struct, frozen=True, gc=False):
    parts: tuple[_Part, ...] | None = None


class _Grounding(Struct, frozen=True, gc=False, rename="camel"):
    web_search_queries: tuple[object, ...] = ()


class _Candidate(Struct, frozen=True, gc=False, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int = 0
    grounding_metadata: _Grounding | None = None


class _Feedback(Struct, frozen=True, gc=False, rename="camel"):
    block_reason: str | None = None


class GeminiEvent(Struct, frozen=True, gc=False, rename="camel"):
    """One event, or a whole plain answer, as far as it concerns a relay."""

    candidates: tuple[_Candidate, ...] | None = None
    usage_metadata: object = None
    prompt_feedback: _Feedback | None = None
    model_version: str = ""
    error: object = None


_decode: Final = msgspec.json.Decoder(GeminiEvent).decode


def gemini_event(data: bytes) -> GeminiEvent | None:
    """Decode one event's data or a plain answer, None if it is no object; never raises."""
    try:
        return _decode(data)
    except UNREADABLE:
        value = load_object(data)
        return None if value is None else _tolerant(value)


class GeminiEvents:
    """Looks at the events of one stream of `choices` candidates."""

    __slots__ = ("_choices",)

    def __init__(self, choices: int) -> None:
        self._choices = choices

    def take(self, _data: bytes, _start: int, _stop: int, _meter: Meter) -> bool:
        """Nothing: every event brings usage, which only a closer look takes."""
        return False

    def runs(self, data: bytes) -> tuple[tuple[RunKey, str], ...]:
        """The countable texts of one event's data."""
        event = gemini_event(data)
        return () if event is None else event_runs(event)

    def ends(self, _name: str, _data: bytes) -> bool:
        """Never: nothing but its body ends a stream of this form."""
        return False

    def see(self, name: str, data: bytes) -> Sight:
        """What an event means."""
        event = gemini_event(data)
        if event is None:
            return FAILED if name == "error" else GARBAGE
        if event.error:
            return FAILED
        finished = endings(event, self._choices)
        return Sight(
            event_runs(event),
            usage=reported(event),
            finished=finished,
            content=any(_is_content(part) for part in _parts(event)),
        )


def endings(event: GeminiEvent, choices: int) -> tuple[tuple[int, str], ...]:
    """The candidates that end here and why; all `choices` of them if the prompt was blocked."""
    found = tuple(
        [(one.index, one.finish_reason) for one in event.candidates or () if one.finish_reason]
    )
    feedback = event.prompt_feedback
    if found or event.candidates or feedback is None or not feedback.block_reason:
        return found
    return tuple([(choice, feedback.block_reason or BLOCKED) for choice in range(choices)])


def reported(event: GeminiEvent) -> object:
    """The usage report, with the searches that stand beside it; None where there is none."""
    usage = event.usage_metadata
    found = [one.grounding_metadata for one in event.candidates or () if one.grounding_metadata]
    searches = sum([len(one.web_search_queries) for one in found])
    if not searches or not isinstance(usage, dict):
        return usage
    if event.model_version.startswith(_ONCE_A_PROMPT):
        searches = 1
    return {**usage, SEARCHES: searches}


def event_runs(event: GeminiEvent) -> tuple[tuple[RunKey, str], ...]:
    """The countable texts of an event; signatures and pictures are none."""
    found: list[tuple[RunKey, str]] = []
    for candidate in event.candidates or ():
        content = candidate.content
        for part in () if content is None else content.parts or ():
            if part.text:
                kind = "reasoning" if part.thought else "text"
                found.append(((candidate.index, kind, 0), part.text))
            call, code = part.function_call, part.executable_code
            if call is not None:
                given = bytes(call.args)
                text = "" if given in _NO_ARGUMENTS else given.decode("utf-8", "replace")
                if call.name or text:
                    found.append(((candidate.index, "tool", 0), call.name + text))
            if code is not None and code.code:
                found.append(((candidate.index, "code", 0), code.code))
    return tuple(found)


def _parts(event: GeminiEvent) -> list[_Part]:
    return [
        part
        for candidate in event.candidates or ()
        if candidate.content is not None
        for part in candidate.content.parts or ()
    ]


def _is_content(part: _Part) -> bool:
    """Whether a part is worth showing though it may have no text."""
    return not (part.inline_data is part.file_data is part.code_execution_result is None)


def _tolerant(value: dict[str, object]) -> GeminiEvent:
    """Read an event whose types surprise."""
    feedback = as_dict(value.get("promptFeedback"))
    return GeminiEvent(
        candidates=tuple(
            [_tolerant_candidate(as_dict(one)) for one in as_list(value.get("candidates"))]
        ),
        usage_metadata=value.get("usageMetadata"),
        model_version=countable_text(value.get("modelVersion")),
        prompt_feedback=_Feedback(as_reason(feedback.get("blockReason"))),
        error=value.get("error"),
    )


def _tolerant_candidate(value: dict[str, object]) -> _Candidate:
    parts = []
    for one in as_list(as_dict(value.get("content")).get("parts")):
        part = as_dict(one)
        call, code = part.get("functionCall"), part.get("executableCode")
        arguments = arguments_text(as_dict(call).get("args"))
        parts.append(
            _Part(
                text=countable_text(part.get("text")),
                thought=bool(part.get("thought")),
                function_call=_Call(
                    countable_text(as_dict(call).get("name")),
                    Raw(arguments.encode("utf-8", "replace")),
                )
                if call
                else None,
                executable_code=_Code(countable_text(as_dict(code).get("code"))) if code else None,
                inline_data=part.get("inlineData"),
                file_data=part.get("fileData"),
                code_execution_result=part.get("codeExecutionResult"),
            )
        )
    return _Candidate(
        _Content(tuple(parts)),
        as_reason(value.get("finishReason")),
        as_index(value.get("index")),
        _Grounding(tuple(as_list(as_dict(value.get("groundingMetadata")).get("webSearchQueries")))),
    )
