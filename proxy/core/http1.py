"""HTTP/1.1 towards an upstream: request bytes out, one response's bytes in, body de-chunked.

Rules: strict where a proxy must be (RFC 9112 sections 6 and 7): two framings, two lengths, a
folded header, a NUL, a chunk size that is not plain hexadecimal, all end the exchange with
`FramingError`, and the connection is never reused after one. Chunk extensions and trailers are
read and dropped. Every buffer has a limit. This module must not know what the body means.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

HEAD_BYTES_MAX = 65_536
CHUNK_LINE_BYTES_MAX = 1_024
TRAILER_BYTES_MAX = 16_384
INTERIM_RESPONSES_MAX = 8
HEADERS_MAX = 256

_VERSION = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n\0]*)?(?=\r\n|\Z)")
# All lines at once, with possessive runs: a hostile head must not make the match backtrack.
_HEADER_LINES = re.compile(rb"(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[^\r\n\0]*+)*+\Z")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\Z")
_NO_BODY_STATUSES = frozenset({204, 304})


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


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response's status and headers (names lower case, in order, values latin-1)."""

    status: int
    headers: tuple[tuple[str, str], ...]
    framing: Framing
    length: int
    keep_alive: bool

    def header(self, name: str) -> str | None:
        """Return the first value of header `name` (lower case), or None."""
        for known, value in self.headers:
            if known == name:
                return value
        return None


def request_head(
    method: str, target: str, host: str, headers: tuple[tuple[str, str], ...], body_bytes: int
) -> bytes:
    """Return the bytes of a request head; `headers` were allow-listed by the caller."""
    return request_prefix(method, target, host, headers) + request_length(body_bytes)


def request_prefix(
    method: str, target: str, host: str, headers: tuple[tuple[str, str], ...]
) -> bytes:
    """Return what heads of like requests share: all but the end that `request_length` gives.

    Raises AssertionError on a control byte: a header that reached here unchecked is our bug.
    """
    lines = [f"{method} {target} HTTP/1.1", f"host: {host}"]
    lines.extend([f"{name}: {value}" for name, value in headers])
    for line in lines:
        if "\r" in line or "\n" in line or "\0" in line:
            raise AssertionError("control byte in an upstream request head")
    return ("\r\n".join(lines) + "\r\n").encode("latin-1", "replace")


def request_length(body_bytes: int) -> bytes:
    """Return the end of a request head: the length of its body and the blank line."""
    return b"content-length: %d\r\n\r\n" % body_bytes


class _State(Enum):
    HEAD = auto()
    LENGTH = auto()
    CLOSE = auto()
    CHUNK_LINE = auto()
    CHUNK_DATA = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    COMPLETE = auto()


class ResponseParser:
    """Parses one response; `receive` returns body bytes, `head` appears when it is whole.

    After `complete`, `excess` tells whether the upstream sent bytes nobody asked for: such a
    connection must be closed (a poisoned next response, FAULTS.md F6).
    """

    __slots__ = ("_buffer", "_interim", "_remaining", "_state", "_trailer_bytes", "excess", "head")

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.excess = False
        self._state = _State.HEAD
        self._buffer = b""
        self._remaining = 0
        self._interim = 0
        self._trailer_bytes = 0

    @property
    def complete(self) -> bool:
        """Whether the response has ended by its own framing."""
        return self._state is _State.COMPLETE

    @property
    def between_chunks(self) -> bool:
        """Whether the next byte starts a chunk: where a whole chunk may pass unopened."""
        return self._state is _State.CHUNK_LINE and not self._buffer

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request now."""
        return (
            self._state is _State.COMPLETE
            and not self.excess
            and self.head is not None
            and self.head.keep_alive
        )

    @property
    def outlook(self) -> bool | None:
        """`reusable`: now (True), never (False), or once the response is complete (None)."""
        if self.reusable:
            return True
        possible = self.head is not None and self.head.keep_alive and not self.excess
        return None if possible and not self.complete else False

    def receive_rest(self, data: bytes) -> None:
        """Take what follows the end of the content; a breach makes the connection useless."""
        if self.complete:
            self.excess = True
            return
        try:
            self.receive(data)
        except FramingError:
            self.excess = True

    def receive(self, data: bytes) -> bytes:
        """Take bytes off the wire and return what of the body they hold.

        Raises FramingError; the parser is useless afterwards.
        """
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if self._state is _State.HEAD:
            data = self._receive_head(data)
        if self._state is _State.CLOSE:
            return data
        if self._state is _State.LENGTH:
            return self._receive_length(data)
        if self._state is _State.HEAD:
            return b""
        return self._receive_chunks(data)

    def receive_eof(self) -> bool:
        """Take the end of the stream; return whether the response was complete."""
        if self._state is _State.CLOSE:
            self._state = _State.COMPLETE
        return self._state is _State.COMPLETE

    def _receive_head(self, data: bytes) -> bytes:
        while True:
            end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
            if end < 0:
                if len(data) >= HEAD_BYTES_MAX:
                    raise FramingError(f"response head over {HEAD_BYTES_MAX} bytes")
                if data[: len(_VERSION)] != _VERSION[: len(data)]:
                    raise FramingError("not an HTTP/1 response")
                self._buffer = data
                return b""
            head = _parse_head(data[:end])
            data = data[end + 4 :]
            if head.status >= 200:
                break
            self._interim += 1
            if head.status == 101 or self._interim > INTERIM_RESPONSES_MAX:
                raise FramingError(f"unexpected interim response {head.status}")
        self.head = head
        self._remaining = head.length
        self._state = {
            Framing.CHUNKED: _State.CHUNK_LINE,
            Framing.LENGTH: _State.LENGTH,
            Framing.CLOSE: _State.CLOSE,
        }[head.framing]
        return data

    def _receive_length(self, data: bytes) -> bytes:
        if len(data) > self._remaining:
            self.excess = True
            data = data[: self._remaining]
        self._remaining -= len(data)
        if self._remaining == 0:
            self._state = _State.COMPLETE
        return data

    def _receive_chunks(self, data: bytes) -> bytes:
        """Strip chunk framing: a flat loop, since a read may hold sixteen small chunks."""
        pieces: list[bytes] = []
        position, size = 0, len(data)
        while position < size:
            state = self._state
            if state is _State.CHUNK_DATA:
                end = position + self._remaining
                piece = data[position:end]
                pieces.append(piece)
                position += len(piece)
                self._remaining -= len(piece)
                if self._remaining == 0:
                    self._state = _State.CHUNK_END
            elif state is _State.CHUNK_END:
                if size - position < 2:
                    break
                if data[position : position + 2] != b"\r\n":
                    raise FramingError("chunk longer than its size", b"".join(pieces))
                position += 2
                self._state = _State.CHUNK_LINE
            elif state is _State.COMPLETE:
                self.excess = True
                return b"".join(pieces)
            else:
                end = data.find(b"\r\n", position, position + CHUNK_LINE_BYTES_MAX)
                if end < 0:
                    if size - position >= CHUNK_LINE_BYTES_MAX:
                        raise FramingError("chunk line too long", b"".join(pieces))
                    break
                fault = self._line(data[position:end])
                if fault is not None:
                    raise FramingError(fault, b"".join(pieces))
                position = end + 2
        self._buffer = data[position:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _line(self, line: bytes) -> str | None:
        """Take a chunk-size line or a trailer line; return what is wrong with it, if anything."""
        if self._state is _State.TRAILER:
            self._trailer_bytes += len(line) + 2
            if self._trailer_bytes > TRAILER_BYTES_MAX:
                return "trailers too long"
            if not line:
                self._state = _State.COMPLETE
            return None
        match = _CHUNK_SIZE.match(line)
        if match is None:
            return "bad chunk size"
        self._remaining = int(match[1], 16)
        self._state = _State.CHUNK_DATA if self._remaining else _State.TRAILER
        return None


def _parse_head(block: bytes) -> ResponseHead:
    status_line = _STATUS_LINE.match(block)
    if status_line is None:
        raise FramingError("bad status line")
    if _HEADER_LINES.match(block, status_line.end()) is None:
        raise FramingError("bad response header line")
    lines = (
        block[status_line.end() + 2 :].decode("latin-1").split("\r\n")
        if (len(block) > status_line.end())
        else []
    )
    if len(lines) >= HEADERS_MAX:
        raise FramingError(f"more than {HEADERS_MAX} response headers")
    headers: list[tuple[str, str]] = []
    connection = ""
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        headers.append((name, value))
        if name == "connection":
            connection += "," + value.lower()
    status = int(status_line[2])
    framing, length = _framing(status, headers)
    if framing is Framing.CHUNKED and status_line[1] == b"0":
        raise FramingError("a transfer coding in HTTP/1.0")
    tokens = [token.strip() for token in connection.split(",")] if connection else ()
    persistent = "close" not in tokens and (status_line[1] == b"1" or "keep-alive" in tokens)
    return ResponseHead(
        status, tuple(headers), framing, length, persistent and framing is not Framing.CLOSE
    )


def _framing(status: int, headers: list[tuple[str, str]]) -> tuple[Framing, int]:
    """Decide what delimits the body (RFC 9112 section 6.3), refusing every ambiguity."""
    codings = [value for name, value in headers if name == "transfer-encoding"]
    lengths = {value for name, value in headers if name == "content-length"}
    if status < 200 or status in _NO_BODY_STATUSES:
        return Framing.LENGTH, 0
    if codings:
        if lengths:
            raise FramingError("both Transfer-Encoding and Content-Length")
        if len(codings) != 1 or codings[0].lower() != "chunked":
            raise FramingError("unknown transfer coding")
        return Framing.CHUNKED, 0
    if not lengths:
        return Framing.CLOSE, 0
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit()) or len(length) > 15:
        raise FramingError("bad Content-Length")
    return Framing.LENGTH, int(length)
