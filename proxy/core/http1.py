"""HTTP/1.1 towards an upstream: request bytes out, one response's bytes in, body de-chunked.

Rules: strict where a proxy must be (RFC 9112 sections 6 and 7): what breaks the framing of a head
(`core/response_head.py`) or of a chunk, a size that is not plain hexadecimal, ends the exchange
with `FramingError`, and the connection is never reused after one. Chunk extensions and trailers are
read and dropped. Every buffer has a limit. This module must not know what the body means.
"""

import re
from enum import Enum, auto
from typing import Final

from proxy.core.head_patterns import known_head, learn_head
from proxy.core.response_head import Framing, FramingError, ResponseHead, parse_head

HEAD_BYTES_MAX = 65_536
CHUNK_LINE_BYTES_MAX = 1_024
TRAILER_BYTES_MAX = 16_384
INTERIM_RESPONSES_MAX = 8

_VERSION = b"HTTP/1."
SIZE_MAX: Final = 8_192
SIZES: Final = {b"%x" % size: size for size in range(SIZE_MAX + 1)}
"""Size by its chunk-size line, as nearly every server writes it: no padding, no extension."""
SIZE_LINE_BYTES_MAX: Final = len(b"%x\r\n" % SIZE_MAX)
LAST_CHUNK: Final = b"0\r\n\r\n"
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\Z")
_CHUNKED: Final = Framing.CHUNKED
_LENGTH: Final = Framing.LENGTH


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


REQUEST_LENGTH: Final = b"content-length: %d\r\n\r\n"
"""The end of a request head: the length of its body and the blank line."""


def request_length(body_bytes: int) -> bytes:
    """Return `REQUEST_LENGTH` of so many bytes."""
    return REQUEST_LENGTH % body_bytes


def whole_response(data: bytes) -> tuple[ResponseHead, bytes] | None:
    """Return the head and the body of a 200 that is all in `data`, with its length.

    None if it is anything else, breaks HTTP/1.1 or has a content coding: let a parser read it.
    """
    try:
        known = known_head(data)
        if known is None:
            block, blank, body = data.partition(b"\r\n\r\n")
            if not blank or len(block) > HEAD_BYTES_MAX - len(blank):
                return None
            head = parse_head(block)
            learn_head(head)
            known = head, body
    except FramingError:
        return None
    head, body = known
    if (
        head.length != len(body)
        or head.framing is not _LENGTH
        or head.status != 200
        or "content-encoding" in head.noted
    ):
        return None
    return known


class _State(Enum):
    HEAD = auto()
    LENGTH = auto()
    CLOSE = auto()
    CHUNK_LINE = auto()
    CHUNK_DATA = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    COMPLETE = auto()


# A member of an enum costs ten times a constant, and a response asks a score of times.
_IN_HEAD: Final = _State.HEAD
_IN_LENGTH: Final = _State.LENGTH
_IN_CLOSE: Final = _State.CLOSE
_IN_CHUNK_LINE: Final = _State.CHUNK_LINE
_IN_CHUNK_DATA: Final = _State.CHUNK_DATA
_IN_CHUNK_END: Final = _State.CHUNK_END
_IN_TRAILER: Final = _State.TRAILER
_COMPLETE: Final = _State.COMPLETE


class ResponseParser:
    """Parses one response; `receive` returns body bytes, `head` appears when it is whole.

    After `complete`, `excess` tells whether the upstream sent bytes nobody asked for: such a
    connection must be closed (a poisoned next response, FAULTS.md F6).
    """

    __slots__ = ("_buffer", "_interim", "_remaining", "_state", "_trailer_bytes", "excess", "head")

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.excess = False
        self._state = _IN_HEAD
        self._buffer = b""
        self._remaining = 0
        self._interim = 0
        self._trailer_bytes = 0

    @property
    def complete(self) -> bool:
        """Whether the response has ended by its own framing."""
        return self._state is _COMPLETE

    @property
    def between_chunks(self) -> bool:
        """Whether the next byte starts a chunk: where a whole chunk may pass unopened."""
        return self._state is _IN_CHUNK_LINE and not self._buffer

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request now."""
        return (
            self._state is _COMPLETE
            and not self.excess
            and self.head is not None
            and self.head.keep_alive
        )

    def outlook(self) -> bool | None:
        """`reusable`: now (True), never (False), or once the response is complete (None)."""
        head = self.head
        if self.excess or head is None or not head.keep_alive:
            return False
        return True if self._state is _COMPLETE else None

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
        if self._state is _IN_HEAD:
            data = self.receive_head(data)
        elif self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if self._state is _IN_CLOSE:
            return data
        if self._state is _IN_LENGTH:
            return self._receive_length(data)
        if self._state is _IN_HEAD:
            return b""
        if data == LAST_CHUNK and self._state is _IN_CHUNK_LINE:
            self._state = _COMPLETE
            return b""
        return self._receive_chunks(data)

    def receive_eof(self) -> bool:
        """Take the end of the stream; return whether the response was complete."""
        if self._state is _IN_CLOSE:
            self._state = _COMPLETE
        return self._state is _COMPLETE

    def receive_head(self, data: bytes) -> bytes:
        """Take the first bytes off the wire; return what is behind the head once that is whole.

        For `receive`, which may be given b"". Raises FramingError as that does.
        """
        cut = bool(self._buffer)
        if cut:
            data = self._buffer + data
            self._buffer = b""
        while True:
            # Once: who sends a head by the byte must not have all of them compared each time.
            known = None if cut else known_head(data)
            if known is not None:
                head, data = known
                break
            block, blank, rest = data.partition(b"\r\n\r\n")
            if not blank or len(block) > HEAD_BYTES_MAX - len(blank):
                if len(data) >= HEAD_BYTES_MAX:
                    raise FramingError(f"response head over {HEAD_BYTES_MAX} bytes")
                if data[: len(_VERSION)] != _VERSION[: len(data)]:
                    raise FramingError("not an HTTP/1 response")
                self._buffer = data
                return b""
            head = parse_head(block)
            data = rest
            if head.status >= 200:
                learn_head(head)
                break
            self._interim += 1
            if head.status == 101 or self._interim > INTERIM_RESPONSES_MAX:
                raise FramingError(f"unexpected interim response {head.status}")
        self.head = head
        self._remaining = head.length
        framing = head.framing
        if framing is _LENGTH:
            self._state = _IN_LENGTH
        else:
            self._state = _IN_CHUNK_LINE if framing is _CHUNKED else _IN_CLOSE
        return data

    def _receive_length(self, data: bytes) -> bytes:
        if len(data) > self._remaining:
            self.excess = True
            data = data[: self._remaining]
        self._remaining -= len(data)
        if self._remaining == 0:
            self._state = _COMPLETE
        return data

    def _receive_chunks(self, data: bytes) -> bytes:
        """Strip chunk framing: a flat loop, since a read may hold sixteen small chunks."""
        pieces: list[bytes] = []
        position, size = 0, len(data)
        while position < size:
            state = self._state
            if state is _IN_CHUNK_DATA:
                end = position + self._remaining
                piece = data[position:end]
                pieces.append(piece)
                position += len(piece)
                self._remaining -= len(piece)
                if self._remaining == 0:
                    self._state = _IN_CHUNK_END
            elif state is _IN_CHUNK_END:
                if size - position < 2:
                    break
                if data[position : position + 2] != b"\r\n":
                    raise FramingError("chunk longer than its size", b"".join(pieces))
                position += 2
                self._state = _IN_CHUNK_LINE
            elif state is _COMPLETE:
                self.excess = True
                return b"".join(pieces)
            else:
                end = data.find(b"\r\n", position, position + CHUNK_LINE_BYTES_MAX)
                if end < 0:
                    if size - position >= CHUNK_LINE_BYTES_MAX:
                        raise FramingError("chunk line too long", b"".join(pieces))
                    break
                line = data[position:end]
                start = end + 2
                stop = start + SIZES.get(line, size)
                if state is _IN_CHUNK_LINE and data[stop : stop + 2] == b"\r\n":
                    # Nearly every chunk: its size as we would write it, and all of it there.
                    position = stop + 2
                    if stop == start:
                        self._state = _COMPLETE
                    else:
                        pieces.append(data[start:stop])
                    continue
                fault = self._line(line)
                if fault is not None:
                    raise FramingError(fault, b"".join(pieces))
                position = start
        self._buffer = data[position:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _line(self, line: bytes) -> str | None:
        """Take a chunk-size line or a trailer line; return what is wrong with it, if anything."""
        if self._state is _IN_TRAILER:
            self._trailer_bytes += len(line) + 2
            if self._trailer_bytes > TRAILER_BYTES_MAX:
                return "trailers too long"
            if not line:
                self._state = _COMPLETE
            return None
        match = _CHUNK_SIZE.match(line)
        if match is None:
            return "bad chunk size"
        self._remaining = int(match[1], 16)
        self._state = _IN_CHUNK_DATA if self._remaining else _IN_TRAILER
        return None
