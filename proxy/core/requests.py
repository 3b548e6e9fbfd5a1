"""One request body: what the relay must know of it, and the few bytes it may change.

Rules: of the top level only the members named here and in the modules of the wire forms
(openai.py, anthropic.py, responses.py, completions.py, gemini.py) are read; every other byte
reaches the upstream as it was sent (core/bodies.py). This module must not know sockets, prices or
models.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import Raw

from proxy.core import anthropic, completions, gemini, openai, prompts, responses
from proxy.core.bodies import (
    Edit,
    Layout,
    Span,
    apply,
    cut,
    flag,
    integer,
    invalid,
    is_dense,
    layout_of,
    names_size,
    read_members,
    walk,
)
from proxy.core.entities import Dialect, Wire
from proxy.core.errors import RelayError
from proxy.core.prompts import Prompt

MODEL_CHARS_MAX = 256
OUTPUT_TOKENS_MAX = 2**31 - 1
PROMPT_KEPT_BYTES_MAX = 4_096
"""Of a body whose prompt is kept for counting it: a longer one is read again if it is counted."""
SHAPES_MAX = 512
SHAPE_NAMES_MAX = 48
SHAPE_BYTES_MAX = 1_024
"""How many shapes are remembered of each wire form, and of how many and how long names."""


class Limit(msgspec.Struct, frozen=True, gc=False):
    """One token-limit member: its name and value (None: `null`)."""

    field: str
    value: int | None


class CallRequest(msgspec.Struct, frozen=True, gc=False):
    """What one call asks for. A struct rather than a dataclass: it is made once per request.

    `output_tokens_max`: the largest limit sent, per choice; None when none was.
    `output_limit_field`: the member that said so. `include_usage`: the caller itself asked for
    the usage event of a stream. `choices`: how many times the output may be multiplied.
    `input_tokens_estimate`: leans up (core/prompts.py). `hidden_output`: something asked for is
    billed without being seen. `layout`, `limits` and `stream_options` are for `edit_body`.
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
    """Whether the member is there, and the form knows it."""
    kept: responses.Kept | None = None
    """What a Responses request leaves at the provider, and asks of it there."""
    echoed: tuple[int, ...] = ()
    """Characters of the prompt that a text completion repeats, by choice."""
    prompt: Prompt | None = None
    """As `read_prompt` would read it again, where it is short."""

    def __repr__(self) -> str:
        """Show nothing of a prompt."""
        return f"CallRequest({self.wire}, {self.model})"


_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_STRING: Final = msgspec.json.Decoder(str)
_ASKING: Final = b',"stream_options":{"include_usage":true}'
# Read several times a call: a member of an enum costs 10 times it.
_OPENAI: Final = Dialect.OPENAI
_RESPONSES: Final = Wire.RESPONSES
_COMPLETIONS: Final = Wire.COMPLETIONS
_GEMINI: Final = Wire.GEMINI


class _Shape(msgspec.Struct, frozen=True, gc=False):
    """What follows from the names of a body's members alone, found again with the same names.

    Nobody's SDK sends many different ones. What any of them holds is read every time.
    """

    names: int
    """Their `names_size`."""
    model_at: int
    """What stands before the model in a dense body but for the values of `model_after`; else 0."""
    model_after: tuple[str, ...]
    streams: bool
    """Whether it says whether to stream."""
    options: bool
    """Whether it has stream options, and its form knows them."""
    limits: tuple[str, ...]
    ordinary: bool
    """Whether it has no member that could ask for more answers, or for hidden output."""
    texts: bool
    """Whether its prompt, too, can be all in its messages, and those nothing but text."""


class _Form(msgspec.Struct, frozen=True):
    """What is particular to one wire form."""

    wire: Wire
    limit_fields: tuple[str, ...]
    read_prompt: Callable[[Mapping[str, Raw], str], Prompt]
    hidden_output: Callable[[Mapping[str, Raw]], bool]
    check: Callable[[Mapping[str, Raw]], None]
    """Refuses what the relay cannot work with. Raises RelayError."""
    choices: Callable[[Mapping[str, Raw]], int] | None = None
    """How many times the output may be multiplied; None: once."""
    asks_usage: bool = False
    """Whether a stream reports usage only where `stream_options` asks for it."""
    limit_least: int = 1
    limit: Callable[[Mapping[str, Raw]], int | None] | None = None
    """The limit of a form that has it within another member."""
    in_path: bool = False
    """Whether the path names the model and says whether to stream."""
    watched: frozenset[str] | None = None
    """All that `hidden_output` and `choices` look at; None: they are asked of every body."""
    read_texts: Callable[[Mapping[str, Raw]], tuple[Prompt, int] | None] | None = None
    """Reads what is nothing but text, and weighs it, in place of `check` and `read_prompt`."""
    prompt_members: frozenset[str] = frozenset()
    """With one of these `read_texts` is not to be asked."""
    shapes: dict[tuple[str, ...], _Shape] = msgspec.field(default_factory=dict)


_CHAT: Final = _Form(
    Wire.CHAT,
    openai.LIMIT_FIELDS,
    openai.read_prompt,
    openai.hidden_output,
    openai.check,
    choices=openai.choices,
    asks_usage=True,
    watched=openai.WATCHED,
    read_texts=openai.read_texts,
    prompt_members=openai.PROMPT_MEMBERS,
)
_MESSAGES: Final = _Form(
    Wire.MESSAGES,
    anthropic.LIMIT_FIELDS,
    anthropic.read_prompt,
    anthropic.hidden_output,
    anthropic.check,
    watched=anthropic.WATCHED,
)
_FORMS: Final[Mapping[Wire, _Form]] = {
    Wire.CHAT: _CHAT,
    Wire.MESSAGES: _MESSAGES,
    Wire.RESPONSES: _Form(
        Wire.RESPONSES,
        responses.LIMIT_FIELDS,
        responses.read_prompt,
        responses.hidden_output,
        responses.check,
    ),
    Wire.COMPLETIONS: _Form(
        Wire.COMPLETIONS,
        completions.LIMIT_FIELDS,
        completions.read_prompt,
        completions.hidden_output,
        completions.check,
        choices=completions.choices,
        asks_usage=True,
        limit_least=0,
    ),
    Wire.GEMINI: _Form(
        Wire.GEMINI,
        (),
        gemini.read_prompt,
        gemini.hidden_output,
        gemini.check,
        choices=gemini.choices,
        limit=gemini.output_tokens_max,
        in_path=True,
    ),
}


def _form(dialect: Dialect) -> _Form:
    """How to read a body of which nobody said more: in the first form of its dialect."""
    return _CHAT if dialect is _OPENAI else _MESSAGES


def parse_call(
    body: bytes,
    dialect: Dialect,
    wire: Wire | None = None,
    model: str = "",
    stream: bool = False,  # noqa: FBT001, FBT002 - by position, as all that each call gives
) -> CallRequest:
    """Read the body of a conversation in the form `wire`; without, in its dialect's first.

    `model` and `stream` are what the path says, in a form that says it there. Raises RelayError:
    INVALID_JSON for bytes that are not one clear JSON object, INVALID_REQUEST, naming the member
    in `param`, for a value the relay cannot work with.
    """
    members = read_members(body)
    form = _form(dialect) if wire is None else _FORMS[wire]
    shape = form.shapes.get(tuple(members)) or _shape(form, members)
    layout = layout_of(body, members, shape.names, shape.model_at, shape.model_after)
    if form.in_path:
        check_model(model)
    else:
        model, stream = _model(members), shape.streams and _stream(members)
    limits: tuple[Limit, ...] = ()
    limit, field = None, None
    if shape.limits:
        limits, largest = _limits(members, form, shape.limits)
        if largest is not None:
            limit, field = largest.value, largest.field
    kept = len(body) <= PROMPT_KEPT_BYTES_MAX
    if shape.texts and form.read_texts is not None and len(body) <= prompts.OBJECTS_MAX:
        read = form.read_texts(members)
        if read is not None:  # nearly always
            report = shape.options and stream and _asks_for_usage(members["stream_options"])
            return CallRequest(  # by position: names would cost five times as much
                dialect, form.wire, model, stream, limit, field, report, 1, read[1],
                False,  # noqa: FBT003 - likewise
                layout, limits, shape.options, None, (), read[0] if kept else None,
            )  # fmt: skip
    form.check(members)
    if form.limit is not None:
        limit = form.limit(members)
    report = shape.options and stream and _asks_for_usage(members["stream_options"])
    ordinary = shape.ordinary
    choices = 1 if ordinary or form.choices is None else form.choices(members)
    prompt = _prompt(body, members, form, model)
    return CallRequest(
        dialect,
        form.wire,
        model,
        stream,
        limit,
        field,
        report,
        choices,
        prompts.estimate(prompt),
        not ordinary and form.hidden_output(members),
        layout,
        limits,
        shape.options,
        responses.kept(members) if form.wire is _RESPONSES else None,
        completions.echoed(members) if form.wire is _COMPLETIONS else (),
        prompt if kept else None,
    )


def _shape(form: _Form, members: Mapping[str, Raw]) -> _Shape:
    """Work out what the names of `members` mean in `form`, and remember it."""
    names = tuple(members)
    model_at, before = 0, names[:0]
    if "model" in members and not form.in_path:
        before = names[: names.index("model")]
        model_at = sum(map(len, before)) + 4 * len(before) + len('{"model":')
    ordinary = form.watched is not None and form.watched.isdisjoint(members)
    shape = _Shape(
        names_size(members),
        model_at,
        before,
        "stream" in members,
        form.asks_usage and "stream_options" in members,
        tuple([field for field in form.limit_fields if field in members]),
        ordinary,
        ordinary and form.read_texts is not None and form.prompt_members.isdisjoint(members),
    )
    if len(names) <= SHAPE_NAMES_MAX and shape.names <= SHAPE_BYTES_MAX:
        if len(form.shapes) >= SHAPES_MAX:
            form.shapes.clear()
        form.shapes[names] = shape
    return shape


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
    if call.wire is _GEMINI:
        limit = output_tokens_max
        return body if limit is None else gemini.lowered(body, call.layout, limit)
    rename = upstream_model != call.model
    strip = strip_stream_options and call.stream_options
    ask = call.stream and include_usage and not strip_stream_options and _may_ask(call)
    spans = call.layout.spans()
    edits: list[Edit] = []
    if rename:
        edits.append((*spans["model"], msgspec.json.encode(upstream_model)))
    if strip:
        edits.append((*cut(body, spans, "stream_options"), b""))
    elif ask:
        edits.append(_usage_edit(body, spans))
    if output_tokens_max is not None:
        edits.extend(_limit_edits(call, spans, output_tokens_max, limit_field))
    return apply(body, edits) if edits else body


def renamed(
    body: bytes,
    call: CallRequest,
    upstream_model: str,
    name: bytes,
    include_usage: bool,  # noqa: FBT001 - by position, as all arguments of what each call asks
) -> tuple[bytes, bytes, bytes] | None:
    """Return `body` in three parts with `name`, which is `upstream_model` as JSON, for its model.

    What `edit_body` would make of it without a limit, nearly always, for who joins it with more.
    None where it is not so simple.
    """
    layout = call.layout
    start = layout.model_start
    if not start or call.stream_options:
        return None
    end = start + len(layout.members["model"])
    if upstream_model == call.model:
        name = body[start:end]
    if call.stream and include_usage and _FORMS[call.wire].asks_usage:
        name += _ASKING
    return body[:start], name, body[end:]


def _may_ask(call: CallRequest) -> bool:
    """Whether a stream can be asked for usage, and its caller has not done so."""
    return not call.include_usage and _FORMS[call.wire].asks_usage


def read_prompt(body: bytes, dialect: Dialect, wire: Wire | None = None) -> Prompt:
    """Collect the prompt of a body that `parse_call` accepted, for counting it exactly.

    Count each piece with the model's tokenizer and add `fixed_tokens`. Raises nothing: called
    deeper in the stack than `parse_call`, a deep body may not fit; it then counts as text.
    """
    try:
        members = _MEMBERS.decode(body)
    except RecursionError:
        return Prompt((body.decode(),), 0)
    form = _form(dialect) if wire is None else _FORMS[wire]
    return _prompt(body, members, form, "" if form.in_path else _model(members))


def _prompt(body: bytes, members: Mapping[str, Raw], form: _Form, model: str) -> Prompt:
    if len(body) > prompts.OBJECTS_MAX and body.count(b"{") > prompts.OBJECTS_MAX:
        return Prompt((body.decode(),), 0)
    return form.read_prompt(members, model)


def _model(members: Mapping[str, Raw]) -> str:
    try:
        model = _STRING.decode(members["model"])
    except KeyError:
        raise invalid(
            "model", "is required: send the name of a model (GET /v1/models lists them)"
        ) from None
    except msgspec.ValidationError:
        raise _no_model() from None
    if not model or len(model) > MODEL_CHARS_MAX or not model.isprintable():
        raise _no_model()
    return model


def check_model(model: str) -> None:
    """Refuse what can be no model's name. Raises RelayError INVALID_REQUEST."""
    if not model or len(model) > MODEL_CHARS_MAX or not model.isprintable():
        raise _no_model()


def _no_model() -> RelayError:
    return invalid(
        "model",
        f"must be a string of 1 to {MODEL_CHARS_MAX} printable characters "
        "(GET /v1/models lists the models)",
    )


def _stream(members: Mapping[str, Raw]) -> bool:
    value = flag(members.get("stream"))
    if value is None:
        raise invalid("stream", "must be true, false or null")
    return value


def _limits(
    members: Mapping[str, Raw], form: _Form, fields: tuple[str, ...]
) -> tuple[tuple[Limit, ...], Limit | None]:
    """Read the limits of a body, and which is the largest: of equal ones the first."""
    limits: list[Limit] = []
    largest, most = None, -1
    for field in fields:
        value = integer(bytes(members[field]), field, OUTPUT_TOKENS_MAX, form.limit_least)
        limit = Limit(field, value)
        limits.append(limit)
        if value is not None and value > most:
            largest, most = limit, value
    return tuple(limits), largest


def _asks_for_usage(options: Raw) -> bool:
    """Tell whether the caller asked for the usage event itself."""
    text = bytes(options)
    if text == b"null":
        return False
    try:
        inner = _MEMBERS.decode(text)
    except msgspec.ValidationError:
        raise invalid("stream_options", "must be an object or null") from None
    if not is_dense(text, inner):
        walk(text, inner)
    asked = flag(inner.get("include_usage"))
    if asked is None:
        raise invalid("stream_options.include_usage", "must be true, false or null")
    return asked


def _usage_edit(body: bytes, spans: Mapping[str, Span]) -> Edit:
    """Return the edit that asks for usage, in options that were found sound."""
    options = spans.get("stream_options")
    if options is None:
        # Right after the model, which is always there, so a comma is always right.
        end = spans["model"][1]
        return end, end, _ASKING
    start, end = options
    text = body[start:end]
    if text == b"null":
        return start, end, b'{"include_usage":true}'
    inner = walk(text, _MEMBERS.decode(text))
    if "include_usage" in inner:
        inner_start, inner_end = inner["include_usage"]
        return start + inner_start, start + inner_end, b"true"
    insert = b'"include_usage":true,' if inner else b'"include_usage":true'
    return start + 1, start + 1, insert


def _limit_edits(
    call: CallRequest, spans: Mapping[str, Span], maximum: int, field: str | None
) -> list[Edit]:
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
        field = _FORMS[call.wire].limit_fields[0]
    end = spans["model"][1]
    return [(end, end, b"," + msgspec.json.encode(field) + b":" + lowered)]
