"""The turns of Gemini's generateContent requests, part by part, read into a conversation's.

Rules: a call without an id and the result that answers it get one, which pairs them as they stand:
results answer the calls of their name in order. A signature that this relay handed out for another
maker is that maker's again. What is kept or run at the provider is refused with its place. This
module must not know other dialects, or the rest of a request.

Sources: `types.py` of Google's Python SDK google-genai 3.x (Content, Part, FunctionResponse);
`proxy/core/translation/signatures.py`.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.conversation import (
    Document,
    Image,
    Message,
    Part,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from proxy.core.translation.signatures import NO_SIGNATURE, Place, unsealed

_RESULT_NAMES: Final = ("output", "result")
_write = msgspec.json.encode


class Blob(Struct, rename="camel"):
    """Bytes in a request, as base64."""

    data: str
    mime_type: str = "application/octet-stream"


class File(Struct, rename="camel"):
    """A file at a URL."""

    file_uri: str
    mime_type: str | None = None


class Call(Struct):
    """A call the model made."""

    name: str
    args: dict[str, object] | None = None
    id: str | None = None


class Shown(Struct, rename="camel"):
    """A picture or file among a tool's results."""

    inline_data: Blob | None = None
    file_data: File | None = None


class Answered(Struct):
    """What a tool gave."""

    name: str
    response: dict[str, object]
    id: str | None = None
    parts: list[Shown] | None = None


class Said(Struct, rename="camel"):
    """One part; what only tools that run at the provider make is told apart."""

    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    inline_data: Blob | None = None
    file_data: File | None = None
    function_call: Call | None = None
    function_response: Answered | None = None
    executable_code: object = None
    code_execution_result: object = None
    tool_call: object = None
    tool_response: object = None


class Turn(Struct):
    """One content."""

    parts: list[Said] | None = None
    role: str | None = None


def conversation(turns: Iterable[Turn]) -> list[Message]:
    """The turns. Raises RelayError 400 for what no other dialect has.

    What the model said is one turn: the SDKs' chats send each event of its stream as one, and calls
    told in several turns are calls without their results to others.
    """
    messages: list[Message] = []
    calls = _Calls()
    for place, turn in enumerate(turns):
        param = f"contents[{place}]"
        role = Role.ASSISTANT if turn.role == "model" else Role.USER
        if turn.role not in (None, "user", "model", "function"):
            raise not_understood("a role is `user` or `model`", param)
        parts: list[Part] = []
        for said in turn.parts or ():
            parts += _said(said, role, calls, param)
        if parts and role is Role.ASSISTANT and messages and messages[-1].role is role:
            messages[-1] = Message(role, (*messages[-1].parts, *parts))
        elif parts:
            messages.append(Message(role, tuple(parts)))
    return messages


def texts(turn: Turn, param: str) -> tuple[Text, ...]:
    """The words of an instruction. Raises RelayError 400 if it holds anything else."""
    parts = turn.parts or []
    if any(part.text is None for part in parts):
        raise not_understood("instructions may hold text only", param)
    return tuple(Text(part.text or "") for part in parts)


class _Calls:
    """The calls so far, and which of those without an id are still to be answered."""

    def __init__(self) -> None:
        self._count = 0
        self._open: list[tuple[str, str]] = []

    def made(self, call: Call) -> str:
        """The id of a call."""
        self._count += 1
        if call.id:
            return call.id
        call_id = f"call_{self._count}"
        self._open.append((call.name, call_id))
        return call_id

    def answered(self, answer: Answered, param: str) -> str:
        """The id of the call that `answer` is for."""
        if answer.id:
            return answer.id
        for pair in self._open:
            if pair[0] == answer.name:
                self._open.remove(pair)
                return pair[1]
        raise not_understood(f"the result of `{answer.name}` answers no call", param)


def _said(said: Said, role: Role, calls: _Calls, param: str) -> Iterable[Part]:
    for name in ("executable_code", "code_execution_result", "tool_call", "tool_response"):
        if getattr(said, name) is not None:
            raise cannot(param, "tools that run at the provider")
    secret = said.thought_signature
    if said.function_call is not None:
        if secret and secret != NO_SIGNATURE:
            yield unsealed(Place.CALL, "", secret)
        call = said.function_call
        arguments = _write(call.args or {}).decode()
        yield ToolCall(calls.made(call), call.name, arguments)
    elif said.function_response is not None:
        yield _result(said.function_response, calls, param)
    elif said.thought:
        text = said.text or ""
        yield unsealed(Place.THOUGHT, text, secret) if secret else Thinking(text)
    else:
        yield from _shown(said, param)
        if said.text:
            yield Text(said.text)
        if secret and role is Role.ASSISTANT:
            yield unsealed(Place.TEXT, "", secret)


def _shown(said: Said | Shown, param: str) -> Iterable[Image | Document]:
    blob, file = said.inline_data, said.file_data
    if blob is not None:
        kind = blob.mime_type
        if kind.startswith("image/"):
            yield Image(media_type=kind, data=blob.data)
        else:
            yield Document(media_type=_readable(kind, param), data=blob.data)
    if file is not None:
        given = file.mime_type
        if given is not None and given.startswith("image/"):
            yield Image(url=file.file_uri, media_type=given)
        else:
            kind = _readable(given or "application/pdf", param)
            yield Document(url=file.file_uri, media_type=kind)


def _readable(kind: str, param: str) -> str:
    if kind.startswith(("audio/", "video/")):
        raise cannot(param, f"input of the type `{kind}`")
    return kind


def _result(answer: Answered, calls: _Calls, param: str) -> ToolResult:
    """A result in words; one that is more than words is shown as the JSON it is."""
    response = answer.response
    failed = "error" in response
    said: object = response
    if len(response) == 1:
        (name,) = response
        if failed or name in _RESULT_NAMES:
            said = response[name]
    text = said if isinstance(said, str) else _write(said).decode()
    shown = [one for part in answer.parts or () for one in _shown(part, param)]
    parts = (*((Text(text),) if text else ()), *shown)
    return ToolResult(calls.answered(answer, param), parts, failed=failed)


def not_understood(why: str, param: str | None = None) -> RelayError:
    """Refuse what is no request of this dialect."""
    message = f"The request is not understood: {why}."
    return RelayError(ErrorCode.INVALID_REQUEST, message, param=param)


def cannot(param: str, what: str) -> RelayError:
    """Refuse what would come back as another answer than was asked for."""
    return RelayError(
        ErrorCode.INVALID_REQUEST,
        f"This model's provider speaks another protocol, which has no {what}; leave `{param}` out "
        "or use a model served in this protocol.",
        param=param,
    )
