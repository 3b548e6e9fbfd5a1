"""An HTTP client that hides nothing: it sends given bytes and keeps every byte it received.

No header is added, no name is normalised, nothing is decoded unless asked. It can leave by FIN
or RST, after any number of bytes. This module must not know the relay.
"""

import contextlib
import json
import re
import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

WAIT_SECONDS_MAX = 20.0


class RawClient:
    """One connection. `received` holds all bytes so far; `ended` is None, `fin` or `rst`."""

    def __init__(
        self,
        port: int,
        *,
        receive_buffer_bytes: int | None = None,
        tls: ssl.SSLContext | None = None,
        seconds_max: float = WAIT_SECONDS_MAX,
    ) -> None:
        self.received = bytearray()
        self.ended: str | None = None
        plain = socket.socket()
        if receive_buffer_bytes is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        plain.settimeout(seconds_max)
        try:
            plain.connect(("127.0.0.1", port))
        except OSError:
            plain.close()
            raise
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")

    def send(self, data: bytes, write_bytes: int | None = None) -> Self:
        """Send all of `data`, if asked in writes of `write_bytes`.

        A peer that has already refused and closed is not an error: what it said is received.
        """
        step = len(data) if write_bytes is None else write_bytes
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for start in range(0, len(data), max(step, 1)):
                self._socket.sendall(data[start : start + step])
        return self

    def read_once(self, size: int = 65_536) -> bytes:
        """One `recv`; b"" at the end, which is then in `ended`. Raises TimeoutError."""
        try:
            data = self._socket.recv(size)
        except ConnectionResetError:
            self.ended = "rst"
            return b""
        if not data:
            self.ended = self.ended or "fin"
        self.received += data
        return data

    def read_until(self, reached: Callable[[bytes], bool] | bytes) -> bytes:
        """Read until the marker is in, or the predicate holds on, everything received, or the end."""
        test = reached if callable(reached) else lambda data: reached in data
        while not test(bytes(self.received)):
            if not self.read_once():
                break
        return bytes(self.received)

    def read_bytes(self, count: int) -> bytes:
        """Read until exactly `count` bytes in all have been taken, or the end."""
        while len(self.received) < count and self.read_once(count - len(self.received)):
            pass
        return bytes(self.received)

    def read_all(self) -> bytes:
        """Read to the end of the connection."""
        while self.read_once():
            pass
        return bytes(self.received)

    def read_response(self, method: str = "POST") -> "RawResponse":
        """Read one whole response by its own framing, or to the end of the connection."""
        while True:
            response = parse_response(bytes(self.received), method=method)
            if response is not None and response.whole:
                return response
            if not self.read_once():
                break
        response = parse_response(bytes(self.received), ended=True, method=method)
        if response is None:
            raise AssertionError(f"no response head in {bytes(self.received)!r} ({self.ended})")
        return response

    def half_close(self) -> None:
        """Send FIN and keep reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        """Close by FIN. Unread bytes turn a close into RST, so they are read off first."""
        self._socket.setblocking(False)
        with contextlib.suppress(OSError):
            while self._socket.recv(1 << 20):
                pass
        self._socket.close()

    def reset(self) -> None:
        """Close by RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()


@dataclass(frozen=True, slots=True)
class RawResponse:
    """One response cut out of received bytes. `rest` are the bytes after it."""

    version: str
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    """Without chunk framing."""
    whole: bool
    """Whether it ended by its own framing (or by the end, if it had none)."""
    rest: bytes

    def header(self, name: str) -> str | None:
        """Return the first value of header `name` in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def error(self) -> Mapping[str, object]:
        """The `error` object of a JSON error body in either dialect."""
        found = json.loads(self.body)["error"]
        if not isinstance(found, dict):
            raise AssertionError(f"no error object in {self.body!r}")
        return found


_STATUS = re.compile(rb"HTTP/(\d\.\d) (\d{3}) ?([^\r\n]*)\Z")


def parse_response(data: bytes, *, ended: bool = False, method: str = "POST") -> RawResponse | None:
    """Cut the first final response out of `data`; None while its head is not whole.

    Interim 1xx responses are skipped. `ended`: the connection is over, nothing more will come.
    """
    while True:
        head, blank, rest = data.partition(b"\r\n\r\n")
        if not blank:
            return None
        lines = head.split(b"\r\n")
        match = _STATUS.match(lines[0])
        if match is None:
            raise AssertionError(f"not a status line: {lines[0]!r}")
        status = int(match[2])
        if status >= 200:
            break
        data = rest
    headers = tuple(
        (name.decode("latin-1"), value.strip().decode("latin-1"))
        for name, _, value in (line.partition(b":") for line in lines[1:])
    )
    lower = {name.lower(): value for name, value in headers}
    whole = True
    if method == "HEAD" or status in {204, 304}:
        body = b""
    elif "chunked" in lower.get("transfer-encoding", "").lower():
        body, rest, whole = dechunk(rest)
    elif "content-length" in lower:
        length = int(lower["content-length"])
        body, rest, whole = rest[:length], rest[length:], len(rest) >= length
    else:
        body, rest, whole = rest, b"", ended
    version, reason = match[1].decode(), match[3].decode("latin-1")
    return RawResponse(version, status, reason, headers, body, whole, rest)


def dechunk(data: bytes) -> tuple[bytes, bytes, bool]:
    """Return the body, what follows it, and whether the last chunk was there."""
    body = bytearray()
    while True:
        line, line_end, after = data.partition(b"\r\n")
        if not line_end:
            return bytes(body), data, False
        size = int(line, 16)
        if size == 0:
            return bytes(body), after.removeprefix(b"\r\n"), after.startswith(b"\r\n")
        body += after[:size]
        if len(after) < size + 2:
            return bytes(body), b"", False
        if after[size : size + 2] != b"\r\n":
            raise AssertionError(f"chunk not closed: {after[: size + 2]!r}")
        data = after[size + 2 :]


def responses(data: bytes) -> Iterator[RawResponse]:
    """Every response in `data`, for pipelined requests."""
    while data:
        response = parse_response(data, ended=True)
        if response is None:
            return
        yield response
        data = response.rest


def request_bytes(
    target: str,
    body: bytes = b"",
    *,
    key: str | None = None,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A well-formed request: Host, length, JSON type, and the key as a bearer token."""
    lines = [f"{method} {target} HTTP/1.1", "Host: relay.test"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    if body or method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
