"""Requests of OpenAI's Responses, written from a conversation for an upstream.

Rules: nothing is kept at the provider (`store` is false), so what it thought comes back to it
only where it encrypted it for that; stop sequences, which this protocol has none of, are refused.
What else cannot be said is named by `unsaid`. This module must not know other dialects or answers.

Sources: OpenAI's request types as its Python SDK 3.x has them
(`responses/response_create_params.py`); WIRE.md section 3.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.conversation import (
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
    ToolCall,
    ToolResult,
    effort_of,
)
from proxy.core.translation.responses_items import (
    own_reasoning,
    written_choice,
    written_format,
    written_tool,
)

ENCRYPTED: Final = "reasoning.encrypted_content"
_write = msgspec.json.encode
_Object = dict[str, object]


def write_request(request: Request) -> bytes:
    """Write a Responses request that asks for the same."""
    if request.stop:
        raise RelayError(
            ErrorCode.INVALID_REQUEST,
            "This model's provider speaks another protocol, which has no stop sequences; leave "
            "them out or use a model served in this protocol.",
            param="stop",
        )
    effort = effort_of(request)
    thinks = effort is not None and effort is not Effort.NONE
    document: _Object = {
        "model": request.model,
        "instructions": "\n\n".join(part.text for part in request.system) or None,
        "input": list(_items(request.messages)),
        "max_output_tokens": request.output_tokens_max,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "tools": [written_tool(tool) for tool in request.tools] or None,
        "tool_choice": written_choice(request.tool_choice, {}),
        "parallel_tool_calls": request.parallel_tools if request.tools else None,
        "text": None if request.format is None else {"format": written_format(request.format)},
        "reasoning": None if effort is None else {"effort": effort.value},
        # Models that do not think refuse to be asked for it.
        "include": [ENCRYPTED] if thinks else None,
        "user": request.user,
        "store": False,
        "stream": True if request.stream else None,
    }
    return _write({name: value for name, value in document.items() if value is not None})


def unsaid(request: Request) -> tuple[str, ...]:
    """What of `request` a Responses request cannot say, by the names of the conversation."""
    return ("top_k",) if request.top_k is not None else ()


def _items(messages: Iterable[Message]) -> Iterable[_Object]:
    for message in messages:
        if message.role is Role.USER:
            yield from _user_items(message)
        else:
            yield from _assistant_items(message)


def _user_items(message: Message) -> Iterable[_Object]:
    """Results of tools are items of their own here, ahead of what the user says."""
    for part in message.parts:
        if isinstance(part, ToolResult):
            yield {
                "type": "function_call_output",
                "call_id": part.call_id,
                "output": _output(part),
            }
    said = [_content(part) for part in message.parts if not isinstance(part, ToolResult)]
    if said:
        yield {"type": "message", "role": "user", "content": said}


def _output(result: ToolResult) -> object:
    """A result as plain text where it is that, since few providers take more."""
    parts = list(result.parts)
    if result.failed:
        parts.insert(0, Text("Error:"))
    if all(isinstance(part, Text) for part in parts):
        words = [part.text for part in parts if isinstance(part, Text)]
        return " ".join(["Error:", "\n".join(words[1:])]) if result.failed else "\n".join(words)
    return [_content(part) for part in parts]


def _assistant_items(message: Message) -> Iterable[_Object]:
    """The parts in their order; texts that follow each other share a message."""
    said: list[_Object] = []
    for part in message.parts:
        if isinstance(part, Text | Refusal):
            said.append(_said(part))
            continue
        item = _item(part)
        if item is None:
            continue
        if said:
            yield {"type": "message", "role": "assistant", "content": said}
            said = []
        yield item
    if said:
        yield {"type": "message", "role": "assistant", "content": said}


def _item(part: Part) -> _Object | None:
    if isinstance(part, ToolCall):
        return {
            "type": "function_call",
            "call_id": part.id,
            "name": part.name,
            "arguments": part.arguments or "{}",
        }
    if not isinstance(part, Thinking):
        raise AssertionError(f"an assistant's message has no {type(part).__name__}")
    own = own_reasoning(part.signature)
    if own is None:
        return None  # the thoughts of another maker mean nothing to this one
    item_id, encrypted = own
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    return {
        "type": "reasoning",
        "id": item_id,
        "summary": summary,
        "encrypted_content": encrypted,
    }


def _said(part: Text | Refusal) -> _Object:
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    return {"type": "output_text", "text": part.text, "annotations": []}


def _content(part: Part) -> _Object:
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, Image):
        url = part.url or _data_url(part.media_type, part.data)
        return {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}
    if isinstance(part, Document):
        if part.data is None:
            return {"type": "input_file", "file_url": part.url}
        data = _data_url(part.media_type, part.data)
        return {
            "type": "input_file",
            "filename": part.name or "document.pdf",
            "file_data": data,
        }
    raise AssertionError(f"a user's message has no {type(part).__name__}")


def _data_url(media_type: str | None, data: str | None) -> str:
    """A `data:` URL (RFC 2397)."""
    return f"data:{media_type or 'application/octet-stream'};base64,{data or ''}"
