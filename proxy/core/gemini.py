"""Gemini requests: where the prompt's text is, how much may come back, and what nobody sees of it.

Rules: reads only the members named here, in camel case and in snake case, as Google does; a shape
it does not know is never an error, because the upstream judges it: its raw JSON then counts as
text, which leans up. What bounds the answer is refused if it is not understood, because the hold
rests on it. The model and whether to stream are in the path, so that nothing of a body is changed
but a limit that is lowered. This module must not know how bodies are scanned, or any socket.

Sources: `types.py` and `models.py` of Google's Python SDK google-genai 3.x; Google's guides to
tokens (`ai.google.dev/gemini-api/docs/tokens`: 258 a tile of 768 px, 32 a second of audio, 263 a
second of video) and to thinking (thoughts count towards `maxOutputTokens`, and are not shown).
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw, Struct, field

from proxy.core import prompts
from proxy.core.bodies import Edit, Layout, apply, integer, invalid, is_array, is_dense, walk
from proxy.core.deltas import UNREADABLE
from proxy.core.prompts import Prompt

CONFIG_FIELDS: Final = ("generationConfig", "generation_config")
LIMIT_FIELDS: Final = ("maxOutputTokens", "max_output_tokens")
CHOICES_MAX: Final = 8
"""Candidates of one answer, as Google documents it."""
IMAGE_TOKENS: Final = 4_128
"""16 tiles, a picture of 3,072 px square; newer models take 2,240 at most."""
MEDIA_CHARS_PER_TOKEN: Final = 150
"""Base64 characters: 32 tokens a second at 28 kbit/s of sound, 263 at 230 kbit/s of pictures."""

OUTPUT_TOKENS_MAX: Final = 2**31 - 1
_WHOLE_FIELDS: Final = ("generateContentRequest", "generate_content_request")
_COUNT_FIELDS: Final = ("candidateCount", "candidate_count")
_NULL: Final = Raw(b"null")
_NOTHING: Final = (b"", b"null", b"[]", b"{}")


class _Blob(Struct, gc=False):
    data: str | None = None
    mime: str | None = field(default=None, name="mimeType")
    mime_snake: str | None = field(default=None, name="mime_type")

    @property
    def kind(self) -> str:
        return self.mime or self.mime_snake or ""


class _Part(Struct, gc=False):
    text: str | None = None
    inline: _Blob | None = field(default=None, name="inlineData")
    inline_snake: _Blob | None = field(default=None, name="inline_data")
    file: _Blob | None = field(default=None, name="fileData")
    file_snake: _Blob | None = field(default=None, name="file_data")
    call: Raw = field(default=_NULL, name="functionCall")
    call_snake: Raw = field(default=_NULL, name="function_call")
    result: Raw = field(default=_NULL, name="functionResponse")
    result_snake: Raw = field(default=_NULL, name="function_response")
    code: Raw = field(default=_NULL, name="executableCode")
    code_snake: Raw = field(default=_NULL, name="executable_code")
    output: Raw = field(default=_NULL, name="codeExecutionResult")
    output_snake: Raw = field(default=_NULL, name="code_execution_result")


class _Content(Struct, gc=False):
    parts: list[_Part] | None = None


class _Thinking(Struct, gc=False):
    budget: int | None = field(default=None, name="thinkingBudget")
    budget_snake: int | None = field(default=None, name="thinking_budget")


class _Config(Struct, gc=False):
    thinking: _Thinking | None = field(default=None, name="thinkingConfig")
    thinking_snake: _Thinking | None = field(default=None, name="thinking_config")
    modalities: list[str] | None = field(default=None, name="responseModalities")
    modalities_snake: list[str] | None = field(default=None, name="response_modalities")


_CONTENTS: Final = msgspec.json.Decoder(list[_Content])
_CONTENT: Final = msgspec.json.Decoder(_Content)
_CONFIG: Final = msgspec.json.Decoder(_Config)
_TOOLS: Final = msgspec.json.Decoder(list[dict[str, Raw]])
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_CLIENT_TOOLS: Final = ("functionDeclarations", "function_declarations")


def read_prompt(members: Mapping[str, Raw], _model: str) -> Prompt:
    """Collect the prompt of a generateContent body from its top-level `members`."""
    pieces: list[str] = []
    fixed = prompts.MESSAGE_TOKENS
    contents = members.get("contents", _NULL)
    try:
        for content in _CONTENTS.decode(contents):
            fixed += prompts.MESSAGE_TOKENS + _read_parts(content, pieces)
    except (msgspec.ValidationError, RecursionError):
        pieces = [_raw_text(contents)]
    for name in ("systemInstruction", "system_instruction"):
        if name in members:
            try:
                fixed += _read_parts(_CONTENT.decode(members[name]), pieces)
            except (msgspec.ValidationError, RecursionError):
                pieces.append(_raw_text(members[name]))
    pieces.extend([_raw_text(members[name]) for name in CONFIG_FIELDS if name in members])
    if "tools" in members:
        pieces.append(_raw_text(members["tools"]))
        fixed += prompts.TOOLS_TOKENS
    return Prompt(tuple(pieces), fixed)


def check(members: Mapping[str, Raw]) -> None:
    """Refuse a body without contents. Raises RelayError INVALID_REQUEST."""
    if "contents" not in members:
        raise invalid("contents", "is required: send an array of contents")
    if not is_array(members["contents"]):
        raise invalid("contents", "must be an array of at least one content")


def choices(members: Mapping[str, Raw]) -> int:
    """How many candidates are asked for. Raises RelayError INVALID_REQUEST."""
    return _figure(_config(members), _COUNT_FIELDS, CHOICES_MAX) or 1


def output_tokens_max(members: Mapping[str, Raw]) -> int | None:
    """The limit of each candidate, thoughts included. Raises RelayError INVALID_REQUEST."""
    return _figure(_config(members), LIMIT_FIELDS, OUTPUT_TOKENS_MAX)


def lowered(body: bytes, layout: Layout, maximum: int) -> bytes:
    """Return `body` with a limit of no more than `maximum`, every other byte as it was sent."""
    limit = str(maximum).encode()
    name = _one_of(layout.members, CONFIG_FIELDS)
    if name is None:
        # A body has contents, so that a comma is always right.
        start = body.index(b"{") + 1
        insert = b'"%b":{"%b":%b},' % (CONFIG_FIELDS[0].encode(), LIMIT_FIELDS[0].encode(), limit)
        return apply(body, [(start, start, insert)])
    start, end = layout.spans()[name]
    text = body[start:end]
    if text == b"null":
        return apply(body, [(start, end, b'{"%b":%b}' % (LIMIT_FIELDS[0].encode(), limit))])
    inner = _MEMBERS.decode(text)
    spans = walk(text, inner)
    field = _one_of(inner, LIMIT_FIELDS)
    if field is None:
        comma = b"," if inner else b""
        insert = b'"%b":%b%b' % (LIMIT_FIELDS[0].encode(), limit, comma)
        at = start + text.index(b"{") + 1
        return apply(body, [(at, at, insert)])
    given = _integer(inner[field], field, OUTPUT_TOKENS_MAX)
    if given is not None and given <= maximum:
        return body
    first, last = spans[field]
    edit: Edit = (start + first, start + last, limit)
    return apply(body, [edit])


def _config(members: Mapping[str, Raw]) -> Mapping[str, Raw]:
    name = _one_of(members, CONFIG_FIELDS)
    if name is None or members[name] == _NULL:
        return {}
    text = bytes(members[name])
    try:
        found = _MEMBERS.decode(text)
    except msgspec.ValidationError:
        raise invalid(name, "must be an object or null") from None
    if not is_dense(text, found):
        walk(text, found)
    return found


def _figure(config: Mapping[str, Raw], names: tuple[str, str], maximum: int) -> int | None:
    name = _one_of(config, names)
    return None if name is None else _integer(config[name], name, maximum)


def _integer(raw: Raw, name: str, maximum: int) -> int | None:
    """Read an integer, which Google also takes as text (the JSON mapping of protocol buffers)."""
    text = bytes(raw)
    if text[:1] == b'"' == text[-1:]:
        text = text[1:-1]
    return integer(text, f"{CONFIG_FIELDS[0]}.{name}", maximum)


def _one_of(members: Mapping[str, Raw], names: tuple[str, str]) -> str | None:
    """Which of a member's two names is there. Raises RelayError where both are."""
    found = [name for name in names if name in members]
    if len(found) > 1:
        raise invalid(found[0], f"is there twice, also as `{found[1]}`: send it once")
    return found[0] if found else None


def asked_inside(body: bytes) -> bytes:
    """The request whose tokens a count is asked of: the body itself, or one within it."""
    try:
        found = _MEMBERS.decode(body)
    except UNREADABLE:
        return body
    inner = next((found[name] for name in _WHOLE_FIELDS if name in found), None)
    return body if inner is None or not bytes(inner).startswith(b"{") else bytes(inner)


def hidden_output(members: Mapping[str, Raw]) -> bool:
    """Whether the request asks for output that is billed but not seen in deltas.

    Thinking that is asked for (models that think unasked are flagged in the catalog), tools that
    run at the provider, and other output than text. Leans to True: the price of a mistake is a
    larger hold.
    """
    for name in CONFIG_FIELDS:
        if name not in members:
            continue
        try:
            config = _CONFIG.decode(members[name])
        except msgspec.ValidationError:
            return True
        if _thinks(config.thinking or config.thinking_snake):
            return True
        kinds = config.modalities or config.modalities_snake or ()
        if any(kind.upper() != "TEXT" for kind in kinds):
            return True
    tools = members.get("tools", _NULL)
    if bytes(tools) in _NOTHING:
        return False
    if len(tools) > prompts.SEARCHED_BYTES_MAX:
        return True
    try:
        return any(name not in _CLIENT_TOOLS for tool in _TOOLS.decode(tools) for name in tool)
    except msgspec.ValidationError:
        return True


def _thinks(config: _Thinking | None) -> bool:
    if config is None:
        return False
    budget = config.budget if config.budget is not None else config.budget_snake
    return budget != 0


def _read_parts(content: _Content, pieces: list[str]) -> int:
    """Append the texts of `content` to `pieces`; return the fixed tokens of its media."""
    fixed = 0
    for part in content.parts or ():
        if part.text:
            pieces.append(part.text)
        given = (
            part.call, part.call_snake, part.result, part.result_snake,
            part.code, part.code_snake, part.output, part.output_snake,
        )  # fmt: skip
        pieces.extend([_raw_text(raw) for raw in given if raw is not _NULL])
        blob = part.inline or part.inline_snake
        if blob is not None:
            fixed += _media_tokens(blob.kind, len(blob.data or ""))
        file = part.file or part.file_snake
        if file is not None:
            fixed += _media_tokens(file.kind, 0)
    return fixed


def _media_tokens(kind: str, base64_chars: int) -> int:
    """The figure for a file of the type `kind`; `base64_chars` 0: by reference."""
    if kind.startswith("image/"):
        return IMAGE_TOKENS
    if kind.startswith(("audio/", "video/")):
        if not base64_chars:
            return prompts.DOCUMENT_TOKENS_MAX
        return max(base64_chars // MEDIA_CHARS_PER_TOKEN, prompts.AUDIO_TOKENS_MIN)
    return prompts.document_tokens(base64_chars)


def _raw_text(raw: Raw) -> str:
    return bytes(raw).decode()
