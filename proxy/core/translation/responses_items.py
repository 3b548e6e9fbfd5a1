"""What whole answers and streams of OpenAI's Responses share: output items, and the frame.

Rules: an item is built here and nowhere else, so that what a stream adds up to is what a whole
answer says. Secrets of thinking go through a caller that cannot read them and come back: they
carry a mark of who made them, and one without the mark is not shown to another maker. This
module must not know other dialects, framing or billing.

Sources: `responses/response.py` and the item types of OpenAI's Python SDK 3.x; WIRE.md section 3.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Raw, Struct

from proxy.core.deltas import UNREADABLE
from proxy.core.entities import Usage
from proxy.core.translation.conversation import (
    Choice,
    Finish,
    Format,
    Part,
    Refusal,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    effort_of,
)
from proxy.core.translation.signatures import OWN

RELAYED: Final = "relayed:"
"""Before another maker's signature of thoughts, where this protocol has its encrypted content."""
RELAYED_REDACTED: Final = "relayed-redacted:"
"""The same before thoughts that only their maker can read."""
INCOMPLETE: Final = {Finish.LENGTH: "max_output_tokens", Finish.REFUSED: "content_filter"}
GROUP_SEAM: Final = "__"
FREE_FORM_SCHEMA: Final = Raw(
    b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],'
    b'"additionalProperties":false}'
)
EMPTY_SCHEMA: Final = Raw(b'{"type":"object","properties":{}}')
_write = msgspec.json.encode
_Object = dict[str, object]


class Content(Struct):
    """A part of a message's content, or of a reasoning item's summary."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None


class Item(Struct):
    """An output item, of any type."""

    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: object = None
    content: object = None
    summary: list[Content] | None = None
    encrypted_content: str | None = None


def contents(found: object) -> list[Content]:
    """The parts of a content; other items have other things under that name."""
    try:
        return msgspec.convert(found or [], list[Content])
    except msgspec.ValidationError:
        return []


def parts_of(item: Item) -> Iterable[Part]:
    """What an item says; nothing for one that only the provider's own tools make."""
    if item.type == "message":
        for content in contents(item.content):
            if content.type == "refusal":
                yield Refusal(content.refusal or "")
            elif content.type == "output_text":
                yield Text(content.text or "")
    elif item.type == "function_call":
        arguments = item.arguments if isinstance(item.arguments, str) else ""
        yield ToolCall(item.call_id or item.id or "", item.name or "", arguments or "{}")
    elif item.type == "reasoning":
        text = thoughts(item)
        signature = signature_of(item)
        if text or signature:
            yield Thinking(text, signature)


def thoughts(item: Item) -> str:
    """What a reasoning item shows of itself: all of it, or else its summary."""
    found = contents(item.content) or item.summary or []
    return "\n\n".join(part.text for part in found if part.text)


def signature_of(item: Item) -> str | None:
    """The signature under which a reasoning item's encrypted content goes through a caller."""
    return f"{OWN}{item.id or ''}:{item.encrypted_content}" if item.encrypted_content else None


def own_reasoning(signature: str | None) -> tuple[str, str] | None:
    """(id, encrypted content) of a reasoning item that comes back; None for another maker's."""
    if signature is None or not signature.startswith(OWN):
        return None
    item_id, _, encrypted = signature[len(OWN) :].partition(":")
    return item_id, encrypted


def relayed_thinking(text: str, encrypted: str | None) -> Thinking:
    """Thoughts that come back from the caller; without a secret if it is this protocol's own."""
    if encrypted is not None and encrypted.startswith(RELAYED_REDACTED):
        return Thinking("", redacted=encrypted[len(RELAYED_REDACTED) :])
    if encrypted is not None and encrypted.startswith(RELAYED):
        return Thinking(text, encrypted[len(RELAYED) :])
    return Thinking(text)


def named(tools: Iterable[Tool]) -> Mapping[str, Tool]:
    """The tools whose calls are written otherwise than a plain function's, by name."""
    return {tool.name: tool for tool in tools if tool.free_form or tool.group is not None}


def response_id(given: str) -> str:
    """The id of an answer in this dialect's form, the provider's own inside."""
    return given if given.startswith("resp_") else f"resp_{given}"


def output_text(text: str) -> _Object:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refused(text: str) -> _Object:
    return {"type": "refusal", "refusal": text}


def message_item(item_id: str, content: list[_Object], status: str) -> _Object:
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def reasoning_item(item_id: str, text: str, encrypted: str | None, status: str) -> _Object:
    summary = [{"type": "summary_text", "text": text}] if text else []
    item: _Object = {"id": item_id, "type": "reasoning", "status": status, "summary": summary}
    if encrypted is not None:
        item["encrypted_content"] = encrypted
    return item


def call_item(item_id: str, call: ToolCall, tool: Tool | None, status: str) -> _Object:
    """A call, as the caller named its tool; `call.arguments` is a free-form tool's input here."""
    free_form = tool is not None and tool.free_form
    item: _Object = {
        "id": item_id,
        "type": "custom_tool_call" if free_form else "function_call",
        "status": status,
        "call_id": call.id or item_id,
        "name": call.name,
    }
    if tool is not None and tool.group is not None:
        item["name"] = call.name[len(tool.group) + len(GROUP_SEAM) :]
        item["namespace"] = tool.group
    item["input" if free_form else "arguments"] = call.arguments
    return item


def full_name(group: str | None, name: str) -> str:
    """The name of a group's tool elsewhere."""
    return name if group is None else f"{group}{GROUP_SEAM}{name}"


def free_form_input(arguments: str) -> str:
    """The plain text in a free-form tool's arguments; they themselves if they are not such."""
    try:
        found = msgspec.json.decode(arguments, type=dict[str, object]).get("input")
    except UNREADABLE:
        return arguments
    return found if isinstance(found, str) else arguments


def free_form_arguments(text: str) -> str:
    """The arguments that hold a free-form tool's plain text."""
    return _write({"input": text}).decode()


def usage_object(usage: Usage) -> _Object:
    """A usage report: cached tokens inside the input's here (WIRE.md section 6 rule 5)."""
    given, made = usage.prompt_total, usage.completion_total
    return {
        "input_tokens": given,
        "input_tokens_details": {
            "cached_tokens": usage.cached_total,
            "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h,
        },
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": given + made,
    }


def frame(asked: Request, created: int) -> _Object:
    """What every response object says besides its answer: `created` in Unix seconds, the asked.

    `instructions` are left out rather than sent back three times a stream.
    """
    effort = effort_of(asked)
    return {
        "object": "response",
        "created_at": created,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "max_output_tokens": asked.output_tokens_max,
        "metadata": {},
        "parallel_tool_calls": asked.parallel_tools is not False,
        "previous_response_id": None,
        "reasoning": {"effort": None if effort is None else effort.value, "summary": None},
        "store": False,
        "temperature": asked.temperature,
        "text": {"format": written_format(asked.format)},
        "tool_choice": written_choice(asked.tool_choice, named(asked.tools)) or "auto",
        "tools": list(_shown_tools(asked.tools)),
        "top_p": asked.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": asked.user,
    }


def _shown_tools(tools: Iterable[Tool]) -> Iterable[_Object]:
    """Tools as the caller named them; those of a group stand in it again."""
    groups: dict[str, list[_Object]] = {}
    for tool in tools:
        shown = written_tool(tool)
        if tool.free_form:
            shown = {"type": "custom", "name": tool.name, "description": tool.description}
        if tool.group is None:
            yield shown
            continue
        shown["name"] = tool.name[len(tool.group) + len(GROUP_SEAM) :]
        if tool.group not in groups:
            groups[tool.group] = []
            yield {
                "type": "namespace",
                "name": tool.group,
                "description": "",
                "tools": groups[tool.group],
            }
        groups[tool.group].append(shown)


def written_tool(tool: Tool) -> _Object:
    """A function. `strict` is always said: here its absence would make every argument required."""
    found: _Object = {
        "type": "function",
        "name": tool.name,
        "parameters": EMPTY_SCHEMA if tool.schema is None else tool.schema,
        "strict": bool(tool.strict),
    }
    if tool.description is not None:
        found["description"] = tool.description
    return found


def written_choice(choice: ToolChoice | None, tools: Mapping[str, Tool]) -> object:
    """A tool choice; None where there is none."""
    if choice is None:
        return None
    if choice.choice is not Choice.NAMED:
        return choice.choice.value
    tool = tools.get(choice.name or "")
    kind = "custom" if tool is not None and tool.free_form else "function"
    return {"type": kind, "name": choice.name}


def written_format(form: Format | None) -> _Object:
    """A text format."""
    if form is None:
        return {"type": "text"}
    if form.schema is None:
        return {"type": "json_object"}
    written: _Object = {"type": "json_schema", "name": form.name, "schema": form.schema}
    if form.strict is not None:
        written["strict"] = form.strict
    return written
