"""What one streamed event says: typed decoders for OpenAI chunks and Anthropic events.

Rules: a decoder never raises and rejects nothing a sane upstream sends. The typed decoder runs
once per event on the hot path; an event whose *types* surprise it (a list as content, arguments
as an object) is read again tolerantly; only what is not a JSON object becomes the garbage
marker, told by identity (`chunk is OPENAI_GARBAGE`). Fields not named here are skipped unread.
This module must not know about SSE framing, billing, or what is done with an event.

Sources: WIRE.md sections 1 and 5; F13, F16 and F21 of FAULTS.md.
"""

import json
from collections.abc import Iterator
from typing import Final

import msgspec
import orjson
from msgspec import Struct

TEXT_DEPTH_MAX: Final = 8
"""Nesting of content parts read for text; deeper parts hold none that anybody sends."""

RunKey = tuple[int, str, int]
"""Choice or block index, kind of text, tool index: text of one run is tokenised together."""


class FunctionDelta(Struct, frozen=True, gc=False):
    """A piece of one function call."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(Struct, frozen=True, gc=False):
    """A piece of one tool call of one choice."""

    index: int | None = None
    function: FunctionDelta | None = None


class OpenAIDelta(Struct, frozen=True, gc=False):
    """What one chunk adds to one choice; the three reasoning names are aliases of each other."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None
    tool_calls: tuple[ToolCallDelta, ...] | None = None
    function_call: FunctionDelta | None = None


class OpenAIChoice(Struct, frozen=True, gc=False):
    """One choice of a chunk."""

    index: int = 0
    delta: OpenAIDelta | None = None
    finish_reason: str | None = None


class OpenAIChunk(Struct, frozen=True, gc=False):
    """One `chat.completion.chunk`. JSON null and absent are both None in `usage` and `error`."""

    choices: tuple[OpenAIChoice, ...] = ()
    usage: object = None
    """The usage report as parsed, for `proxy.core.usage`; a dict if it is any good."""
    error: object = None
    """Whatever stood under `error`; `is_set` says whether SDKs would raise on it."""


class _FirstDelta(OpenAIDelta, frozen=True, gc=False, forbid_unknown_fields=True):
    """One that says no more than a role and what `OpenAIDelta` names."""

    role: object = None


class _FirstChoice(OpenAIChoice, frozen=True, gc=False):
    delta: _FirstDelta | None = None


class _FirstChunk(OpenAIChunk, frozen=True, gc=False):
    choices: tuple[_FirstChoice, ...] = ()


class _OpenDelta(Struct, frozen=True, gc=False):
    delta: dict[str, object] | None = None


class _OpenChunk(Struct, frozen=True, gc=False):
    choices: tuple[_OpenDelta, ...] = ()


class AnthropicDelta(Struct, frozen=True, gc=False):
    """The `delta` of content_block_delta and message_delta."""

    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    stop_reason: str | None = None


class AnthropicBlock(Struct, frozen=True, gc=False):
    """The `content_block` of content_block_start: mostly empty, but a tool's name is here."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    name: str | None = None


class AnthropicMessage(Struct, frozen=True, gc=False):
    """The `message` of message_start."""

    usage: object = None


class AnthropicEvent(Struct, frozen=True, gc=False):
    """One event of a messages stream; `usage` is message_delta's, message_start's is inside."""

    type: str = ""
    index: int = 0
    delta: AnthropicDelta | None = None
    content_block: AnthropicBlock | None = None
    usage: object = None
    message: AnthropicMessage | None = None
    error: object = None


OPENAI_GARBAGE: Final = OpenAIChunk()
ANTHROPIC_GARBAGE: Final = AnthropicEvent()
FINISH_REASON_CHARACTERS_MAX: Final = 64
"""Of a finish or stop reason no more is kept."""

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode_chunk: Final = msgspec.json.Decoder(OpenAIChunk).decode
_decode_first: Final = msgspec.json.Decoder(_FirstChunk).decode
_decode_event: Final = msgspec.json.Decoder(AnthropicEvent).decode
_decode_open: Final = msgspec.json.Decoder(_OpenChunk).decode


def openai_delta(payload: bytes) -> OpenAIChunk:
    """Decode the data of one chat-completions event (not `[DONE]`); never raises."""
    try:
        return _decode_chunk(payload)
    except UNREADABLE:
        return _tolerant_chunk(payload)


def openai_first(payload: bytes) -> tuple[OpenAIChunk, bool]:
    """The same for an event before the first content, and whether all of its deltas was read.

    False: they hold more than `OpenAIDelta` names, which may be content (`has_other_content`).
    """
    try:
        return _decode_first(payload), True
    except UNREADABLE:
        return openai_delta(payload), False


def anthropic_event(payload: bytes) -> AnthropicEvent:
    """Decode the data of one messages event; never raises."""
    try:
        return _decode_event(payload)
    except UNREADABLE:
        return _tolerant_event(payload)


def openai_runs(chunk: OpenAIChunk) -> Iterator[tuple[RunKey, str]]:
    """Yield (run, text) for every non-empty countable text of a chunk.

    Countable: content, refusal, reasoning (one of its three names), tool names and arguments.
    """
    for choice in chunk.choices:
        delta = choice.delta
        if delta is None:
            continue
        index = choice.index
        if delta.content:
            yield (index, "text", 0), delta.content
        reasoning = delta.reasoning_content or delta.reasoning or delta.thinking
        if reasoning:
            yield (index, "reasoning", 0), reasoning
        if delta.refusal:
            yield (index, "refusal", 0), delta.refusal
        for call in delta.tool_calls or ():
            text = _function_text(call.function)
            if text:
                yield (index, "tool", call.index or 0), text
        text = _function_text(delta.function_call)
        if text:
            yield (index, "function", 0), text


def anthropic_runs(event: AnthropicEvent) -> Iterator[tuple[RunKey, str]]:
    """Yield (run, text) for every non-empty countable text of an event; signatures are none."""
    block = event.content_block
    if block is not None:
        text = (block.text or "") + (block.thinking or "") + (block.name or "")
        if text:
            yield (event.index, "text", 0), text
    delta = event.delta
    if delta is not None:
        text = delta.text or delta.partial_json or delta.thinking or ""
        if text:
            yield (event.index, "text", 0), text


def has_other_content(payload: bytes) -> bool:
    """Say whether a chunk's deltas hold more than a role and empty texts.

    Audio, images, annotations and whatever comes next are content, though no text is read of
    them. This reads the whole object once more: only for events before the first content.
    """
    deltas: list[dict[str, object] | None]
    try:
        deltas = [choice.delta for choice in _decode_open(payload).choices]
    except UNREADABLE:
        choices = as_list(as_dict(load_object(payload)).get("choices"))
        deltas = [as_dict(as_dict(choice).get("delta")) for choice in choices]
    for delta in deltas:
        if delta and any(value for name, value in delta.items() if name != "role"):
            return True
    return False


def is_set(value: object) -> bool:
    """Say whether `value` is truthy JSON: SDKs raise on a truthy `error` only (WIRE.md 1)."""
    return bool(value)


def _function_text(function: FunctionDelta | None) -> str:
    if function is None:
        return ""
    return (function.name or "") + (function.arguments or "")


def load_object(payload: bytes) -> dict[str, object] | None:
    """Parse any JSON object, None for everything else; never raises.

    Lone surrogates (an emoji split over two events by a UTF-16 upstream) are refused by the
    fast parser and kept by the standard one; counting repairs them. Bytes that are not UTF-8
    become U+FFFD, as a client shows them.
    """
    value: object
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(bytes(payload).decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def countable_text(value: object, depth: int = TEXT_DEPTH_MAX) -> str:
    """Return the text inside a content value of any shape: string, part, or list of parts."""
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "".join([countable_text(item, depth - 1) for item in value])
    if depth and isinstance(value, dict):
        return "".join(
            [
                countable_text(value[name], depth - 1)
                for name in ("text", "thinking", "reasoning", "refusal", "content")
                if name in value
            ]
        )
    return ""


def arguments_text(value: object) -> str:
    """Return tool arguments as text; some upstreams send the object itself, not its JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list) and value:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return ""


def as_dict(value: object) -> dict[str, object]:
    """Return `value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """Return `value` if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def as_index(value: object) -> int:
    """Return an index, 0 when it is none (absent, null, a string, a bool, negative)."""
    return value if type(value) is int and value >= 0 else 0


def as_reason(value: object) -> str | None:
    """Return a finish or stop reason as text; None while there is none."""
    return None if value is None or value == "" else well_formed(str(value))


def well_formed(text: str) -> str:
    """Return `text` as it can be kept: a lone surrogate has no UTF-8, so no database takes it."""
    return text.encode("utf-8", "replace").decode()


def _tolerant_function(value: object) -> FunctionDelta:
    function = as_dict(value)
    return FunctionDelta(
        countable_text(function.get("name")), arguments_text(function.get("arguments"))
    )


def _tolerant_delta(value: object) -> OpenAIDelta:
    delta = as_dict(value)
    calls = [as_dict(call) for call in as_list(delta.get("tool_calls"))]
    return OpenAIDelta(
        content=countable_text(delta.get("content")),
        refusal=countable_text(delta.get("refusal")),
        reasoning_content=countable_text(delta.get("reasoning_content")),
        reasoning=countable_text(delta.get("reasoning")),
        thinking=countable_text(delta.get("thinking")),
        tool_calls=tuple(
            [
                ToolCallDelta(as_index(call.get("index")), _tolerant_function(call.get("function")))
                for call in calls
            ]
        ),
        function_call=(
            _tolerant_function(delta["function_call"]) if delta.get("function_call") else None
        ),
    )


def _tolerant_chunk(payload: bytes) -> OpenAIChunk:
    value = load_object(payload)
    return OPENAI_GARBAGE if value is None else chunk_of(value, "delta")


def chunk_of(value: dict[str, object], member: str) -> OpenAIChunk:
    """Read a chunk, or a plain answer (`member` "message"), whatever the types of its fields."""
    choices = [as_dict(choice) for choice in as_list(value.get("choices"))]
    return OpenAIChunk(
        choices=tuple(
            [
                OpenAIChoice(
                    as_index(choice.get("index")),
                    _tolerant_delta(choice.get(member)),
                    as_reason(choice.get("finish_reason")),
                )
                for choice in choices
            ]
        ),
        usage=value.get("usage"),
        error=value.get("error"),
    )


def _tolerant_event(payload: bytes) -> AnthropicEvent:
    value = load_object(payload)
    if value is None:
        return ANTHROPIC_GARBAGE
    delta = as_dict(value.get("delta"))
    block = as_dict(value.get("content_block"))
    message = as_dict(value.get("message"))
    return AnthropicEvent(
        type=countable_text(value.get("type")),
        index=as_index(value.get("index")),
        delta=AnthropicDelta(
            text=countable_text(delta.get("text")),
            partial_json=arguments_text(delta.get("partial_json")),
            thinking=countable_text(delta.get("thinking")),
            stop_reason=as_reason(delta.get("stop_reason")),
        ),
        content_block=AnthropicBlock(
            type=countable_text(block.get("type")),
            text=countable_text(block.get("text")),
            thinking=countable_text(block.get("thinking")),
            name=countable_text(block.get("name")),
        ),
        usage=value.get("usage"),
        message=AnthropicMessage(message.get("usage")) if message else None,
        error=value.get("error"),
    )
