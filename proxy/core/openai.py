"""OpenAI chat requests: where the prompt's text is, and what makes output nobody sees.

Rules: reads only the members named here; of a prompt that is there no shape is an error, because
the upstream judges it: what is not known counts as text in its raw JSON, which leans up. This
module must not know how bodies are scanned or edited, or any socket.

Sources: the OpenAI specification's CreateChatCompletionRequest; WIRE.md section 1.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from proxy.core import prompts
from proxy.core.bodies import integer, invalid, is_array
from proxy.core.prompts import Prompt

LIMIT_FIELDS = ("max_completion_tokens", "max_tokens")
"""Members that bound the output; the first is what OpenAI documents today."""
CHOICES_MAX = 128
"""The specification's maximum of `n`."""

_NULL = Raw(b"null")
_TEXT_MEMBERS = ("tools", "functions", "response_format")
"""Top-level members that reach the model as prompt text."""
_HIDING = ("reasoning_effort", "reasoning", "web_search_options", "prediction", "plugins")
"""Members that mean output nobody sees, unless they are empty."""
PROMPT_MEMBERS = frozenset(_TEXT_MEMBERS)
"""All members beside the messages that are part of a prompt."""
WATCHED = frozenset({"n", *_HIDING, "thinking", "audio", "modalities", "tools"})
"""All members that `choices` and `hidden_output` look at."""


class _Text(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A message of text and nothing else."""

    content: str
    role: str = ""


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    image_url: Raw = _NULL
    input_audio: Raw = _NULL
    file: Raw = _NULL


class _Message(msgspec.Struct, gc=False):
    content: str | list[_Part] | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: Raw = _NULL
    function_call: Raw = _NULL


class _Detail(msgspec.Struct, gc=False):
    detail: str | None = None


class _Typed(msgspec.Struct, gc=False):
    type: str | None = None


_TEXTS = msgspec.json.Decoder(list[_Text])
_MESSAGES = msgspec.json.Decoder(list[_Message])
_DETAIL = msgspec.json.Decoder(_Detail)
_TYPED = msgspec.json.Decoder(_Typed)
_TOOLS = msgspec.json.Decoder(list[_Typed])
_STRINGS = msgspec.json.Decoder(list[str])


def check(members: Mapping[str, Raw]) -> None:
    """Refuse a body without messages. Raises RelayError."""
    if "messages" not in members:
        raise invalid("messages", "is required: send an array of messages")
    if not is_array(members["messages"]):
        raise invalid("messages", "must be an array of at least one message")


def choices(members: Mapping[str, Raw]) -> int:
    """How many answers are asked for. Raises RelayError."""
    if "n" not in members:
        return 1
    return integer(bytes(members["n"]), "n", CHOICES_MAX) or 1


def read_prompt(members: Mapping[str, Raw], model: str) -> Prompt:
    """Collect the prompt of a chat body from its top-level `members`.

    `model` chooses the figure for an image: the gpt-4o-mini family bills 33 times the tokens.
    """
    pieces: list[str] = []
    fixed = prompts.MESSAGE_TOKENS
    messages = members.get("messages", _NULL)
    try:
        for message in _MESSAGES.decode(messages):
            fixed += prompts.MESSAGE_TOKENS + _read_message(message, model, pieces)
    except (msgspec.ValidationError, RecursionError):
        pieces = [_raw_text(messages)]
    # Names in turn: a set of them would be put together with each body's own, at twice the cost.
    if "tools" in members or "functions" in members or "response_format" in members:
        pieces.extend([_raw_text(members[name]) for name in _TEXT_MEMBERS if name in members])
        if "tools" in members or "functions" in members:
            fixed += prompts.TOOLS_TOKENS
    return Prompt(tuple(pieces), fixed)


def read_texts(members: Mapping[str, Raw]) -> tuple[Prompt, int] | None:
    """Read a prompt of messages that are nothing but text, as most are, and what it weighs.

    What `check`, `read_prompt` and `prompts.estimate` say of it, of a body with none of
    `PROMPT_MEMBERS`. None: they are to be asked.
    """
    try:
        messages = _TEXTS.decode(members.get("messages", _NULL))
    except (msgspec.ValidationError, RecursionError):
        return None
    pieces: list[str] = []
    tokens = prompts.MESSAGE_TOKENS
    for message in messages:
        text = message.content
        pieces.append(text)
        size = len(text) if text.isascii() else len(text.encode())
        tokens += prompts.MESSAGE_TOKENS + ((size + 1) >> 1)
    if not pieces:
        return None
    return Prompt(tuple(pieces), prompts.MESSAGE_TOKENS * (len(pieces) + 1)), tokens


def hidden_output(members: Mapping[str, Raw]) -> bool:
    """Whether the request asks for output that is billed but not seen in deltas.

    Reasoning, audio, web search, predicted output (rejected tokens are billed) and tools that
    run at the provider. Leans to True: the price of a mistake is a larger hold.
    """
    for name in _HIDING:
        if name in members and bytes(members[name]) not in {b"null", b'"none"', b"[]"}:
            return True
    return (
        _thinks(members.get("thinking", _NULL))
        or _speaks(members)
        or _has_server_tools(members.get("tools", _NULL))
    )


def _read_message(message: _Message, model: str, pieces: list[str]) -> int:
    """Append the texts of `message` to `pieces`; return the fixed tokens of its media."""
    fixed = 0
    content = message.content
    if isinstance(content, str):
        pieces.append(content)
    elif content is not None:
        for part in content:
            fixed += _read_part(part, model, pieces)
    if message.name or message.refusal or message.reasoning_content:
        texts = (message.name, message.refusal, message.reasoning_content)
        pieces.extend([text for text in texts if text])
    if message.tool_calls is not _NULL or message.function_call is not _NULL:
        calls = (message.tool_calls, message.function_call)
        pieces.extend([_raw_text(call) for call in calls if call != _NULL])
    return fixed


def _read_part(part: _Part, model: str, pieces: list[str]) -> int:
    text = part.text or part.refusal
    if text is not None or part.type == "text":
        pieces.append(text or "")
        return 0
    if part.input_audio != _NULL:
        return prompts.audio_tokens(len(part.input_audio))
    if part.file != _NULL:
        return prompts.document_tokens(len(part.file))
    # Images, and kinds of media newer than this text: the figure of an image.
    return _image_tokens(part.image_url, model)


def _image_tokens(image: Raw, model: str) -> int:
    try:
        low = _DETAIL.decode(image).detail == "low"
    except msgspec.ValidationError:
        low = False
    return image_tokens(model, low=low)


def image_tokens(model: str, *, low: bool) -> int:
    """Return the figure for one image; `low`: of its detail."""
    if "gpt-4o-mini" in model:
        return prompts.MINI_IMAGE_TOKENS_LOW if low else prompts.MINI_IMAGE_TOKENS
    return prompts.OPENAI_IMAGE_TOKENS_LOW if low else prompts.OPENAI_IMAGE_TOKENS


def _thinks(thinking: Raw) -> bool:
    """Read `thinking: {"type": ...}`, which several OpenAI-compatible providers accept."""
    if thinking == _NULL:
        return False
    try:
        return _TYPED.decode(thinking).type != "disabled"
    except msgspec.ValidationError:
        return True


def _speaks(members: Mapping[str, Raw]) -> bool:
    """Whether audio is asked for."""
    if members.get("audio", _NULL) != _NULL:
        return True
    modalities = members.get("modalities", _NULL)
    if modalities == _NULL:
        return False
    if len(modalities) > prompts.SEARCHED_BYTES_MAX:
        return True
    try:
        return any(kind != "text" for kind in _STRINGS.decode(modalities))
    except msgspec.ValidationError:
        return True


def _has_server_tools(tools: Raw) -> bool:
    """Whether a tool runs at the provider: any kind but `function` and `custom`."""
    if tools == _NULL:
        return False
    if len(tools) > prompts.SEARCHED_BYTES_MAX:
        return True
    try:
        return any(tool.type not in {"function", "custom", None} for tool in _TOOLS.decode(tools))
    except msgspec.ValidationError:
        return True


def _raw_text(raw: Raw) -> str:
    return bytes(raw).decode()
