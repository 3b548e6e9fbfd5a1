"""The top-level members of one JSON object, found in pieces of any size, in constant memory.

Rules: every byte is checked against the grammar, because two readers that disagree about a body
would disagree about its model; but only watched members are remembered: where their value is, the
value itself if it is small, and what is in it (elements, characters) if that was asked for. What is
held over from one piece to the next is less than one token; a string is never held. A fault is a
value, and the first one is the last. This module must not know what any member means.

Source: RFC 8259. As in requests.py, refused beyond it: halves of surrogate pairs, invalid UTF-8
and a watched name that comes twice.
"""

import codecs
import re
from collections.abc import Mapping
from typing import Final

import orjson
from msgspec import Struct

from proxy.core.json_patterns import (
    ESCAPE,
    ESCAPE_BEGUN,
    NUMBERS,
    NUMERIC,
    ONE_NUMBER,
    STRINGS,
    SURROGATE,
    TEXT,
    WS,
)

MEMBERS_MAX: Final = 512
"""Top-level members of a body; OpenAI documents about 40."""
DEPTH_MAX: Final = 256
NAME_BYTES_MAX: Final = 1_024
"""A longer name, as it is written, is none that anybody watches."""
NUMBER_BYTES_MAX: Final = 1_024


class Watch(Struct, frozen=True):
    """What to remember of one member: its value up to `keep_bytes_max`, and its measures."""

    keep_bytes_max: int = 0
    measure: bool = False


class Fault(Struct, frozen=True):
    """What is wrong, as the end of a sentence that begins with what it is about."""

    offset: int
    problem: str
    name: str | None = None
    """The member that is there twice."""


class Member(Struct):
    """One watched member. `start` and `end`: where its value is, from the first byte fed.

    Measures, if asked for: of an array, its direct elements by kind; at any depth, the numbers
    and the characters of all strings that are values, ASCII (`narrow`) and other (`wide`).
    """

    name: str
    start: int
    kind: str
    """string, number, object, array, boolean or null."""
    end: int = -1
    value: bytes | None = None
    elements: int = 0
    strings: int = 0
    numbers: int = 0
    arrays: int = 0
    objects: int = 0
    numbers_inside: int = 0
    narrow: int = 0
    wide: int = 0

    @property
    def characters(self) -> int:
        """Characters of all strings."""
        return self.narrow + self.wide


_LITERALS: Final = {
    b"t": (b"true", "boolean"),
    b"f": (b"false", "boolean"),
    b"n": (b"null", "null"),
}
_HIGH: Final = bytes(range(128, 256))
_NOT_LEADING: Final = bytes(range(192))
_MARKS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")

_QUOTE, _COMMA, _COLON = b'",:'
_BRACE, _BRACE_END, _BRACKET, _BRACKET_END = b"{}[]"
_BACKSLASH: Final = ord("\\")
_OPENING: Final = b"{["
_SIGNS: Final = b"-0123456789"
_WAIT: Final = -1


class MemberScanner:
    """Reads one JSON object as it comes; see the module docstring.

    Feed pieces, then `finish`; read `fault` and `members` at any time. `members` has a member
    from the first byte of its value on; its `end` is negative until its value has ended.
    """

    __slots__ = (
        "_base", "_decoder", "_is_name", "_kept", "_member", "_name", "_names", "_open", "_rest",
        "_step", "_watch", "_watched", "fault", "first", "members", "size",
    )  # fmt: skip

    def __init__(self, watched: Mapping[str, Watch]) -> None:
        self.members: dict[str, Member] = {}
        self.fault: Fault | None = None
        self.size = 0
        """Bytes fed."""
        self.first = 0
        """Where a first member begins, or could: right after the opening brace."""
        self._watched = watched
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._rest = b""
        self._base = 0
        """Where the bytes now looked at begin."""
        self._step = self._start
        self._open = bytearray()
        """The opening brackets of what has not ended."""
        self._names = 0
        self._name: bytearray | None = None
        """A top-level name being read."""
        self._is_name = False
        self._watch: Watch | None = None
        """How to watch the value that is next or open; None outside watched members."""
        self._member: Member | None = None
        self._kept: bytearray | None = None

    @property
    def complete(self) -> bool:
        """Whether the object has ended; nothing but white space may follow."""
        return self.fault is None and self._step == self._trailing

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body; ignored after a fault."""
        if self.fault is not None or not piece:
            return
        data = self._rest + piece if self._rest else piece
        self._base = self.size - len(self._rest)
        self.size += len(piece)
        position = 0
        end = len(data)
        while position < end:
            reached = self._step(data, position)
            if reached == _WAIT:
                break
            position = reached
        if self._kept is not None:
            self._keep(data, position)
        self._rest = data[position:]

    def finish(self) -> None:
        """Say that nothing follows."""
        if self.fault is not None or self.complete:
            return
        if self._step == self._start:
            problem = (
                "must be a JSON object, like {...}"
                if self._rest
                else "is empty: send a JSON object"
            )
            self._fail(0, problem)
        else:
            self._fail(self.size, f"is not valid JSON: it ends at byte {self.size} inside a value")

    def _fail(self, offset: int, problem: str, name: str | None = None) -> int:
        self.fault = Fault(offset, problem, name)
        self._kept = None
        return _WAIT

    def _expected(self, what: str, position: int) -> int:
        at = self._base + position
        return self._fail(at, f"is not valid JSON at byte {at}: expected {what}")

    # One method per state: takes the bytes and where to go on, returns how far it came.

    def _start(self, data: bytes, position: int) -> int:
        position = _end(WS.match(data, position))
        if position == len(data):
            return position
        if data[position] != _BRACE:
            written = data[position : position + 3]
            for mark in _MARKS:
                if written.startswith(mark):
                    return self._fail(0, "starts with a byte order mark: send UTF-8 without one")
                if mark.startswith(written):
                    return _WAIT
            return self._fail(self._base + position, "must be a JSON object, like {...}")
        self._open.append(_BRACE)
        self.first = self._base + position + 1
        self._step = self._first_name
        return position + 1

    def _first_name(self, data: bytes, position: int) -> int:
        position = _end(WS.match(data, position))
        if position < len(data) and data[position] == _BRACE_END:
            return self._close(data, position)
        return self._next_name(data, position)

    def _next_name(self, data: bytes, position: int) -> int:
        position = _end(WS.match(data, position))
        if position == len(data):
            return position
        if data[position] != _QUOTE:
            return self._expected("a member's name in double quotes", position)
        self._is_name = True
        if len(self._open) == 1:
            self._name = bytearray()
            self._names += 1
            if self._names > MEMBERS_MAX:
                return self._fail(
                    self._base + position,
                    f"has too many members: send at most {MEMBERS_MAX} at the top level",
                )
        self._step = self._string
        return position + 1

    def _colon(self, data: bytes, position: int) -> int:
        position = _end(WS.match(data, position))
        if position == len(data):
            return position
        if data[position] != _COLON:
            return self._expected("a colon", position)
        self._step = self._value
        return position + 1

    def _first_element(self, data: bytes, position: int) -> int:
        position = _end(WS.match(data, position))
        if position == len(data):
            return position
        if data[position] == _BRACKET_END:
            return self._close(data, position)
        self._step = self._element
        return position

    def _element(self, data: bytes, position: int) -> int:
        """Read an element of an array; whole runs of numbers or of strings at once."""
        end = _end(NUMBERS.match(data, position))
        if end > position:
            self._count_run(data, position, end, numbers=True)
            return end
        end = _end(STRINGS.match(data, position))
        if end > position:
            if not self._is_text(data, position, end):
                return _WAIT
            self._count_run(data, position, end, numbers=False)
            return end
        return self._value(data, position)

    def _value(self, data: bytes, position: int) -> int:
        position = _end(WS.match(data, position))
        if position == len(data):
            return position
        byte = data[position]
        if byte == _QUOTE:
            self._begin("string", position)
            self._step = self._string
            return position + 1
        if byte in _OPENING:
            if len(self._open) == DEPTH_MAX:
                return self._fail(self._base + position, "nests arrays or objects too deeply")
            self._begin("object" if byte == _BRACE else "array", position)
            self._open.append(byte)
            self._step = self._first_name if byte == _BRACE else self._first_element
            return position + 1
        if byte in _SIGNS:
            return self._number(data, position)
        return self._literal(data, position)

    def _number(self, data: bytes, position: int) -> int:
        end = _end(NUMERIC.match(data, position))
        if end - position > NUMBER_BYTES_MAX:
            return self._fail(self._base + position, "has a number of too many digits")
        if end == len(data):
            return _WAIT
        if ONE_NUMBER.fullmatch(data, position, end) is None:
            return self._expected("a number as JSON writes it", position)
        self._begin("number", position)
        return self._ended(data, end)

    def _literal(self, data: bytes, position: int) -> int:
        literal, kind = _LITERALS.get(data[position : position + 1], (b"", ""))
        written = data[position : position + len(literal)]
        if not literal or not literal.startswith(written):
            return self._expected("a value", position)
        if len(written) < len(literal):
            return _WAIT
        self._begin(kind, position)
        return self._ended(data, position + len(literal))

    def _string(self, data: bytes, position: int) -> int:
        end = _end(TEXT.match(data, position))
        if end > position:
            if not self._is_text(data, position, end):
                return _WAIT
            if self._is_name:
                if self._name is not None and len(self._name) <= NAME_BYTES_MAX:
                    self._name += data[position:end][: NAME_BYTES_MAX + 1]
            elif self._watch is not None and self._watch.measure:
                self._measure(data[position:end])
            if end == len(data):
                return end
        if data[end] == _QUOTE:
            if self._decoder.getstate()[0]:
                return self._bad_utf8(end - len(self._decoder.getstate()[0]))
            if not self._is_name:
                return self._ended(data, end + 1)
            self._is_name = False
            self._step = self._colon
            return end + 1 if self._name is None or self._take_name(end) else _WAIT
        if end > position:
            return end  # What is not plain is looked at by itself, once all of it is there.
        if ESCAPE_BEGUN.fullmatch(data, end) is not None:
            return _WAIT
        return self._bad_text(data, end)

    def _is_text(self, data: bytes, start: int, end: int) -> bool:
        """Whether a part of a string is UTF-8 so far, wherever it was cut; False on a fault."""
        text = data[start:end]
        held = len(self._decoder.getstate()[0])
        if text.isascii() and not held:
            return True
        try:
            self._decoder.decode(text)
        except UnicodeDecodeError as error:
            self._bad_utf8(start - held + error.start)
            return False
        return True

    def _bad_utf8(self, position: int) -> int:
        at = self._base + position
        return self._fail(at, f"is not valid UTF-8 at byte {at}")

    def _bad_text(self, data: bytes, position: int) -> int:
        at = self._base + position
        if data[position] != _BACKSLASH:
            return self._fail(
                at, f"is not valid JSON at byte {at}: a control character in a string"
            )
        if SURROGATE.match(data, position):
            return self._fail(
                at,
                f"has half a surrogate pair at byte {at}: escape the whole character, "
                "or send it as UTF-8",
            )
        return self._fail(at, f"is not valid JSON at byte {at}: an escape that is none")

    def _after(self, data: bytes, position: int) -> int:
        position = _end(WS.match(data, position))
        if position == len(data):
            return position
        byte = data[position]
        is_object = self._open[-1] == _BRACE
        if byte == _COMMA:
            self._step = self._next_name if is_object else self._element
            return position + 1
        if byte == (_BRACE_END if is_object else _BRACKET_END):
            return self._close(data, position)
        return self._expected(f"a comma or {'}' if is_object else ']'}", position)

    def _trailing(self, data: bytes, position: int) -> int:
        position = _end(WS.match(data, position))
        return position if position == len(data) else self._expected("nothing more", position)

    # What happens at the ends of names and values.

    def _take_name(self, position: int) -> bool:
        """Look whether the top-level name that has ended is watched; False on a fault."""
        written, self._name = bytes(self._name or b""), None
        if len(written) > NAME_BYTES_MAX:
            self._watch = None
            return True
        name = written.decode()
        if b"\\" in written:
            name = orjson.loads(b'"' + written + b'"')
        self._watch = self._watched.get(name)
        if self._watch is None:
            return True
        if name in self.members:
            at = self._base + position
            self._fail(at, f"has `{name}` twice: send it once", name)
            return False
        self._member = Member(name, -1, "")
        return True

    def _begin(self, kind: str, position: int) -> None:
        """Note the first byte of a value."""
        watch, member = self._watch, self._member
        if watch is None or member is None:
            return
        depth = len(self._open)
        if depth == 1:
            member.start = self._base + position
            member.kind = kind
            self.members[member.name] = member
            if watch.keep_bytes_max:
                self._kept = bytearray()
        elif watch.measure:
            if kind == "number":
                member.numbers_inside += 1
            if depth == 2 and member.kind == "array":
                _count(member, kind, 1)

    def _ended(self, data: bytes, end: int) -> int:
        """Note the end of a value, just before `end`."""
        self._step = self._after
        if len(self._open) == 1 and self._member is not None:
            self._member.end = self._base + end
            if self._kept is not None:
                kept = self._keep(data, end)
                self._member.value = None if kept is None else bytes(kept)
            self._kept = self._member = self._watch = None
        return end

    def _close(self, data: bytes, position: int) -> int:
        self._open.pop()
        if self._open:
            return self._ended(data, position + 1)
        self._step = self._trailing
        return position + 1

    def _keep(self, data: bytes, end: int) -> bytearray | None:
        """Add what is new of the open value, and return all of it; None if it is too large."""
        if self._kept is None or self._member is None or self._watch is None:
            raise AssertionError("nothing is being kept")
        self._kept += data[max(0, self._member.start - self._base) : end]
        if len(self._kept) > self._watch.keep_bytes_max:
            self._kept = None
        return self._kept

    def _count_run(self, data: bytes, start: int, end: int, *, numbers: bool) -> None:
        """Count a run of elements, each with its comma."""
        if self._watch is None or self._member is None or not self._watch.measure:
            return
        run = data[start:end]
        if numbers:
            count = run.count(b",")
            self._member.numbers_inside += count
        else:
            texts = run.split(b'"')[1::2]
            count = len(texts)
            self._measure(b"".join(texts))
        if len(self._open) == 2:
            _count(self._member, "number" if numbers else "string", count)

    def _measure(self, text: bytes) -> None:
        """Count the characters of a part of a string that cuts no escape."""
        if self._member is None:
            raise AssertionError("nothing is being measured")
        narrow, wide = len(text), 0
        if not text.isascii():
            narrow = len(text.translate(None, _HIGH))
            wide = len(text.translate(None, _NOT_LEADING))
        if b"\\" in text:
            for escaped in ESCAPE.findall(text):
                size = len(escaped)
                narrow -= 1 if size == 1 and escaped != b"u" else 6
                wide += escaped == b"u"  # The second half of a pair adds nothing.
        self._member.narrow += narrow
        self._member.wide += wide


def _end(match: re.Match[bytes] | None) -> int:
    """Return where a pattern that matches everywhere ended."""
    if match is None:
        raise AssertionError("the pattern matches everywhere")
    return match.end()


def _count(member: Member, kind: str, count: int) -> None:
    member.elements += count
    if kind == "string":
        member.strings += count
    elif kind == "number":
        member.numbers += count
    elif kind == "array":
        member.arrays += count
    elif kind == "object":
        member.objects += count
