from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.entities import Usage
from proxy.core.limits import (
    BURST_DIVISOR,
    CONCURRENCY_RETRY_SECONDS,
    RETRY_AFTER_SECONDS_MAX,
    SWEEP_MAX,
    EffectiveLimits,
    LimitDecision,
    Limiter,
    LimitKind,
    LimitScope,
    LimitState,
    RateLimits,
    rate_limit_headers,
)

START = 1_800_000_000.0
OPEN = RateLimits()


def only_key(**limits: int) -> EffectiveLimits:
    return EffectiveLimits(key=RateLimits(**limits))


def only_user(**limits: int) -> EffectiveLimits:
    return EffectiveLimits(user=RateLimits(**limits))


def call(limiter: Limiter, limits: EffectiveLimits, now: float, tokens: int = 0) -> LimitDecision:
    """One call that ends at once, as estimated."""
    decision = limiter.decide(1, 1, limits, tokens, now)
    if decision.admitted:
        limiter.release(1, 1, tokens, Usage(output=tokens), now)
    return decision


@pytest.mark.parametrize(
    "limits",
    [{"requests_per_minute": 0}, {"tokens_per_minute": 0}, {"concurrency": -1}],
)
def test_a_limit_below_one_is_refused_when_made(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        RateLimits(**limits)


def test_without_limits_everything_passes_and_nothing_is_announced() -> None:
    limiter = Limiter()
    limits = EffectiveLimits()
    for _ in range(1000):
        assert limiter.decide(1, 1, limits, 10**9, START).admitted
    limiter.release(1, 1, 10**9, Usage(output=2 * 10**9), START)
    state = limiter.state(1, 1, limits, START)
    assert state == LimitState()
    assert rate_limit_headers(state, START) == ()
    assert limiter.active(1) == 999


def test_a_catalog_that_lifts_or_sets_limits_finds_the_calls_of_before() -> None:
    limiter, bound = Limiter(), only_key(tokens_per_minute=600)
    assert limiter.decide(1, 1, bound, 80, START).admitted
    free = EffectiveLimits()
    assert free.unlimited
    assert not bound.unlimited
    assert limiter.decide(1, 1, free, 10**9, START).admitted
    assert limiter.decide(1, 1, free, 10**9, START).admitted
    for _ in range(2):
        limiter.release(1, 1, 10**9, Usage(output=1), START)
    assert limiter.active(1) == 1
    again = only_key(tokens_per_minute=600)
    assert limiter.decide(1, 1, again, 60, START).admitted
    assert limiter.state(1, 1, again, START).tokens_remaining == 40
    limiter.release(1, 1, 60, Usage(output=50, audio_input=20), START)
    assert limiter.state(1, 1, again, START).tokens_remaining == 30


def test_five_requests_per_minute_still_let_one_pass_at_once() -> None:
    limiter = Limiter()
    limits = only_key(requests_per_minute=5)
    assert call(limiter, limits, START).admitted
    refused = call(limiter, limits, START)
    assert refused == LimitDecision(
        admitted=False, kind=LimitKind.REQUESTS, scope=LimitScope.KEY, limit=5, retry_after=12.0
    )
    assert not call(limiter, limits, START + 11.9).admitted
    assert call(limiter, limits, START + 12).admitted


@pytest.mark.parametrize("limits", [only_key, only_user])
def test_weighing_says_what_deciding_would_and_takes_nothing(
    limits: Callable[..., EffectiveLimits],
) -> None:
    limiter = Limiter()
    bound = limits(requests_per_minute=6, tokens_per_minute=60, concurrency=1)
    for _ in range(3):
        assert limiter.weigh(1, 1, bound, 10, START).admitted
    assert len(limiter) == 0
    assert limiter.decide(1, 1, bound, 10, START).admitted
    weighed = limiter.weigh(1, 1, bound, 10, START)
    assert not weighed.admitted
    assert (
        weighed == limiter.weigh(1, 1, bound, 10, START) == limiter.decide(1, 1, bound, 10, START)
    )


@given(st.integers(1, 100_000), st.floats(0, 10**6))
def test_who_waits_as_told_is_admitted(limit: int, offset: float) -> None:
    limiter = Limiter()
    limits = only_key(requests_per_minute=limit)
    now = START + offset
    while (decision := call(limiter, limits, now)).admitted:
        pass
    assert 0 < decision.retry_after <= RETRY_AFTER_SECONDS_MAX
    assert call(limiter, limits, now + decision.retry_after).admitted


@given(
    limit=st.integers(1, 400),
    tokens_limit=st.integers(1, 6000),
    steps=st.lists(
        st.tuples(
            st.floats(0, 30, allow_nan=False),
            st.integers(0, 2000),
            st.integers(0, 100),
        ),
        max_size=40,
    ),
)
def test_no_window_admits_more_than_a_burst_and_its_refill(
    limit: int, tokens_limit: int, steps: list[tuple[float, int, int]]
) -> None:
    limiter = Limiter()
    limits = only_key(requests_per_minute=limit, tokens_per_minute=tokens_limit)
    now = START
    admitted: list[tuple[Fraction, int]] = []
    for pause, tokens, percent_used in steps:
        now += pause
        used = tokens * percent_used // 100
        decision = limiter.decide(1, 1, limits, tokens, now)
        if decision.admitted:
            limiter.release(1, 1, tokens, Usage(output=used), now)
            admitted.append((Fraction(now), used))
            assert tokens <= tokens_limit
        else:
            assert 0 < decision.retry_after <= RETRY_AFTER_SECONDS_MAX
    burst = max(Fraction(1), Fraction(limit, BURST_DIVISOR))
    tokens_burst = max(Fraction(1), Fraction(tokens_limit, BURST_DIVISOR))
    rounding = Fraction(1, 10**3)
    for first, (since, _) in enumerate(admitted):
        earlier = 0
        for calls, (until, used) in enumerate(admitted[first:], start=1):
            assert calls <= burst + (until - since) * limit / 60 + rounding
            # The last call may be larger than the bucket: it only had to be full, or fit.
            assert earlier <= tokens_burst + (until - since) * tokens_limit / 60 + rounding
            earlier += used


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 300)), max_size=40))
def test_a_bucket_follows_the_exact_model(steps: list[tuple[float, int]]) -> None:
    """Levels against Fractions, for calls that use what they reserved."""
    limiter = Limiter()
    limits = only_key(tokens_per_minute=600)
    burst, rate, level = Fraction(100), Fraction(10), Fraction(100)
    now = START
    for pause, tokens in steps:
        before = Fraction(now)
        now += pause
        level = min(burst, level + (Fraction(now) - before) * rate)
        need = min(Fraction(tokens), burst)
        if abs(level - need) < Fraction(1, 10**5):
            return  # too close for floats to be held to it
        decision = call(limiter, limits, now, tokens)
        assert decision.admitted == (level >= need)
        if decision.admitted:
            level -= tokens
        state = limiter.state(1, 1, limits, now)
        assert state.tokens_limit == 600
        assert state.tokens_remaining is not None
        assert abs(state.tokens_remaining - max(Fraction(0), level)) <= 1
        assert abs(Fraction(state.tokens_reset) - (burst - level) / rate) < Fraction(1, 10**5)


def test_a_call_larger_than_the_bucket_passes_when_it_is_full_and_is_paid_off() -> None:
    limiter = Limiter()
    limits = only_key(tokens_per_minute=600)
    assert call(limiter, limits, START, 600).admitted
    assert limiter.state(1, 1, limits, START) == LimitState(
        tokens_limit=600, tokens_remaining=0, tokens_reset=60.0
    )
    refused = call(limiter, limits, START + 10, 1)
    assert (refused.kind, refused.limit) == (LimitKind.TOKENS, 600)
    assert refused.retry_after == pytest.approx(40.1)
    assert call(limiter, limits, START + 60, 600).admitted


def test_a_call_larger_than_a_minute_never_passes() -> None:
    limiter = Limiter()
    limits = only_key(tokens_per_minute=600)
    refused = call(limiter, limits, START, 601)
    assert refused == LimitDecision(
        admitted=False, kind=LimitKind.TOKENS, scope=LimitScope.KEY, limit=600, retry_after=60.0
    )


def test_tokens_are_corrected_at_release_within_bounds() -> None:
    limiter = Limiter()
    limits = only_key(tokens_per_minute=600)
    assert limiter.decide(1, 1, limits, 80, START).admitted
    limiter.release(1, 1, 80, Usage(output=30), START)
    assert limiter.state(1, 1, limits, START).tokens_remaining == 70
    assert limiter.decide(1, 1, limits, 10, START).admitted
    limiter.release(1, 1, 10, Usage(output=10**9), START + 1)
    assert limiter.state(1, 1, limits, START + 1).tokens_reset == 70.0
    refused = call(limiter, limits, START + 1, 100)
    assert refused.retry_after == RETRY_AFTER_SECONDS_MAX
    assert limiter.decide(1, 1, limits, 10, START + 100).admitted
    limiter.release(1, 1, 10**6, Usage(output=0), START + 100)
    assert limiter.state(1, 1, limits, START + 100).tokens_remaining == 100


def test_concurrency_counts_open_calls() -> None:
    limiter = Limiter()
    limits = only_key(concurrency=2)
    assert limiter.decide(1, 1, limits, 0, START).admitted
    assert limiter.decide(1, 1, limits, 0, START).admitted
    refused = limiter.decide(1, 1, limits, 0, START)
    assert refused == LimitDecision(
        admitted=False,
        kind=LimitKind.CONCURRENCY,
        scope=LimitScope.KEY,
        limit=2,
        retry_after=CONCURRENCY_RETRY_SECONDS,
    )
    limiter.release(1, 1, 0, Usage(output=0), START)
    assert limiter.active(1) == 1
    assert limiter.decide(1, 1, limits, 0, START).admitted
    assert limiter.active(2) == 0


def test_a_user_is_bound_across_keys_and_a_refusal_charges_neither() -> None:
    limiter = Limiter()
    limits = EffectiveLimits(RateLimits(60, 6000, 10), RateLimits(60, 6000, 3))
    for key_id in (1, 2, 3):
        assert limiter.decide(key_id, 1, limits, 100, START).admitted
    before = limiter.state(4, 1, limits, START)
    refused = limiter.decide(4, 1, limits, 100, START)
    assert (refused.kind, refused.scope) == (LimitKind.CONCURRENCY, LimitScope.USER)
    assert limiter.state(4, 1, limits, START) == before
    assert limiter.active(4) == 0
    # The user's buckets have less left than the new key's, so they are the ones announced.
    assert before.requests_remaining == 7
    assert before.tokens_remaining == 700
    assert limiter.state(1, 2, limits, START).requests_remaining == 9


def test_of_several_refusals_the_longest_wait_is_told() -> None:
    limiter = Limiter()
    limits = EffectiveLimits(RateLimits(6, 600, 1), RateLimits(6, 60, 1))
    assert limiter.decide(1, 1, limits, 50, START).admitted
    refused = limiter.decide(1, 1, limits, 50, START)
    # The user's tokens are at 10 - 50: back at a full bucket of 10 after 50 s.
    assert refused == LimitDecision(
        admitted=False, kind=LimitKind.TOKENS, scope=LimitScope.USER, limit=60, retry_after=50.0
    )


def test_changed_limits_are_adopted() -> None:
    limiter = Limiter()
    assert call(limiter, only_key(requests_per_minute=600), START).admitted
    smaller = only_key(requests_per_minute=60)
    assert limiter.state(1, 1, smaller, START).requests_remaining == 10
    larger = only_key(requests_per_minute=600)
    assert limiter.state(1, 1, larger, START).requests_remaining == 10
    assert limiter.state(1, 1, larger, START + 1).requests_remaining == 20
    assert limiter.state(1, 1, EffectiveLimits(), START + 1) == LimitState()
    again = only_key(requests_per_minute=60)
    assert limiter.state(1, 1, again, START + 1).requests_remaining == 10


def test_changed_limits_bind_the_next_call() -> None:
    limiter = Limiter()
    assert call(limiter, EffectiveLimits(), START).admitted
    narrow = only_key(requests_per_minute=6, tokens_per_minute=60)
    assert call(limiter, narrow, START).admitted
    refused = call(limiter, narrow, START)
    assert (refused.admitted, refused.kind, refused.retry_after) == (False, LimitKind.REQUESTS, 10)
    assert call(limiter, EffectiveLimits(), START).admitted


def test_a_release_fills_no_bucket_above_its_burst() -> None:
    limiter = Limiter()
    limits = only_key(requests_per_minute=60, tokens_per_minute=600)
    assert limiter.decide(1, 1, limits, 50, START).admitted
    limiter.release(1, 1, 50, Usage(output=45), START + 30)
    state = limiter.state(1, 1, limits, START + 30)
    assert (state.requests_remaining, state.tokens_remaining) == (10, 100)
    assert limiter.decide(1, 1, limits, 50, START + 30).admitted
    limiter.release(1, 1, 50, Usage(output=90), START + 90)
    assert limiter.state(1, 1, limits, START + 90).tokens_remaining == 60


def test_a_clock_set_back_neither_fills_nor_stalls() -> None:
    limiter = Limiter()
    limits = only_key(requests_per_minute=60)
    for _ in range(10):
        assert call(limiter, limits, START).admitted
    assert not call(limiter, limits, START - 3600).admitted
    assert call(limiter, limits, START - 3599).admitted


@pytest.mark.parametrize(
    ("key_id", "user_id", "limits"),
    [
        (2, 1, EffectiveLimits()),
        (1, 2, EffectiveLimits()),
        (1, 1, only_user(requests_per_minute=60)),
    ],
)
def test_a_release_without_an_admission_is_a_broken_assumption(
    key_id: int, user_id: int, limits: EffectiveLimits
) -> None:
    limiter = Limiter()
    call(limiter, limits, START)
    with pytest.raises(AssertionError, match="nothing to release"):
        limiter.release(key_id, user_id, 0, Usage(output=0), START)


def test_negative_tokens_are_a_broken_assumption() -> None:
    with pytest.raises(AssertionError, match="cannot reserve"):
        Limiter().decide(1, 1, EffectiveLimits(), -1, START)


def test_memory_is_bounded_by_forgetting_full_idle_accounts() -> None:
    limiter = Limiter(accounts_max=10)
    limits = EffectiveLimits(RateLimits(600, 600, 5), RateLimits(600, 600, 5))
    for account in range(1000):
        now = START + account
        assert limiter.decide(account, account, limits, 10, now).admitted
        limiter.release(account, account, 10, Usage(output=10), now)
        assert len(limiter) <= 20
    assert len(limiter) == 20


def test_busy_accounts_are_kept_and_newcomers_refused() -> None:
    limits = EffectiveLimits(RateLimits(60, 60, 5), RateLimits(60, 60, 7))
    limiter = Limiter(accounts_max=2)
    assert limiter.decide(1, 1, limits, 1, START).admitted  # stays open
    assert limiter.decide(2, 1, limits, 1, START).admitted
    limiter.release(2, 1, 1, Usage(output=1), START)  # idle, not yet full
    refused = limiter.decide(3, 1, limits, 1, START)
    assert refused == LimitDecision(
        admitted=False, kind=LimitKind.CONCURRENCY, scope=LimitScope.KEY, limit=5, retry_after=1.0
    )
    assert limiter.decide(3, 1, limits, 1, START + 1).admitted
    assert limiter.active(1) == 1
    assert limiter.decide(1, 2, limits, 1, START + 1).admitted
    crowded = limiter.decide(1, 3, limits, 1, START + 1)
    assert (crowded.scope, crowded.limit) == (LimitScope.USER, 7)
    assert limiter.decide(1, 3, EffectiveLimits(), 1, START + 1).limit == 0


def test_a_newcomer_looks_at_a_bounded_number_of_accounts() -> None:
    limiter = Limiter(accounts_max=SWEEP_MAX + 1)
    limits = only_key(requests_per_minute=60)
    for key_id in range(SWEEP_MAX):
        assert limiter.decide(key_id, 1, limits, 0, START).admitted
    assert limiter.decide(SWEEP_MAX, 1, limits, 0, START).admitted
    limiter.release(SWEEP_MAX, 1, 0, Usage(output=0), START)
    # The only idle account is the last one, just out of reach of one sweep, then the first.
    assert not limiter.decide(-1, 1, limits, 0, START + 60).admitted
    assert limiter.decide(-1, 1, limits, 0, START + 60).admitted


def test_headers_of_both_dialects() -> None:
    state = LimitState(500, 82, 0.12, 30_000, 0, 64.5)
    assert dict(rate_limit_headers(state, 1_800_000_000.5)) == {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "82",
        "x-ratelimit-reset-requests": "120ms",
        "anthropic-ratelimit-requests-limit": "500",
        "anthropic-ratelimit-requests-remaining": "82",
        "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:01Z",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m4.5s",
        "anthropic-ratelimit-tokens-limit": "30000",
        "anthropic-ratelimit-tokens-remaining": "0",
        "anthropic-ratelimit-tokens-reset": "2027-01-15T08:01:05Z",
    }
    requests_only = rate_limit_headers(LimitState(5, 1, 0.0), 0.0)
    assert len(requests_only) == 6
    assert all("requests" in name for name, _ in requests_only)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.0001, "1ms"),
        (0.032, "32ms"),
        (1.0, "1s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (360.0, "6m0s"),
        (61.005, "1m1.005s"),
    ],
)
def test_openai_resets_are_durations(seconds: float, text: str) -> None:
    headers = dict(rate_limit_headers(LimitState(5, 1, seconds), START))
    assert headers["x-ratelimit-reset-requests"] == text


def test_a_restored_call_takes_its_slots_and_nothing_else() -> None:
    limiter, limits = Limiter(), EffectiveLimits(
        key=RateLimits(requests_per_minute=60, tokens_per_minute=600, concurrency=2),
        user=RateLimits(concurrency=3),
    )  # fmt: skip
    for _ in range(3):
        limiter.restore(1, 1, limits, START)
    assert limiter.active(1) == 3, "also above the limit: it is under way"
    state = limiter.state(1, 1, limits, START)
    assert (state.requests_remaining, state.tokens_remaining) == (10, 100)
    refusal = limiter.decide(1, 1, limits, 10, START)
    assert (refusal.admitted, refusal.kind) == (False, LimitKind.CONCURRENCY)
    limiter.release(1, 1, 10, Usage(output=30), START)
    assert limiter.state(1, 1, limits, START).tokens_remaining == 80
    limiter.release(1, 1, 10, Usage(output=10), START)
    assert limiter.decide(1, 1, limits, 10, START).admitted
