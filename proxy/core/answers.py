"""What a plain (not streamed) answer says: usage, how it ended, and the text it holds.

Rules: as for streams (`proxy.core.deltas`): typed first, tolerant second, never raises. This
module must not know prices or sockets.

Sources: WIRE.md sections 1 and 5.
"""

from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Raw, Struct

from proxy.core.deltas import (
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
)
from proxy.core.entities import Dialect
from proxy.core.usage import UsageTally


@dataclass(frozen=True, slots=True)
class PlainReading:
    """One plain answer. `texts` are to be tokenised apart and counted when usage is missing."""

    readable: bool
    """False when the body is not a JSON object: nothing else is known then."""
    error: bool
    """A truthy `error` inside a 2xx."""
    tally: UsageTally
    finish_reason: str | None
    """Of the last choice that gave one."""
    texts: tuple[str, ...]


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


_decode_answer: Final = msgspec.json.Decoder(_Answer).decode
_decode_message: Final = msgspec.json.Decoder(_Message).decode


def plain_usage(body: bytes, dialect: Dialect) -> PlainReading:
    """Read a whole response body in `dialect`; never raises."""
    return _openai(body) if dialect is Dialect.OPENAI else _anthropic(body)


def _unreadable() -> PlainReading:
    return PlainReading(
        readable=False, error=False, tally=UsageTally(), finish_reason=None, texts=()
    )


def _openai(body: bytes) -> PlainReading:
    answer: OpenAIChunk
    try:
        answer = _decode_answer(body)
    except UNREADABLE:
        value = load_object(body)
        if value is None:
            return _unreadable()
        answer = chunk_of(value, "message")
    tally = UsageTally()
    if answer.usage is not None:
        tally.openai(answer.usage)
    reasons = [choice.finish_reason for choice in answer.choices if choice.finish_reason]
    return PlainReading(
        readable=True,
        error=is_set(answer.error),
        tally=tally,
        finish_reason=reasons[-1] if reasons else None,
        texts=tuple([text for _, text in openai_runs(answer)]),
    )


def _anthropic(body: bytes) -> PlainReading:
    try:
        message = _decode_message(body)
    except UNREADABLE:
        value = load_object(body)
        if value is None:
            return _unreadable()
        message = _tolerant_message(value)
    tally = UsageTally()
    if message.usage is not None:
        tally.anthropic(message.usage, final=True)
    return PlainReading(
        readable=True,
        error=is_set(message.error),
        tally=tally,
        finish_reason=message.stop_reason,
        texts=tuple([text for part in message.content if (text := _part_text(part))]),
    )


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
