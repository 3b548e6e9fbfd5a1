"""Requests of OpenAI's chat completions, written from a conversation for an upstream.

Rules: what cannot be said is named by `unsaid` or refused; usage is always asked for, because the
bill needs it. This module must not know other dialects or answers.

Sources: OpenAI's request types as its Python SDK 3.x has them (`chat/completion_create_params.py`);
WIRE.md section 1.
"""

from collections.abc import Iterable

import msgspec

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.chat_calls import text_signature, written_calls
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
    Tool,
    ToolChoice,
    ToolResult,
    effort_of,
)
from proxy.core.translation.signatures import extra_content

_write = msgspec.json.encode


def write_request(request: Request) -> bytes:
    """Write a chat request that asks for the same, usage included."""
    limit = request.output_tokens_max
    document: dict[str, object] = {
        "model": request.model,
        "messages": list(_turns(request)),
        "max_completion_tokens": limit,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": list(request.stop) or None,
        "tools": [_written_tool(tool) for tool in request.tools] or None,
        "tool_choice": _written_choice(request.tool_choice),
        "parallel_tool_calls": request.parallel_tools if request.tools else None,
        "response_format": _written_format(request.format),
        "reasoning_effort": _effort(request),
        "user": request.user,
    }
    if request.stream:
        document |= {"stream": True, "stream_options": {"include_usage": True}}
    return _write({name: value for name, value in document.items() if value is not None})


def unsaid(request: Request) -> tuple[str, ...]:
    """What of `request` a chat request cannot say, by the names of the conversation."""
    return ("top_k",) if request.top_k is not None else ()


def _effort(request: Request) -> Effort | None:
    effort = effort_of(request)
    return Effort.XHIGH if effort is Effort.MAX else effort


def _turns(request: Request) -> Iterable[dict[str, object]]:
    if request.system:
        text = "\n\n".join(part.text for part in request.system)
        yield {"role": "system", "content": text}
    for message in request.messages:
        if message.role is Role.USER:
            yield from _written_user(message)
        else:
            yield _written_assistant(message)


def _written_user(message: Message) -> Iterable[dict[str, object]]:
    """Results of tools are messages of their own here, ahead of what the user says."""
    others: list[Part] = []
    for part in message.parts:
        if not isinstance(part, ToolResult):
            others.append(part)
            continue
        texts = [one.text for one in part.parts if isinstance(one, Text)]
        # A chat tool message holds text alone: pictures a tool gave follow as the user's.
        others += [one for one in part.parts if not isinstance(one, Text)]
        shown = "\n".join(texts)
        content = f"Error: {shown}" if part.failed else shown
        yield {"role": "tool", "tool_call_id": part.call_id, "content": content}
    if not others:
        return
    if len(others) == 1 and isinstance(others[0], Text):
        yield {"role": "user", "content": others[0].text}
    else:
        yield {"role": "user", "content": [_written_part(part) for part in others]}


def _written_assistant(message: Message) -> dict[str, object]:
    """Thoughts are not sent back, but the signatures of Google's own chat are (WIRE.md 1)."""
    text = "".join(part.text for part in message.parts if isinstance(part, Text))
    refused = "".join(part.text for part in message.parts if isinstance(part, Refusal))
    calls = list(written_calls(message.parts))
    turn: dict[str, object] = {"role": "assistant", "content": text or None}
    if refused:
        turn["refusal"] = refused
    if calls:
        turn["tool_calls"] = calls
    elif not text and not refused:
        turn["content"] = ""
    signature = text_signature(message.parts)
    if signature is not None:
        turn["extra_content"] = extra_content(signature)
    return turn


def _written_part(part: Part) -> dict[str, object]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        url: dict[str, object] = {"url": part.url or data_url(part.media_type, part.data)}
        if part.detail is not None:
            url["detail"] = part.detail
        return {"type": "image_url", "image_url": url}
    if isinstance(part, Document):
        if part.data is None:
            raise RelayError(
                ErrorCode.INVALID_REQUEST,
                "This model's provider cannot fetch a document by its URL; send it as base64.",
            )
        name = part.name or "document.pdf"
        data = data_url(part.media_type, part.data)
        return {"type": "file", "file": {"filename": name, "file_data": data}}
    raise AssertionError(f"a user's message has no {type(part).__name__}")


def data_url(media_type: str | None, data: str | None) -> str:
    """A `data:` URL (RFC 2397)."""
    return f"data:{media_type or 'application/octet-stream'};base64,{data or ''}"


def _written_tool(tool: Tool) -> dict[str, object]:
    function: dict[str, object] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.schema is not None:
        function["parameters"] = tool.schema
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _written_choice(choice: ToolChoice | None) -> object:
    if choice is None:
        return None
    if choice.choice is Choice.NAMED:
        return {"type": "function", "function": {"name": choice.name}}
    return choice.choice.value


def _written_format(form: Format | None) -> object:
    if form is None:
        return None
    if form.schema is None:
        return {"type": "json_object"}
    schema: dict[str, object] = {"name": form.name, "schema": form.schema}
    if form.strict is not None:
        schema["strict"] = form.strict
    return {"type": "json_schema", "json_schema": schema}
