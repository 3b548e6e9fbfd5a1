"""The verbs a scripted upstream plays, and the bytes scripts are made of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class Verb:
    """One step of a script."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Send(Verb):
    """Write `data`, all at once or in writes of `write_bytes` with the loop turned between them."""

    data: bytes
    write_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Drip(Verb):
    """Write `data` in pieces of `write_bytes`, `seconds` apart: the one verb that takes time."""

    data: bytes
    seconds: float
    write_bytes: int = 1


@dataclass(frozen=True, slots=True)
class Flood(Verb):
    """Write `data` `times` times, as fast as the client takes it; memory stays flat."""

    data: bytes
    times: int


@dataclass(frozen=True, slots=True)
class Pause(Verb):
    """Go on only when the test calls `release(gate)`."""

    gate: str


@dataclass(frozen=True, slots=True)
class AtOnce(Verb):
    """As the first verb: play on connect, without waiting for a request."""


@dataclass(frozen=True, slots=True)
class ReceiveRequest(Verb):
    """Wait for one more whole request before going on."""


@dataclass(frozen=True, slots=True)
class AwaitGone(Verb):
    """Say nothing more until the client has left."""


@dataclass(frozen=True, slots=True)
class HalfClose(Verb):
    """Send FIN, keep reading."""


@dataclass(frozen=True, slots=True)
class Close(Verb):
    """Send what is buffered, then FIN, and read no more."""


@dataclass(frozen=True, slots=True)
class Reset(Verb):
    """Send RST. Bytes the client has not read yet may be lost to it: pause first if they matter."""


Script = Sequence[Verb]


LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Frame `data` as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def response_head(
    status: int = 200, headers: Iterable[tuple[str, str]] = (), reason: str = "Scripted"
) -> bytes:
    """A response head with exactly these headers."""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def stream_head(*more: tuple[str, str]) -> bytes:
    """The head of a chunked event stream."""
    headers = [("content-type", "text/event-stream; charset=utf-8"), *more]
    return response_head(200, [*headers, ("transfer-encoding", "chunked")])


def stream_script(
    events: Iterable[bytes], *, write_bytes: int | None = None, headers: Script = ()
) -> list[Verb]:
    """Play a whole, well-framed stream: one chunk and one write per event."""
    verbs: list[Verb] = [*headers] if headers else [Send(stream_head(), write_bytes)]
    verbs.extend(Send(chunk(event), write_bytes) for event in events)
    verbs.append(Send(LAST_CHUNK, write_bytes))
    return verbs


def plain_script(
    body: bytes, status: int = 200, headers: Iterable[tuple[str, str]] = ()
) -> list[Verb]:
    """Play one plain JSON response with its length."""
    head = [("content-type", "application/json"), *headers, ("content-length", str(len(body)))]
    return [Send(response_head(status, head) + body)]
