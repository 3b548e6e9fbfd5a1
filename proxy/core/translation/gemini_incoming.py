"""Requests of Gemini's generateContent, as callers send them, read into a conversation.

Rules: model and streaming are in the path and not here. Names are taken in camel case and in snake
case, as Google takes them, but for what is the caller's own (arguments, schemas, results). Fields
that only tune are named in `left_out`, those that change what comes back are refused. A schema in
Google's own form is told as the JSON Schema it stands for. This module must not know other
dialects or answers.

Sources: `types.py` and `models.py` of Google's Python SDK google-genai 3.x (the `_to_mldev`
writers name every field of the wire); the JSON mapping of protocol buffers for the two cases.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Raw, Struct

from proxy.core.translation.conversation import (
    Choice,
    Effort,
    Format,
    Request,
    Tool,
    ToolChoice,
)
from proxy.core.translation.gemini_turns import Turn, cannot, conversation, not_understood, texts

CARRIED: Final = frozenset(
    {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "model"}
)
CARRIED_OF_CONFIG: Final = frozenset(
    {
        "maxOutputTokens", "temperature", "topP", "topK", "stopSequences", "responseMimeType",
        "responseSchema", "responseJsonSchema", "thinkingConfig", "candidateCount",
        "responseModalities",
    }
)  # fmt: skip
REFUSED: Final = {
    "cachedContent": "contents kept at the provider",
    "continuationToken": "answers that are gone on with",
}
REFUSED_OF_CONFIG: Final = {
    "responseLogprobs": "log probabilities",
    "logprobs": "log probabilities",
    "speechConfig": "speech",
    "imageConfig": "pictures as answers",
    "audioTranscriptionConfig": "transcriptions",
}
"""Fields whose effect is part of the answer: without them it would be another one."""
_OPAQUE: Final = frozenset(
    {"args", "response", "parameters", "parametersJsonSchema", "responseSchema",
     "responseJsonSchema"}
)  # fmt: skip
"""What is the caller's own, and keeps its names."""
_NOTHING: Final[tuple[object, ...]] = (None, False, 0, "", [], {})
_EFFORTS: Final = {
    "MINIMAL": Effort.MINIMAL,
    "LOW": Effort.LOW,
    "MEDIUM": Effort.MEDIUM,
    "HIGH": Effort.HIGH,
    "XHIGH": Effort.XHIGH,
}
_CHOICES: Final = {
    "AUTO": Choice.AUTO,
    "VALIDATED": Choice.AUTO,
    "NONE": Choice.NONE,
    "ANY": Choice.REQUIRED,
}
_LISTS: Final = ("anyOf", "oneOf", "prefixItems")
_MAPS: Final = ("properties", "$defs", "defs")
_SIZES: Final = frozenset(
    {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
)
_DEPTH_MAX: Final = 64
_write = msgspec.json.encode


class _Declaration(Struct, rename="camel"):
    name: str
    description: str | None = None
    parameters: dict[str, object] | None = None
    parameters_json_schema: object = None


class _Thinking(Struct, rename="camel"):
    thinking_budget: int | None = None
    thinking_level: str | None = None
    include_thoughts: bool | None = None


class _Config(Struct, rename="camel"):
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    stop_sequences: list[str] | None = None
    candidate_count: int | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, object] | None = None
    response_json_schema: object = None
    response_modalities: list[str] | None = None
    thinking_config: _Thinking | None = None


class _Calling(Struct, rename="camel"):
    mode: str = "AUTO"
    allowed_function_names: list[str] | None = None


class _ToolConfig(Struct, rename="camel"):
    function_calling_config: _Calling | None = None


class _Body(Struct, rename="camel"):
    contents: list[Turn]
    system_instruction: Turn | None = None
    tools: list[dict[str, object]] | None = None
    tool_config: _ToolConfig | None = None
    generation_config: _Config | None = None


def read_request(body: bytes) -> Request:
    """Read a generateContent request. Raises RelayError 400 with the place of what is wrong."""
    try:
        document = camel_case(msgspec.json.decode(body, type=dict[str, object]))
        found = msgspec.convert(document, _Body, strict=False)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise not_understood(str(error)) from None
    config = found.generation_config or _Config()
    left_out = _judge(document, config)
    tools, choice = _tool_choice(found, [t for each in found.tools or () for t in _tools(each)])
    thinking = config.thinking_config or _Thinking()
    budget = thinking.thinking_budget
    system = found.system_instruction
    return Request(
        model="",
        messages=tuple(conversation(found.contents)),
        system=() if system is None else texts(system, "systemInstruction"),
        tools=tuple(tools),
        tool_choice=choice,
        output_tokens_max=config.max_output_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=None if config.top_k is None else int(config.top_k),
        stop=tuple(config.stop_sequences or ()),
        format=_format(config),
        effort=_EFFORTS.get((thinking.thinking_level or "").upper()),
        thinking_tokens=None if budget is None or budget < 0 else budget,
        left_out=left_out,
    )


def camel_case(value: object, depth: int = _DEPTH_MAX) -> object:
    """JSON with the names Google documents, whichever of the two cases they were given in."""
    if isinstance(value, list):
        return [camel_case(one, depth - 1) for one in value] if depth else value
    if not isinstance(value, dict) or not depth:
        return value
    found: dict[str, object] = {}
    for name, one in value.items():
        first, *rest = name.split("_")
        camel = first + "".join([word.capitalize() for word in rest]) if first else name
        found[camel] = one if camel in _OPAQUE else camel_case(one, depth - 1)
    return found


def _judge(document: object, config: _Config) -> tuple[str, ...]:
    """Refuse what would come back as another answer than was asked for; name what only tunes."""
    given = _given(document)
    of_config = _given(given.get("generationConfig"))
    for names, refused in ((given, REFUSED), (of_config, REFUSED_OF_CONFIG)):
        for name in refused:
            if name in names:
                raise cannot(name, refused[name])
    if config.candidate_count not in (None, 1):
        raise cannot("candidateCount", "more than one candidate")
    if config.response_modalities not in (None, [], ["TEXT"]):
        raise cannot("responseModalities", "other output than text")
    left_out = [*(given.keys() - CARRIED)]
    left_out += [f"generationConfig.{name}" for name in of_config.keys() - CARRIED_OF_CONFIG]
    return tuple(sorted(left_out))


def _given(value: object) -> Mapping[str, object]:
    """The members of an object that say anything."""
    if not isinstance(value, dict):
        return {}
    return {name: one for name, one in value.items() if one not in _NOTHING}


def _tools(wire: dict[str, object]) -> Iterable[Tool]:
    for name in _given(wire):
        if name != "functionDeclarations":
            raise cannot("tools", f"tool `{name}`, which runs at the provider")
    try:
        found = msgspec.convert(wire.get("functionDeclarations") or [], list[_Declaration])
    except msgspec.ValidationError as error:
        raise not_understood(str(error), "tools") from None
    for declared in found:
        schema = declared.parameters_json_schema
        if schema is None and declared.parameters is not None:
            schema = json_schema(declared.parameters)
        raw = None if schema is None else Raw(_write(schema))
        yield Tool(declared.name, declared.description, raw)


def _tool_choice(found: _Body, tools: list[Tool]) -> tuple[list[Tool], ToolChoice | None]:
    """The tools that may be called, and whether; of allowed ones only they are offered."""
    wire = None if found.tool_config is None else found.tool_config.function_calling_config
    if wire is None or not tools:
        return tools, None
    choice = _CHOICES.get(wire.mode.upper())
    if choice is None:
        raise not_understood(f"there is no mode `{wire.mode}`", "toolConfig")
    allowed = wire.allowed_function_names
    if not allowed or choice is Choice.NONE:
        return tools, ToolChoice(choice)
    if len(allowed) == 1 and choice is Choice.REQUIRED:
        return tools, ToolChoice(Choice.NAMED, allowed[0])
    return [tool for tool in tools if tool.name in allowed], ToolChoice(choice)


def _format(config: _Config) -> Format | None:
    kind = config.response_mime_type
    if kind in (None, "", "text/plain"):
        return None
    if kind != "application/json":
        raise cannot("responseMimeType", f"answers of the type `{kind}`")
    schema = config.response_json_schema
    if schema is None and config.response_schema is not None:
        schema = json_schema(config.response_schema)
    return Format() if schema is None else Format(Raw(_write(schema)), strict=True)


def json_schema(schema: Mapping[str, object], depth: int = _DEPTH_MAX) -> dict[str, object]:
    """The JSON Schema that Google's own form of one stands for.

    There types are in capitals, null is a mark beside the type, sizes may be text, and the order
    of properties is a field.
    """
    found: dict[str, object] = {}
    for name, value in schema.items():
        if name == "type" and isinstance(value, str):
            found[name] = value.lower()
        elif name in _SIZES and isinstance(value, str) and value.isdecimal():
            found[name] = int(value)
        elif name in _MAPS and isinstance(value, dict):
            found[name] = {key: _inner(one, depth) for key, one in value.items()}
        elif name in _LISTS and isinstance(value, list):
            found[name] = [_inner(one, depth) for one in value]
        elif name == "items":
            found[name] = _inner(value, depth)
        elif name not in ("nullable", "propertyOrdering"):
            found[name] = value
    if schema.get("nullable") is True and "type" in found:
        found["type"] = [found["type"], "null"]
    return found


def _inner(value: object, depth: int) -> object:
    return json_schema(value, depth - 1) if isinstance(value, dict) and depth else value
