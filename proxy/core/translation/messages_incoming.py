"""Requests of Anthropic's messages, as callers send them, read into a conversation.

Rules: the shape is checked by typed decoding, so that what is wrong is named by its place; fields
that only tune are named in `left_out`, those that change what comes back are refused: server
tools, containers, files and conversations kept at the provider. This module must not know other
dialects or answers.

Sources: Anthropic's request types as its Python SDK 2.x has them (`message_create_params.py`);
WIRE.md section 5.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Raw, Struct

from proxy.core import anthropic
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
    Request,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

CARRIED: Final = frozenset(
    {
        "model", "messages", "system", "tools", "tool_choice", "max_tokens", "temperature",
        "top_p", "top_k", "stop_sequences", "output_config", "thinking", "metadata", "stream",
        "cache_control", "thread",
    }
)  # fmt: skip
REFUSED: Final = {
    "compaction": "summary of a conversation by the provider",
    "container": "container in which code runs",
    "mcp_servers": "servers of tools that the provider calls",
}
"""What is not merely left out: the answer would be another one."""
CLIENT_TOOLS: Final = (None, "custom")
"""Types of tools that the caller runs; every other type runs at the provider."""

_Cache: TypeAlias = dict[str, object] | None


class _Source(Struct):
    type: Literal["base64", "url", "text", "file", "content"]
    media_type: str | None = None
    data: str | None = None
    url: str | None = None


class _Text(Struct, tag_field="type", tag="text"):
    text: str
    cache_control: _Cache = None


class _Image(Struct, tag_field="type", tag="image"):
    source: _Source
    cache_control: _Cache = None


class _Document(Struct, tag_field="type", tag="document"):
    source: _Source
    title: str | None = None
    cache_control: _Cache = None


class _Thinking(Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str | None = None


class _Redacted(Struct, tag_field="type", tag="redacted_thinking"):
    data: str


class _ToolUse(Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: Raw


class _ToolReference(Struct, tag_field="type", tag="tool_reference"):
    tool_name: str


class _ToolResult(Struct, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[_Text | _Image | _Document | _ToolReference] | None = None
    is_error: bool | None = None


class _Tool(Struct):
    name: str
    type: str | None = None
    description: str | None = None
    input_schema: Raw = Raw()
    strict: bool | None = None


class _Change(Struct):
    type: str
    name: str = ""
    definition: _Tool | None = None


class _Addition(Struct, tag_field="type", tag="tool_addition"):
    tool: _Change


class _Removal(Struct, tag_field="type", tag="tool_removal"):
    tool: _Change


_Said: TypeAlias = _Text | _Image | _Document | _Thinking | _Redacted | _ToolUse | _ToolResult
_Block: TypeAlias = _Said | _Addition | _Removal


class _Message(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block] | None = None
    clear_at: str | None = None
    output_config: Raw = Raw()


class _ToolChoice(Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Schema(Struct):
    type: Literal["json_schema"]
    schema: Raw


class _OutputConfig(Struct):
    effort: Effort | None = None
    format: _Schema | None = None


class _ThinkingConfig(Struct):
    type: str
    budget_tokens: int | None = None


class _Metadata(Struct):
    user_id: str | None = None


class _Body(Struct):
    model: str
    messages: list[_Message]
    max_tokens: int
    system: str | list[_Text] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    output_config: _OutputConfig | None = None
    thinking: _ThinkingConfig | None = None
    metadata: _Metadata | None = None
    stream: bool | None = None


_NOTHING: Final = (b"null", b"[]")
_read_body = msgspec.json.Decoder(_Body).decode
_read_names = msgspec.json.Decoder(dict[str, Raw]).decode
_CHOICES: Final = {
    "auto": Choice.AUTO,
    "any": Choice.REQUIRED,
    "none": Choice.NONE,
    "tool": Choice.NAMED,
}


def read_request(body: bytes) -> Request:
    """Read a messages request. Raises RelayError 400 with the place of what is wrong."""
    try:
        found = _read_body(body)
        names = _read_names(body)
    except UNREADABLE as error:
        message = f"The request is not understood: {error}."
        raise RelayError(ErrorCode.INVALID_REQUEST, message) from None
    _refuse(names)
    choice = found.tool_choice
    output = found.output_config or _OutputConfig()
    form = output.format
    instructions, messages = _conversation(found.messages)
    return Request(
        model=found.model,
        messages=tuple(messages),
        system=(*_system(found.system), *instructions),
        tools=tuple(_tools(_offered(found))),
        tool_choice=None if choice is None else ToolChoice(_CHOICES[choice.type], choice.name),
        parallel_tools=_parallel(choice),
        output_tokens_max=found.max_tokens,
        temperature=found.temperature,
        top_p=found.top_p,
        top_k=found.top_k,
        stop=tuple(found.stop_sequences or ()),
        format=None if form is None else Format(form.schema, strict=True),
        effort=output.effort,
        thinking_tokens=_thinking_tokens(found.thinking),
        user=None if found.metadata is None else found.metadata.user_id,
        stream=bool(found.stream),
        left_out=tuple(sorted({*names, *_left_out(found.messages)} - CARRIED - REFUSED.keys())),
    )


def _refuse(names: Mapping[str, Raw]) -> None:
    """Refuse what would come back as another answer than was asked for."""
    anthropic.check_thread(names)
    for name, what in REFUSED.items():
        if bytes(names.get(name, _NOTHING[0])) not in _NOTHING:
            raise _cannot(name, what)


def _cannot(param: str, what: str) -> RelayError:
    return RelayError(
        ErrorCode.INVALID_REQUEST,
        f"This model's provider speaks another protocol, which has no {what}; leave it out or use "
        "a model served in this protocol.",
        param=param,
    )


def _parallel(choice: _ToolChoice | None) -> bool | None:
    if choice is None or choice.disable_parallel_tool_use is None:
        return None
    return not choice.disable_parallel_tool_use


def _thinking_tokens(config: _ThinkingConfig | None) -> int | None:
    """0 for none at all; None leaves it to the model (`adaptive` and what is newer)."""
    if config is None or config.type == "adaptive":
        return None
    return 0 if config.type == "disabled" else config.budget_tokens


def _system(wire: str | Iterable[_Text] | None) -> Iterable[Text]:
    if isinstance(wire, str):
        yield Text(wire)
        return
    for block in wire or ():
        yield Text(block.text, cache=block.cache_control is not None)


def _conversation(wire: list[_Message]) -> tuple[list[Text], list[Message]]:
    """Turns, and the instructions between them, which go to the front, as they bind all.

    Those that the provider would not show again, once the user has said more, are not carried.
    """
    last = max((place for place, one in enumerate(wire) if one.role == "user"), default=0)
    instructions: list[Text] = []
    messages: list[Message] = []
    for place, one in enumerate(wire):
        param = f"messages[{place}].content"
        content = [_Text(one.content)] if isinstance(one.content, str) else one.content
        if one.role != "system":
            if content is None:
                raise _unclear(param, "is required")
            parts = tuple(_part(block, param) for block in content)
            messages.append(Message(Role(one.role), parts))
        elif one.clear_at != "next_user_message" or place > last:
            said = [block for block in content or () if not isinstance(block, _Addition | _Removal)]
            texts = [block for block in said if isinstance(block, _Text)]
            if len(texts) != len(said):
                raise _unclear(param, "may hold text and changes of tools only")
            instructions += _system(texts)
    return instructions, messages


def _left_out(wire: Iterable[_Message]) -> Iterable[str]:
    if any(bytes(one.output_config) for one in wire):
        yield "messages.output_config"


def _offered(found: _Body) -> Iterable[_Tool]:
    """The tools after all changes that the conversation made to them."""
    tools = found.tools or []
    changes = [
        block
        for one in found.messages
        if isinstance(one.content, list)
        for block in one.content
        if isinstance(block, _Addition | _Removal)
    ]
    if not changes:
        return tools
    known = {tool.name: tool for tool in tools}
    offered = dict(known)
    for change in changes:
        tool = change.tool
        if tool.definition is not None:
            known[tool.definition.name] = offered[tool.definition.name] = tool.definition
        elif tool.type != "tool_reference":
            raise _cannot("messages", REFUSED["mcp_servers"])
        elif isinstance(change, _Removal):
            offered.pop(tool.name, None)
        elif tool.name in known:
            offered[tool.name] = known[tool.name]
        else:
            raise _unclear("messages", f"adds a tool `{tool.name}` that is not defined")
    return offered.values()


def _unclear(param: str, what: str) -> RelayError:
    return RelayError(ErrorCode.INVALID_REQUEST, f"`{param}` {what}.", param=param)


def _part(block: _Block, param: str) -> Part:
    if isinstance(block, _Addition | _Removal):
        raise _unclear(param, "changes tools outside of a message of the system")
    if isinstance(block, _Thinking):
        return Thinking(block.thinking, block.signature)
    if isinstance(block, _Redacted):
        return Thinking("", redacted=block.data)
    if isinstance(block, _ToolUse):
        return ToolCall(block.id, block.name, bytes(block.input).decode())
    if isinstance(block, _ToolResult):
        content = block.content
        if content is None or isinstance(content, str):
            parts: tuple[Text | Image | Document, ...] = (Text(content),) if content else ()
        else:
            parts = tuple(_shown(one, param) for one in content)
        return ToolResult(block.tool_use_id, parts, failed=bool(block.is_error))
    return _shown(block, param)


def _shown(
    block: _Text | _Image | _Document | _ToolReference, param: str
) -> Text | Image | Document:
    if isinstance(block, _ToolReference):
        return Text(block.tool_name)  # every tool is told elsewhere, none is loaded later
    cache = block.cache_control is not None
    if isinstance(block, _Text):
        return Text(block.text, cache=cache)
    source = block.source
    if source.type not in ("base64", "url", "text") or source.data is source.url is None:
        raise _cannot(param, "files kept at the provider")
    if isinstance(block, _Image):
        return Image(url=source.url, media_type=source.media_type, data=source.data, cache=cache)
    if source.type == "text":
        title = f"{block.title}\n\n" if block.title else ""
        return Text(f"{title}{source.data}", cache=cache)
    return Document(
        url=source.url,
        media_type=source.media_type,
        data=source.data,
        name=block.title,
        cache=cache,
    )


def _tools(wire: Iterable[_Tool]) -> Iterable[Tool]:
    for tool in wire:
        if tool.type not in CLIENT_TOOLS:
            raise _cannot("tools", f"tool of type `{tool.type}`, which runs at the provider")
        schema = tool.input_schema if bytes(tool.input_schema) else None
        yield Tool(tool.name, tool.description, schema, tool.strict)
