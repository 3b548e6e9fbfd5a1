"""Anthropic message requests: where the prompt's text is, and what makes output nobody sees.

Rules: reads only the members named here; a shape it does not know is never an error, because
the upstream judges it: its raw JSON then counts as text, which leans up. What is refused is a
prompt that is not in the body at all. This module must not know how bodies are scanned or
edited, or any socket.

Sources: MessageCreateParams of the Anthropic SDK; WIRE.md section 5.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

import msgspec
from msgspec import Raw

from proxy.core import openai, prompts
from proxy.core.bodies import invalid
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.prompts import Prompt

LIMIT_FIELDS = ("max_tokens",)
NESTING_MAX = 4
"""Levels of content inside content (tool results) that are read apart; deeper counts as text."""

_SMALL_IMAGES = re.compile(r"claude-(?:[23]|(?:opus|sonnet|haiku)-4(?:[-.](?:[0156]|20\d{6})\b|$))")
"""Models that scale images to 1,568 px; newer and unknown ones see 2,576 px."""
_NULL = Raw(b"null")
_CLIENT_TOOLS = ("bash_", "computer_", "memory_", "text_editor_")
"""Typed tools that the caller runs; every other type runs at the provider."""
WATCHED = frozenset({"mcp_servers", "container", "thinking", "tools"})
"""All members that `hidden_output` looks at."""


class _Block(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    data: str | None = None
    title: str | None = None
    context: str | None = None
    name: str | None = None
    input: Raw = _NULL
    content: Raw = _NULL
    source: Raw = _NULL


class _Message(msgspec.Struct, gc=False):
    content: str | list[_Block] | None = None


class _Source(msgspec.Struct, gc=False):
    type: str | None = None
    data: str | None = None
    content: Raw = _NULL


class _Typed(msgspec.Struct, gc=False):
    type: str | None = None


_MESSAGES = msgspec.json.Decoder(list[_Message])
_CONTENT = msgspec.json.Decoder(str | list[_Block])
_SOURCE = msgspec.json.Decoder(_Source)
_TOOLS = msgspec.json.Decoder(list[_Typed])
_TYPED = msgspec.json.Decoder(_Typed)


def check(members: Mapping[str, Raw]) -> None:
    """Refuse a body without messages, or what the relay cannot answer. Raises RelayError."""
    if members.get("max_tokens", _NULL) == _NULL:
        raise invalid("max_tokens", "is required: send a positive integer")
    check_thread(members)
    openai.check(members)


def check_thread(members: Mapping[str, Raw]) -> None:
    """Refuse a conversation that the provider keeps between calls (`thread`).

    How long it is nobody here knows, so no hold would cover it; it belongs to one upstream key,
    which the next call may not get; and other makers' servers of this protocol ignore the member,
    so that the model would see the last turn alone. The SDKs' runners of tools begin a thread by
    themselves and go on without one when it is refused in these words (`ThreadState`,
    ThreadUnsupportedRequestErrorDetails of the SDKs).
    """
    if "thread" in members and members["thread"] != _NULL:
        raise RelayError(
            ErrorCode.INVALID_REQUEST,
            "`thread`: conversations are not kept here; send all of it in `messages`.",
            param="thread",
            details={"error_code": "thread_unsupported_request"},
        )


def read_prompt(members: Mapping[str, Raw], model: str) -> Prompt:
    """Collect the prompt of a messages body from its top-level `members`.

    `model` chooses the figure for an image: newer models see three times the pixels.
    """
    image = _image_tokens(model)
    pieces: list[str] = []
    fixed = prompts.MESSAGE_TOKENS
    messages = members.get("messages", _NULL)
    try:
        for message in _MESSAGES.decode(messages):
            fixed += prompts.MESSAGE_TOKENS
            if isinstance(message.content, str):
                pieces.append(message.content)
            elif message.content is not None:
                fixed += _read_blocks(message.content, pieces, image, 1)
    except (msgspec.ValidationError, RecursionError):
        pieces = [_raw_text(messages)]
    if "system" in members:
        fixed += _read_content(members["system"], pieces, image, 1)
    if "tools" in members:
        pieces.append(_raw_text(members["tools"]))
        fixed += prompts.TOOLS_TOKENS
    if "output_format" in members:
        pieces.append(_raw_text(members["output_format"]))
    if "output_config" in members:
        pieces.append(_raw_text(members["output_config"]))
    return Prompt(tuple(pieces), fixed)


@lru_cache(maxsize=1024)
def _image_tokens(model: str) -> int:
    is_old = _SMALL_IMAGES.search(model) is not None
    return prompts.ANTHROPIC_IMAGE_TOKENS_OLD if is_old else prompts.ANTHROPIC_IMAGE_TOKENS


def hidden_output(members: Mapping[str, Raw]) -> bool:
    """Whether the request asks for output that is billed but not seen in deltas.

    Extended thinking (what streams is a summary), and tools that run at the provider. Leans to
    True: the price of a mistake is a larger hold.
    """
    for name in ("mcp_servers", "container"):
        if bytes(members.get(name, _NULL)) not in {b"null", b"[]"}:
            return True
    if _thinks(members.get("thinking", _NULL)):
        return True
    tools = members.get("tools", _NULL)
    if tools == _NULL:
        return False
    if len(tools) > prompts.SEARCHED_BYTES_MAX:
        return True
    try:
        return any(_runs_at_provider(tool.type) for tool in _TOOLS.decode(tools))
    except msgspec.ValidationError:
        return True


def _thinks(thinking: Raw) -> bool:
    if thinking == _NULL:
        return False
    try:
        return _TYPED.decode(thinking).type != "disabled"
    except msgspec.ValidationError:
        return True


def _runs_at_provider(kind: str | None) -> bool:
    return kind is not None and kind != "custom" and not kind.startswith(_CLIENT_TOOLS)


def _read_content(raw: Raw, pieces: list[str], image: int, depth: int) -> int:
    """Append the texts of `raw` (a string or blocks); return the fixed tokens of its media.

    `image` is the figure for one image.
    """
    try:
        content = _CONTENT.decode(raw) if depth <= NESTING_MAX else None
    except (msgspec.ValidationError, RecursionError):
        content = None
    if content is None:
        pieces.append(_raw_text(raw))
        return 0
    if isinstance(content, str):
        pieces.append(content)
        return 0
    return _read_blocks(content, pieces, image, depth)


def _read_blocks(blocks: list[_Block], pieces: list[str], image: int, depth: int) -> int:
    fixed = 0
    for block in blocks:
        if block.type == "image":
            fixed += image
            continue
        texts = (block.text, block.thinking, block.title, block.context, block.name)
        pieces.extend(text for text in texts if text)
        if block.data is not None:
            # Redacted thinking: sealed text, about 4 base64 characters a token.
            fixed += len(block.data) // 4
        if block.input != _NULL:
            pieces.append(_raw_text(block.input))
        if block.content != _NULL:
            fixed += _read_content(block.content, pieces, image, depth + 1)
        if block.type == "document":
            fixed += _read_document(block.source, pieces, image, depth)
    return fixed


def _read_document(raw: Raw, pieces: list[str], image: int, depth: int) -> int:
    try:
        source = _SOURCE.decode(raw)
    except msgspec.ValidationError:
        return prompts.document_tokens(len(raw))
    if source.type == "content":
        return _read_content(source.content, pieces, image, depth + 1)
    if source.type == "text" and source.data is not None:
        pieces.append(source.data)
        return 0
    return prompts.document_tokens(len(source.data or ""))


def _raw_text(raw: Raw) -> str:
    return bytes(raw).decode()
