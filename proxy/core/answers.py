"""What a plain (not streamed) answer says: usage, how it ended, and the text it holds.

Rules: as for streams (`proxy.core.deltas`): typed first, tolerant second, never raises. An
answer that reports its usage as documented is decoded for that alone; its texts are skipped, and
read only when somebody has to count them. This module must not know prices or sockets.

Sources: WIRE.md sections 1, 3 and 5; `proxy/core/gemini_events.py`.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.structs import replace

from proxy.core.deltas import (
    FINISH_REASON_CHARACTERS_MAX,
    UNREADABLE,
    OpenAIChoice,
    OpenAIChunk,
    OpenAIDelta,
    arguments_text,
    as_dict,
    as_list,
    as_reason,
    chunk_of,
    countable_text,
    is_set,
    load_object,
    openai_runs,
    well_formed,
)
from proxy.core.entities import Usage, Wire
from proxy.core.gemini_events import endings, event_runs, gemini_event, reported
from proxy.core.response_events import ANSWER_ID_CHARS_MAX, output_runs, reason_of, with_searches
from proxy.core.usage import UsageTally, bare_of, bare_of_message
from proxy.core.usage_reports import AnthropicReport, OpenAIReport


class PlainReading(Struct, frozen=True, gc=False):
    """One plain answer."""

    readable: bool
    """False when the body is not a JSON object: nothing else is known then."""
    error: bool
    """A truthy `error` inside a 2xx."""
    reported: UsageTally | Usage
    """What the provider said of its usage; nearly always but a prompt and a completion."""
    finish_reason: str | None
    """Of the last choice that gave one."""
    read_texts: Callable[[bytes], tuple[str, ...]]
    body: bytes
    answer_id: str = ""
    """Under which name the provider keeps the answer, where its form says so."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All countable texts, to be tokenised apart and counted when usage is missing."""
        return self.read_texts(self.body)

    @property
    def tally(self) -> UsageTally:
        """What was reported, as it is kept of any call."""
        reported = self.reported
        return UsageTally.of_bare(reported) if isinstance(reported, Usage) else reported


_Reason: TypeAlias = Annotated[str, Meta(max_length=FINISH_REASON_CHARACTERS_MAX)]


class _Ending(Struct, frozen=True, gc=False):
    finish_reason: _Reason | None = None


class _OpenAIFigures(Struct, frozen=True, gc=False):
    choices: tuple[_Ending, ...] = ()
    usage: OpenAIReport | None = None
    error: object = None


class _AnthropicFigures(Struct, frozen=True, gc=False):
    stop_reason: _Reason | None = None
    usage: AnthropicReport | None = None
    error: object = None


class _AnswerChoice(OpenAIChoice, frozen=True, gc=False):
    delta: OpenAIDelta | None = msgspec.field(default=None, name="message")


class _Answer(OpenAIChunk, frozen=True, gc=False):
    choices: tuple[_AnswerChoice, ...] = ()


_NO_INPUT: Final = Raw(b"{}")


class _Part(Struct, frozen=True, gc=False):
    text: str | None = None
    thinking: str | None = None
    name: str | None = None
    input: Raw = _NO_INPUT


class _Message(Struct, frozen=True, gc=False):
    content: tuple[_Part, ...] = ()
    stop_reason: str | None = None
    usage: object = None
    error: object = None


class _ResponsesFigures(Struct, frozen=True, gc=False):
    id: str = ""
    status: str | None = None
    incomplete_details: object = None
    usage: object = None
    error: object = None


_decode_openai_figures: Final = msgspec.json.Decoder(_OpenAIFigures).decode
_decode_anthropic_figures: Final = msgspec.json.Decoder(_AnthropicFigures).decode
_decode_answer: Final = msgspec.json.Decoder(_Answer).decode
_decode_message: Final = msgspec.json.Decoder(_Message).decode
_decode_responses_figures: Final = msgspec.json.Decoder(_ResponsesFigures).decode


def plain_usage(body: bytes, wire: Wire) -> PlainReading:
    """Read a whole response body in the form `wire`; never raises."""
    return READINGS[wire](body)


def _openai(body: bytes) -> PlainReading:
    try:
        figures = _decode_openai_figures(body)
    except UNREADABLE:
        return _openai_at_leisure(body)
    report, error, reason = figures.usage, figures.error, None
    reported: UsageTally | Usage | None = None if report is None else bare_of(report)
    if reported is None:
        reported = UsageTally()
        if report is not None and not reported.openai_report(report):
            return _openai_at_leisure(body)
    for choice in figures.choices:
        reason = choice.finish_reason or reason
    failed = error is not None and is_set(error)
    return PlainReading(True, failed, reported, reason, _openai_texts, body)  # noqa: FBT003 - hot


def _openai_at_leisure(body: bytes) -> PlainReading:
    answer = _openai_answer(body)
    if answer is None:
        return _unreadable(body)
    tally = UsageTally()
    if answer.usage is not None:
        tally.openai(answer.usage)
    reasons = [choice.finish_reason for choice in answer.choices if choice.finish_reason]
    return PlainReading(
        readable=True,
        error=is_set(answer.error),
        reported=tally,
        finish_reason=reasons[-1][:FINISH_REASON_CHARACTERS_MAX] if reasons else None,
        read_texts=_openai_texts,
        body=body,
    )


def _openai_answer(body: bytes) -> OpenAIChunk | None:
    try:
        return _decode_answer(body)
    except UNREADABLE:
        value = load_object(body)
        return None if value is None else chunk_of(value, "message")


def _openai_texts(body: bytes) -> tuple[str, ...]:
    # Asked deeper in the stack than before, a deep body may not fit: it then has no texts.
    answer = _openai_answer(body)
    return () if answer is None else tuple([text for _, text in openai_runs(answer)])


def _anthropic(body: bytes) -> PlainReading:
    try:
        figures = _decode_anthropic_figures(body)
    except UNREADABLE:
        return _anthropic_at_leisure(body)
    report, error = figures.usage, figures.error
    reported: UsageTally | Usage | None = None if report is None else bare_of_message(report)
    if reported is None:
        reported = UsageTally()
        if report is not None and not reported.anthropic_report(report):
            return _anthropic_at_leisure(body)
    failed = error is not None and is_set(error)
    return PlainReading(True, failed, reported, figures.stop_reason, _anthropic_texts, body)  # noqa: FBT003 - hot


def _anthropic_at_leisure(body: bytes) -> PlainReading:
    message = _anthropic_message(body)
    if message is None:
        return _unreadable(body)
    tally = UsageTally()
    if message.usage is not None:
        tally.anthropic(message.usage, final=True)
    return PlainReading(
        readable=True,
        error=is_set(message.error),
        reported=tally,
        finish_reason=message.stop_reason and message.stop_reason[:FINISH_REASON_CHARACTERS_MAX],
        read_texts=_anthropic_texts,
        body=body,
    )


def _anthropic_message(body: bytes) -> _Message | None:
    try:
        return _decode_message(body)
    except UNREADABLE:
        value = load_object(body)
        return None if value is None else _tolerant_message(value)


def _anthropic_texts(body: bytes) -> tuple[str, ...]:
    message = _anthropic_message(body)
    parts = () if message is None else message.content
    return tuple([text for part in parts if (text := _part_text(part))])


def _completions(body: bytes) -> PlainReading:
    found = _openai(body)
    return replace(found, read_texts=_completions_texts) if found.readable else found


def _completions_texts(body: bytes) -> tuple[str, ...]:
    """One text a choice, empty ones too."""
    choices = as_list(as_dict(load_object(body)).get("choices"))
    return tuple([countable_text(as_dict(choice).get("text")) for choice in choices])


def _responses(body: bytes) -> PlainReading:
    try:
        figures = _decode_responses_figures(body)
    except UNREADABLE:
        value = load_object(body)
        if value is None:
            return _unreadable(body)
        figures = _ResponsesFigures(
            well_formed(countable_text(value.get("id"))),
            countable_text(value.get("status")),
            value.get("incomplete_details"),
            value.get("usage"),
            value.get("error"),
        )
    tally, usage = UsageTally(), figures.usage
    ended = reason_of(figures.status, figures.incomplete_details)
    if usage is not None:
        if b"web_search" in body:
            whole = as_dict(load_object(body))
            usage = with_searches(usage, whole.get("tool_usage"), whole.get("output"))
        tally.openai(usage)
    return PlainReading(
        readable=True,
        error=is_set(figures.error) or figures.status == "failed",
        reported=tally,
        finish_reason=ended[:FINISH_REASON_CHARACTERS_MAX],
        read_texts=_responses_texts,
        body=body,
        answer_id=figures.id[:ANSWER_ID_CHARS_MAX],
    )


def _responses_texts(body: bytes) -> tuple[str, ...]:
    value = load_object(body)
    return tuple([text for _, text in output_runs(as_dict(value).get("output"))])


def _unreadable(body: bytes) -> PlainReading:
    return PlainReading(
        readable=False,
        error=False,
        reported=UsageTally(),
        finish_reason=None,
        read_texts=_no_texts,
        body=body,
    )


def _no_texts(_body: bytes) -> tuple[str, ...]:
    return ()


def _part_text(part: _Part) -> str:
    """Return the text of one block; a tool's input as the JSON the model wrote."""
    text = (part.text or "") + (part.thinking or "") + (part.name or "")
    written = bytes(part.input)
    return text if written in {b"{}", b"null"} else text + written.decode("utf-8", "replace")


def _tolerant_message(value: dict[str, object]) -> _Message:
    content = value.get("content")
    if isinstance(content, str):
        content = [{"text": content}]
    parts = [as_dict(part) for part in as_list(content)]
    return _Message(
        content=tuple(
            [
                _Part(
                    text=countable_text(part.get("text")),
                    thinking=countable_text(part.get("thinking")),
                    name=countable_text(part.get("name")) + arguments_text(part.get("input")),
                )
                for part in parts
            ]
        ),
        stop_reason=as_reason(value.get("stop_reason")),
        usage=value.get("usage"),
        error=value.get("error"),
    )


def _gemini(body: bytes) -> PlainReading:
    event = gemini_event(body)
    if event is None:
        return _unreadable(body)
    tally = UsageTally()
    usage = reported(event)
    if usage is not None:
        tally.gemini(usage)
    ended = endings(event, 1)
    return PlainReading(
        readable=True,
        error=is_set(event.error),
        reported=tally,
        finish_reason=ended[-1][1][:FINISH_REASON_CHARACTERS_MAX] if ended else None,
        read_texts=_gemini_texts,
        body=body,
    )


def _gemini_texts(body: bytes) -> tuple[str, ...]:
    event = gemini_event(body)
    return () if event is None else tuple([text for _, text in event_runs(event)])


READINGS: Final[Mapping[Wire, Callable[[bytes], PlainReading]]] = {
    Wire.CHAT: _openai,
    Wire.MESSAGES: _anthropic,
    Wire.RESPONSES: _responses,
    Wire.COMPLETIONS: _completions,
    Wire.GEMINI: _gemini,
}
"""What reads a plain answer, by its wire form."""
