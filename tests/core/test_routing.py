from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.entities import Channel, ChannelKey, Dialect, Group
from proxy.core.errors import ErrorCode
from proxy.core.routing import (
    ANONYMOUS_KEY,
    CALLER_RETRY_SECONDS_MAX,
    COOLDOWN_SECONDS_MAX,
    CREDENTIAL_COOLDOWN_SECONDS,
    RATE_COOLDOWN_SECONDS,
    RETRIES_MAX,
    RETRY_BUDGET_FLOOR,
    AttemptFailure,
    KeyPool,
    MappedStatus,
    RetryBudget,
    map_status,
    parse_retry_after,
    plan,
    retryable,
)


def channel(channel_id: int, priority: int = 0, weight: int = 1) -> Channel:
    return Channel(
        id=channel_id,
        name=f"channel-{channel_id}",
        dialect=Dialect.OPENAI,
        base_url="https://upstream.test",
        keys=(),
        models={},
        groups=frozenset(),
        priority=priority,
        weight=weight,
    )


def always(_: Channel) -> bool:
    return True


def never(_: Channel) -> bool:
    return False


def no_chance() -> float:
    raise AssertionError("nothing to draw for")


def test_a_single_channel_needs_no_draw() -> None:
    only = (channel(1),)
    assert plan(only, always, no_chance) is only
    assert plan(only, never, no_chance) == ()
    assert plan((), always, no_chance) == ()


def test_priority_comes_before_weight_and_the_unusable_are_left_out() -> None:
    low, high, open_breaker = channel(1, 0, 10**6), channel(2, 5, 1), channel(3, 9, 1)
    usable = frozenset({1, 2}).__contains__
    order = plan((low, high, open_breaker), lambda each: usable(each.id), Random(1).random)
    assert order == (high, low)


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5), st.booleans()), max_size=8),
    st.randoms(use_true_random=False),
)
def test_a_plan_is_every_usable_channel_once_by_priority(
    rows: list[tuple[int, int, bool]], rng: Random
) -> None:
    channels = tuple(channel(at, row[0], row[1]) for at, row in enumerate(rows))
    usable = {at for at, row in enumerate(rows) if row[2]}
    order = plan(channels, lambda each: each.id in usable, rng.random)
    assert sorted(each.id for each in order) == sorted(usable)
    ranks = [(-each.priority, each.weight == 0) for each in order]
    assert ranks == sorted(ranks)


def test_the_draw_is_proportional_to_weight() -> None:
    channels = (channel(1, weight=6), channel(2, weight=3), channel(3, weight=1))
    rng = Random(7)
    orders = Counter(
        tuple(each.id for each in plan(channels, always, rng.random)) for _ in range(10_000)
    )
    first = Counter[int]()
    for order, times in orders.items():
        first[order[0]] += times
    assert first[1] == pytest.approx(6000, abs=200)
    assert first[2] == pytest.approx(3000, abs=200)
    assert first[3] == pytest.approx(1000, abs=200)
    # Without the first, the other two share in proportion: 6/10 x 3/4.
    assert orders[1, 2, 3] == pytest.approx(4500, abs=200)


def test_weight_zero_is_a_reserve() -> None:
    channels = (channel(1, weight=0), channel(2), channel(3, weight=0))
    rng = Random(3)
    orders = {tuple(each.id for each in plan(channels, always, rng.random)) for _ in range(50)}
    assert orders == {(2, 1, 3), (2, 3, 1)}
    assert len(plan(channels, always, lambda: 0.0)) == 3


KEYS = tuple(ChannelKey(number, f"secret-{number}") for number in (1, 2, 3))


def test_one_key_may_be_asked_for_by_its_id() -> None:
    pool = KeyPool(KEYS)
    wanted = KEYS[1]
    assert [pool.acquire(0.0, wanted.id) for _ in range(2)] == [wanted, wanted]
    assert pool.acquire(0.0) == KEYS[0], "and nobody else's turn is taken"
    assert pool.cool(wanted, 429, None, 0.0)
    assert pool.acquire(0.0, wanted.id) is None
    assert pool.acquire(0.0, 999) is not None, "replaced meanwhile: any"


def taken(pool: KeyPool, now: float, times: int) -> list[int | None]:
    keys = [pool.acquire(now) for _ in range(times)]
    return [None if key is None else key.id for key in keys]


def test_keys_take_turns() -> None:
    pool = KeyPool(KEYS)
    assert taken(pool, 0.0, 7) == [1, 2, 3, 1, 2, 3, 1]


@pytest.mark.parametrize(
    ("status", "retry_after", "rest"),
    [
        (401, None, CREDENTIAL_COOLDOWN_SECONDS),
        (402, None, CREDENTIAL_COOLDOWN_SECONDS),
        (403, 5.0, CREDENTIAL_COOLDOWN_SECONDS),
        (403, 90.0, 90.0),
        (429, None, RATE_COOLDOWN_SECONDS),
        (429, 0.0, RATE_COOLDOWN_SECONDS),
        (429, 20.0, 20.0),
        (429, 10_000.0, COOLDOWN_SECONDS_MAX),
    ],
)
def test_a_refused_key_rests(status: int, retry_after: float | None, rest: float) -> None:
    pool = KeyPool(KEYS)
    assert pool.cool(KEYS[1], status, retry_after, 100.0)
    assert taken(pool, 100.0 + rest - 0.01, 4) == [1, 3, 1, 3]
    assert taken(pool, 100.0 + rest, 3) == [1, 2, 3]


@pytest.mark.parametrize("status", [200, 400, 404, 408, 422, 500, 503, 529])
def test_other_statuses_say_nothing_about_a_key(status: int) -> None:
    pool = KeyPool(KEYS)
    assert not pool.cool(KEYS[1], status, 5.0, 0.0)
    assert taken(pool, 0.0, 3) == [1, 2, 3]


def test_when_all_rest_the_first_to_wake_says_why_and_how_long() -> None:
    pool = KeyPool(KEYS[:2])
    assert pool.blocked(0.0) is None
    pool.cool(KEYS[0], 401, None, 0.0)
    assert pool.ready(0.0)
    assert pool.blocked(0.0) is None
    pool.cool(KEYS[1], 429, 20.0, 0.0)
    assert [pool.resting(now) for now in (5.0, 20.0, 60.0)] == [2, 1, 0]
    assert not pool.ready(5.0)
    assert pool.acquire(5.0) is None
    assert pool.blocked(5.0) == (429, 15.0)
    assert pool.ready(20.0)
    assert pool.acquire(20.0) == KEYS[1]


def test_a_later_shorter_rest_does_not_wake_a_key_earlier() -> None:
    pool = KeyPool(KEYS[:1])
    pool.cool(KEYS[0], 401, None, 0.0)
    pool.cool(KEYS[0], 429, 2.0, 1.0)
    assert pool.blocked(10.0) == (429, 50.0)


def test_new_keys_are_adopted_and_the_same_keep_resting() -> None:
    pool = KeyPool(KEYS)
    for key in KEYS:
        pool.cool(key, 401, None, 0.0)
    replaced = ChannelKey(2, "another secret")
    pool.adopt((KEYS[0], replaced))
    assert taken(pool, 1.0, 2) == [2, 2]
    assert not pool.cool(KEYS[2], 401, None, 1.0)
    pool.adopt(KEYS[:1])
    assert pool.acquire(1.0) is None


def test_a_channel_without_keys_sends_none() -> None:
    pool = KeyPool(())
    assert pool.acquire(0.0) is ANONYMOUS_KEY
    assert not ANONYMOUS_KEY.secret
    assert pool.cool(ANONYMOUS_KEY, 401, None, 0.0)
    assert pool.acquire(1.0) is None
    pool.adopt(KEYS[:1])
    assert pool.acquire(1.0) == KEYS[0]
    pool.adopt(())
    assert pool.acquire(1.0) is ANONYMOUS_KEY


@pytest.mark.parametrize(
    ("active", "allowed"), [(1, RETRY_BUDGET_FLOOR), (15, 3), (19, 3), (20, 4), (500, 100)]
)
def test_retries_stay_within_a_fifth_of_the_calls(active: int, allowed: int) -> None:
    budget = RetryBudget()
    granted = sum(budget.acquire(active, 0) for _ in range(allowed + 50))
    assert granted == budget.in_progress == allowed
    budget.release()
    assert budget.acquire(active, 1)
    assert not budget.acquire(active, 1)


def test_a_call_is_retried_at_most_twice() -> None:
    budget = RetryBudget()
    assert [budget.acquire(100, made) for made in range(4)] == [True, True, False, False]
    assert budget.in_progress == RETRIES_MAX
    assert not RetryBudget().acquire(100, 0, retries_max=0)


def test_a_retry_released_twice_is_a_broken_assumption() -> None:
    budget = RetryBudget()
    with pytest.raises(AssertionError, match="released twice"):
        budget.release()


GROUP = Group("default")
PATIENT = Group("patient", retry_after_timeout=True)


@pytest.mark.parametrize("failure", list(AttemptFailure))
def test_nothing_is_retried_after_content(failure: AttemptFailure) -> None:
    assert not retryable(failure, PATIENT, status=503, content_started=True)


@pytest.mark.parametrize(
    "failure", [AttemptFailure.CONNECT, AttemptFailure.ERROR_EVENT, AttemptFailure.BROKEN]
)
def test_failures_before_content_are_retried(failure: AttemptFailure) -> None:
    assert retryable(failure, GROUP, content_started=False)


def test_a_timeout_is_retried_only_if_the_group_says_so() -> None:
    assert not retryable(AttemptFailure.TIMEOUT, GROUP, content_started=False)
    assert retryable(AttemptFailure.TIMEOUT, PATIENT, content_started=False)


@pytest.mark.parametrize(
    ("status", "again"),
    [(status, True) for status in (401, 402, 403, 429, 500, 502, 503, 504, 529, 599)]
    + [(status, False) for status in (301, 400, 404, 405, 408, 409, 413, 422, 600)],
)
def test_which_statuses_are_retried(status: int, *, again: bool) -> None:
    assert retryable(AttemptFailure.STATUS, GROUP, status=status, content_started=False) is again


def test_a_failure_by_status_needs_the_status() -> None:
    with pytest.raises(AssertionError, match="needs the status"):
        retryable(AttemptFailure.STATUS, GROUP, content_started=False)


BOTH = (Dialect.OPENAI, Dialect.ANTHROPIC)


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ErrorCode.INVALID_REQUEST),
        (404, ErrorCode.MODEL_NOT_FOUND),
        (408, ErrorCode.REQUEST_TIMEOUT),
        (413, ErrorCode.REQUEST_TOO_LARGE),
        (422, ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_the_caller_can_mend_passes(dialect: Dialect, status: int, code: ErrorCode) -> None:
    assert map_status(status, dialect, 7.0) == MappedStatus(code, status, passes=True)


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize("status", [401, 402, 403, 503])
def test_what_is_between_us_and_the_upstream_is_a_503(dialect: Dialect, status: int) -> None:
    mapped = map_status(status, dialect)
    assert mapped == MappedStatus(ErrorCode.UPSTREAM_UNAVAILABLE, 503, retry_after=5.0)


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize(
    "status", [0, 100, 199, 301, 302, 307, 405, 409, 418, 500, 501, 502, 504, 520, 599, 600, 999]
)
def test_everything_else_is_a_502(dialect: Dialect, status: int) -> None:
    assert map_status(status, dialect, 7.0) == MappedStatus(ErrorCode.UPSTREAM_ERROR, 502)


@pytest.mark.parametrize(
    ("wish", "told"),
    [(None, RATE_COOLDOWN_SECONDS), (0.0, 1.0), (20.0, 20.0), (3600.0, CALLER_RETRY_SECONDS_MAX)],
)
def test_a_rate_limit_passes_with_a_wait_sdks_obey(wish: float | None, told: float) -> None:
    mapped = map_status(429, Dialect.OPENAI, wish)
    assert mapped == MappedStatus(ErrorCode.UPSTREAM_RATE_LIMITED, 429, retry_after=told)


def test_overloaded_is_kept_for_anthropic_callers() -> None:
    anthropic = map_status(529, Dialect.ANTHROPIC)
    assert (anthropic.code, anthropic.status) == (ErrorCode.UPSTREAM_OVERLOADED, 529)
    openai = map_status(529, Dialect.OPENAI)
    assert (openai.code, openai.status) == (ErrorCode.UPSTREAM_UNAVAILABLE, 503)


@pytest.mark.parametrize("status", [200, 204, 299])
def test_a_success_is_not_mapped(status: int) -> None:
    with pytest.raises(AssertionError, match="is not an error"):
        map_status(status, Dialect.OPENAI)


NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("20", 20.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("86400", 86_400.0),
        ("86401", None),
        ("-1", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("٣", None),
        ("9" * 400, None),
        ("", None),
        ("soon", None),
        ("Sun, 06 Nov 1994 08:49:57 GMT", 20.0),
        ("Sun, 06 Nov 1994 08:49:30 GMT", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("Sun, 06 Nov 9999 08:49:37 GMT", None),
        ("Sunday, 06-Nov-94 08:49:57 GMT", None),
    ],
)
def test_retry_after_is_read_or_not_believed(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds
