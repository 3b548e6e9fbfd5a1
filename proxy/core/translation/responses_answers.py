"""Whole answers of OpenAI's Responses, read into a conversation's and written from one.

Rules: items of types that no other dialect has (a provider's own tool's) are passed over, since
such tools were refused with the request; an answer that is not understood, or says that it
failed, raises, and is then the provider's failure. This module must not know other dialects,
streams or billing.

Sources: `responses/response.py` of OpenAI's Python SDK 3.x; WIRE.md section 3.
"""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from proxy.core.deltas import UNREADABLE
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.conversation import (
    Answer,
    Finish,
    Part,
    Refusal,
    Request,
    Text,
    Thinking,
    ToolCall,
)
from proxy.core.translation.responses_items import (
    INCOMPLETE,
    RELAYED,
    RELAYED_REDACTED,
    Item,
    call_item,
    frame,
    free_form_input,
    message_item,
    named,
    output_text,
    parts_of,
    reasoning_item,
    refused,
    response_id,
    usage_object,
)
from proxy.core.usage import UsageTally

FINISHES = {reason: finish for finish, reason in INCOMPLETE.items()}


class _Details(Struct):
    reason: str | None = None


class Response(Struct):
    """A response object, as far as it is read."""

    id: str = ""
    model: str = ""
    status: str | None = None
    output: list[Item] | None = None
    incomplete_details: _Details | None = None
    usage: object = None
    error: object = None


_read = msgspec.json.Decoder(Response).decode
_write = msgspec.json.encode
_Object = dict[str, object]


def read_answer(body: bytes) -> Answer:
    """Read a whole answer. Raises RelayError 502 for one that failed or is not understood."""
    try:
        found = _read(body)
    except UNREADABLE as error:
        raise _not_understood(str(error)) from None
    if found.error is not None or found.status == "failed":
        said = found.error.get("message") if isinstance(found.error, dict) else None
        raise RelayError(
            ErrorCode.UPSTREAM_ERROR, f"The provider failed: {said or 'it does not say why'}."
        )
    if found.output is None or found.status not in {None, "completed", "incomplete"}:
        raise _not_understood(f"its status is `{found.status}`")
    parts = tuple(part for item in found.output for part in parts_of(item))
    tally = UsageTally()
    if found.usage is not None:
        tally.openai(found.usage)
    calls = any(isinstance(part, ToolCall) for part in parts)
    return Answer(
        found.id,
        found.model,
        parts,
        finish_of(found, calls=calls),
        tally.usage() if tally.seen else None,
    )


def finish_of(response: Response, *, calls: bool) -> Finish:
    """Why a response ended; its status alone does not tell whether for the sake of `calls`."""
    if response.status == "incomplete":
        details = response.incomplete_details or _Details()
        return FINISHES.get(details.reason or "", Finish.LENGTH)
    return Finish.TOOLS if calls else Finish.STOP


def write_answer(answer: Answer, created: int, asked: Request) -> bytes:
    """Write a whole answer to `asked`; `created` is Unix seconds."""
    given = response_id(answer.id)
    reason = INCOMPLETE.get(answer.finish)
    document = {"id": given, "model": answer.model, **frame(asked, created)}
    document["status"] = "completed" if reason is None else "incomplete"
    document["output"] = list(_items(answer, given, asked))
    if reason is None:
        document["completed_at"] = created
    else:
        document["incomplete_details"] = {"reason": reason}
    if answer.usage is not None:
        document["usage"] = usage_object(answer.usage)
    return _write(document)


def _items(answer: Answer, given: str, asked: Request) -> Iterable[_Object]:
    """The parts as items; texts that follow each other share a message."""
    tools = named(asked.tools)
    status = "incomplete" if answer.finish in INCOMPLETE else "completed"
    content: list[_Object] = []
    for place, part in enumerate(answer.parts):
        if isinstance(part, Text | Refusal):
            text = part.text
            content.append(output_text(text) if isinstance(part, Text) else refused(text))
            if not isinstance(_next(answer, place), Text | Refusal):
                yield message_item(f"msg_{given}_{place}", content, status)
                content = []
        elif isinstance(part, Thinking):
            yield reasoning_item(f"rs_{given}_{place}", part.text, _encrypted(part), "completed")
        elif isinstance(part, ToolCall):
            tool = tools.get(part.name)
            if tool is not None and tool.free_form:
                call = ToolCall(part.id, part.name, free_form_input(part.arguments))
                yield call_item(f"ctc_{given}_{place}", call, tool, "completed")
            else:
                yield call_item(f"fc_{given}_{place}", part, tool, "completed")
        else:
            raise AssertionError(f"an answer has no {type(part).__name__}")


def _next(answer: Answer, place: int) -> Part | None:
    return answer.parts[place + 1] if place + 1 < len(answer.parts) else None


def _encrypted(part: Thinking) -> str | None:
    if part.redacted is not None:
        return RELAYED_REDACTED + part.redacted
    return RELAYED + part.signature if part.signature else None


def _not_understood(why: str) -> RelayError:
    return RelayError(ErrorCode.UPSTREAM_ERROR, f"The provider's answer is not understood: {why}.")
