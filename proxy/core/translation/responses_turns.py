"""The input of OpenAI's Responses requests, item by item, read into the turns of a conversation.

Rules: what the assistant says in several items is one turn, for its calls belong together; what
is kept or run at the provider is refused with its place. Items are decoded by their type, and
what cannot be told elsewhere is named in `left_out`. This module must not know other dialects,
or the rest of a request.

Sources: OpenAI's item types as its Python SDK 3.x has them (`responses/response_input_item.py`);
WIRE.md section 3.
"""

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias, TypeVar

from msgspec import Raw, Struct
from msgspec.json import Decoder

from proxy.core.deltas import UNREADABLE
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.conversation import (
    Document,
    Image,
    Message,
    Part,
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from proxy.core.translation.responses_items import (
    RELAYED,
    RELAYED_REDACTED,
    free_form_arguments,
    full_name,
    relayed_thinking,
)

DATA_URL: Final = "data:"
_T = TypeVar("_T")


class _Part(Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None
    prompt_cache_breakpoint: dict[str, object] | None = None


_Content: TypeAlias = str | list[_Part]


class Kind(Struct):
    """What tells items, and tools, apart."""

    type: str | None = None
    role: str | None = None
    phase: object = None


class _Message(Struct):
    role: Literal["system", "developer", "user", "assistant"]
    content: _Content


class _Call(Struct):
    call_id: str
    name: str
    arguments: str = "{}"
    namespace: str | None = None


class _CustomCall(Struct):
    call_id: str
    name: str
    input: str
    namespace: str | None = None


class _Output(Struct):
    call_id: str
    output: _Content


class _Reasoning(Struct):
    summary: list[_Part] | None = None
    content: list[_Part] | None = None
    encrypted_content: str | None = None


kinds: Final = Decoder(Kind)
_messages: Final = Decoder(_Message)
_calls: Final = Decoder(_Call)
_custom_calls: Final = Decoder(_CustomCall)
_outputs: Final = Decoder(_Output)
_reasonings: Final = Decoder(_Reasoning)


def conversation(wire: str | list[Raw], system: list[Text], left_out: set[str]) -> list[Message]:
    """The turns; instructions between them go to `system`, as they bind all.

    What the assistant says in several items is one turn: its calls belong together.
    """
    if isinstance(wire, str):
        return [Message(Role.USER, (Text(wire),))]
    messages: list[Message] = []
    for place, raw in enumerate(wire):
        param = f"input[{place}]"
        kind = decode(kinds, raw, param)
        if kind.phase is not None:
            left_out.add("input.phase")
        if kind.type == "message" or (kind.type is None and kind.role is not None):
            message = decode(_messages, raw, param)
            parts: tuple[Part, ...] = tuple(_parts(message.content, param, left_out))
            if message.role in ("system", "developer"):
                system += [part for part in parts if isinstance(part, Text)]
                if not all(isinstance(part, Text) for part in parts):
                    raise not_understood("instructions may hold text only", param)
                continue
            role = Role.USER if message.role == "user" else Role.ASSISTANT
        else:
            role, parts = _item(kind.type, raw, param, left_out)
        if role is Role.ASSISTANT and messages and messages[-1].role is role:
            messages[-1] = Message(role, messages[-1].parts + parts)
        elif parts:
            messages.append(Message(role, parts))
    return messages


def _item(
    kind: str | None, raw: Raw, param: str, left_out: set[str]
) -> tuple[Role, tuple[Part, ...]]:
    """An item that is no message."""
    if kind == "function_call":
        call = decode(_calls, raw, param)
        name = full_name(call.namespace, call.name)
        return Role.ASSISTANT, (ToolCall(call.call_id, name, call.arguments or "{}"),)
    if kind == "custom_tool_call":
        custom = decode(_custom_calls, raw, param)
        name = full_name(custom.namespace, custom.name)
        arguments = free_form_arguments(custom.input)
        return Role.ASSISTANT, (ToolCall(custom.call_id, name, arguments),)
    if kind in ("function_call_output", "custom_tool_call_output"):
        result = decode(_outputs, raw, param)
        shown = tuple(
            part for part in _parts(result.output, param, left_out) if not isinstance(part, Refusal)
        )
        return Role.USER, (ToolResult(result.call_id, shown),)
    if kind == "reasoning":
        return Role.ASSISTANT, _thoughts(decode(_reasonings, raw, param), left_out)
    if kind in (None, "item_reference"):
        raise cannot(param, "items kept at the provider; send the item itself")
    raise cannot(param, f"item of type `{kind}`")


def _thoughts(wire: _Reasoning, left_out: set[str]) -> tuple[Part, ...]:
    """Thoughts, with the secret another provider gave; one of this protocol's own is useless."""
    text = "\n\n".join(part.text for part in wire.content or wire.summary or () if part.text)
    encrypted = wire.encrypted_content
    if encrypted and not encrypted.startswith((RELAYED, RELAYED_REDACTED)):
        left_out.add("input.encrypted_content")
    thinking = relayed_thinking(text, encrypted)
    if not (thinking.text or thinking.signature or thinking.redacted):
        return ()
    return (thinking,)


def _parts(
    content: _Content, param: str, left_out: set[str]
) -> Iterable[Text | Image | Document | Refusal]:
    if isinstance(content, str):
        yield Text(content)
        return
    for part in content:
        cache = part.prompt_cache_breakpoint is not None
        if part.type in ("input_text", "output_text", "text"):
            yield Text(part.text or "", cache=cache)
        elif part.type == "refusal":
            yield Refusal(part.refusal or "")
        elif part.type == "input_image":
            yield _image(part, param, left_out)
        elif part.type == "input_file":
            yield _document(part, param)
        else:
            raise cannot(param, f"part of type `{part.type}`")


def _image(part: _Part, param: str, left_out: set[str]) -> Image:
    if part.image_url is None:
        raise cannot(param, "files kept at the provider (`file_id`)")
    cache = part.prompt_cache_breakpoint is not None
    detail = None if part.detail == "auto" else part.detail
    if detail == "original":
        left_out.add("input.detail")
        detail = "high"
    if not part.image_url.startswith(DATA_URL):
        return Image(url=part.image_url, detail=detail, cache=cache)
    media_type, data = _split_data_url(part.image_url, param)
    return Image(media_type=media_type, data=data, detail=detail, cache=cache)


def _document(part: _Part, param: str) -> Document:
    cache = part.prompt_cache_breakpoint is not None
    if part.file_url is not None:
        return Document(url=part.file_url, name=part.filename, cache=cache)
    if part.file_data is None:
        raise cannot(param, "files kept at the provider (`file_id`)")
    media_type, data = "application/pdf", part.file_data
    if data.startswith(DATA_URL):
        media_type, data = _split_data_url(data, param)
    return Document(media_type=media_type, data=data, name=part.filename, cache=cache)


def _split_data_url(url: str, param: str) -> tuple[str, str]:
    """(media type, base64) of a `data:` URL (RFC 2397). Raises RelayError 400 for other kinds."""
    head, comma, data = url[len(DATA_URL) :].partition(",")
    media_type, *marks = head.split(";")
    if not comma or "base64" not in marks:
        raise not_understood("a `data:` URL must hold base64 (`data:image/png;base64,...`)", param)
    return media_type or "text/plain", data


def not_understood(why: str, param: str | None = None) -> RelayError:
    message = f"The request is not understood: {why}."
    return RelayError(ErrorCode.INVALID_REQUEST, message, param=param)


def cannot(param: str, what: str) -> RelayError:
    return RelayError(
        ErrorCode.INVALID_REQUEST,
        f"This model's provider speaks another protocol, which has no {what}; leave `{param}` out "
        "or use a model served in this protocol.",
        param=param,
    )


def decode(decoder: Decoder[_T], raw: Raw, param: str) -> _T:
    """Decode a part of the request, which stands at `param`."""
    try:
        return decoder.decode(raw)
    except UNREADABLE as error:
        raise not_understood(f"{error}, of `{param}`", param) from None
