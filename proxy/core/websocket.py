"""WebSocket: the handshake of both ends, and frames found in what passes by.

Rules: frames are passed on as they were written, so nothing is negotiated that would change them
(no extension), and a frame that another end could read differently is a fault with its close code.
Only what somebody has to look at is held: control frames, and whole text messages up to a bound.
This module must not know what messages say.

Source: RFC 6455 sections 4.1 and 4.2 (handshake), 5.2 to 5.5 (frames), 7.4.1 (close codes).
"""

import base64
import hashlib
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
NO_CODE: Final = 1005
"""Stands for a close frame without a code; never sent."""
POLICY: Final = 1008
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
RESTART: Final = 1012
TRY_LATER: Final = 1013

CONTROL_BYTES_MAX: Final = 125
REASON_BYTES_MAX: Final = 123
VERSION: Final = "13"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16
_CONTROLS: Final = frozenset({CLOSE, PING, PONG})
_DATA: Final = frozenset({CONTINUATION, TEXT, BINARY})


class Passing(Struct, frozen=True):
    """Bytes of data frames that nobody has to look at; up to where in a frame or message."""

    raw: bytes
    in_frame: bool = False
    in_message: bool = False


class Message(Struct, frozen=True):
    """One whole text message: its payload, and its frames as they came."""

    raw: bytes
    payload: bytes


class Control(Struct, frozen=True):
    """One control frame."""

    raw: bytes
    opcode: int
    payload: bytes


Seen = Passing | Message | Control


class FrameFault(Struct, frozen=True):
    """Why a stream of frames cannot be believed, with the code to close it with."""

    code: int
    reason: str


class _Head(Struct, frozen=True):
    fin: bool
    opcode: int
    mask: bytes
    size: int
    """Of the head itself."""
    length: int
    """Of the payload."""


class FrameScanner:
    """Finds the frames of one direction; see the module docstring.

    `masked`: whether frames must be (a client's) or must not be (a server's). `held_bytes_max`:
    the largest text message to hold until it is whole, of a server; 0: none is looked at.
    """

    __slots__ = (
        "_fin", "_held", "_held_bytes_max", "_in_message", "_masked", "_message_bytes_max",
        "_passing", "_payload", "_remaining", "_rest", "_size", "fault",
    )  # fmt: skip

    def __init__(self, *, masked: bool, message_bytes_max: int, held_bytes_max: int = 0) -> None:
        if masked and held_bytes_max:
            raise AssertionError("masked messages are not looked at")
        self.fault: FrameFault | None = None
        self._masked = masked
        self._message_bytes_max = message_bytes_max
        self._held_bytes_max = held_bytes_max
        self._rest = b""
        self._remaining = 0
        """Payload bytes of the data frame at hand that are still to come."""
        self._fin = True
        self._in_message = False
        self._size = 0
        """Bytes of the message at hand, as announced so far."""
        self._held: list[bytes] | None = None
        """What came of a text message that is held until it is whole."""
        self._payload: list[bytes] = []
        self._passing: list[bytes] = []
        """What came of messages that are not held, since the last that is."""

    @property
    def in_frame(self) -> bool:
        """Whether a frame was passed on in part: none of another may come now."""
        return self._remaining > 0 and self._held is None

    @property
    def in_message(self) -> bool:
        """Whether a message was passed on in part: none of another may begin now."""
        return self._in_message and self._held is None

    def feed(self, data: bytes) -> list[Seen]:
        """Take bytes off the wire; return what they complete, in order. Nothing after a fault."""
        seen: list[Seen] = []
        if self.fault is not None:
            return seen
        data = self._rest + data if self._rest else data
        position, end = 0, len(data)
        while position < end:
            if self._remaining:
                piece = data[position : position + self._remaining]
                position += len(piece)
                self._remaining -= len(piece)
                self._take(piece, seen, is_payload=True)
                continue
            head = self._read_head(data, position)
            if head is None:
                break
            if head.opcode in _CONTROLS:
                whole = position + head.size + head.length
                if whole > end:
                    break
                self._flush(seen)
                raw = data[position:whole]
                seen.append(Control(raw, head.opcode, _unmasked(raw[head.size :], head.mask)))
                position = whole
                continue
            self._begin(head)
            piece = data[position : position + head.size]
            position += head.size
            self._take(piece, seen, is_payload=False)
        self._flush(seen)
        self._rest = data[position:]
        return seen

    def _read_head(self, data: bytes, position: int) -> _Head | None:
        """Read a frame's head; None when it is not all there, or wrong."""
        here = len(data) - position
        if here < 2:
            return None
        first, second = data[position], data[position + 1]
        opcode, length, size = first & 0x0F, second & 0x7F, 2
        problem = self._problem(first, second)
        if problem:
            self.fault = FrameFault(PROTOCOL_ERROR, problem)
            return None
        if length >= 126:
            size = 4 if length == 126 else 10
            if here < size:
                return None
            least = 126 if length == 126 else 1 << 16
            length = int.from_bytes(data[position + 2 : position + size], "big")
            if length < least:
                self.fault = FrameFault(PROTOCOL_ERROR, "a length written longer than need be")
                return None
        before = self._size if self._in_message and opcode == CONTINUATION else 0
        if opcode in _DATA and before + length > self._message_bytes_max:
            reason = f"a message larger than {self._message_bytes_max} bytes"
            self.fault = FrameFault(TOO_BIG, reason)
            return None
        if not self._masked:
            return _Head(bool(first & 0x80), opcode, b"", size, length)
        if here < size + 4:
            return None
        mask = data[position + size : position + size + 4]
        return _Head(bool(first & 0x80), opcode, mask, size + 4, length)

    def _problem(self, first: int, second: int) -> str:
        """Say what is wrong with the first two bytes of a frame; nothing if they are right."""
        opcode = first & 0x0F
        if first & 0x70:
            return "a reserved bit without an extension"
        if bool(second & 0x80) is not self._masked:
            return "a frame that is not masked" if self._masked else "a frame that is masked"
        if opcode in _CONTROLS:
            whole = first & 0x80 and second & 0x7F <= CONTROL_BYTES_MAX
            return "" if whole else "a control frame that is cut or too long"
        if opcode not in _DATA:
            return "an unknown kind of frame"
        if (opcode == CONTINUATION) is not self._in_message:
            return "a message inside another" if self._in_message else "a continuation of nothing"
        return ""

    def _begin(self, head: _Head) -> None:
        """Begin a data frame; decide whether its message is still held."""
        if not self._in_message:
            self._in_message, self._size = True, 0
            self._held = [] if head.opcode == TEXT and self._held_bytes_max else None
        self._fin = head.fin
        self._remaining = head.length
        self._size += head.length
        if self._held is not None and self._size > self._held_bytes_max:
            self._passing += self._held
            self._held = None
            self._payload.clear()

    def _take(self, piece: bytes, seen: list[Seen], *, is_payload: bool) -> None:
        """Take a part of a data frame, and its end."""
        if self._held is None:
            self._passing.append(piece)
        else:
            self._held.append(piece)
            if is_payload:
                self._payload.append(piece)
        if self._remaining or not self._fin:
            return
        self._in_message = False
        if self._held is not None:
            self._flush(seen)
            seen.append(Message(b"".join(self._held), b"".join(self._payload)))
            self._held = None
            self._payload.clear()

    def _flush(self, seen: list[Seen]) -> None:
        if self._passing:
            raw = b"".join(self._passing)
            seen.append(Passing(raw, self.in_frame, self.in_message))
            self._passing.clear()


def frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """Return one whole frame; `mask`: 4 bytes nobody could foresee, for a client's."""
    masked = 0x80 if mask else 0
    length = len(payload)
    if length < 126:
        head = bytes([0x80 | opcode, masked | length])
    elif length < 1 << 16:
        head = bytes([0x80 | opcode, masked | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, masked | 127]) + length.to_bytes(8, "big")
    return head + mask + _unmasked(payload, mask)


def close_payload(code: int, reason: str) -> bytes:
    """Return the payload of a close frame; a reason too long is cut between characters."""
    return (
        code.to_bytes(2, "big")
        + reason.encode()[:REASON_BYTES_MAX].decode("utf-8", "ignore").encode()
    )


def close_code(payload: bytes) -> int:
    """Return the code of a close frame; `NO_CODE` without one."""
    return int.from_bytes(payload[:2], "big") if len(payload) >= 2 else NO_CODE


def accept_value(key: str) -> str:
    """Return what a server answers to a client's `sec-websocket-key`."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()  # noqa: S324 - the protocol's own


def upgrade_key(method: str, headers: Mapping[str, str]) -> str | None:
    """Return the key of a request that opens a WebSocket; None if it is none.

    `headers`: by lower-case name.
    """
    connection = [word.strip().lower() for word in headers.get("connection", "").split(",")]
    key = headers.get("sec-websocket-key", "")
    if (
        method != "GET"
        or "upgrade" not in connection
        or headers.get("upgrade", "").strip().lower() != "websocket"
        or headers.get("sec-websocket-version") != VERSION
        or not _is_key(key)
    ):
        return None
    return key


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except ValueError:
        return False


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    """Mask or unmask, which is the same; without a mask, nothing."""
    if not mask or not payload:
        return payload
    length = len(payload)
    pad = (mask * (length // 4 + 1))[:length]
    number = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return number.to_bytes(length, "big")
