"""A JSON request body as it was sent: its top-level members, where each is, and edits of them.

Rules: only the top level is read member by member; every other byte is validated as JSON and
then left alone. Edits replace, insert or cut whole top-level values, so key order, white space,
number formats and unknown members stay as they were sent. A body that two parsers could read
differently (duplicate names, lone surrogates, invalid UTF-8) is refused. This module must not
know what any member means.

Why spans can be trusted: msgspec validates the whole body and gives each value's exact bytes;
the walk below then finds each name where the value before it ended, and compares the bytes. JSON
values end where their own text says so, hence equal bytes at an aligned position are the value.

Why most bodies need no walk: names and values, their quotes, colons and commas, add up to a body
exactly when it is written without white space between them and has each name once, unescaped.
Only an edit then asks where a value is, and the sizes say.
"""

import re
import struct
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.unicode import BACKSLASH, check_text

MEMBERS_MAX: Final = 512
"""Top-level members of a body; OpenAI documents about 40."""
NAMES_OUTSIDE_MAX: Final = 32_768
"""Colons outside the large known members: bounds what decoding the top level can cost (10 ms)."""

Span = tuple[int, int]
Edit = tuple[int, int, bytes]
"""Where, and what stands there instead."""


class Layout(msgspec.Struct, gc=False):
    """Where the top-level values of one body are; worked out at the first edit, not before."""

    members: dict[str, Raw]
    walked: dict[str, Span] | None
    """None for a body without white space between its members: their sizes say it all."""
    model_start: int = 0
    """Where the value of `model` begins in a body without white space that has one; else 0."""

    def spans(self) -> dict[str, Span]:
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

    def __repr__(self) -> str:
        """Show nothing of a prompt."""
        return "Layout(...)"


class _Known(msgspec.Struct, gc=False):
    """The members that may be large, skipped in C; used only to bound the others."""

    messages: Raw = Raw(b"null")
    input: Raw = Raw(b"null")
    instructions: Raw = Raw(b"null")
    system: Raw = Raw(b"null")
    tools: Raw = Raw(b"null")
    functions: Raw = Raw(b"null")
    response_format: Raw = Raw(b"null")
    prompt: Raw = Raw(b"null")
    prediction: Raw = Raw(b"null")


_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_KNOWN: Final = msgspec.json.Decoder(_Known)
_STRING: Final = msgspec.json.Decoder(str)
# Possessive throughout: the marks for going back over a name of 8 million escapes would take a
# gigabyte, and going back over white space gains nothing.
_WS: Final = rb"[ \t\n\r]*+"
_MEMBER: Final = re.compile(
    _WS + rb"[{,]" + _WS + rb'"([^"\\]*+(?:\\.[^"\\]*+|(?!))*+)"' + _WS + rb":" + _WS, re.DOTALL
)
_CLOSED: Final = re.compile(_WS + rb"\}")
_ARRAY: Final = re.compile(rb"\[" + _WS + rb"[^\]]")
_FIRST_TWO: Final = struct.Struct("2s").unpack_from
_ARRAY_OF_OBJECTS: Final = (b"[{",)
_INTEGER_DIGITS_MAX: Final = 10
_SHOWN_CHARS_MAX: Final = 64
_TRUE: Final = Raw(b"true")
_UNTRUE: Final = (Raw(b"false"), Raw(b"null"))


def read_members(body: bytes) -> dict[str, Raw]:
    """Validate the whole body and split its top level; later duplicates hide earlier ones."""
    if not body.isascii() or BACKSLASH in body:  # else there is nothing to check
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


def layout_of(
    body: bytes,
    members: dict[str, Raw],
    names: int,
    model_at: int = 0,
    model_after: tuple[str, ...] = (),
) -> Layout:
    """Return where the members of `body` are; `names`: their `names_size`.

    `model_at`: where `model` has its value but for the lengths of those of `model_after`, which
    come before it; 0 where nobody asks. Raises RelayError for a name that comes twice.
    """
    if names + sum(map(len, members.values())) != len(body):
        return Layout(members, walk(body, members))
    for name in model_after:
        model_at += len(members[name])
    return Layout(members, None, model_at)


def names_size(members: Mapping[str, Raw]) -> int:
    """What braces, commas, and names with quotes and colons take where nothing else is between."""
    return sum(map(len, members)) + 4 * len(members) + 1


def is_dense(body: bytes, members: Mapping[str, Raw]) -> bool:
    """Whether the members alone make up the whole body: each is then there once."""
    return names_size(members) + sum(map(len, members.values())) == len(body)


def walk(body: bytes, members: Mapping[str, Raw]) -> dict[str, Span]:
    """Find the span of each top-level value; refuse a name that comes twice."""
    spans: dict[str, Span] = {}
    position, name = 0, ""
    match = _MEMBER.match
    while (found := match(body, position)) is not None:
        written = found[1]
        name = _STRING.decode(b'"' + written + b'"') if b"\\" in written else written.decode()
        value = bytes(members[name])
        start = found.end()
        position = start + len(value)
        # The value decoded is the last of that name: other bytes here mean it comes again.
        if name in spans or body[start:position] != value:
            raise _twice(name)
        spans[name] = (start, position)
    if spans and _CLOSED.match(body, position) is None:
        raise _twice(name)  # whose last value, a number, is how this longer one begins
    return spans


def _twice(name: str) -> RelayError:
    shown = name[:_SHOWN_CHARS_MAX]
    return invalid(shown if shown.isprintable() else "?", "is there twice: send it once")


def apply(body: bytes, edits: list[Edit]) -> bytes:
    """Return `body` with `edits` made, which do not overlap."""
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


def cut(body: bytes, spans: Mapping[str, Span], name: str) -> Span:
    """Return the span of a whole member and the one comma that goes with it."""
    names = list(spans)
    index = names.index(name)
    end = spans[name][1]
    if index:
        return spans[names[index - 1]][1], end
    # The first member: `model` follows, so there is a next name to cut up to.
    return body.index(b'"'), body.index(b'"', end)


def is_array(raw: Raw) -> bool:
    """Whether a value is an array of at least one element."""
    # Looked at where it is: a copy may be megabytes.
    if len(raw) > 1 and _FIRST_TWO(raw) == _ARRAY_OF_OBJECTS:
        return True  # nearly always
    return _ARRAY.match(raw) is not None


def flag(raw: Raw | None) -> bool | None:
    """Read true, or false, null and absence as False; None for anything else."""
    if raw is None:
        return False
    return True if raw == _TRUE else False if raw in _UNTRUE else None


def integer(text: bytes, field: str, maximum: int, least: int = 1) -> int | None:
    """Read an integer of `least` to `maximum` from its JSON text, or null as None."""
    if text.isdigit() and len(text) <= _INTEGER_DIGITS_MAX:
        value = int(text)
        if least <= value <= maximum:
            return value
    if text == b"null":
        return None
    raise invalid(field, f"must be an integer from {least} to {maximum}")


def invalid(param: str, problem: str) -> RelayError:
    """Say what is wrong with a member."""
    return RelayError(ErrorCode.INVALID_REQUEST, f"`{param}` {problem}.", param=param)
