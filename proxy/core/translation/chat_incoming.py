"""Requests of OpenAI's chat completions, as callers send them, read into a conversation.

Rules: the shape is checked by typed decoding, so that what is wrong is named by its place; fields
that only tune are named in `left_out`, those that change what comes back are refused. This module
must not know other dialects or answers.

Sources: OpenAI's request types as its Python SDK 3.x has them (`chat/completion_create_params.py`);
WIRE.md section 1; `proxy/core/translation/signatures.py` for `extra_content`.
"""

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Raw, Struct

from proxy.core.deltas import UNREADABLE
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.conversation import (
    Choice,
    Document,
    Effort,
    Format,
    Image,
    Message,
    Part,
    Refusal,
    Request,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from proxy.core.translation.signatures import Place, from_extra_content

CARRIED: Final = frozenset(
    {
        "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "max_tokens",
        "max_completion_tokens", "temperature", "top_p", "stop", "response_format",
        "reasoning_effort", "user", "safety_identifier", "stream", "stream_options", "n",
        "functions", "function_call", "modalities",
    }
)  # fmt: skip
REFUSED: Final = {
    "audio": "audio output",
    "logprobs": "log probabilities",
    "web_search_options": "the provider's web search",
    "moderation": "the provider's moderation",
}
"""Fields whose effect is part of the answer: without them it would be another one."""
DATA_URL: Final = "data:"
ABSENT: Final = Raw()
"""JSON passed on as it came; `Raw | None` would let nothing but null through."""


class _ImageURL(Struct):
    url: str
    detail: str | None = None


class _File(Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _TextPart(Struct, tag_field="type", tag="text"):
    text: str
    prompt_cache_breakpoint: dict[str, object] | None = None


class _ImagePart(Struct, tag_field="type", tag="image_url"):
    image_url: _ImageURL
    prompt_cache_breakpoint: dict[str, object] | None = None


class _FilePart(Struct, tag_field="type", tag="file"):
    file: _File
    prompt_cache_breakpoint: dict[str, object] | None = None


class _AudioPart(Struct, tag_field="type", tag="input_audio"):
    input_audio: dict[str, object]


class _RefusalPart(Struct, tag_field="type", tag="refusal"):
    refusal: str


_Content: TypeAlias = (
    str | list[_TextPart | _ImagePart | _FilePart | _AudioPart | _RefusalPart] | None
)


class _Function(Struct):
    name: str
    arguments: str = "{}"


class _Call(Struct, tag_field="type", tag="function"):
    id: str
    function: _Function
    extra_content: object = None


class _CustomCall(Struct, tag_field="type", tag="custom"):
    id: str


class _Message(Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: _Content = None
    refusal: str | None = None
    tool_calls: list[_Call | _CustomCall] | None = None
    function_call: _Function | None = None
    tool_call_id: str | None = None
    name: str | None = None
    extra_content: object = None


class _Definition(Struct):
    name: str
    description: str | None = None
    parameters: Raw = ABSENT
    strict: bool | None = None


class _Tool(Struct, tag_field="type", tag="function"):
    function: _Definition


class _CustomTool(Struct, tag_field="type", tag="custom"):
    custom: dict[str, object]


class _Named(Struct):
    name: str


class _NamedChoice(Struct, tag_field="type", tag="function"):
    function: _Named


class _JSONSchema(Struct):
    name: str = "answer"
    schema: Raw = ABSENT
    strict: bool | None = None


class _Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JSONSchema | None = None


class _Body(Struct):
    model: str
    messages: list[_Message]
    tools: list[_Tool | _CustomTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | _NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[_Definition] | None = None
    function_call: Literal["none", "auto"] | _Named | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    response_format: _Format | None = None
    reasoning_effort: Effort | None = None
    user: str | None = None
    safety_identifier: str | None = None
    stream: bool | None = None
    n: int | None = None
    modalities: list[str] | None = None
    logprobs: bool | None = None
    audio: Raw = ABSENT
    web_search_options: Raw = ABSENT
    moderation: Raw = ABSENT


_read_body = msgspec.json.Decoder(_Body).decode
_read_names = msgspec.json.Decoder(dict[str, Raw]).decode
_NOTHING: Final = (b"", b"null")


def read_request(body: bytes) -> Request:
    """Read a chat request. Raises RelayError 400 with the place of what is wrong."""
    try:
        found = _read_body(body)
        names = _read_names(body)
    except UNREADABLE as error:
        raise RelayError(
            ErrorCode.INVALID_REQUEST, f"The request is not understood: {error}."
        ) from None
    _refuse(found)
    system, messages = _conversation(found.messages)
    limit = found.max_completion_tokens
    stop = found.stop if found.stop is not None else ()
    given = {name for name, value in names.items() if bytes(value) not in _NOTHING}
    return Request(
        model=found.model,
        messages=tuple(messages),
        system=tuple(system),
        tools=tuple(_tools(found)),
        tool_choice=_tool_choice(found),
        parallel_tools=found.parallel_tool_calls,
        output_tokens_max=found.max_tokens if limit is None else limit,
        temperature=found.temperature,
        top_p=found.top_p,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        format=_format(found.response_format),
        effort=found.reasoning_effort,
        user=found.safety_identifier or found.user,
        stream=bool(found.stream),
        left_out=tuple(sorted(given - CARRIED - REFUSED.keys())),
    )


def _refuse(found: _Body) -> None:
    """Refuse what would come back as another answer than was asked for."""
    if found.n is not None and found.n != 1:
        raise _cannot("n", "more than one choice")
    if found.modalities is not None and found.modalities != ["text"]:
        raise _cannot("modalities", "other output than text")
    for name, what in REFUSED.items():
        value: object = getattr(found, name)
        if present(value) is not None if isinstance(value, Raw) else value:
            raise _cannot(name, what)


def present(value: Raw) -> Raw | None:
    """JSON that is there, None for an absent one or null."""
    return None if bytes(value) in _NOTHING else value


def _cannot(param: str, what: str) -> RelayError:
    return RelayError(
        ErrorCode.INVALID_REQUEST,
        f"This model's provider speaks another protocol, which has no {what}; leave `{param}` out "
        "or use a model served in this protocol.",
        param=param,
    )


def _conversation(wire: Iterable[_Message]) -> tuple[list[Text], list[Message]]:
    """Instructions apart from turns; those between turns go to the front, as they bind all."""
    system: list[Text] = []
    messages: list[Message] = []
    for place, message in enumerate(wire):
        param = f"messages[{place}]"
        if message.role in ("system", "developer"):
            system += _texts(message.content, param)
        elif message.role in ("tool", "function"):
            call_id = message.tool_call_id or message.name
            if not call_id:
                raise RelayError(
                    ErrorCode.INVALID_REQUEST,
                    f"`{param}` is a tool's result without `tool_call_id`.",
                    param=param,
                )
            parts = tuple(_texts(message.content, param))
            messages.append(Message(Role.USER, (ToolResult(call_id, parts),)))
        elif message.role == "user":
            messages.append(Message(Role.USER, tuple(_parts(message.content, param))))
        else:
            messages.append(Message(Role.ASSISTANT, tuple(_said(message, param))))
    return system, messages


def _said(message: _Message, param: str) -> Iterable[Part]:
    """What the assistant said; SDKs that add a stream up send no words beside calls as ""."""
    if message.content != "" or not message.tool_calls:
        yield from _parts(message.content, param)
    if message.refusal:
        yield Refusal(message.refusal)
    signature = from_extra_content(message.extra_content, Place.TEXT)
    if signature is not None:
        yield Thinking("", signature)
    for call in message.tool_calls or ():
        if isinstance(call, _CustomCall):
            raise _cannot(f"{param}.tool_calls", "custom tools")
        signature = from_extra_content(call.extra_content, Place.CALL)
        if signature is not None:
            yield Thinking("", signature)
        yield ToolCall(call.id, call.function.name, call.function.arguments or "{}")
    if message.function_call is not None:
        called = message.function_call
        yield ToolCall(called.name, called.name, called.arguments or "{}")


def _texts(content: _Content, param: str) -> list[Text]:
    parts = list(_parts(content, param))
    texts = [part for part in parts if isinstance(part, Text)]
    if len(texts) != len(parts):
        raise RelayError(
            ErrorCode.INVALID_REQUEST, f"`{param}.content` may hold text only.", param=param
        )
    return texts


def _parts(content: _Content, param: str) -> Iterable[Text | Image | Document | Refusal]:
    if content is None:
        return
    if isinstance(content, str):
        yield Text(content)
        return
    for part in content:
        if isinstance(part, _TextPart):
            yield Text(part.text, cache=part.prompt_cache_breakpoint is not None)
        elif isinstance(part, _ImagePart):
            yield _image(part)
        elif isinstance(part, _FilePart):
            yield _document(part, param)
        elif isinstance(part, _RefusalPart):
            yield Refusal(part.refusal)
        else:
            raise _cannot(f"{param}.content", "audio input")


def _image(part: _ImagePart) -> Image:
    url, detail, cache = part.image_url.url, part.image_url.detail, part.prompt_cache_breakpoint
    if not url.startswith(DATA_URL):
        return Image(url=url, detail=detail, cache=cache is not None)
    media_type, data = split_data_url(url)
    return Image(media_type=media_type, data=data, detail=detail, cache=cache is not None)


def _document(part: _FilePart, param: str) -> Document:
    file, cache = part.file, part.prompt_cache_breakpoint is not None
    if file.file_data is None:
        raise _cannot(f"{param}.content", "files kept at the provider (`file_id`)")
    if file.file_data.startswith(DATA_URL):
        media_type, data = split_data_url(file.file_data)
        return Document(media_type=media_type, data=data, name=file.filename, cache=cache)
    return Document(
        media_type="application/pdf", data=file.file_data, name=file.filename, cache=cache
    )


def split_data_url(url: str) -> tuple[str, str]:
    """(media type, base64) of a `data:` URL (RFC 2397). Raises RelayError 400 for other kinds."""
    head, comma, data = url[len(DATA_URL) :].partition(",")
    media_type, *marks = head.split(";")
    if not comma or "base64" not in marks:
        raise RelayError(
            ErrorCode.INVALID_REQUEST,
            "A `data:` URL must hold base64 (`data:image/png;base64,...`).",
        )
    return media_type or "text/plain", data


def _tools(found: _Body) -> Iterable[Tool]:
    for tool in found.tools or ():
        if isinstance(tool, _CustomTool):
            raise _cannot("tools", "custom tools")
        yield _tool(tool.function)
    for definition in found.functions or ():
        yield _tool(definition)


def _tool(wire: _Definition) -> Tool:
    return Tool(wire.name, wire.description, present(wire.parameters), wire.strict)


def _tool_choice(found: _Body) -> ToolChoice | None:
    wire = found.tool_choice if found.tool_choice is not None else found.function_call
    if wire is None:
        return None
    if isinstance(wire, _NamedChoice):
        return ToolChoice(Choice.NAMED, wire.function.name)
    if isinstance(wire, _Named):
        return ToolChoice(Choice.NAMED, wire.name)
    return ToolChoice(Choice(wire))


def _format(wire: _Format | None) -> Format | None:
    if wire is None or wire.type == "text":
        return None
    if wire.type == "json_object" or wire.json_schema is None:
        return Format()
    schema = wire.json_schema
    return Format(present(schema.schema), schema.name, schema.strict)
