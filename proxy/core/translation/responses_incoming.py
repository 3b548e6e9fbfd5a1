"""Requests of OpenAI's Responses, as callers send them, read into a conversation.

Rules: the shape is checked by typed decoding, so that what is wrong is named by its place; fields
that only tune are named in `left_out`, those that change what comes back are refused: whatever is
kept or run at the provider. Tools the caller runs are carried, also those this protocol alone
has: a custom tool becomes a function of one string, a namespace part of its tools' names. Web
search, which Codex always offers, is left out by name unless it is demanded: it is one way to an
answer, not its content. This module must not know other dialects or answers.

Sources: OpenAI's request types as its Python SDK 3.x has them
(`responses/response_create_params.py`); WIRE.md section 3; what Codex sends (`wire_api =
"responses"`).
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec
from msgspec import Raw, Struct
from msgspec.json import Decoder

from proxy.core.deltas import UNREADABLE
from proxy.core.translation.conversation import (
    Choice,
    Effort,
    Format,
    Request,
    Text,
    Tool,
    ToolChoice,
)
from proxy.core.translation.responses_items import FREE_FORM_SCHEMA, full_name
from proxy.core.translation.responses_turns import (
    cannot,
    conversation,
    decode,
    kinds,
    not_understood,
)

CARRIED: Final = frozenset(
    {
        "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text",
        "reasoning", "max_output_tokens", "temperature", "top_p", "user", "safety_identifier",
        "stream", "include", "store", "truncation", "stream_options",
    }
)  # fmt: skip
CARRIED_WITHIN: Final = {
    "text": {"format"},
    "reasoning": {"effort"},
    "stream_options": {"include_obfuscation"},
}
REFUSED: Final = {
    "previous_response_id": "answers kept at the provider; send the whole conversation as `input`",
    "conversation": "conversations kept at the provider; send the whole of it as `input`",
    "background": "answers made in the background",
    "prompt": "prompts kept at the provider",
    "top_logprobs": "log probabilities",
    "moderation": "the provider's moderation",
}
"""Fields whose effect is part of the answer: without them it would be another one."""
ENCRYPTED: Final = "reasoning.encrypted_content"
LOGPROBS: Final = "message.output_text.logprobs"
WEB_SEARCH: Final = "web_search"
"""How the types of that hosted tool begin: also `web_search_preview`, and both with a date."""
CARRIED_OF_TOOLS: Final = frozenset({"type", "name", "description", "parameters", "strict"})
_ABSENT: Final = Raw()
_NOTHING: Final = (b"", b"null", b"false", b"0")


class _Tool(Struct):
    name: str
    description: str | None = None
    parameters: Raw = _ABSENT
    strict: bool | None = None


class _CustomFormat(Struct):
    type: str = "text"
    syntax: str = ""
    definition: str = ""


class _CustomTool(Struct):
    name: str
    description: str | None = None
    format: _CustomFormat | None = None


class _Namespace(Struct):
    name: str
    tools: list[Raw]


class _Named(Struct):
    type: str
    name: str


class _AllowedTool(Struct):
    name: str | None = None


class _Allowed(Struct):
    tools: list[_AllowedTool]
    mode: Literal["auto", "required"] = "auto"


class _Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    name: str = "answer"
    schema: Raw = _ABSENT
    strict: bool | None = None


class _TextConfig(Struct):
    format: _Format | None = None


class _ReasoningConfig(Struct):
    effort: Effort | None = None


class _StreamOptions(Struct):
    include_obfuscation: bool | None = None


class _Body(Struct):
    model: str
    input: str | list[Raw]
    instructions: str | None = None
    tools: list[Raw] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Raw] | None = None
    parallel_tool_calls: bool | None = None
    text: _TextConfig | None = None
    reasoning: _ReasoningConfig | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None
    safety_identifier: str | None = None
    stream: bool | None = None
    include: list[str] | None = None
    store: bool | None = None
    truncation: str | None = None
    stream_options: _StreamOptions | None = None


_read_body = Decoder(_Body).decode
_objects: Final = Decoder(dict[str, Raw])
_functions: Final = Decoder(_Tool)
_custom_tools: Final = Decoder(_CustomTool)
_namespaces: Final = Decoder(_Namespace)
_named: Final = Decoder(_Named)
_alloweds: Final = Decoder(_Allowed)


def read_request(body: bytes) -> Request:
    """Read a Responses request. Raises RelayError 400 with the place of what is wrong."""
    try:
        found = _read_body(body)
        names = _objects.decode(body)
    except UNREADABLE as error:
        raise not_understood(str(error)) from None
    left_out: set[str] = set()
    _judge(found, names, left_out)
    tools = [tool for raw in found.tools or () for tool in _tools(raw, left_out)]
    tools, choice = _tool_choice(found.tool_choice, tools)
    demanded = choice is not None and choice.choice is Choice.REQUIRED
    if demanded and not tools and f"tools.{WEB_SEARCH}" in left_out:
        raise cannot("tool_choice", f"tool of type `{WEB_SEARCH}`")
    system = [Text(found.instructions)] if found.instructions else []
    messages = conversation(found.input, system, left_out)
    return Request(
        model=found.model,
        messages=tuple(messages),
        system=tuple(system),
        tools=tuple(tools),
        tool_choice=choice,
        parallel_tools=found.parallel_tool_calls,
        output_tokens_max=found.max_output_tokens,
        temperature=found.temperature,
        top_p=found.top_p,
        format=_format(found.text.format if found.text is not None else None),
        effort=found.reasoning.effort if found.reasoning is not None else None,
        user=found.safety_identifier or found.user,
        stream=bool(found.stream),
        left_out=tuple(sorted(left_out)),
    )


def _judge(found: _Body, names: dict[str, Raw], left_out: set[str]) -> None:
    """Refuse what would come back as another answer than was asked for; name what only tunes."""
    given = {name for name, value in names.items() if bytes(value) not in _NOTHING}
    for name, what in REFUSED.items():
        if name in given:
            raise cannot(name, what)
    left_out |= given - CARRIED
    for name, carried in CARRIED_WITHIN.items():
        if name in given:
            within = decode(_objects, names[name], name)
            left_out |= {
                f"{name}.{one}"
                for one, value in within.items()
                if one not in carried and bytes(value) not in _NOTHING
            }
    include = set(found.include or ())
    if LOGPROBS in include:
        raise cannot("include", "log probabilities")
    if include - {ENCRYPTED}:
        left_out.add("include")
    if found.store:
        left_out.add("store")
    if found.truncation == "auto":
        left_out.add("truncation")
    if found.stream_options is not None and found.stream_options.include_obfuscation:
        left_out.add("stream_options.include_obfuscation")


def _tools(raw: Raw, left_out: set[str], group: str | None = None) -> Iterable[Tool]:
    kind = decode(kinds, raw, "tools").type
    if kind == "function":
        tool = decode(_functions, raw, "tools")
        given = decode(_objects, raw, "tools")
        unknown = {name for name, value in given.items() if bytes(value) not in _NOTHING}
        left_out |= {f"tools.{name}" for name in unknown - CARRIED_OF_TOOLS}
        schema = tool.parameters if bytes(tool.parameters) not in _NOTHING else None
        name = full_name(group, tool.name)
        yield Tool(name, tool.description, schema, tool.strict, group=group)
    elif kind == "custom":
        yield _custom_tool(decode(_custom_tools, raw, "tools"), group, left_out)
    elif kind == "namespace" and group is None:
        space = decode(_namespaces, raw, "tools")
        for one in space.tools:
            yield from _tools(one, left_out, space.name)
    elif kind is not None and kind.startswith(WEB_SEARCH):
        left_out.add(f"tools.{WEB_SEARCH}")
    else:
        raise cannot("tools", f"tool of type `{kind}`")


def _custom_tool(wire: _CustomTool, group: str | None, left_out: set[str]) -> Tool:
    """A tool of plain text. A grammar is told to the model, but nothing holds it to it."""
    description = wire.description or ""
    if wire.format is not None and wire.format.type == "grammar":
        left_out.add("tools.format")
        grammar = f"The input follows this {wire.format.syntax} grammar:\n{wire.format.definition}"
        description = f"{description}\n\n{grammar}".strip()
    name = full_name(group, wire.name)
    return Tool(name, description or None, FREE_FORM_SCHEMA, free_form=True, group=group)


def _tool_choice(
    wire: str | dict[str, Raw] | None, tools: list[Tool]
) -> tuple[list[Tool], ToolChoice | None]:
    """The tools that may be called, and which; of allowed ones only they are offered."""
    if wire is None:
        return tools, None
    if isinstance(wire, str):
        return tools, ToolChoice(Choice(wire))
    raw = Raw(msgspec.json.encode(wire))
    kind = decode(kinds, raw, "tool_choice").type
    if kind in ("function", "custom"):
        return tools, ToolChoice(Choice.NAMED, decode(_named, raw, "tool_choice").name)
    if kind != "allowed_tools":
        raise cannot("tool_choice", f"tool of type `{kind}`")
    allowed = decode(_alloweds, raw, "tool_choice")
    names = {tool.name for tool in allowed.tools}
    return [tool for tool in tools if tool.name in names], ToolChoice(Choice(allowed.mode))


def _format(wire: _Format | None) -> Format | None:
    if wire is None or wire.type == "text":
        return None
    if wire.type == "json_object":
        return Format()
    schema = wire.schema if bytes(wire.schema) not in _NOTHING else None
    return Format(schema, wire.name, wire.strict)
