"""Requests of Anthropic's messages, written from a conversation for an upstream.

Rules: turns of one role that follow each other are joined, since tools' results and what the user
says share a turn here; what cannot be said is named by `unsaid` or refused. This module must not
know other dialects or answers.

Sources: Anthropic's request types as its Python SDK 2.x has them (`message_create_params.py`);
WIRE.md section 5.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Raw

from proxy.core.translation.conversation import (
    Choice,
    Document,
    Effort,
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
    object_arguments,
)
from proxy.core.translation.signatures import is_marked

TEMPERATURE_MAX: Final = 1.0
"""Anthropic's range is 0 to 1 where OpenAI's is 0 to 2."""
_EFFORTS: Final = {
    Effort.MINIMAL: "low",
    Effort.LOW: "low",
    Effort.MEDIUM: "medium",
    Effort.HIGH: "high",
    Effort.XHIGH: "xhigh",
    Effort.MAX: "max",
}
_CHOICES: Final = {Choice.AUTO: "auto", Choice.REQUIRED: "any", Choice.NONE: "none"}
_EMPTY_SCHEMA: Final = Raw(b'{"type":"object","properties":{}}')
_CACHE: Final = {"type": "ephemeral"}
_write = msgspec.json.encode
_Object = dict[str, object]


def write_request(request: Request, output_tokens_max: int) -> bytes:
    """Write a messages request; `output_tokens_max` stands where the caller gave no limit."""
    limit = request.output_tokens_max
    document: _Object = {
        "model": request.model,
        "max_tokens": output_tokens_max if limit is None else limit,
        "system": [_text(part) for part in request.system if part.text] or None,
        "messages": list(_turns(request.messages)),
        "temperature": _temperature(request.temperature),
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stop_sequences": list(request.stop) or None,
        "tools": [_tool(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request),
        "thinking": _thinking(request),
        "output_config": _output_config(request) or None,
        "metadata": None if request.user is None else {"user_id": request.user},
        "stream": True if request.stream else None,
    }
    return _write({name: value for name, value in document.items() if value is not None})


def unsaid(request: Request) -> tuple[str, ...]:
    """What of `request` a messages request cannot say, by the names of the conversation."""
    found = []
    if request.temperature is not None and request.temperature > TEMPERATURE_MAX:
        found.append("temperature")
    if request.format is not None and request.format.schema is None:
        found.append("format")
    return tuple(found)


def _temperature(wanted: float | None) -> float | None:
    return None if wanted is None else min(wanted, TEMPERATURE_MAX)


def _turns(messages: Iterable[Message]) -> Iterable[_Object]:
    role: Role | None = None
    blocks: list[_Object] = []
    for message in messages:
        if message.role is not role:
            if role is not None and blocks:
                yield {"role": role.value, "content": blocks}
            role, blocks = message.role, []
        results = [_block(part) for part in message.parts if isinstance(part, ToolResult)]
        others = [_block(part) for part in message.parts if _said(part)]
        # Results come first in their turn, or the provider takes the calls as unanswered.
        place = sum(block["type"] == "tool_result" for block in blocks)
        blocks[place:place] = results
        blocks += others
    if role is not None and blocks:
        yield {"role": role.value, "content": blocks}


def _said(part: Part) -> bool:
    """Whether a part stands for itself; empty text is refused by the provider."""
    if isinstance(part, ToolResult):
        return False
    if isinstance(part, Thinking):
        signed = part.signature is not None and not is_marked(part.signature)
        return signed or part.redacted is not None
    return not isinstance(part, Text) or bool(part.text)


def _block(part: Part) -> _Object:
    if isinstance(part, Text):
        return _text(part)
    if isinstance(part, Refusal):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        return _cached({"type": "image", "source": _source(part)}, cache=part.cache)
    if isinstance(part, Document):
        block: _Object = {"type": "document", "source": _source(part)}
        if part.name is not None:
            block["title"] = part.name
        return _cached(block, cache=part.cache)
    if isinstance(part, Thinking):
        if part.redacted is not None:
            return {"type": "redacted_thinking", "data": part.redacted}
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    if isinstance(part, ToolCall):
        arguments = Raw(object_arguments(part))
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
    result: _Object = {"type": "tool_result", "tool_use_id": part.call_id}
    if part.parts:
        result["content"] = [_block(one) for one in part.parts]
    if part.failed:
        result["is_error"] = True
    return result


def _text(part: Text) -> _Object:
    return _cached({"type": "text", "text": part.text}, cache=part.cache)


def _cached(block: _Object, *, cache: bool) -> _Object:
    return {**block, "cache_control": _CACHE} if cache else block


def _source(part: Image | Document) -> _Object:
    if part.url is not None:
        return {"type": "url", "url": part.url}
    return {"type": "base64", "media_type": part.media_type, "data": part.data}


def _tool(tool: Tool) -> _Object:
    schema = _EMPTY_SCHEMA if tool.schema is None else tool.schema
    found: _Object = {"name": tool.name, "input_schema": schema}
    if tool.description is not None:
        found["description"] = tool.description
    if tool.strict is not None:
        found["strict"] = tool.strict
    return found


def _tool_choice(request: Request) -> _Object | None:
    choice, one_only = request.tool_choice, request.parallel_tools is False
    if not request.tools or (choice is None and not one_only):
        return None
    choice = choice or ToolChoice(Choice.AUTO)
    if choice.choice is Choice.NAMED:
        found: _Object = {"type": "tool", "name": choice.name}
    else:
        found = {"type": _CHOICES[choice.choice]}
    if one_only and choice.choice is not Choice.NONE:
        found["disable_parallel_tool_use"] = True
    return found


def _thinking(request: Request) -> _Object | None:
    """A budget as it was given; a level alone lets the model decide how much to think."""
    budget = request.thinking_tokens
    if budget == 0 or (budget is None and request.effort is Effort.NONE):
        return {"type": "disabled"}
    return None if budget is None else {"type": "enabled", "budget_tokens": budget}


def _output_config(request: Request) -> _Object:
    found: _Object = {}
    if request.effort is not None and request.effort is not Effort.NONE:
        found["effort"] = _EFFORTS[request.effort]
    if request.format is not None and request.format.schema is not None:
        found["format"] = {"type": "json_schema", "schema": request.format.schema}
    return found
