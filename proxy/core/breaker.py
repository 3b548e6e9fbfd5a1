"""A circuit breaker per channel: stop sending to an upstream that fails, and try again carefully.

Rules: closed counts outcomes in a window and opens when failures are both many and most of them;
open sends nothing until a cooldown is over; half-open lets one probe through, whose outcome closes
or reopens. Each reopening doubles the cooldown up to a bound. Outcomes of calls that began before
a change of state are ignored, as is the word of a probe that took too long. Time is an argument, in
seconds of a monotonic clock. This module must not know what a failure is.
"""

from enum import Enum, StrEnum
from typing import Final

FAILURES_MIN = 5
"""Fewer failures than this in a window never open the breaker."""
FAILURE_PERCENT_MIN = 50
WINDOW_SECONDS = 30.0
COOLDOWN_SECONDS = 5.0
COOLDOWN_SECONDS_MAX = 60.0
PROBE_SECONDS_MAX = 60.0
"""A probe without an outcome after this long no longer keeps others from probing."""


class BreakerState(StrEnum):
    """Whether calls are sent."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerEvent(Enum):
    """What moves a breaker from one state to another."""

    TRIPPED = "too many failures in a window"
    COOLED = "the cooldown is over and a call wants to go"
    PROBE_SUCCEEDED = "the probe came back well"
    PROBE_FAILED = "the probe failed"


TRANSITIONS = {
    (BreakerState.CLOSED, BreakerEvent.TRIPPED): BreakerState.OPEN,
    (BreakerState.OPEN, BreakerEvent.COOLED): BreakerState.HALF_OPEN,
    (BreakerState.HALF_OPEN, BreakerEvent.PROBE_SUCCEEDED): BreakerState.CLOSED,
    (BreakerState.HALF_OPEN, BreakerEvent.PROBE_FAILED): BreakerState.OPEN,
}
"""Every move there is; any other is a broken assumption."""


class Outcome(Enum):
    """How a call fared, as far as the health of its upstream is concerned."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"
    """The caller left before the upstream said anything: no evidence either way."""


# Read at every call: a member of an enum costs ten globals on Python 3.11.
_CLOSED: Final = BreakerState.CLOSED
_OPEN: Final = BreakerState.OPEN
_SUCCESS: Final = Outcome.SUCCESS
_UNKNOWN: Final = Outcome.UNKNOWN


class Breaker:
    """The breaker of one channel. Every permit from `acquire` is reported back exactly once."""

    __slots__ = ("_cooldown", "_failures", "_permit", "_since", "_total", "state")

    def __init__(self) -> None:
        self.state = _CLOSED
        self._since = 0.0
        """Closed: the window's start. Open: when the cooldown ends. Half-open: probe's expiry."""
        self._cooldown = COOLDOWN_SECONDS
        self._failures = 0
        self._total = 0
        self._permit = 0
        """Counts periods and probes: a permit of another value is out of date."""

    def allows(self, now: float) -> bool:
        """Whether a call could go now; changes nothing."""
        return self.state is _CLOSED or now >= self._since

    def acquire(self, now: float) -> int | None:
        """A permit for one call, or None. In half-open only one is out at a time."""
        if self.state is _CLOSED:
            return self._permit
        if now < self._since:
            return None
        if self.state is _OPEN:
            self._move(BreakerEvent.COOLED)
        self._permit += 1
        self._since = now + PROBE_SECONDS_MAX
        return self._permit

    def report(self, permit: int, outcome: Outcome, now: float) -> None:
        """The outcome of the call that `permit` was given for."""
        if permit != self._permit or self.state is _OPEN:
            return
        if self.state is _CLOSED:
            if outcome is _SUCCESS and 0.0 <= now - self._since < WINDOW_SECONDS:
                self._total += 1  # nearly always
            else:
                self._count(outcome, now)
        elif outcome is _SUCCESS:
            self._move(BreakerEvent.PROBE_SUCCEEDED)
            self._cooldown = COOLDOWN_SECONDS
            self._restart(now)
        elif outcome is Outcome.FAILURE:
            self._move(BreakerEvent.PROBE_FAILED)
            self._cooldown = min(self._cooldown * 2, COOLDOWN_SECONDS_MAX)
            self._since = now + self._cooldown
        else:
            self._since = now  # the next caller may probe at once

    def _count(self, outcome: Outcome, now: float) -> None:
        if outcome is _UNKNOWN:
            return
        if not 0 <= now - self._since < WINDOW_SECONDS:
            self._restart(now)
        self._total += 1
        if outcome is _SUCCESS:
            return
        self._failures += 1
        if (
            self._failures >= FAILURES_MIN
            and self._failures * 100 >= self._total * FAILURE_PERCENT_MIN
        ):
            self._move(BreakerEvent.TRIPPED)
            self._since = now + self._cooldown

    def _restart(self, now: float) -> None:
        self._since = now
        self._failures = self._total = 0

    def _move(self, event: BreakerEvent) -> None:
        target = TRANSITIONS.get((self.state, event))
        if target is None:
            raise AssertionError(f"{event.name} cannot happen to a breaker that is {self.state}")
        self.state = target
        self._permit += 1
