"""One request body: what the relay must know of it, and the few bytes it may change.

Rules: only the top level is read member by member; every other byte is validated as JSON and
then left alone. Edits replace, insert or cut whole top-level values, so key order, white space,
number formats and unknown members reach the upstream as they were sent. A body that two parsers
could read differently (duplicate names, lone surrogates, invalid UTF-8) is refused. This module
must not know sockets, prices or models; the shapes of each wire form are in openai.py,
anthropic.py and responses.py.

Why spans can be trusted: msgspec validates the whole body and gives each value's exact bytes;
the walk below then finds each name where the value before it ended, and compares the bytes. JSON
values end where their own text says so, hence equal bytes at an aligned position are the value.

Why most bodies need no walk: names and values, their quotes, colons and commas, add up to a body
exactly when it is written without white space between them and has each name once, unescaped.
Only an edit then asks where a value is, and the sizes say.
"""

import re
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Raw

from proxy.core import anthropic, openai, prompts, responses
from proxy.core.entities import Dialect, Wire
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.prompts import Prompt
from proxy.core.unicode import check_text

MEMBERS_MAX = 512
"""Top-level members of a body; OpenAI documents about 40."""
NAMES_OUTSIDE_MAX = 32_768
"""Colons outside the large known members: bounds what decoding the top level can cost (10 ms)."""
MODEL_CHARS_MAX = 256
OUTPUT_TOKENS_MAX = 2**31 - 1

_Span = tuple[int, int]
_Edit = tuple[int, int, bytes]


class Limit(msgspec.Struct, frozen=True, gc=False):
    """One token-limit member: its name and value (None: `null`)."""

    field: str
    value: int | None


class Layout(msgspec.Struct, gc=False):
    """Where the top-level values of one body are; worked out at the first edit, not before."""

    members: dict[str, Raw]
    walked: dict[str, _Span] | None
    """None for a body without white space between its members: their sizes say it all."""

    def spans(self) -> dict[str, _Span]:
        """Return spans by name, in order."""
        if self.walked is None:
            self.walked = {}
            position = 1
            for name, value in self.members.items():
                start = position + len(name) + 3
                end = start + len(value)
                self.walked[name] = (start, end)
                position = end + 1
        return self.walked

    def span(self, name: str) -> _Span:
        """Return the span of one value that is there."""
        if self.walked is not None:
            return self.walked[name]
        position = 1
        for known, value in self.members.items():
            start = position + len(known) + 3
            if known == name:
                return start, start + len(value)
            position = start + len(value) + 1
        raise AssertionError(f"no member {name}")

    def __repr__(self) -> str:
        """Show nothing of a prompt."""
        return "Layout(...)"


class CallRequest(msgspec.Struct, frozen=True, gc=False):
    """What one call asks for. A struct rather than a dataclass: it is made once per request.

    `wire`: the form of the body; of a dialect's forms, channels speak the first alone.
    `output_tokens_max`: the largest limit sent, per choice; None when none was.
    `output_limit_field`: the member that said so. `include_usage`: the caller itself asked for
    the usage event of a stream. `choices`: how many times the output may be multiplied.
    `input_tokens_estimate`: leans up (core/prompts.py). `hidden_output`: something asked for is
    billed without being seen. The other fields are for `edit_body`.
    """

    dialect: Dialect
    wire: Wire
    model: str
    stream: bool
    output_tokens_max: int | None
    output_limit_field: str | None
    include_usage: bool
    choices: int
    input_tokens_estimate: int
    hidden_output: bool
    layout: Layout
    limits: tuple[Limit, ...] = ()
    stream_options: bool = False
    """Whether the member is there (OpenAI)."""


class _Known(msgspec.Struct, gc=False):
    """The members that may be large, skipped in C; used only to bound the others."""

    messages: Raw = Raw(b"null")
    input: Raw = Raw(b"null")
    instructions: Raw = Raw(b"null")
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
_EMPTY_ARRAY = re.compile(rb"\[" + _WS + rb"\]")
_INTEGER_DIGITS_MAX = 10
_SHOWN_CHARS_MAX = 64
_OPENAI = Dialect.OPENAI  # read several times a call: a member of an enum costs 10 times it
_RESPONSES = Wire.RESPONSES
_LITERALS = {b"true": True, b"false": False, b"null": False}


class _Form(msgspec.Struct, frozen=True):
    """What is particular to one wire form."""

    wire: Wire
    limit_fields: tuple[str, ...]
    read_prompt: Callable[[Mapping[str, Raw], str], Prompt]
    hidden_output: Callable[[Mapping[str, Raw]], bool]


_CHAT = _Form(Wire.CHAT, openai.LIMIT_FIELDS, openai.read_prompt, openai.hidden_output)
_MESSAGES = _Form(
    Wire.MESSAGES, anthropic.LIMIT_FIELDS, anthropic.read_prompt, anthropic.hidden_output
)
_INPUT = _Form(_RESPONSES, responses.LIMIT_FIELDS, responses.read_prompt, responses.hidden_output)


def _form(dialect: Dialect, wire: Wire | None) -> _Form:
    """How to read a body; without `wire`, in the form the dialect's channels speak."""
    if wire is _RESPONSES:
        return _INPUT
    return _CHAT if dialect is _OPENAI else _MESSAGES


def parse_call(body: bytes, dialect: Dialect, wire: Wire | None = None) -> CallRequest:
    """Read a chat, messages or (`wire`) Responses body.

    Raises RelayError: INVALID_JSON for bytes that are not one clear JSON object,
    INVALID_REQUEST, naming the member in `param`, for a value the relay cannot work with.
    """
    members = _decode(body)
    layout = Layout(members, None if _is_dense(body, members) else _walk(body, members))
    model = _model(members)
    stream = _stream(members)
    form = _form(dialect, wire)
    limits = _limits(members, form.limit_fields)
    largest: Limit | None = None
    for limit in limits:
        if limit.value is not None and (largest is None or limit.value > (largest.value or 0)):
            largest = limit
    if form is _MESSAGES:
        if largest is None:
            raise _invalid("max_tokens", "is required: send a positive integer")
        anthropic.check_thread(members)
    if form is _INPUT:
        _check_input(members)
    else:
        _check_messages(members)
    include_usage = False
    choices = 1
    if form is _CHAT:
        choices = _choices(members)
        if stream and "stream_options" in members:
            include_usage = _asks_for_usage(members["stream_options"])
    return CallRequest(
        dialect=dialect,
        wire=form.wire,
        model=model,
        stream=stream,
        output_tokens_max=None if largest is None else largest.value,
        output_limit_field=None if largest is None else largest.field,
        include_usage=include_usage,
        choices=choices,
        input_tokens_estimate=prompts.estimate(_prompt(body, members, form, model)),
        hidden_output=form.hidden_output(members),
        layout=layout,
        limits=limits,
        stream_options=form is _CHAT and "stream_options" in members,
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
    rename = upstream_model != call.model
    cut = strip_stream_options and call.stream_options
    ask = include_usage and not strip_stream_options and _may_ask(call)
    if not (rename or cut or ask) and output_tokens_max is None:
        return body
    if not (cut or ask) and output_tokens_max is None:
        start, end = call.layout.span("model")
        return b"%b%b%b" % (body[:start], msgspec.json.encode(upstream_model), body[end:])
    spans = call.layout.spans()
    edits: list[_Edit] = []
    if rename:
        edits.append((*spans["model"], msgspec.json.encode(upstream_model)))
    if cut:
        edits.append((*_cut(body, spans, "stream_options"), b""))
    elif ask:
        edits.append(_usage_edit(body, spans))
    if output_tokens_max is not None:
        edits.extend(_limit_edits(call, spans, output_tokens_max, limit_field))
    return _apply(body, edits) if edits else body


def _may_ask(call: CallRequest) -> bool:
    return call.stream and not call.include_usage and call.dialect is _OPENAI


def _apply(body: bytes, edits: list[_Edit]) -> bytes:
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


def read_prompt(body: bytes, dialect: Dialect, wire: Wire | None = None) -> Prompt:
    """Collect the prompt of a body that `parse_call` accepted, for counting it exactly.

    Count each piece with the model's tokenizer and add `fixed_tokens`. Raises nothing: called
    deeper in the stack than `parse_call`, a deep body may not fit; it then counts as text.
    """
    try:
        members = _MEMBERS.decode(body)
    except RecursionError:
        return Prompt((body.decode(),), 0)
    return _prompt(body, members, _form(dialect, wire), _model(members))


def _prompt(body: bytes, members: Mapping[str, Raw], form: _Form, model: str) -> Prompt:
    if len(body) > prompts.OBJECTS_MAX and body.count(b"{") > prompts.OBJECTS_MAX:
        return Prompt((body.decode(),), 0)
    return form.read_prompt(members, model)


def _decode(body: bytes) -> dict[str, Raw]:
    """Validate the whole body and split its top level; later duplicates hide earlier ones."""
    check_text(body)
    try:
        if len(body) > NAMES_OUTSIDE_MAX and body.count(b":") > NAMES_OUTSIDE_MAX:
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
        if not body.strip():
            raise RelayError(
                ErrorCode.INVALID_JSON, "The request body is empty: send a JSON object."
            ) from None
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


def _is_dense(body: bytes, members: dict[str, Raw]) -> bool:
    """Whether the members alone make up the whole body: each is then there once."""
    size = 1
    for name, value in members.items():
        size += len(name) + len(value) + 4
    return size == len(body)


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


def _flag(raw: Raw | None) -> bool | None:
    """Read true, or false, null and absence as False; None for anything else."""
    return False if raw is None else _LITERALS.get(bytes(raw))


def _limits(members: Mapping[str, Raw], fields: tuple[str, ...]) -> tuple[Limit, ...]:
    limits: tuple[Limit, ...] = ()
    for field in fields:
        if field in members:
            value = _integer(bytes(members[field]), field, OUTPUT_TOKENS_MAX)
            limits = (*limits, Limit(field, value))
    return limits


def _choices(members: Mapping[str, Raw]) -> int:
    if "n" not in members:
        return 1
    return _integer(bytes(members["n"]), "n", openai.CHOICES_MAX) or 1


def _integer(text: bytes, field: str, maximum: int) -> int | None:
    """Read an integer of 1 to `maximum` from its JSON text, or null as None."""
    if text.isdigit() and len(text) <= _INTEGER_DIGITS_MAX:
        value = int(text)
        if 1 <= value <= maximum:
            return value
    if text == b"null":
        return None
    raise _invalid(field, f"must be an integer from 1 to {maximum}")


def _check_messages(members: Mapping[str, Raw]) -> None:
    if "messages" not in members:
        raise _invalid("messages", "is required: send an array of messages")
    text = memoryview(members["messages"])
    start = bytes(text[:2])
    if start == b"[{":
        return
    if not start.startswith(b"[") or _EMPTY_ARRAY.match(text):
        raise _invalid("messages", "must be an array of at least one message")


def _check_input(members: Mapping[str, Raw]) -> None:
    if "input" not in members:
        raise _invalid("input", "is required: send a string or an array of items")
    text = memoryview(members["input"])
    if bytes(text[:1]) not in {b'"', b"["} or _EMPTY_ARRAY.match(text):
        raise _invalid("input", "must be a string, or an array of at least one item")


def _asks_for_usage(options: Raw) -> bool:
    """Tell whether the caller asked for the usage event itself."""
    text = bytes(options)
    if text == b"null":
        return False
    try:
        inner = _MEMBERS.decode(text)
    except msgspec.ValidationError:
        raise _invalid("stream_options", "must be an object or null") from None
    if not _is_dense(text, inner):
        _walk(text, inner)
    asked = _flag(inner.get("include_usage"))
    if asked is None:
        raise _invalid("stream_options.include_usage", "must be true, false or null")
    return asked


def _usage_edit(body: bytes, spans: Mapping[str, _Span]) -> _Edit:
    """Return the edit that asks for usage, in options that were found sound."""
    options = spans.get("stream_options")
    if options is None:
        # Right after the model, which is always there, so a comma is always right.
        end = spans["model"][1]
        return end, end, b',"stream_options":{"include_usage":true}'
    start, end = options
    text = body[start:end]
    if text == b"null":
        return start, end, b'{"include_usage":true}'
    inner = _walk(text, _MEMBERS.decode(text))
    if "include_usage" in inner:
        inner_start, inner_end = inner["include_usage"]
        return start + inner_start, start + inner_end, b"true"
    insert = b'"include_usage":true,' if inner else b'"include_usage":true'
    return start + 1, start + 1, insert


def _cut(body: bytes, spans: Mapping[str, _Span], name: str) -> _Span:
    """Return the span of a whole member and the one comma that goes with it."""
    names = list(spans)
    index = names.index(name)
    end = spans[name][1]
    if index:
        return spans[names[index - 1]][1], end
    # The first member: `model` follows, so there is a next name to cut up to.
    return body.index(b'"'), body.index(b'"', end)


def _limit_edits(
    call: CallRequest, spans: Mapping[str, _Span], maximum: int, field: str | None
) -> list[_Edit]:
    lowered = str(maximum).encode()
    numbers = [limit for limit in call.limits if limit.value is not None]
    if numbers:
        return [
            (*spans[limit.field], lowered)
            for limit in numbers
            if limit.value is not None and limit.value > maximum
        ]
    nulls = [limit for limit in call.limits if field in {None, limit.field}]
    if nulls:
        return [(*spans[nulls[0].field], lowered)]
    if field is None:
        field = _form(call.dialect, call.wire).limit_fields[0]
    end = spans["model"][1]
    return [(end, end, b"," + msgspec.json.encode(field) + b":" + lowered)]


def _invalid(param: str, problem: str) -> RelayError:
    return RelayError(ErrorCode.INVALID_REQUEST, f"`{param}` {problem}.", param=param)
