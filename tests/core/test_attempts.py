import pytest

from proxy.core.attempts import (
    ACCOUNT,
    ADDRESS,
    FORGET_SECONDS,
    MAILS,
    Attempts,
    Rule,
    network_of,
)

RULE = Rule(free=2, first_seconds=1.0, seconds_max=10.0)


def test_waiting_begins_after_the_free_failures_and_doubles_to_its_bound() -> None:
    assert [RULE.wait(n) for n in range(9)] == [0, 0, 0, 1, 2, 4, 8, 10, 10]
    assert RULE.wait(10**6) == 10.0


def test_a_day_of_guessing_one_account_is_about_a_hundred_guesses() -> None:
    attempts, now, guesses = Attempts(ACCOUNT), 0.0, 0
    while now < FORGET_SECONDS:
        now += attempts.wait("ann", now)
        attempts.failed("ann", now)
        guesses += 1
        now += 0.1
    assert guesses < 120
    assert ADDRESS.free > ACCOUNT.free


def test_the_wait_is_over_by_time_and_a_success_forgives() -> None:
    attempts = Attempts(RULE)
    for at in (0.0, 1.0, 2.0):
        assert attempts.wait("ann", at) == 0.0
        attempts.failed("ann", at)
    assert attempts.wait("ann", 2.0) == 1.0
    assert attempts.wait("ann", 2.5) == 0.5
    assert attempts.wait("bob", 2.5) == 0.0
    assert attempts.wait("ann", 3.0) == 0.0
    attempts.failed("ann", 3.0)
    assert attempts.wait("ann", 3.0) == 2.0
    attempts.succeeded("ann")
    attempts.succeeded("nobody")
    assert attempts.wait("ann", 3.0) == 0.0


def test_a_name_is_new_again_after_a_day() -> None:
    attempts = Attempts(RULE)
    for _ in range(8):
        attempts.failed("ann", 0.0)
        attempts.failed("bob", 0.0)
    later = FORGET_SECONDS + 1.0
    assert attempts.wait("ann", later) == 0.0
    assert len(attempts) == 1
    attempts.failed("bob", later)
    assert attempts.wait("bob", later) == 0.0


def test_memory_is_bounded_and_who_failed_longest_ago_is_forgotten() -> None:
    attempts = Attempts(RULE, names_max=3)
    for _ in range(4):
        attempts.failed("first", 0.0)
    for number in range(10):
        attempts.failed(f"name {number}", 1.0)
        assert len(attempts) <= 3
    assert attempts.wait("first", 1.0) == 0.0
    attempts.failed("name 9", 1.0)
    assert len(attempts) == 3


def test_what_was_right_is_taken_back_and_no_more() -> None:
    attempts = Attempts(RULE)
    for _ in range(4):
        attempts.failed("here", 0.0)
    assert attempts.wait("here", 0.0) == 2.0
    attempts.taken_back("here")
    assert attempts.wait("here", 0.0) == 1.0
    attempts.taken_back("here")
    assert attempts.wait("here", 0.0) == 0.0
    for _ in range(3):
        attempts.taken_back("here")
    assert len(attempts) == 0


def test_many_at_once_are_counted_before_any_is_looked_at() -> None:
    attempts, looked_at = Attempts(ACCOUNT), 0
    for _ in range(1_000):
        if attempts.wait("ann", 0.0) == 0.0:
            attempts.failed("ann", 0.0)
            looked_at += 1
    assert looked_at == ACCOUNT.free + 1


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("unix:", "unknown"),
        (None, "unknown"),
    ],
)
def test_who_has_a_whole_network_is_one(address: str | None, name: str) -> None:
    assert network_of(address) == name
    assert MAILS.free < ADDRESS.free
