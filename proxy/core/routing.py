"""Which upstream next, with which of its keys, whether to try again, and what to tell the caller.

Rules, all of DESIGN.md section 6: higher priority first, then a weighted draw; a key that got
401, 402, 403 or 429 rests; a call is tried again before content only, at most twice more, while
retries stay within a fifth of the calls in progress; the upstream's statuses reach the caller by
one table. Time and chance are arguments. This module must not know sockets, nor who is asking.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from math import inf, log

from proxy.core.entities import Channel, ChannelKey, Dialect, Group
from proxy.core.errors import ErrorCode

RETRIES_MAX = 2
RETRY_BUDGET_PERCENT = 20
RETRY_BUDGET_FLOOR = 3

CREDENTIAL_COOLDOWN_SECONDS = 60.0
"""Rest of a key that was refused: 401, 402, 403."""
RATE_COOLDOWN_SECONDS = 1.0
"""Rest of a key that got 429 without a usable `retry-after`."""
COOLDOWN_SECONDS_MAX = 300.0
COOLING_STATUSES = frozenset({401, 402, 403, 429})

CALLER_RETRY_SECONDS_MAX = 60.0
"""SDKs ignore longer waits (WIRE.md section 4)."""
_RETRY_AFTER_SANE_MAX = 86_400.0
"""An upstream that asks for more than a day is not believed."""

ANONYMOUS_KEY = ChannelKey(0, "")
"""The key of a channel without keys: send no credential."""


def plan(
    channels: tuple[Channel, ...], usable: Callable[[Channel], bool], rng: Callable[[], float]
) -> tuple[Channel, ...]:
    """The channels to try, in order; those not `usable` (open breaker, no key awake) left out.

    `rng` gives floats in [0, 1). Among equals of priority each place goes to a channel with
    probability proportional to its weight; weight 0 comes after all others.
    """
    if len(channels) == 1:
        return channels if usable(channels[0]) else ()
    drawn = []
    for channel in channels:
        if usable(channel):
            chance = rng()
            # Exponential races are won in proportion to their rates.
            finish = -log(1.0 - chance) / channel.weight if channel.weight > 0 else inf
            drawn.append(((-channel.priority, finish, chance, channel.id), channel))
    drawn.sort(key=_by_draw)
    return tuple(channel for _, channel in drawn)


class KeyPool:
    """The keys of one channel, in turn; a key that was refused rests for a while."""

    __slots__ = ("_keys", "_next", "_resting")

    def __init__(self, keys: Iterable[ChannelKey]) -> None:
        self._keys = tuple(keys) or (ANONYMOUS_KEY,)
        self._next = 0
        self._resting: dict[ChannelKey, tuple[float, int]] = {}

    def adopt(self, keys: Iterable[ChannelKey]) -> None:
        """Take over the keys of a new catalog; a key that is the same keeps resting."""
        self._keys = tuple(keys) or (ANONYMOUS_KEY,)
        self._resting = {key: self._resting[key] for key in self._keys if key in self._resting}

    def acquire(self, now: float, only: int | None = None) -> ChannelKey | None:
        """The next key that is awake, or None; `only` the one of that id, while there is one."""
        keys = self._keys
        if only is not None:
            for key in keys:
                if key.id == only:
                    return key if self._awake(key, now) else None
        elif not self._resting:  # nearly always
            position = self._next % len(keys)
            self._next = position + 1
            return keys[position]
        for _ in keys:
            key = keys[self._next % len(keys)]
            self._next = (self._next + 1) % len(keys)
            if self._awake(key, now):
                return key
        return None

    def ready(self, now: float) -> bool:
        """Whether `acquire` would give a key; changes nothing that matters."""
        return not self._resting or any(self._awake(key, now) for key in self._keys)

    def cool(self, key: ChannelKey, status: int, retry_after: float | None, now: float) -> bool:
        """Let `key` rest if `status` says so; returns whether it did.

        `retry_after` is what the upstream asked for, seconds (`parse_retry_after`).
        """
        if status not in COOLING_STATUSES or key not in self._keys:
            return False
        rest = RATE_COOLDOWN_SECONDS if status == 429 else CREDENTIAL_COOLDOWN_SECONDS
        if retry_after is not None:
            rest = min(max(rest, retry_after), COOLDOWN_SECONDS_MAX)
        until, _ = self._resting.get(key, (now, 0))
        self._resting[key] = (max(until, now + rest), status)
        return True

    def resting(self, now: float) -> int:
        """How many keys rest now."""
        return sum(until > now for until, _ in self._resting.values())

    def blocked(self, now: float) -> tuple[int, float] | None:
        """Status and seconds to wait of the key that wakes first; None when one is awake."""
        if self.ready(now):
            return None
        until, status = min(self._resting[key] for key in self._keys)
        return status, until - now

    def _awake(self, key: ChannelKey, now: float) -> bool:
        rest = self._resting.get(key)
        if rest is None:
            return True
        if now < rest[0]:
            return False
        del self._resting[key]
        return True


class RetryBudget:
    """How many retries may be in progress at once, so that an outage is not multiplied."""

    __slots__ = ("in_progress",)

    def __init__(self) -> None:
        self.in_progress = 0

    def acquire(self, active: int, made: int, retries_max: int = RETRIES_MAX) -> bool:
        """Whether a call may try again; True counts it until `release`.

        `active` calls are in progress (this one among them); this one has made `made` retries.
        """
        allowed = max(RETRY_BUDGET_FLOOR, active * RETRY_BUDGET_PERCENT // 100)
        if made >= retries_max or self.in_progress >= allowed:
            return False
        self.in_progress += 1
        return True

    def release(self) -> None:
        """A retry ended, one way or the other. Raises AssertionError when none was begun."""
        if self.in_progress <= 0:
            raise AssertionError("a retry was released twice")
        self.in_progress -= 1


class AttemptFailure(Enum):
    """How an attempt failed, as far as trying again is concerned."""

    CONNECT = "no connection, or no TLS on it"
    STATUS = "an answer with an error status"
    ERROR_EVENT = "an error inside a 200"
    BROKEN = "connection lost, stream truncated, framing malformed, or not the answer asked for"
    TIMEOUT = "no first byte, or silence, within the deadline"


def retryable(
    failure: AttemptFailure, group: Group, *, status: int | None = None, content_started: bool
) -> bool:
    """Whether another upstream may be asked; `status` is needed for `AttemptFailure.STATUS`.

    Never once content has started. After a timeout only if the group says so, because the
    upstream may have done, and billed, the work. A broken answer is judged as a 502.
    """
    if content_started:
        return False
    if failure is AttemptFailure.TIMEOUT:
        return group.retry_after_timeout
    if failure is AttemptFailure.STATUS:
        if status is None:
            raise AssertionError("a failure by status needs the status")
        return status in COOLING_STATUSES or 500 <= status < 600
    return True


@dataclass(frozen=True, slots=True)
class MappedStatus:
    """What the caller is told of an upstream's status.

    `status` is the caller's (it may differ from the row of `code`); `passes`: the upstream's
    message goes along, redacted; otherwise ours. `retry_after` seconds, at most 60, or None.
    """

    code: ErrorCode
    status: int
    passes: bool = False
    retry_after: float | None = None


_PASSED = {
    400: ErrorCode.INVALID_REQUEST,
    404: ErrorCode.MODEL_NOT_FOUND,
    408: ErrorCode.REQUEST_TIMEOUT,
    413: ErrorCode.REQUEST_TOO_LARGE,
    422: ErrorCode.INVALID_REQUEST,
}
_UNAVAILABLE_SECONDS = 5.0
_REPLACED = {
    401: (ErrorCode.UPSTREAM_UNAVAILABLE, _UNAVAILABLE_SECONDS),
    402: (ErrorCode.UPSTREAM_UNAVAILABLE, _UNAVAILABLE_SECONDS),
    403: (ErrorCode.UPSTREAM_UNAVAILABLE, _UNAVAILABLE_SECONDS),
    429: (ErrorCode.UPSTREAM_RATE_LIMITED, RATE_COOLDOWN_SECONDS),
    503: (ErrorCode.UPSTREAM_UNAVAILABLE, _UNAVAILABLE_SECONDS),
    529: (ErrorCode.UPSTREAM_OVERLOADED, _UNAVAILABLE_SECONDS),
}


def map_status(status: int, dialect: Dialect, retry_after: float | None = None) -> MappedStatus:
    """Translate an upstream's error `status` for a caller who speaks `dialect`.

    400, 404, 408, 413 and 422 are the caller's to mend and pass with their message; refused
    credentials and empty accounts are ours (503); 429 stays 429; 529 exists for Anthropic's
    callers only; redirects, other 4xx and 5xx, and what is no status at all are a 502.
    `retry_after` is the upstream's wish in seconds. Raises AssertionError for a 2xx.
    """
    if 200 <= status < 300:
        raise AssertionError(f"{status} is not an error")
    passed = _PASSED.get(status)
    if passed is not None:
        return MappedStatus(passed, status, passes=True)
    if status not in _REPLACED:
        return MappedStatus(ErrorCode.UPSTREAM_ERROR, ErrorCode.UPSTREAM_ERROR.status)
    code, seconds = _REPLACED[status]
    if code is ErrorCode.UPSTREAM_OVERLOADED and dialect is not Dialect.ANTHROPIC:
        code = ErrorCode.UPSTREAM_UNAVAILABLE
    if retry_after is not None:
        seconds = min(max(retry_after, RATE_COOLDOWN_SECONDS), CALLER_RETRY_SECONDS_MAX)
    return MappedStatus(code, code.status, retry_after=seconds)


_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)
_HTTP_DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
    r" ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT",
    re.ASCII,
)
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds an upstream's `retry-after` asks for; None when absent or not to be believed.

    Decimal seconds or an IMF-fixdate (RFC 9110 sections 5.6.7 and 10.2.3); `now` is Unix seconds.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        seconds = float(text)
    else:
        match = _HTTP_DATE.fullmatch(text)
        if match is None:
            return None
        day, month, year, hour, minute, second = match.groups()
        try:
            moment = datetime(
                int(year),
                _MONTHS.index(month) + 1,
                int(day),
                int(hour),
                int(minute),
                int(second),
                tzinfo=UTC,
            )
        except ValueError:
            return None
        seconds = moment.timestamp() - now
    return seconds if 0 <= seconds <= _RETRY_AFTER_SANE_MAX else None


def _by_draw(
    drawn: tuple[tuple[int, float, float, int], Channel],
) -> tuple[int, float, float, int]:
    return drawn[0]
