"""Requests of Gemini's generateContent, written from a conversation for an upstream.

Rules: model and streaming are in the path, not here (`proxy.core.targets`). Turns of one role that
follow each other are joined. A tool's result names its function, which is found in the call it
answers. Signatures go back where they stood; the first call of a step that has none, because it
was another maker's or the caller lost it, says so in Google's word for that, since newer models
refuse a turn without. What cannot be said is named by `unsaid` or refused. This module must not
know other dialects or answers.

Sources: `types.py` and `models.py` of Google's Python SDK google-genai 3.x (the `_to_mldev`
writers name every field of the wire); Google's guides to thought signatures, thinking (levels for
Gemini 3 and later, budgets before; `.../docs/openai` has the table from efforts to both) and file
input (`fileData` with any public URL); the Gemini CLI, which marks calls without a signature in
the current turn the same way.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Raw

from proxy.core.errors import ErrorCode, RelayError
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
from proxy.core.translation.signatures import NO_SIGNATURE, Place, of_gemini

STOP_SEQUENCES_MAX: Final = 5
_EARLIER: Final = ("gemini-1", "gemini-2", "gemma")
"""Models that think by a budget, if at all, and check no signatures."""
_BUDGETS: Final = {
    Effort.NONE: 0,
    Effort.MINIMAL: 1_024,
    Effort.LOW: 1_024,
    Effort.MEDIUM: 8_192,
    Effort.HIGH: 24_576,
    Effort.XHIGH: 24_576,
    Effort.MAX: 24_576,
}
_LEVELS: Final = {
    Effort.NONE: "MINIMAL",
    Effort.MINIMAL: "MINIMAL",
    Effort.LOW: "LOW",
    Effort.MEDIUM: "MEDIUM",
    Effort.HIGH: "HIGH",
    Effort.XHIGH: "HIGH",
    Effort.MAX: "HIGH",
}
_MODES: Final = {
    Choice.AUTO: "AUTO",
    Choice.NONE: "NONE",
    Choice.REQUIRED: "ANY",
    Choice.NAMED: "ANY",
}
_MEDIA_TYPES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "gif": "image/gif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
}
"""What a file at a URL is, which this protocol must be told, by the ending of its name."""
_write = msgspec.json.encode
_Object = dict[str, object]


def write_request(request: Request) -> bytes:
    """Write a generateContent request that asks for the same. Raises RelayError 400."""
    if len(request.stop) > STOP_SEQUENCES_MAX:
        raise _cannot("stop", f"more than {STOP_SEQUENCES_MAX} stop sequences")
    contents = list(_contents(request.messages))
    if not _is_earlier(request):
        _mark_unsigned(contents)
    system = [{"text": part.text} for part in request.system if part.text]
    document: _Object = {
        "contents": contents,
        "systemInstruction": {"parts": system} if system else None,
        "tools": [{"functionDeclarations": [_tool(tool) for tool in request.tools]}]
        if request.tools
        else None,
        "toolConfig": _tool_config(request),
        "generationConfig": _generation_config(request) or None,
    }
    return _write({name: value for name, value in document.items() if value is not None})


def unsaid(request: Request) -> tuple[str, ...]:
    """What of `request` this protocol cannot say, by the names of the conversation."""
    found = []
    if request.user is not None:
        found.append("user")
    if request.parallel_tools is False and request.tools:
        found.append("parallel_tools")
    choice = request.tool_choice
    if not (choice and _MODES[choice.choice] == "ANY") and any(t.strict for t in request.tools):
        found.append("strict")
    if request.effort in (Effort.XHIGH, Effort.MAX) or (
        request.effort is Effort.NONE and not _is_earlier(request)
    ):
        found.append("effort")
    parts = [part for message in request.messages for part in message.parts]
    parts += [one for part in parts if isinstance(part, ToolResult) for one in part.parts]
    if any(isinstance(part, Image) and part.detail in ("low", "high") for part in parts):
        found.append("detail")
    if any(isinstance(part, Document) and part.name is not None for part in parts):
        found.append("filename")
    cached = [*request.system, *parts]
    if any(isinstance(part, Text | Image | Document) and part.cache for part in cached):
        found.append("cache_control")
    return tuple(found)


def _is_earlier(request: Request) -> bool:
    return any(mark in request.model for mark in _EARLIER)


def _generation_config(request: Request) -> _Object:
    form = request.format
    found: _Object = {
        "maxOutputTokens": request.output_tokens_max,
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "stopSequences": list(request.stop) or None,
        "responseMimeType": None if form is None else "application/json",
        "responseJsonSchema": None if form is None else form.schema,
        "thinkingConfig": _thinking(request),
    }
    return {name: value for name, value in found.items() if value is not None}


def _thinking(request: Request) -> _Object | None:
    """A level where the model knows levels, else a budget; both at once are refused there."""
    effort, budget = request.effort, request.thinking_tokens
    if effort is None and budget is None:
        return None
    found: _Object = {}
    if _is_earlier(request) or effort is None:
        found["thinkingBudget"] = _BUDGETS[effort] if budget is None and effort else budget
        thinks = found["thinkingBudget"] != 0
    else:
        found["thinkingLevel"] = _LEVELS[effort]
        thinks = effort is not Effort.NONE
    if thinks:
        found["includeThoughts"] = True
    return found


def _tool(tool: Tool) -> _Object:
    found: _Object = {"name": tool.name}
    if tool.description is not None:
        found["description"] = tool.description
    if tool.schema is not None:
        found["parametersJsonSchema"] = tool.schema
    return found


def _tool_config(request: Request) -> _Object | None:
    choice: ToolChoice | None = request.tool_choice
    if choice is None or not request.tools:
        return None
    config: _Object = {"mode": _MODES[choice.choice]}
    if choice.choice is Choice.NAMED:
        config["allowedFunctionNames"] = [choice.name]
    return {"functionCallingConfig": config}


def _contents(messages: Iterable[Message]) -> Iterable[_Object]:
    names: dict[str, str] = {}
    role: Role | None = None
    parts: list[_Object] = []
    for message in messages:
        if message.role is not role:
            if parts:
                yield _content(role, parts)
            role, parts = message.role, []
        if role is Role.USER:
            # Results come first in their turn, or they do not follow the calls they answer.
            place = sum("functionResponse" in part for part in parts)
            results, others = _user_parts(message, names)
            parts[place:place] = results
            parts += others
        else:
            parts += _model_parts(message, names)
    if parts:
        yield _content(role, parts)


def _content(role: Role | None, parts: list[_Object]) -> _Object:
    return {"role": "user" if role is Role.USER else "model", "parts": parts}


def _user_parts(message: Message, names: dict[str, str]) -> tuple[list[_Object], list[_Object]]:
    """The results of tools, and what else the user shows, with the pictures that tools gave."""
    results: list[_Object] = []
    others: list[Part] = []
    for part in message.parts:
        if not isinstance(part, ToolResult):
            others.append(part)
            continue
        name = names.get(part.call_id)
        if name is None:
            raise RelayError(
                ErrorCode.INVALID_REQUEST,
                f"The tool result for `{part.call_id}` answers no call in the conversation; this "
                "model's provider must be told the function's name: send the call too.",
            )
        text = "\n".join([one.text for one in part.parts if isinstance(one, Text)])
        others += [one for one in part.parts if not isinstance(one, Text)]
        response = {"error" if part.failed else "output": text}
        results.append(
            {"functionResponse": {"id": part.call_id, "name": name, "response": response}}
        )
    return results, [_shown(part) for part in others if not isinstance(part, Text) or part.text]


def _shown(part: Part) -> _Object:
    if isinstance(part, Text | Refusal):
        return {"text": part.text}
    if not isinstance(part, Image | Document):
        raise AssertionError(f"a user's message has no {type(part).__name__}")
    if part.data is not None:
        kind = part.media_type or "application/octet-stream"
        return {"inlineData": {"mimeType": kind, "data": part.data}}
    url = part.url or ""
    return {"fileData": {"mimeType": part.media_type or _media_type(url), "fileUri": url}}


def _media_type(url: str) -> str:
    path = url.partition("?")[0].partition("#")[0]
    kind = _MEDIA_TYPES.get(path.rpartition("/")[2].rpartition(".")[2].lower())
    if kind is None:
        raise RelayError(
            ErrorCode.INVALID_REQUEST,
            "This model's provider must be told what kind of file a URL leads to, and this one's "
            "name does not end in one it knows (.png, .jpg, .webp, .pdf, ...): use such a URL, or "
            "send the file as base64.",
        )
    return kind


def _model_parts(message: Message, names: dict[str, str]) -> list[_Object]:
    """What the model said; thoughts of another maker mean nothing to this one."""
    found: list[_Object] = []
    secret: str | None = None
    for part in message.parts:
        if isinstance(part, Thinking):
            signature = of_gemini(part.signature)
            if signature is not None and signature[0] is Place.CALL:
                secret = signature[1]
            elif signature is not None:
                _sign(found, part.text, *signature)
        elif isinstance(part, ToolCall):
            names[part.id] = part.name
            call = {"id": part.id, "name": part.name, "args": Raw(object_arguments(part))}
            found.append({"functionCall": call})
            if secret is not None:
                found[-1]["thoughtSignature"] = secret
            secret = None
        elif isinstance(part, Text | Refusal):
            if part.text:
                found.append({"text": part.text})
        else:
            raise AssertionError(f"an assistant's message has no {type(part).__name__}")
    return found


def _sign(parts: list[_Object], thought: str, place: Place, secret: str) -> None:
    """Give a signature back to the text or the thoughts it was made for."""
    if place is Place.THOUGHT:
        parts.append({"text": thought, "thought": True, "thoughtSignature": secret})
    elif parts and "text" in parts[-1] and "thoughtSignature" not in parts[-1]:
        parts[-1]["thoughtSignature"] = secret
    else:
        parts.append({"text": "", "thoughtSignature": secret})


def _mark_unsigned(contents: list[_Object]) -> None:
    """Of each step since the user last spoke, say of the first call if it has no signature."""
    for content in reversed(contents):
        parts = content["parts"]
        if not isinstance(parts, list):
            raise AssertionError("a content without parts")
        if content["role"] == "user":
            if not all("functionResponse" in part for part in parts):
                return
            continue
        calls = [part for part in parts if "functionCall" in part]
        if calls:
            calls[0].setdefault("thoughtSignature", NO_SIGNATURE)


def _cannot(param: str, what: str) -> RelayError:
    return RelayError(
        ErrorCode.INVALID_REQUEST,
        f"This model's provider speaks another protocol, which has no {what}; leave them out or "
        "use a model served in this protocol.",
        param=param,
    )
