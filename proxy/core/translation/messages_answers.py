"""Whole answers of Anthropic's messages, read into a conversation's and written from one.

Rules: blocks of types that no other dialect has (a server tool's) are passed over, since such
tools were refused with the request; an answer that is not understood raises, and is then the
provider's failure. This module must not know other dialects, streams or billing.

Sources: WIRE.md section 5; `message.py` of Anthropic's Python SDK 2.x.
"""

from collections.abc import Iterable

import msgspec
from msgspec import Raw, Struct

from proxy.core.deltas import UNREADABLE
from proxy.core.entities import Usage
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.conversation import (
    Answer,
    Finish,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from proxy.core.translation.messages_streams import FINISHES, REASONS, message_id, usage_object
from proxy.core.usage import UsageTally


class _Block(Struct):
    type: str
    text: str = ""
    thinking: str = ""
    signature: str | None = None
    data: str = ""
    id: str = ""
    name: str = ""
    input: Raw = Raw(b"{}")


class _Message(Struct):
    content: list[_Block]
    id: str = ""
    model: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: object = None


_read = msgspec.json.Decoder(_Message).decode
_write = msgspec.json.encode


def read_answer(body: bytes) -> Answer:
    """Read a whole answer. Raises RelayError 502 for one that is not understood."""
    try:
        found = _read(body)
    except UNREADABLE as error:
        raise RelayError(
            ErrorCode.UPSTREAM_ERROR, f"The provider's answer is not understood: {error}."
        ) from None
    tally = UsageTally()
    if found.usage is not None:
        tally.anthropic(found.usage)
    return Answer(
        found.id,
        found.model,
        tuple(_parts(found.content)),
        FINISHES.get(found.stop_reason or "end_turn", Finish.STOP),
        tally.usage() if tally.seen else None,
        found.stop_sequence,
    )


def _parts(blocks: Iterable[_Block]) -> Iterable[Part]:
    for block in blocks:
        if block.type == "text":
            yield Text(block.text)
        elif block.type == "thinking":
            yield Thinking(block.thinking, block.signature)
        elif block.type == "redacted_thinking":
            yield Thinking("", redacted=block.data)
        elif block.type == "tool_use":
            yield ToolCall(block.id, block.name, bytes(block.input).decode())


def write_answer(answer: Answer) -> bytes:
    """Write a whole answer."""
    return _write(
        {
            "id": message_id(answer.id),
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": [_block(part) for part in answer.parts],
            "stop_reason": REASONS[answer.finish],
            "stop_sequence": answer.stop_sequence,
            "usage": usage_object(answer.usage or Usage()),
        }
    )


def _block(part: Part) -> dict[str, object]:
    if isinstance(part, Text | Refusal):
        return {"type": "text", "text": part.text}
    if isinstance(part, Thinking):
        if part.redacted is not None:
            return {"type": "redacted_thinking", "data": part.redacted}
        return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}
    if isinstance(part, ToolCall):
        return {
            "type": "tool_use",
            "id": part.id,
            "name": part.name,
            "input": _arguments(part.arguments),
        }
    raise AssertionError(f"an answer has no {type(part).__name__}")


def _arguments(text: str) -> object:
    """A call's arguments as the object they must be here; else what was said, under a name."""
    try:
        found = msgspec.json.decode(text or "{}")
    except UNREADABLE:
        found = None
    return Raw((text or "{}").encode()) if isinstance(found, dict) else {"arguments": text}
