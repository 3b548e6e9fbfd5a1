"""HTTP/1.1 from a client: one request's head and body out of bytes, strictly.

Rules: what two servers in a row could read as two different requests is refused, never repaired
(RFC 9112 sections 2 to 7; FAULTS.md, edge behaviour): other versions, absolute-form targets, bare
LF, folded lines, control bytes, underscores in names, two lengths or framings, a body on a GET.
Every part has a limit. A head seen before is not parsed again, and one that comes again on its
own connection is not even looked up. This module must not know what is
asked for, nor sockets.
"""

import re
from collections.abc import Iterable
from enum import Enum, auto
from typing import Final
from urllib.parse import parse_qsl, unquote

from proxy.core.errors import ErrorCode, RelayError

HEAD_BYTES_MAX: Final = 32_768
LINE_BYTES_MAX: Final = 8_190
HEADERS_MAX: Final = 128
CHUNK_LINE_BYTES_MAX: Final = 256
TRAILER_BYTES_MAX: Final = 8_190
QUERY_FIELDS_MAX: Final = 64
HEADS_MEMO_MAX: Final = 4_096
"""Heads remembered; SDKs send the same one again and again but for its content-length."""
HEADS_MEMO_BYTES_MAX: Final = 32 << 20
"""About what all remembered heads may take in memory, keys and rows together."""
AGAIN_BYTES_MAX: Final = 16_384
"""About what a head may take that a connection keeps for as long as it lives."""
_ROW_BYTES: Final = 256
"""About what Python takes for one header row besides its text."""

_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])\Z")
# White space around a value is stripped afterwards: optional runs of it on both sides of a lazy
# value backtrack in cubic time, and one header of 8 KB held the loop for minutes.
_HEADER_LINE: Final = re.compile(rb"([!#$%&'*+\-.^`|~0-9A-Za-z]+):([^\x00-\x08\x0a-\x1f\x7f]*)\Z")
_LENGTH_BEGINS: Final = (
    b"\r\nContent-L", b"\r\ncontent-l", b"\r\nContent-l", b"\r\ncontent-L",
)  # fmt: skip
"""As nearly everybody writes it; a head that has it another way is found by all of its bytes."""
_LENGTH_CHARS_MAX: Final = 15
"""Cut out of a head before it is looked up, so never so long that its line could break a limit."""
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\x21-\x7e \t]*)?\Z")
_ONCE: Final = "sec-websocket-key"
"""A header that is another one every time: a head with it never comes again."""
_BODYLESS: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", "TRACE"})
_QUESTION: Final = re.compile("%3f", re.IGNORECASE)


class RequestHead:
    """One request's head; header names lower case, of repeated ones the first by `get`."""

    __slots__ = (
        "after",
        "before",
        "chunked",
        "expects_continue",
        "keep_alive",
        "length",
        "memo",
        "method",
        "minor",
        "path",
        "query_string",
        "rows",
        "values",
    )

    def __init__(
        self,
        method: str,
        target: str,
        minor: int,
        rows: tuple[tuple[str, str], ...],
    ) -> None:
        self.method = method
        path, _, self.query_string = target.partition("?")
        # A question mark inside a name stays encoded: behind a bare one there is a query.
        self.path = unquote(_QUESTION.sub("%253F", path)) if "%" in path else path
        self.minor = minor
        """0 or 1: which HTTP/1.x."""
        self.rows = rows
        self.values = dict(reversed(rows))
        self.memo: object | None = None
        """What whoever reads this head works out of it, to be found again with it."""
        self.chunked = False
        self.length = 0
        """As this head said when it was parsed; another with the same memo may say another."""
        tokens = _tokens(value for name, value in rows if name == "connection")
        self.keep_alive = "close" not in tokens and (minor == 1 or "keep-alive" in tokens)
        self.expects_continue = False
        self.before = self.after = b""
        """What its bytes were before and behind its length; empty where `again` is not to ask."""

    def again(self, data: bytes) -> tuple[int, bytes] | None:
        """The length of the body and what follows the head, if `data` begins with this very head.

        But for the digits of its length. None says nothing: the memo has to be asked.
        """
        rest = data.removeprefix(self.before)
        if len(rest) == len(data):  # also where nothing is known
            return None
        digits, blank, rest = rest.partition(self.after)
        if not blank or not digits.isdigit() or len(digits) > _LENGTH_CHARS_MAX:
            return None
        return int(digits), rest

    def get(self, name: str) -> str | None:
        """Return the first value of header `name` (lower case), or None."""
        return self.values.get(name)

    def items(self) -> tuple[tuple[str, str], ...]:
        """Return every header in order, repeated ones included."""
        return self.rows

    def __contains__(self, name: object) -> bool:
        return name in self.values

    @property
    def query(self) -> dict[str, str]:
        """The query's fields, the last of each name. Raises RelayError when they are too many."""
        if self.query_string.count("&") >= QUERY_FIELDS_MAX:
            raise _malformed(f"its query has more than {QUERY_FIELDS_MAX} fields")
        return dict(parse_qsl(self.query_string, keep_blank_values=True))


class HeadMemo:
    """Parses heads, remembering them without their content-length."""

    __slots__ = ("_bytes", "_heads", "_without_length")

    def __init__(self) -> None:
        self._heads: dict[bytes, RequestHead] = {}
        # By what is left when the length is cut out. Apart from the others, because a head that
        # had a length to cut must never be found for one that had none: that one's length may
        # be spelled so that only the full parse sees it.
        self._without_length: dict[bytes, RequestHead] = {}
        self._bytes = 0

    def parse(self, block: bytes) -> tuple[RequestHead, int]:
        """Return the head of `block` (without its blank line) and the body's length.

        Length -1 means chunked. Raises RelayError INVALID_REQUEST, UNSUPPORTED expectations too.
        """
        known, key, digits, length = self._heads, block, b"", -1
        before, _, after = block.rpartition(b"ength:")  # in no case but this
        if before.endswith(_LENGTH_BEGINS):
            value, line_end, more = after.partition(b"\r\n")
            digits = value.strip(b" \t")
            if digits.isdigit() and len(value) <= _LENGTH_CHARS_MAX:
                length = int(digits)
                # What is left of the line has no colon: a second one like it is refused, so that
                # only heads that differ in their length alone have this key.
                known, key = self._without_length, before + line_end + more
        head = known.get(key)
        if head is None:
            head = parse_head(block)
            if _ONCE not in head.values:
                if known is self._without_length:
                    space, _, more = after.partition(digits)
                    _expect_again(head, before + b"ength:" + space, more + b"\r\n\r\n")
                self._remember(known, key, head)
        if head.chunked:
            return head, -1
        if length < 0:
            length = head.length
        if length and head.method in _BODYLESS:
            raise _malformed(f"a {head.method} must not have a body")
        return head, length

    def _remember(self, known: dict[bytes, RequestHead], key: bytes, head: RequestHead) -> None:
        size = 2 * len(key) + len(head.before) + len(head.after) + _ROW_BYTES * len(head.rows)
        if (
            len(self._heads) + len(self._without_length) >= HEADS_MEMO_MAX
            or self._bytes + size > HEADS_MEMO_BYTES_MAX
        ):
            self._heads.clear()
            self._without_length.clear()
            self._bytes = 0
        known[key] = head
        self._bytes += size


def _expect_again(head: RequestHead, before: bytes, after: bytes) -> None:
    """Let `head.again` know what stands around its length, unless that could hide a refusal."""
    size = len(before) + len(after)
    if head.method not in _BODYLESS and 3 * size + _ROW_BYTES * len(head.rows) <= AGAIN_BYTES_MAX:
        head.before, head.after = before, after


def parse_head(block: bytes) -> RequestHead:
    """Parse a whole head. Raises RelayError INVALID_REQUEST with what is wrong."""
    lines = block.split(b"\r\n")
    if len(lines) - 1 > HEADERS_MAX:
        raise _malformed(f"it has more than {HEADERS_MAX} headers")
    if len(max(lines, key=len)) > LINE_BYTES_MAX:
        raise _malformed(f"a line is longer than {LINE_BYTES_MAX} bytes")
    first = _REQUEST_LINE.match(lines[0])
    if first is None:
        raise _malformed("its first line is not `METHOD /path HTTP/1.1`")
    if first[3] != b"1" or first[4] not in {b"0", b"1"}:
        raise _malformed("only HTTP/1.0 and HTTP/1.1 are spoken here")
    method, target = first[1].decode("ascii"), first[2].decode("ascii")
    if not target.startswith("/") and not (target == "*" and method == "OPTIONS"):
        raise _malformed("its target must be a path, such as /v1/messages")
    rows: list[tuple[str, str]] = []
    for line in lines[1:]:
        match = _HEADER_LINE.match(line)
        if match is None:
            if b"_" in line.partition(b":")[0]:
                raise _malformed("a header name contains an underscore; use hyphens")
            raise _malformed("it has a malformed header line")
        rows.append((match[1].decode("ascii").lower(), match[2].strip(b" \t").decode("latin-1")))
    head = RequestHead(method, target, int(first[4]), tuple(rows))
    _check_hosts(head)
    _check_framing(head)
    return head


def _check_hosts(head: RequestHead) -> None:
    hosts = [value for name, value in head.rows if name == "host"]
    if len(hosts) > 1 or (head.minor == 1 and not hosts):
        raise _malformed("it needs exactly one Host header")


def _check_framing(head: RequestHead) -> None:
    lengths = [value for name, value in head.rows if name == "content-length"]
    codings = [value for name, value in head.rows if name == "transfer-encoding"]
    if len(lengths) > 1 or any(
        not (value.isascii() and value.isdigit() and len(value) <= 15) for value in lengths
    ):
        raise _malformed("its Content-Length is not one plain number")
    head.length = int(lengths[0]) if lengths else 0
    if codings:
        if lengths:
            raise _malformed("it has both Transfer-Encoding and Content-Length")
        if head.minor == 0 or len(codings) > 1 or codings[0].lower() != "chunked":
            raise _malformed("its Transfer-Encoding is not `chunked`")
        if head.method in _BODYLESS:
            raise _malformed(f"a {head.method} must not have a body")
        head.chunked = True
    expectation = head.get("expect")
    if expectation is not None:
        if expectation.lower() != "100-continue":
            raise RelayError(
                ErrorCode.INVALID_REQUEST,
                "The HTTP request expects something other than 100-continue.",
                status=417,
            )
        head.expects_continue = head.minor == 1


class _State(Enum):
    LINE = auto()
    DATA = auto()
    END = auto()
    TRAILER = auto()
    COMPLETE = auto()


class ChunkedBody:
    """De-chunks one request body; `receive` returns what is left over once `complete`."""

    __slots__ = ("_buffer", "_remaining", "_state", "_trailer_bytes", "pieces")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        """Body bytes not yet taken; the owner bounds and clears them."""
        self._state = _State.LINE
        self._buffer = b""
        self._remaining = 0
        self._trailer_bytes = 0

    @property
    def complete(self) -> bool:
        """Whether the last chunk and its trailers have come."""
        return self._state is _State.COMPLETE

    def receive(self, data: bytes) -> bytes:
        """Take bytes; return those after the body's end. Raises RelayError INVALID_REQUEST."""
        data = self._buffer + data
        self._buffer = b""
        position, size = 0, len(data)
        while position < size and self._state is not _State.COMPLETE:
            if self._state is _State.DATA:
                piece = data[position : position + self._remaining]
                self.pieces.append(piece)
                position += len(piece)
                self._remaining -= len(piece)
                if not self._remaining:
                    self._state = _State.END
                continue
            limit = 2 if self._state is _State.END else CHUNK_LINE_BYTES_MAX
            if self._state is _State.TRAILER:
                limit = TRAILER_BYTES_MAX
            end = data.find(b"\r\n", position, position + limit)
            if end < 0:
                if size - position >= limit:
                    raise _malformed("a chunk is longer than its size, or a line too long")
                break
            self._line(data[position:end])
            position = end + 2
        if self._state is _State.COMPLETE:
            return data[position:]
        self._buffer = data[position:]
        return b""

    def _line(self, line: bytes) -> None:
        if self._state is _State.END:
            self._state = _State.LINE
        elif self._state is _State.TRAILER:
            self._trailer_bytes += len(line) + 2
            if self._trailer_bytes > TRAILER_BYTES_MAX:
                raise _malformed("its trailers are too long")
            if not line:
                self._state = _State.COMPLETE
            elif _HEADER_LINE.match(line) is None:
                raise _malformed("it has a malformed trailer")
        else:
            match = _CHUNK_LINE.match(line)
            if match is None:
                raise _malformed("a chunk size is not a hexadecimal number")
            self._remaining = int(match[1], 16)
            self._state = _State.DATA if self._remaining else _State.TRAILER


def _tokens(values: Iterable[str]) -> set[str]:
    return {token.strip().lower() for value in values for token in value.split(",")}


def _malformed(what: str) -> RelayError:
    return RelayError(ErrorCode.INVALID_REQUEST, f"The HTTP request is malformed: {what}.")
