"""One response's head: its status, its framing, and the few headers that most calls ask for.

Rules: strict where a proxy must be (RFC 9112 section 6): two framings, two lengths, a folded
header, a NUL, a length that is no plain number are each a `FramingError`. Lines seen before are not
read again. This module must not know how bytes come, nor what the body means.
"""

import re
from enum import Enum, auto
from typing import Final, TypeVar

from msgspec import Struct

HEADERS_MAX = 256

Found = TypeVar("Found")

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n\0]*+)?\Z")
_HEADER_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_CR, _LF, _NUL = b"\r\n\0"
_NO_BODY_STATUSES = frozenset({204, 304})
LINES_REMEMBERED_MAX: Final = 4_096
"""Lines of heads, and names, that need no second look: a provider's are mostly the same."""
LINE_REMEMBERED_BYTES_MAX: Final = 256
_LENGTH_NAME: Final = "content-length"
_CODING_NAME: Final = "transfer-encoding"
_CONNECTION_NAME: Final = "connection"
_VERSION_NAME: Final = "openai-version"
_SECONDS_NAME: Final = "openai-processing-ms"
PASSED_ON: Final = (_VERSION_NAME, _SECONDS_NAME)
"""What callers of a conversation get as its upstream said it ("Debugging requests" in OpenAI's API
reference). Not whose account it is nor what is left of its limits: those are the operator's."""
PASSED_ON_CHARS_MAX: Final = 128
NOTED: Final = frozenset({
    _LENGTH_NAME, _CODING_NAME, _CONNECTION_NAME, "content-type", "content-encoding",
    "x-request-id", "request-id", *PASSED_ON,
})  # fmt: skip
"""Headers that most calls ask for; any other is looked for when somebody does."""
_lines: Final[dict[bytes, tuple[str, bytes]]] = {}
"""Name and value of header lines seen before; `_UNNOTED` where nobody waits for them."""
_names: Final[dict[bytes, str]] = {}
"""Names of headers seen before, as they were written; of those nobody waits for empty."""
_statuses: Final[dict[bytes, tuple[int, bool]]] = {}
"""Status, and whether it is HTTP/1.1, of status lines seen before."""
LENGTHS: Final[dict[bytes, int]] = {}
"""Lengths seen before, by how they were written."""
_UNNOTED: Final = ("", b"")
_UNIQUE: Final = frozenset({"x-request-id", "request-id", _SECONDS_NAME})
"""Headers whose lines are never the same again: they would only push out those that are."""
_CONTRADICTED: Final = b"two lengths"


class FramingError(Exception):
    """The upstream broke HTTP/1.1; nothing after the last good byte may be believed.

    `body` is what the same read held before it broke, so that what passes does not depend on
    how the network cut the stream.
    """

    def __init__(self, reason: str, body: bytes = b"") -> None:
        super().__init__(reason)
        self.body = body


class Framing(Enum):
    """What delimits a response body."""

    CHUNKED = auto()
    LENGTH = auto()
    CLOSE = auto()


_CHUNKED: Final = Framing.CHUNKED
_LENGTH: Final = Framing.LENGTH
_CLOSE: Final = Framing.CLOSE


class ResponseHead(Struct, frozen=True, gc=False):
    """A response's status and framing; its headers are looked up when somebody asks.

    `block` is the whole head, checked but otherwise as it was sent: OpenAI's has some 25 lines, of
    which three matter to most calls; those are in `noted`.
    """

    status: int
    block: bytes
    framing: Framing
    length: int
    keep_alive: bool
    noted: dict[str, bytes]
    """Values of the headers in `NOTED`; of one that is repeated what `_again` makes of it."""

    @property
    def request_id(self) -> str | None:
        """Under which id the upstream knows the exchange; None where it does not say, or ""."""
        noted = self.noted
        found = noted.get("x-request-id") or noted.get("request-id")
        return None if found is None else found.decode("latin-1")

    def passed_on(self) -> list[tuple[str, str]]:
        """Return name and value of the headers in `PASSED_ON` that are fit for another head."""
        noted = self.noted
        if _VERSION_NAME not in noted and _SECONDS_NAME not in noted:
            return []
        said = [(name, noted[name].decode("latin-1")) for name in PASSED_ON if name in noted]
        return [
            (name, value)
            for name, value in said
            if value and value.isprintable() and len(value) <= PASSED_ON_CHARS_MAX
        ]

    def header(self, name: str) -> str | None:
        """Return the first value of header `name` (lower case), or None."""
        if name in NOTED:
            found = self.noted.get(name)
            return None if found is None else found.decode("latin-1")
        line = b"\r\n%b:" % name.encode("ascii")
        start = self.block.lower().find(line)
        if start < 0:
            return None
        end = self.block.find(b"\r\n", start + 2)
        value = self.block[start + len(line) : len(self.block) if end < 0 else end]
        return value.strip(b" \t").decode("latin-1")


def parse_head(block: bytes) -> ResponseHead:
    """Read a whole head, without the blank line behind it. Raises FramingError."""
    lines = block.split(b"\r\n")
    if len(lines) > HEADERS_MAX:
        raise FramingError(f"more than {HEADERS_MAX} response headers")
    status, persistent = _statuses.get(lines[0]) or _read_status(lines[0])
    del lines[0]
    noted: dict[str, bytes] = {}
    known = _lines.get
    for line in lines:
        found = known(line) or _read_line(line)
        if found is not _UNNOTED:
            name, value = found
            if name in noted:
                value = _again(name, noted[name], value)
            noted[name] = value
    if status == 200 and noted.get(_CODING_NAME) == b"chunked" and _LENGTH_NAME not in noted:
        framing, length = _CHUNKED, 0  # nearly every stream
    else:
        framing, length = _framing(status, noted)
    if framing is _CHUNKED and not persistent:
        raise FramingError("a transfer coding in HTTP/1.0")
    if _CONNECTION_NAME in noted:
        tokens = [token.strip() for token in noted[_CONNECTION_NAME].lower().split(b",")]
        persistent = b"close" not in tokens and (persistent or b"keep-alive" in tokens)
    return ResponseHead(status, block, framing, length, persistent and framing is not _CLOSE, noted)


def _again(name: str, before: bytes, value: bytes) -> bytes:
    """What a header that comes a second time says: lists go on, of all others the first counts.

    A length may be repeated, not contradicted (RFC 9112 section 6.3).
    """
    if name in {_CONNECTION_NAME, _CODING_NAME}:
        return before + b"," + value
    return before if name != _LENGTH_NAME or value == before else _CONTRADICTED


def _read_status(line: bytes) -> tuple[int, bool]:
    """Read a status line and remember it."""
    match = _STATUS_LINE.match(line)
    if match is None:
        raise FramingError("bad status line")
    found = int(match[2]), match[1] == b"1"
    _remember(_statuses, line, found)
    return found


def _read_line(line: bytes) -> tuple[str, bytes]:
    """Read a header line and remember it."""
    written, colon, value = line.partition(b":")
    name = _names.get(written)
    if name is None:
        name = _read_name(written)
    # Some lines are never the same again, so this is no match: a byte is found for a tenth of it.
    if not colon or _CR in value or _LF in value or _NUL in value:
        raise FramingError("bad response header line")
    found = (name, value.strip(b" \t")) if name else _UNNOTED
    if name not in _UNIQUE:
        _remember(_lines, line, found)
    return found


def _read_name(written: bytes) -> str:
    """Read a header's name and remember it."""
    if _HEADER_NAME.match(written) is None:
        raise FramingError("bad response header line")
    name = written.decode("ascii").lower()
    noted = name if name in NOTED else ""
    _remember(_names, written, noted)
    return noted


def _remember(known: dict[bytes, Found], line: bytes, found: Found) -> None:
    if len(line) > LINE_REMEMBERED_BYTES_MAX:
        return
    if len(known) >= LINES_REMEMBERED_MAX:
        known.clear()
    known[line] = found


def _framing(status: int, noted: dict[str, bytes]) -> tuple[Framing, int]:
    """Decide what delimits the body (RFC 9112 section 6.3), refusing every ambiguity."""
    if status != 200 and (status < 200 or status in _NO_BODY_STATUSES):
        return _LENGTH, 0
    if _CODING_NAME in noted:
        coding = noted[_CODING_NAME]
        if _LENGTH_NAME in noted:
            raise FramingError("both Transfer-Encoding and Content-Length")
        if coding.lower() != b"chunked":
            raise FramingError("unknown transfer coding")
        return _CHUNKED, 0
    if _LENGTH_NAME not in noted:
        return _CLOSE, 0
    return _LENGTH, content_length(noted[_LENGTH_NAME])


def content_length(size: bytes) -> int:
    """Return what a Content-Length says. Raises FramingError for what is no plain number."""
    length = LENGTHS.get(size)
    if length is None:
        if not size.isdigit() or len(size) > 15:
            raise FramingError("bad Content-Length")
        length = int(size)
        _remember(LENGTHS, size, length)
    return length
