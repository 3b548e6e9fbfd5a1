"""What a caller is told: refusals of the keeper and failures of an upstream, as `RelayError`s.

Rules: every message says what to do; amounts are in USD; an upstream's own message passes only
where the caller can mend its cause, redacted. This module must not decide anything.
"""

from collections.abc import Iterable

import orjson

from proxy.core.entities import Channel, Dialect
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.exchange import Failure, FailureKind
from proxy.core.money import format_usd
from proxy.core.redact import redact
from proxy.core.routing import map_status, parse_retry_after
from proxy.edge.attempt import AttemptEnd
from proxy.edge.offer import Priced
from proxy.storage.ports import Refusal, RefusalReason

_WORDS = ("error", "message", "detail", "response")
"""Where error bodies and events hold the message, or what holds it."""
_LIMITS = {
    RefusalReason.REQUESTS: (ErrorCode.RATE_LIMIT_EXCEEDED, "{} requests per minute"),
    RefusalReason.TOKENS: (ErrorCode.TOKEN_LIMIT_EXCEEDED, "{} tokens per minute"),
    RefusalReason.CONCURRENCY: (
        ErrorCode.CONCURRENCY_LIMIT_EXCEEDED,
        "{} requests at the same time",
    ),
}


def refused(refusal: Refusal, offer: Priced, quota_status: int) -> RelayError:
    """Explain why the keeper did not admit a call."""
    if refusal.reason in _LIMITS:
        return limited(refusal)
    budget = refusal.reason is RefusalReason.KEY_BUDGET
    whose = "this key's budget" if budget else "your balance"
    message = (
        f"This call may cost up to {format_usd(offer.hold)} USD; "
        f"{whose} has {format_usd(refusal.available)} USD left."
    )
    message += " " + (
        offer.remedy(refusal.available) or ("Raise the budget." if budget else "Add credit.")
    )
    code = ErrorCode.KEY_BUDGET_EXCEEDED if budget else ErrorCode.INSUFFICIENT_QUOTA
    # An SDK would retry a 429 for nothing: money does not come back by waiting (WIRE.md 4).
    return RelayError(code, message, status=quota_status, should_retry=False)


def limited(refusal: Refusal) -> RelayError:
    """Explain which limit is reached; of those of money `refused` knows more."""
    code, limit = _LIMITS[refusal.reason]
    return RelayError(
        code,
        f"Rate limit reached: {limit.format(refusal.limit)}. "
        f"Try again in {refusal.retry_after:.1f} s.",
        retry_after=refusal.retry_after,
    )


def failed(failure: Failure, channel: Channel, dialect: Dialect, now: float) -> RelayError:
    """Explain an upstream's failure in the caller's terms."""
    if failure.kind is FailureKind.STATUS and failure.status is not None:
        told = map_status(failure.status, dialect, parse_retry_after(failure.retry_after, now))
        text = upstream_message(failure.body, [key.secret for key in channel.keys])
        if told.passes and text:
            return RelayError(told.code, text, status=told.status)
        return RelayError(
            told.code,
            "The upstream refused or failed; nothing was charged.",
            status=told.status,
            retry_after=told.retry_after,
        )
    if failure.kind is FailureKind.ERROR_EVENT:
        text = upstream_message(failure.body, [key.secret for key in channel.keys])
        return RelayError(ErrorCode.UPSTREAM_ERROR, text or "The upstream reported an error.")
    if failure.kind is FailureKind.TRUNCATED:
        return RelayError(ErrorCode.UPSTREAM_TRUNCATED, "The upstream's answer broke off.")
    return RelayError(
        ErrorCode.UPSTREAM_ERROR, f"The upstream's answer is unusable: {failure.message}."
    )


def ended(end: AttemptEnd) -> RelayError:
    """Explain an attempt that ended without the exchange's own word."""
    if end is AttemptEnd.FIRST_BYTE_TIMEOUT:
        return RelayError(ErrorCode.UPSTREAM_TIMEOUT, "The upstream did not answer in time.")
    if end is AttemptEnd.IDLE_TIMEOUT:
        return RelayError(ErrorCode.UPSTREAM_TIMEOUT, "The upstream fell silent.")
    return RelayError(ErrorCode.UPSTREAM_TRUNCATED, "The upstream closed the connection.")


def unavailable(retry_after: float = 5.0) -> RelayError:
    """No channel could be tried at all."""
    return RelayError(
        ErrorCode.UPSTREAM_UNAVAILABLE,
        "No upstream for this model is available now; nothing was charged. Try again shortly.",
        retry_after=retry_after,
    )


def resting(status: int, seconds: float, dialect: Dialect) -> RelayError:
    """Every key of every channel rests; the first wakes in `seconds`, put to rest by `status`."""
    told = map_status(status, dialect, seconds)
    return RelayError(
        told.code,
        "The upstream asked for a pause; nothing was charged. Try again then.",
        status=told.status,
        retry_after=told.retry_after,
    )


def upstream_message(body: bytes, secrets: Iterable[str]) -> str:
    """Return the message inside an upstream's error body, redacted; "" if there is none."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    for _ in range(3):
        if isinstance(value, dict):
            value = next((value[name] for name in _WORDS if value.get(name)), None)
    return redact(value, secrets) if isinstance(value, str) else ""
