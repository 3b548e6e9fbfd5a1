"""Whole answers of OpenAI's chat completions, read into a conversation's and written from one.

Rules: of several choices the first is read; an answer that is not understood raises, and is then
the provider's failure. This module must not know other dialects, streams or billing.

Sources: WIRE.md section 1; `chat/chat_completion.py` of OpenAI's Python SDK 3.x;
`proxy/core/translation/signatures.py` for `extra_content`.
"""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from proxy.core.deltas import UNREADABLE
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.chat_calls import text_signature, written_calls
from proxy.core.translation.chat_streams import FINISHES, REASONS, completion_id, usage_object
from proxy.core.translation.conversation import (
    Answer,
    Finish,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from proxy.core.translation.signatures import Place, extra_content, from_extra_content
from proxy.core.usage import UsageTally


class _Function(Struct):
    name: str = ""
    arguments: str | None = None


class _Call(Struct):
    id: str = ""
    function: _Function | None = None
    extra_content: object = None


class _Message(Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None
    extra_content: object = None


class _Choice(Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(Struct):
    choices: list[_Choice]
    id: str = ""
    model: str = ""
    usage: object = None


_read = msgspec.json.Decoder(_Completion).decode
_write = msgspec.json.encode


def read_answer(body: bytes) -> Answer:
    """Read a whole answer. Raises RelayError 502 for one that is not understood."""
    try:
        found = _read(body)
    except UNREADABLE as error:
        raise _not_understood(str(error)) from None
    if not found.choices:
        raise _not_understood("it has no choice")
    choice = found.choices[0]
    parts = tuple(_parts(choice.message))
    finish = FINISHES.get(choice.finish_reason or "stop", Finish.STOP)
    if finish is Finish.STOP and any(isinstance(part, ToolCall) for part in parts):
        finish = Finish.TOOLS  # some providers say `stop` after calls
    tally = UsageTally()
    if found.usage is not None:
        tally.openai(found.usage)
    return Answer(found.id, found.model, parts, finish, tally.usage() if tally.seen else None)


def _parts(message: _Message) -> Iterable[Part]:
    thought = message.reasoning_content or message.reasoning
    if thought:
        yield Thinking(thought)
    if message.content:
        yield Text(message.content)
    if message.refusal:
        yield Refusal(message.refusal)
    signature = from_extra_content(message.extra_content, Place.TEXT)
    if signature is not None:
        yield Thinking("", signature)
    for call in message.tool_calls or ():
        function = call.function or _Function()
        signature = from_extra_content(call.extra_content, Place.CALL)
        if signature is not None:
            yield Thinking("", signature)
        yield ToolCall(call.id, function.name, function.arguments or "{}")
    if message.function_call is not None:
        called = message.function_call
        yield ToolCall(called.name, called.name, called.arguments or "{}")


def write_answer(answer: Answer, created: int) -> bytes:
    """Write a whole answer; `created` is Unix seconds."""
    texts = [part.text for part in answer.parts if isinstance(part, Text)]
    refusals = [part.text for part in answer.parts if isinstance(part, Refusal)]
    thoughts = [part.text for part in answer.parts if isinstance(part, Thinking) and part.text]
    calls = list(written_calls(answer.parts))
    message: dict[str, object] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not (calls or refusals) else None,
        "refusal": "".join(refusals) or None,
    }
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    signature = text_signature(answer.parts)
    if signature is not None:
        message["extra_content"] = extra_content(signature)
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": REASONS[answer.finish],
    }
    document: dict[str, object] = {
        "id": completion_id(answer.id),
        "object": "chat.completion",
        "created": created,
        "model": answer.model,
        "choices": [choice],
    }
    if answer.usage is not None:
        document["usage"] = usage_object(answer.usage)
    return _write(document)


def _not_understood(why: str) -> RelayError:
    return RelayError(ErrorCode.UPSTREAM_ERROR, f"The provider's answer is not understood: {why}.")
