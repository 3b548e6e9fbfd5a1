"""OpenAI Responses requests: where the prompt's text is, and what makes output nobody sees.

Rules: reads only the members named here; of an input that is there no shape is an error here,
but for items that are named and not sent, which may be another user's: what is not known counts
as text in its raw JSON, which leans up. What can be carried to another
form is judged elsewhere (core/translation/responses_incoming.py). This module must not know how
bodies are scanned or edited, or any socket.

Sources: `responses/response_create_params.py` and the input items of OpenAI's Python SDK 3.x;
WIRE.md section 3.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from proxy.core import openai, prompts
from proxy.core.bodies import invalid, is_array
from proxy.core.prompts import Prompt
from proxy.core.response_events import ANSWER_ID_CHARS_MAX

LIMIT_FIELDS = ("max_output_tokens",)
SEALED_CHARS_PER_TOKEN = 4
"""Base64 characters per token of thoughts that only their maker can read."""

_NULL = Raw(b"null")
_CLIENT_TOOLS = frozenset(
    {
        "function", "custom", "namespace", "local_shell", "apply_patch", "computer",
        "computer_use_preview", None,
    }
)  # fmt: skip
"""Tools that the caller runs; every other type runs at the provider."""
_TEXT_MEMBERS = ("tools", "text")
"""Top-level members that reach the model as prompt text."""
_UNTHINKING = (None, "none")


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    detail: str | None = None
    file_data: str | None = None
    filename: str | None = None


_Content = str | list[_Part] | dict[str, Raw] | None


class _Item(msgspec.Struct, gc=False):
    id: object = None
    type: str | None = None
    content: _Content = None
    output: _Content = None
    summary: list[_Part] | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    encrypted_content: str | None = None


class _Reasoning(msgspec.Struct, gc=False):
    effort: str | None = None


class _Typed(msgspec.Struct, gc=False):
    type: str | None = None


_TOOLS = msgspec.json.Decoder(list[_Typed])
_INPUT = msgspec.json.Decoder(str | list[_Item])
_STRING = msgspec.json.Decoder(str)
_REASONING = msgspec.json.Decoder(_Reasoning | None)


class Kept(msgspec.Struct, frozen=True, gc=False):
    """What of a request lives at the provider."""

    previous: str | None
    """The answer that this one goes on from."""
    stored: bool
    """Whether the provider is to keep the answer."""
    server_tools: bool
    """A tool runs at the provider, whose output nobody sees."""


def check(members: Mapping[str, Raw]) -> None:
    """Refuse a body without input, or whose answer could not be billed. Raises RelayError."""
    if "input" not in members:
        raise invalid("input", "is required: send a string or an array of items")
    raw = members["input"]
    if not (bytes(memoryview(raw)[:1]) == b'"' or is_array(raw)):
        raise invalid("input", "must be a string, or an array of at least one item")
    if bytes(members.get("background", _NULL)) not in {b"false", b"null"}:
        raise invalid("background", "is not supported: an answer is billed while it is made")
    if members.get("conversation", _NULL) != _NULL:
        raise invalid(
            "conversation",
            "is not supported: conversations of all users would share one account; go on with "
            "`previous_response_id`, or send the whole of it as `input`",
        )


def kept(members: Mapping[str, Raw]) -> Kept:
    """Read what of a request that `check` accepted lives at the provider. Raises RelayError."""
    previous = None
    raw = members.get("previous_response_id", _NULL)
    if raw != _NULL:
        try:
            previous = _STRING.decode(raw)
        except msgspec.ValidationError:
            previous = ""
        if not previous or len(previous) > ANSWER_ID_CHARS_MAX:
            raise invalid("previous_response_id", "must be the id of a response, or null")
    stored = bytes(members.get("store", _NULL)) != b"false"  # null: the default, which is to keep
    return Kept(previous, stored, _has_server_tools(members.get("tools", _NULL)))


def _has_server_tools(tools: Raw) -> bool:
    if tools == _NULL:
        return False
    if len(tools) > prompts.SEARCHED_BYTES_MAX:
        return True
    try:
        return any(tool.type not in _CLIENT_TOOLS for tool in _TOOLS.decode(tools))
    except msgspec.ValidationError:
        return True


def read_prompt(members: Mapping[str, Raw], model: str) -> Prompt:
    """Collect the prompt of a Responses body from its top-level `members`.

    `model` chooses the figure for an image (core/openai.py). Raises RelayError.
    """
    pieces: list[str] = []
    fixed = prompts.MESSAGE_TOKENS
    wire = members.get("input", _NULL)
    try:
        found = _INPUT.decode(wire)
        if isinstance(found, str):
            fixed += prompts.MESSAGE_TOKENS
            pieces.append(found)
        else:
            for item in found:
                fixed += prompts.MESSAGE_TOKENS + _read_item(item, model, pieces)
    except (msgspec.ValidationError, RecursionError):
        pieces = [_raw_text(wire)]
    instructions = members.get("instructions", _NULL)
    if instructions != _NULL:
        fixed += prompts.MESSAGE_TOKENS
        pieces.append(_words(instructions))
    pieces.extend([_raw_text(members[name]) for name in _TEXT_MEMBERS if name in members])
    if "tools" in members:
        fixed += prompts.TOOLS_TOKENS
    return Prompt(tuple(pieces), fixed)


def hidden_output(members: Mapping[str, Raw]) -> bool:
    """Whether the request asks for output that is billed but not seen in deltas: reasoning.

    Tools that run at the provider are not carried. Leans to True: the price of a mistake is a
    larger hold.
    """
    if "reasoning" not in members:
        return False
    try:
        reasoning = _REASONING.decode(members["reasoning"])
    except msgspec.ValidationError:
        return True
    return reasoning is not None and reasoning.effort not in _UNTHINKING


def _read_item(item: _Item, model: str, pieces: list[str]) -> int:
    """Append the texts of `item` to `pieces`; return the fixed tokens of its media."""
    fixed = 0
    # The SDK lets the type of a reference be left out: then its id is all it has.
    unsaid = item.type is None and item.content is None and item.id is not None
    if unsaid or item.type == "item_reference":
        raise invalid(
            "input",
            "names an item that is kept at the provider, where all users share one account; go "
            "on with `previous_response_id`, or send the item itself",
        )
    for content in (item.content, item.output, item.summary):
        if isinstance(content, str):
            pieces.append(content)
        elif isinstance(content, dict):  # a screenshot of a computer, and what is newer than this
            fixed += openai.image_tokens(model, low=False)
        elif content is not None:
            fixed += sum([_read_part(part, model, pieces) for part in content])
    texts = (item.name, item.arguments, item.input)
    pieces.extend([text for text in texts if text])
    return fixed + len(item.encrypted_content or "") // SEALED_CHARS_PER_TOKEN


def _read_part(part: _Part, model: str, pieces: list[str]) -> int:
    text = part.text or part.refusal
    if text is not None:
        pieces.append(text)
        return 0
    if part.type == "input_file":
        pieces.append(part.filename or "")
        return prompts.document_tokens(len(part.file_data or ""))
    # Images, and kinds of media newer than this text: the figure of an image.
    return openai.image_tokens(model, low=part.detail == "low")


def _words(raw: Raw) -> str:
    """A string, or the JSON that stands in its place."""
    try:
        return _STRING.decode(raw)
    except msgspec.ValidationError:
        return _raw_text(raw)


def _raw_text(raw: Raw) -> str:
    return bytes(raw).decode()
