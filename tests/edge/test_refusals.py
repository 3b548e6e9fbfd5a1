"""What a caller is told, and what never is."""

import pytest

from proxy.core.entities import Channel, ChannelKey, Dialect
from proxy.core.errors import ErrorCode
from proxy.core.limits import EffectiveLimits, Limiter, RateLimits
from proxy.core.outcomes import Failure, FailureKind
from proxy.edge import refusals
from proxy.edge.attempt import AttemptEnd
from proxy.storage.ports import Refusal, RefusalReason
from tests.edge.test_offer import offer

SECRET = "sk-upstream-0123456789abcdef"
CHANNEL = Channel(1, "main", Dialect.OPENAI, "https://x.test", (ChannelKey(1, SECRET),), {},
                  frozenset())  # fmt: skip
LIMITS = Limiter().state(1, 1, EffectiveLimits(RateLimits(), RateLimits()), 0.0)


def test_a_limit_that_refused_is_named_with_its_wait() -> None:
    for reason, code in (
        (RefusalReason.REQUESTS, ErrorCode.RATE_LIMIT_EXCEEDED),
        (RefusalReason.TOKENS, ErrorCode.TOKEN_LIMIT_EXCEEDED),
        (RefusalReason.CONCURRENCY, ErrorCode.CONCURRENCY_LIMIT_EXCEEDED),
    ):
        error = refusals.refused(Refusal(reason, LIMITS, retry_after=7.0, limit=60), offer(), 402)
        assert (error.code, error.status, error.retry_after) == (code, 429, 7.0)
        assert "60" in error.message
        assert "7.0 s" in error.message


@pytest.mark.parametrize("status", [402, 429])
def test_money_that_is_short_names_what_would_fit(status: int) -> None:
    plain = offer(stream=False, max_tokens=1_000)
    short = Refusal(RefusalReason.WALLET, LIMITS, available=plain.hold // 2)
    error = refusals.refused(short, plain, status)
    assert (error.code, error.status) == (ErrorCode.INSUFFICIENT_QUOTA, status)
    assert error.should_retry is False
    assert "`max_tokens` of at most 4" in error.message
    budget = refusals.refused(Refusal(RefusalReason.KEY_BUDGET, LIMITS), offer(), status)
    assert budget.code is ErrorCode.KEY_BUDGET_EXCEEDED
    assert "Raise the budget" in budget.message
    empty = refusals.refused(Refusal(RefusalReason.WALLET, LIMITS), plain, status)
    assert "Add credit" in empty.message


def test_an_upstreams_words_pass_without_its_secrets_or_not_at_all() -> None:
    said = b'{"error":{"message":"no model for ' + SECRET.encode() + b'"}}'
    for status, passes in ((404, True), (401, False), (500, False)):
        failure = Failure(FailureKind.STATUS, "x", status, None, said)
        error = refusals.failed(failure, CHANNEL, Dialect.OPENAI, 0.0)
        assert SECRET not in error.message
        assert ("no model for" in error.message) is passes
    event = Failure(FailureKind.ERROR_EVENT, "x", body=b'{"error":{"message":"hot"}}')
    assert refusals.failed(event, CHANNEL, Dialect.OPENAI, 0.0).message == "hot"
    for kind in (FailureKind.TRUNCATED, FailureKind.FRAMING, FailureKind.TOO_LARGE):
        error = refusals.failed(Failure(kind, "because"), CHANNEL, Dialect.OPENAI, 0.0)
        assert error.status == 502


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"a"}}', "a"),
        (b'{"error":"b"}', "b"),
        (b'{"message":"c"}', "c"),
        (b'{"detail":"d"}', "d"),
        (b'{"detail":[1]}', ""),
        (b'{"type":"response.failed","response":{"error":{"message":"e"}}}', "e"),
        (b'{"type":"error","code":"x","message":"f","param":null}', "f"),
        (b'{"error":null,"message":"g"}', "g"),
        (b"<html>", ""),
        (b"", ""),
        (b"[1]", ""),
        (b'{"error":{"error":{"error":{"message":"deep"}}}}', ""),
    ],
)
def test_the_message_inside_an_error_body(body: bytes, message: str) -> None:
    assert refusals.upstream_message(body, []) == message


def test_every_way_an_attempt_ends_is_explained() -> None:
    codes = {end: refusals.ended(end).code for end in AttemptEnd}
    assert codes[AttemptEnd.FIRST_BYTE_TIMEOUT] is ErrorCode.UPSTREAM_TIMEOUT
    assert codes[AttemptEnd.IDLE_TIMEOUT] is ErrorCode.UPSTREAM_TIMEOUT
    assert codes[AttemptEnd.LOST] is ErrorCode.UPSTREAM_TRUNCATED
    assert refusals.unavailable().retry_after == 5.0


def test_resting_keys_are_told_as_what_put_them_to_rest() -> None:
    busy = refusals.resting(429, 30.0, Dialect.OPENAI)
    assert (busy.status, busy.retry_after) == (429, 30.0)
    assert refusals.resting(401, 300.0, Dialect.OPENAI).status == 503
    assert refusals.resting(401, 300.0, Dialect.OPENAI).retry_after == 60.0
