from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.breaker import (
    COOLDOWN_SECONDS,
    COOLDOWN_SECONDS_MAX,
    FAILURES_MIN,
    PROBE_SECONDS_MAX,
    TRANSITIONS,
    WINDOW_SECONDS,
    Breaker,
    BreakerEvent,
    BreakerState,
    Outcome,
)


def send(breaker: Breaker, outcome: Outcome, now: float) -> None:
    permit = breaker.acquire(now)
    assert permit is not None
    breaker.report(permit, outcome, now)


def state_of(breaker: Breaker) -> BreakerState:
    """The state, read anew: a type checker takes an attribute for unchanged between calls."""
    return breaker.state


def tripped(now: float = 100.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_MIN):
        assert breaker.allows(now)
        send(breaker, Outcome.FAILURE, now)
    assert state_of(breaker) is BreakerState.OPEN
    return breaker


def test_every_move_is_in_the_table_and_no_other() -> None:
    for state, event in product(BreakerState, BreakerEvent):
        breaker = Breaker()
        breaker.state = state
        if (state, event) in TRANSITIONS:
            breaker._move(event)
            assert state_of(breaker) is TRANSITIONS[state, event]
        else:
            with pytest.raises(AssertionError, match="cannot happen"):
                breaker._move(event)


def test_few_failures_do_not_open_it() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_MIN - 1):
        send(breaker, Outcome.FAILURE, 1.0)
    assert state_of(breaker) is BreakerState.CLOSED


def test_failures_in_different_windows_do_not_add_up() -> None:
    breaker = Breaker()
    for step in range(20):
        send(breaker, Outcome.FAILURE, step * WINDOW_SECONDS / 3)
    assert state_of(breaker) is BreakerState.CLOSED


def test_many_failures_among_more_successes_do_not_open_it() -> None:
    breaker = Breaker()
    for _ in range(100):
        send(breaker, Outcome.SUCCESS, 1.0)
        send(breaker, Outcome.SUCCESS, 1.0)
        send(breaker, Outcome.FAILURE, 1.0)
    assert state_of(breaker) is BreakerState.CLOSED


def test_calls_without_an_outcome_are_no_evidence() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_MIN):
        for _ in range(10):
            send(breaker, Outcome.UNKNOWN, 1.0)
        send(breaker, Outcome.FAILURE, 1.0)
    assert state_of(breaker) is BreakerState.OPEN


def test_open_sends_nothing_until_it_has_cooled() -> None:
    breaker = tripped(100.0)
    almost = 100.0 + COOLDOWN_SECONDS - 0.001
    assert not breaker.allows(almost)
    assert breaker.acquire(almost) is None
    assert state_of(breaker) is BreakerState.OPEN
    assert breaker.allows(100.0 + COOLDOWN_SECONDS)
    assert state_of(breaker) is BreakerState.OPEN


def test_half_open_lets_one_probe_through_whose_success_closes_it() -> None:
    breaker = tripped(100.0)
    now = 100.0 + COOLDOWN_SECONDS
    probe = breaker.acquire(now)
    assert probe is not None
    assert state_of(breaker) is BreakerState.HALF_OPEN
    assert not breaker.allows(now)
    assert breaker.acquire(now) is None
    breaker.report(probe, Outcome.SUCCESS, now + 1)
    assert state_of(breaker) is BreakerState.CLOSED
    for _ in range(FAILURES_MIN - 1):
        send(breaker, Outcome.FAILURE, now + 1)
    assert state_of(breaker) is BreakerState.CLOSED


def test_each_failed_probe_doubles_the_cooldown_up_to_a_bound() -> None:
    now = 100.0
    breaker = tripped(now)
    expected = COOLDOWN_SECONDS
    for _ in range(8):
        assert not breaker.allows(now + expected - 0.001)
        now += expected
        send(breaker, Outcome.FAILURE, now)
        assert state_of(breaker) is BreakerState.OPEN
        expected = min(expected * 2, COOLDOWN_SECONDS_MAX)
    assert expected == COOLDOWN_SECONDS_MAX
    now += expected
    send(breaker, Outcome.SUCCESS, now)
    for _ in range(FAILURES_MIN):
        send(breaker, Outcome.FAILURE, now)
    assert breaker.allows(now + COOLDOWN_SECONDS)


def test_a_probe_that_was_given_up_makes_room_at_once() -> None:
    breaker = tripped(100.0)
    now = 100.0 + COOLDOWN_SECONDS
    send(breaker, Outcome.UNKNOWN, now)
    assert state_of(breaker) is BreakerState.HALF_OPEN
    send(breaker, Outcome.SUCCESS, now)
    assert state_of(breaker) is BreakerState.CLOSED


def test_a_probe_that_takes_too_long_loses_its_say() -> None:
    breaker = tripped(100.0)
    now = 100.0 + COOLDOWN_SECONDS
    slow = breaker.acquire(now)
    assert slow is not None
    assert breaker.acquire(now + PROBE_SECONDS_MAX - 0.001) is None
    quick = breaker.acquire(now + PROBE_SECONDS_MAX)
    assert quick is not None
    breaker.report(slow, Outcome.SUCCESS, now + PROBE_SECONDS_MAX)
    assert state_of(breaker) is BreakerState.HALF_OPEN
    breaker.report(quick, Outcome.FAILURE, now + PROBE_SECONDS_MAX)
    assert state_of(breaker) is BreakerState.OPEN


@pytest.mark.parametrize("outcome", list(Outcome))
def test_calls_from_before_it_opened_have_no_say(outcome: Outcome) -> None:
    breaker = Breaker()
    early = breaker.acquire(100.0)
    assert early is not None
    for _ in range(FAILURES_MIN):
        send(breaker, Outcome.FAILURE, 100.0)
    breaker.report(early, outcome, 101.0)
    assert state_of(breaker) is BreakerState.OPEN
    probe = breaker.acquire(100.0 + COOLDOWN_SECONDS)
    assert probe is not None
    breaker.report(early, outcome, 106.0)
    assert state_of(breaker) is BreakerState.HALF_OPEN
    breaker.report(probe, Outcome.FAILURE, 106.0)
    breaker.report(probe, outcome, 106.0)
    assert state_of(breaker) is BreakerState.OPEN


@given(
    st.lists(st.tuples(st.floats(0, 40), st.sampled_from(Outcome), st.integers(0, 3)), max_size=80)
)
def test_it_never_gets_stuck_and_never_probes_twice(
    steps: list[tuple[float, Outcome, int]],
) -> None:
    breaker = Breaker()
    now = 0.0
    held: list[tuple[int, float]] = []
    for pause, outcome, which in steps:
        now += pause
        allowed = breaker.allows(now)
        permit = breaker.acquire(now)
        assert (permit is not None) == allowed
        if permit is not None:
            if breaker.state is BreakerState.HALF_OPEN:
                assert all(
                    other != permit for other, since in held if now - since < PROBE_SECONDS_MAX
                )
            held.append((permit, now))
        if held:
            breaker.report(held.pop(which % len(held))[0], outcome, now)
    assert breaker.allows(now + max(COOLDOWN_SECONDS_MAX, PROBE_SECONDS_MAX))
