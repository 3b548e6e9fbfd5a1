"""What is asked of an exchange with an upstream, where it stands, and how it can fail.

Rules: records, and a constructor for every failure, so that the same fault always reads the
same and every body kept is bounded. This module must not know how bytes are read.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Final

from proxy.core.entities import TerminalRule, Wire
from proxy.core.response_head import ResponseHead
from proxy.core.sse import EVENT_BYTES_MAX

RESPONSE_BYTES_MAX: Final = 64 << 20
ERROR_BODY_BYTES_MAX: Final = 65_536
_RETRY_DELAY: Final = re.compile(rb'"retryDelay"\s*:\s*"(\d{1,6}(?:\.\d{1,9})?)s"')
_OK, _BAD_REQUEST, _UNAUTHORIZED = 200, 400, 401
_EVENT_TYPES: Final = frozenset({
    b"text/event-stream", b"text/event-stream; charset=utf-8", b"text/event-stream;charset=utf-8",
    b"text/event-stream; charset=UTF-8", b"text/event-stream;charset=UTF-8",
})  # fmt: skip
"""As nearly every server writes it."""
_KEY_INVALID: Final = b'"API_KEY_INVALID"'
"""Google's reason (google.rpc.ErrorInfo) for refusing a key, which it does with a 400."""
_MILLISECONDS: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?", re.ASCII)


class Phase(Enum):
    """Where an exchange stands; `proxy.core.exchange` says what moves between them."""

    HEAD = auto()
    PLAIN = auto()
    PREAMBLE = auto()
    CONTENT = auto()
    TERMINAL = auto()
    FAILED = auto()


class FailureKind(Enum):
    """What went wrong upstream, as routing and the error map need to know it."""

    STATUS = auto()
    ERROR_EVENT = auto()
    TRUNCATED = auto()
    FRAMING = auto()
    UNEXPECTED_ANSWER = auto()
    TOO_LARGE = auto()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an exchange failed. `body` is the upstream's error body or event data, bounded."""

    kind: FailureKind
    message: str
    status: int | None = None
    retry_after: str | None = None
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an exchange needs to know about the call and its channel."""

    wire: Wire
    stream: bool
    strip_usage: bool = False
    """We injected `include_usage`: the usage event is ours, the caller never sees it."""
    terminal: TerminalRule = TerminalRule.DONE
    choices: int = 1
    verbatim: bool = True
    """The client takes chunked framing, so whole chunks may pass as they are."""
    event_bytes_max: int = EVENT_BYTES_MAX
    echoed: tuple[int, ...] = ()
    """Characters of the prompt that come back at the start of each choice, and are no output."""


def is_good(head: ResponseHead) -> bool:
    """Whether a response says that it succeeded."""
    return 200 <= head.status < 300


def is_event_stream(head: ResponseHead) -> bool:
    """Whether a response holds events, as far as its head tells; some name no type at all."""
    return _names_events(head.noted.get("content-type", b""))


def streams(head: ResponseHead) -> bool:
    """Whether a response streams events and nothing has to be looked at more closely.

    Says in one look of nearly every stream what `compressed`, `is_good` and `is_event_stream` do.
    """
    noted = head.noted
    return (
        head.status == _OK
        and noted.get("content-type") in _EVENT_TYPES
        and "content-encoding" not in noted
    )


@lru_cache(maxsize=256)
def _names_events(content_type: bytes) -> bool:
    return content_type.split(b";")[0].strip().lower() in {b"text/event-stream", b""}


def compressed(head: ResponseHead) -> Failure | None:
    """Refuse a content coding nobody asked for: nothing is inflated here (FAULTS.md F15)."""
    if (head.header("content-encoding") or "identity").lower() == "identity":
        return None
    if not is_good(head):
        return _refused(head, b"")
    return Failure(FailureKind.UNEXPECTED_ANSWER, "the upstream compressed its answer unasked")


def plain_bytes_max(head: ResponseHead, *, stream: bool) -> int:
    """How much of a plain body is worth keeping: an answer, or what explains its absence."""
    return RESPONSE_BYTES_MAX if is_good(head) and not stream else ERROR_BODY_BYTES_MAX


def plain(head: ResponseHead, body: bytes, *, stream: bool, whole: bool) -> Failure | None:
    """Judge a plain body that ended (`whole`) or passed its limit; None if it is the answer."""
    if not is_good(head):
        return _refused(head, body)
    if stream:
        # An error inside a 200 is often plain JSON (FAULTS.md F20).
        return Failure(
            FailureKind.UNEXPECTED_ANSWER,
            "the upstream answered a stream request without a stream",
            body=body,
        )
    if not whole:
        return too_large(f"an answer over {RESPONSE_BYTES_MAX} bytes")
    return None


def error_event(data: bytes) -> Failure:
    """Tell of an error inside a stream (FAULTS.md F19)."""
    return Failure(
        FailureKind.ERROR_EVENT,
        "the upstream reported an error in its stream",
        body=data[:ERROR_BODY_BYTES_MAX],
    )


def truncated(how: str) -> Failure:
    """Tell of an answer that ended before it was complete."""
    return Failure(FailureKind.TRUNCATED, how)


def too_large(what: str) -> Failure:
    """Tell of something that passed its named limit."""
    return Failure(FailureKind.TOO_LARGE, what)


def _refused(head: ResponseHead, body: bytes) -> Failure:
    message, status = f"the upstream answered {head.status}", head.status
    if status == _BAD_REQUEST and _KEY_INVALID in body:
        status = _UNAUTHORIZED
    return Failure(FailureKind.STATUS, message, status, _pause_asked(head, body), body)


def _pause_asked(head: ResponseHead, body: bytes) -> str | None:
    """How long an upstream asks to be left alone, as a `retry-after` would say it.

    OpenAI and Azure say it in milliseconds too, which SDKs believe first (WIRE.md section 4);
    Azure's token limits at times in `x-rate-limit-reset-tokens` alone, as seconds; Google says it
    in the body, among the details of its error (google.rpc.RetryInfo).
    """
    wait = head.header("retry-after-ms")
    if wait is not None and _MILLISECONDS.fullmatch(wait):
        return f"{float(wait) / 1000:.3f}"
    said = head.header("retry-after") or head.header("x-rate-limit-reset-tokens")
    if said is None and (found := _RETRY_DELAY.search(body)) is not None:
        return found[1].decode()
    return said
