"""One request body: what the relay must know of it, and the few bytes it may change.

Rules: only the top level is read member by member; every other byte is validated as JSON and
then left alone. Edits replace, insert or cut whole top-level values, so key order, white space,
number formats and unknown members reach the upstream as they were sent. A body that two parsers
could read differently (duplicate names, lone surrogates, invalid UTF-8) is refused. This module
must not know sockets, prices or models; both dialects' own shapes are in openai.py and
anthropic.py.

Why spans can be trusted: msgspec validates the whole body and gives each value's exact bytes;
the walk below then finds each name where the value before it ended, and compares the bytes. JSON
values end where their own text says so, hence equal bytes at an aligned position are the value.
"""

import re
from collections.abc import Mapping

import msgspec
from msgspec import Raw

from proxy.core import anthropic, openai, prompts
from proxy.core.entities import Dialect
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.prompts import Prompt

MEMBERS_MAX = 512
"""Top-level members of a body; OpenAI documents about 40."""
NAMES_OUTSIDE_MAX = 32_768
"""Colons outside the large known members: bounds what decoding the top level can cost (10 ms)."""
MODEL_CHARS_MAX = 256
OUTPUT_TOKENS_MAX = 2**31 - 1

_Span = tuple[int, int]
_Edit = tuple[int, int, bytes]


class Limit(msgspec.Struct, frozen=True, gc=False):
    """One token-limit member: its name, value (None: `null`) and the value's span."""

    field: str
    value: int | None
    start: int
    end: int


class CallRequest(msgspec.Struct, frozen=True, gc=False):
    """What one call asks for. A struct rather than a dataclass: it is made once per request.

    `output_tokens_max`: the largest limit sent, per choice; None when none was.
    `output_limit_field`: the member that said so. `include_usage`: the caller itself asked for
    the usage event of a stream. `choices`: how many times the output may be multiplied.
    `input_tokens_estimate`: leans up (core/prompts.py). `hidden_output`: something asked for is
    billed without being seen. The other fields are spans for `edit_body`.
    """

    dialect: Dialect
    model: str
    stream: bool
    output_tokens_max: int | None
    output_limit_field: str | None
    include_usage: bool
    choices: int
    input_tokens_estimate: int
    hidden_output: bool
    model_span: _Span
    limits: tuple[Limit, ...] = ()
    usage_edit: _Edit | None = None
    """Makes `include_usage` true; None when it is, or when the call does not stream."""
    stream_options_cut: _Span | None = None


class _Known(msgspec.Struct, gc=False):
    """The members that may be large, skipped in C; used only to bound the others."""

    messages: Raw = Raw(b"null")
    system: Raw = Raw(b"null")
    tools: Raw = Raw(b"null")
    functions: Raw = Raw(b"null")
    response_format: Raw = Raw(b"null")
    prediction: Raw = Raw(b"null")


_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_KNOWN = msgspec.json.Decoder(_Known)
_STRING = msgspec.json.Decoder(str)
# Possessive throughout: the marks for going back over a name of 8 million escapes would take a
# gigabyte, and going back over white space gains nothing.
_WS = rb"[ \t\n\r]*+"
_MEMBER = re.compile(
    _WS + rb"[{,]" + _WS + rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"' + _WS + rb":" + _WS, re.DOTALL
)
_LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F])"
)
_EMPTY_ARRAY = re.compile(rb"\[" + _WS + rb"\]")
_INTEGER_DIGITS_MAX = 10
_SHOWN_CHARS_MAX = 64
_READ_PROMPT = {
    Dialect.OPENAI: openai.read_prompt,
    Dialect.ANTHROPIC: anthropic.read_prompt,
}


def parse_call(body: bytes, dialect: Dialect) -> CallRequest:
    """Read a chat or messages body.

    Raises RelayError: INVALID_JSON for bytes that are not one clear JSON object,
    INVALID_REQUEST, naming the member in `param`, for a value the relay cannot work with.
    """
    members = _decode(body)
    spans = _walk(body, members)
    model = _model(members)
    stream = _stream(members)
    limits = _limits(body, spans, dialect)
    largest = max(
        (limit for limit in limits if limit.value is not None),
        key=lambda limit: limit.value or 0,
        default=None,
    )
    if largest is None and dialect is Dialect.ANTHROPIC:
        raise _invalid("max_tokens", "is required: send a positive integer")
    _check_messages(body, spans)
    start, end = spans["model"]
    usage_edit: _Edit | None = None
    cut: _Span | None = None
    include_usage = False
    choices = 1
    if dialect is Dialect.OPENAI:
        choices = _choices(body, spans)
        options = spans.get("stream_options")
        if options is not None:
            cut = _cut(body, spans, "stream_options")
        if stream:
            include_usage, usage_edit = _usage_option(body, options, end)
        hidden = openai.hidden_output(members)
    else:
        hidden = anthropic.hidden_output(members)
    return CallRequest(
        dialect=dialect,
        model=model,
        stream=stream,
        output_tokens_max=None if largest is None else largest.value,
        output_limit_field=None if largest is None else largest.field,
        include_usage=include_usage,
        choices=choices,
        input_tokens_estimate=prompts.estimate(_prompt(body, members, dialect, model)),
        hidden_output=hidden,
        model_span=(start, end),
        limits=limits,
        usage_edit=usage_edit,
        stream_options_cut=cut,
    )


def edit_body(
    body: bytes,
    call: CallRequest,
    *,
    upstream_model: str,
    include_usage: bool,
    output_tokens_max: int | None,
    strip_stream_options: bool = False,
    limit_field: str | None = None,
) -> bytes:
    """Return `body` for the upstream, every byte outside the edits as it was sent.

    `upstream_model` replaces the model unless it is the same. `include_usage` makes a stream
    report usage, keeping the caller's other stream options. `output_tokens_max` lowers a higher
    or absent limit and never raises one; an absent one is inserted as `limit_field` (default:
    the dialect's own name). `strip_stream_options` takes the whole member out, for a channel
    that refuses it, and wins over `include_usage`. `body` must be what `call` was read from.
    """
    edits: list[_Edit] = []
    if upstream_model != call.model:
        edits.append((*call.model_span, msgspec.json.encode(upstream_model)))
    if strip_stream_options:
        if call.stream_options_cut is not None:
            edits.append((*call.stream_options_cut, b""))
    elif include_usage and call.usage_edit is not None:
        edits.append(call.usage_edit)
    if output_tokens_max is not None:
        edits.extend(_limit_edits(call, output_tokens_max, limit_field))
    if not edits:
        return body
    edits.sort()
    view = memoryview(body)
    pieces: list[bytes | memoryview] = []
    position = 0
    for start, end, replacement in edits:
        if start < position:
            raise AssertionError("edits overlap")
        pieces.append(view[position:start])
        pieces.append(replacement)
        position = end
    pieces.append(view[position:])
    return b"".join(pieces)


def read_prompt(body: bytes, dialect: Dialect) -> Prompt:
    """Collect the prompt of a body that `parse_call` accepted, for counting it exactly.

    Count each piece with the model's tokenizer and add `fixed_tokens`. Raises nothing: called
    deeper in the stack than `parse_call`, a deep body may not fit; it then counts as text.
    """
    try:
        members = _MEMBERS.decode(body)
    except RecursionError:
        return Prompt((body.decode(),), 0)
    return _prompt(body, members, dialect, _model(members))


def prompt_text_pieces(body: bytes, dialect: Dialect) -> tuple[str, ...]:
    """Return the texts of `read_prompt` alone."""
    return read_prompt(body, dialect).pieces


def _prompt(body: bytes, members: Mapping[str, Raw], dialect: Dialect, model: str) -> Prompt:
    if body.count(b"{") > prompts.OBJECTS_MAX:
        return Prompt((body.decode(),), 0)
    return _READ_PROMPT[dialect](members, model)


def _decode(body: bytes) -> dict[str, Raw]:
    """Validate the whole body and split its top level; later duplicates hide earlier ones."""
    _check_text(body)
    try:
        if body.count(b":") > NAMES_OUTSIDE_MAX:
            known = _KNOWN.decode(body)
            inside = sum(bytes(getattr(known, name)).count(b":") for name in _LARGE)
            if body.count(b":") - inside > NAMES_OUTSIDE_MAX:
                raise _too_many_members()
        members = _MEMBERS.decode(body)
    except msgspec.ValidationError:
        raise RelayError(
            ErrorCode.INVALID_JSON, "The request body must be a JSON object, like {...}."
        ) from None
    except msgspec.DecodeError as error:
        raise RelayError(
            ErrorCode.INVALID_JSON, f"The request body is not valid JSON: {error}."
        ) from None
    except RecursionError:
        raise RelayError(
            ErrorCode.INVALID_JSON, "The request body nests arrays or objects too deeply."
        ) from None
    if len(members) > MEMBERS_MAX:
        raise _too_many_members()
    return members


_LARGE = tuple(_Known.__struct_fields__)


def _too_many_members() -> RelayError:
    return RelayError(
        ErrorCode.INVALID_REQUEST,
        f"The request body has too many members: send at most {MEMBERS_MAX} at the top level.",
    )


def _check_text(body: bytes) -> None:
    """Refuse what is not UTF-8 text: msgspec skips over strings without looking inside."""
    if not body or body.isspace():
        raise RelayError(ErrorCode.INVALID_JSON, "The request body is empty: send a JSON object.")
    if not body.isascii():
        if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
            raise RelayError(
                ErrorCode.INVALID_JSON,
                "The request body starts with a byte order mark: send UTF-8 without one.",
            )
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise RelayError(
                ErrorCode.INVALID_JSON,
                f"The request body is not valid UTF-8 at byte {error.start}.",
            ) from None
    if b"\\" in body and (b"\\ud" in body or b"\\uD" in body):
        # Pairs of backslashes first: in `\\\\ud800` nothing is escaped but the backslash.
        lone = _LONE_SURROGATE.search(body.replace(b"\\\\", b".."))
        if lone is not None:
            raise RelayError(
                ErrorCode.INVALID_JSON,
                f"The request body has half a surrogate pair at byte {lone.start()}: "
                "escape the whole character, or send it as UTF-8.",
            )


def _walk(body: bytes, members: Mapping[str, Raw]) -> dict[str, _Span]:
    """Find the span of each top-level value; refuse a name that comes twice."""
    spans: dict[str, _Span] = {}
    position = 0
    match = _MEMBER.match
    while (found := match(body, position)) is not None:
        written = found[1]
        name = _STRING.decode(b'"' + written + b'"') if b"\\" in written else written.decode()
        value = bytes(members[name])
        start = found.end()
        position = start + len(value)
        # The value decoded is the last of that name: other bytes here mean it comes again.
        if name in spans or body[start:position] != value:
            shown = name[:_SHOWN_CHARS_MAX]
            raise _invalid(shown if shown.isprintable() else "?", "is there twice: send it once")
        spans[name] = (start, position)
    return spans


def _model(members: Mapping[str, Raw]) -> str:
    if "model" not in members:
        raise _invalid("model", "is required: send the name of a model (GET /v1/models lists them)")
    try:
        model = _STRING.decode(members["model"])
    except msgspec.ValidationError:
        model = ""
    if not model or len(model) > MODEL_CHARS_MAX or not model.isprintable():
        raise _invalid(
            "model",
            f"must be a string of 1 to {MODEL_CHARS_MAX} printable characters "
            "(GET /v1/models lists the models)",
        )
    return model


def _stream(members: Mapping[str, Raw]) -> bool:
    value = _flag(members.get("stream"))
    if value is None:
        raise _invalid("stream", "must be true, false or null")
    return value


def _flag(raw: Raw | bytes | None) -> bool | None:
    """Read true, or false, null and absence as False; None for anything else."""
    if raw is None:
        return False
    text = bytes(raw)
    if text == b"true":
        return True
    return False if text in {b"false", b"null"} else None


def _limits(body: bytes, spans: Mapping[str, _Span], dialect: Dialect) -> tuple[Limit, ...]:
    fields = openai.LIMIT_FIELDS if dialect is Dialect.OPENAI else anthropic.LIMIT_FIELDS
    limits: list[Limit] = []
    for field in fields:
        if field in spans:
            start, end = spans[field]
            value = _integer(body[start:end], field, OUTPUT_TOKENS_MAX)
            limits.append(Limit(field, value, start, end))
    return tuple(limits)


def _choices(body: bytes, spans: Mapping[str, _Span]) -> int:
    if "n" not in spans:
        return 1
    start, end = spans["n"]
    return _integer(body[start:end], "n", openai.CHOICES_MAX) or 1


def _integer(text: bytes, field: str, maximum: int) -> int | None:
    """Read an integer of 1 to `maximum` from its JSON text, or null as None."""
    if text == b"null":
        return None
    if len(text) <= _INTEGER_DIGITS_MAX and text.isdigit():
        value = int(text)
        if 1 <= value <= maximum:
            return value
    raise _invalid(field, f"must be an integer from 1 to {maximum}")


def _check_messages(body: bytes, spans: Mapping[str, _Span]) -> None:
    if "messages" not in spans:
        raise _invalid("messages", "is required: send an array of messages")
    start = spans["messages"][0]
    if body[start : start + 1] != b"[" or _EMPTY_ARRAY.match(body, start):
        raise _invalid("messages", "must be an array of at least one message")


def _usage_option(body: bytes, options: _Span | None, model_end: int) -> tuple[bool, _Edit | None]:
    """Tell whether the caller asked for usage, and the edit that asks for it."""
    if options is None:
        # Right after the model, which is always there, so a comma is always right.
        insert = b',"stream_options":{"include_usage":true}'
        return False, (model_end, model_end, insert)
    start, end = options
    text = body[start:end]
    if text == b"null":
        return False, (start, end, b'{"include_usage":true}')
    try:
        inner = _MEMBERS.decode(text)
    except msgspec.ValidationError:
        raise _invalid("stream_options", "must be an object or null") from None
    spans = _walk(text, inner)
    asked = _flag(inner.get("include_usage"))
    if asked is None:
        raise _invalid("stream_options.include_usage", "must be true, false or null")
    if asked:
        return True, None
    if "include_usage" in spans:
        inner_start, inner_end = spans["include_usage"]
        return False, (start + inner_start, start + inner_end, b"true")
    insert = b'"include_usage":true,' if spans else b'"include_usage":true'
    return False, (start + 1, start + 1, insert)


def _cut(body: bytes, spans: Mapping[str, _Span], name: str) -> _Span:
    """Return the span of a whole member and the one comma that goes with it."""
    names = list(spans)
    index = names.index(name)
    end = spans[name][1]
    if index:
        return spans[names[index - 1]][1], end
    # The first member: `model` follows, so there is a next name to cut up to.
    return body.index(b'"'), body.index(b'"', end)


def _limit_edits(call: CallRequest, maximum: int, field: str | None) -> list[_Edit]:
    lowered = str(maximum).encode()
    numbers = [limit for limit in call.limits if limit.value is not None]
    if numbers:
        return [
            (limit.start, limit.end, lowered)
            for limit in numbers
            if limit.value is not None and limit.value > maximum
        ]
    nulls = [limit for limit in call.limits if field in {None, limit.field}]
    if nulls:
        return [(nulls[0].start, nulls[0].end, lowered)]
    if field is None:
        fields = openai.LIMIT_FIELDS if call.dialect is Dialect.OPENAI else anthropic.LIMIT_FIELDS
        field = fields[0]
    end = call.model_span[1]
    return [(end, end, b"," + msgspec.json.encode(field) + b":" + lowered)]


def _invalid(param: str, problem: str) -> RelayError:
    return RelayError(ErrorCode.INVALID_REQUEST, f"`{param}` {problem}.", param=param)
