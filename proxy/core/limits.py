"""Rate and concurrency limits: token buckets per key and per user, decided in memory.

Rules: a bucket fills at its per-minute limit and holds one sixth of it (ten seconds' worth), at
least 1; key and user are both charged or neither is; a refusal changes nothing; every wait told
to a caller is at most 60 s, because SDKs ignore longer ones (WIRE.md section 4). Tokens are
taken by estimate at admission and corrected at release, so that bucket may go below zero, by at
most one minute's worth. Time is an argument, in seconds. Unlimited is an infinite bucket, which
keeps every branch off the path of a request. This module must not know about money or HTTP
responses, nor where the limits come from.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from math import ceil, inf

from msgspec import Struct

from proxy.core.entities import Usage

MINUTE_SECONDS = 60.0
BURST_DIVISOR = 6
RETRY_AFTER_SECONDS_MAX = 60.0
CONCURRENCY_RETRY_SECONDS = 1.0
ACCOUNTS_MAX = 200_000
SWEEP_MAX = 1_000
"""How many accounts one newcomer may look at to find an idle one to replace."""

_ROUNDING = 1e-6
"""Units, and seconds of filling, forgiven to floats: Unix seconds resolve no better than 0.24 us,
and a caller who waited as told must not be refused by that. A level carries what was forgiven."""


class LimitState(Struct, frozen=True, gc=False):
    """The live buckets of a key, for the rate-limit headers of both dialects.

    None means unlimited. `*_limit` is per minute, `*_remaining` whole units in the bucket now,
    `*_reset` seconds until the bucket is full again.
    """

    requests_limit: int | None = None
    requests_remaining: int | None = None
    requests_reset: float = 0.0
    tokens_limit: int | None = None
    tokens_remaining: int | None = None
    tokens_reset: float = 0.0


class LimitKind(StrEnum):
    """Which limit refused."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"


class LimitScope(StrEnum):
    """Whose limit refused."""

    KEY = "key"
    USER = "user"


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits of one key or one user; None means unlimited. Raises ValueError below 1."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    requests_rate: float = field(init=False, compare=False, repr=False)
    """Requests per second; 0 when unlimited, since an infinite bucket needs no filling."""
    requests_burst: float = field(init=False, compare=False, repr=False)
    requests_slack: float = field(init=False, compare=False, repr=False)
    tokens_rate: float = field(init=False, compare=False, repr=False)
    tokens_burst: float = field(init=False, compare=False, repr=False)
    tokens_slack: float = field(init=False, compare=False, repr=False)
    tokens_max: float = field(init=False, compare=False, repr=False)
    """Also the deepest debt: one minute's worth."""
    active_max: float = field(init=False, compare=False, repr=False)
    unlimited: bool = field(init=False, compare=False, repr=False)
    """Nothing of the above limits anything, so that there is nothing to fill nor to ask."""

    def __post_init__(self) -> None:
        """Derive the bucket figures once, when a catalog is built, and not per request."""
        requests_rate, requests_burst = _bucket("requests per minute", self.requests_per_minute)
        tokens_rate, tokens_burst = _bucket("tokens per minute", self.tokens_per_minute)
        _bucket("concurrency", self.concurrency)
        asked = {self.requests_per_minute, self.tokens_per_minute, self.concurrency}
        derived = {
            "requests_rate": requests_rate,
            "requests_burst": requests_burst,
            "requests_slack": _ROUNDING * (1 + requests_rate),
            "tokens_rate": tokens_rate,
            "tokens_burst": tokens_burst,
            "tokens_slack": _ROUNDING * (1 + tokens_rate),
            "tokens_max": inf if self.tokens_per_minute is None else self.tokens_per_minute,
            "active_max": inf if self.concurrency is None else self.concurrency,
            "unlimited": asked == {None},
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class EffectiveLimits:
    """What binds one call: the limits of its key and those of the key's owner."""

    key: RateLimits = field(default_factory=RateLimits)
    user: RateLimits = field(default_factory=RateLimits)
    unlimited: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Derive once, when a catalog is built, whether neither limits anything."""
        object.__setattr__(self, "unlimited", self.key.unlimited and self.user.unlimited)


@dataclass(frozen=True, slots=True)
class LimitDecision:
    """Whether a call may start; when not, the limit that makes it wait longest.

    `limit` is in the unit of `kind` (per minute for the two rates); `retry_after` is seconds,
    0 < s <= 60 on refusal.
    """

    admitted: bool
    kind: LimitKind | None = None
    scope: LimitScope | None = None
    limit: int = 0
    retry_after: float = 0.0


_ADMITTED = LimitDecision(admitted=True)
UNLIMITED = LimitState()
"""What a caller is told whom nothing limits."""


class Limiter:
    """All live buckets. Accounts that are full and idle equal new ones, so they may go.

    At most `accounts_max` keys and as many users are remembered; when all of them are in use a
    newcomer is refused for a second rather than let through uncounted.
    """

    __slots__ = ("_keys", "_users", "accounts_max")

    def __init__(self, accounts_max: int = ACCOUNTS_MAX) -> None:
        self.accounts_max = accounts_max
        self._keys: dict[int, _Account] = {}
        self._users: dict[int, _Account] = {}

    def decide(
        self, key_id: int, user_id: int, limits: EffectiveLimits, tokens: int, now: float
    ) -> LimitDecision:
        """Admit one call of `tokens` estimated tokens and charge key and user, or refuse it.

        A call larger than a bucket is admitted when that bucket is full, and leaves it in debt;
        one larger than a whole minute's tokens is always refused.
        """
        if tokens < 0:
            raise AssertionError(f"a call cannot reserve {tokens} tokens")
        key = self._keys.get(key_id) or self._open(self._keys, key_id, limits.key, now)
        user = self._users.get(user_id) or self._open(self._users, user_id, limits.user, now)
        if key is None or user is None:
            return _crowded(limits, key)
        if limits.unlimited and key.limits is limits.key and user.limits is limits.user:
            key.active += 1
            user.active += 1
            return _ADMITTED  # and nothing is taken from what is infinite
        bound = limits.key
        key_fits = (key.limits is bound and bound.unlimited) or key.fits(tokens, bound, now)
        bound = limits.user
        user_fits = (user.limits is bound and bound.unlimited) or user.fits(tokens, bound, now)
        if user_fits and key_fits:
            key.active += 1
            key.requests -= 1
            key.tokens -= tokens
            user.active += 1
            user.requests -= 1
            user.tokens -= tokens
            return _ADMITTED
        refusals = [
            *key.refusals(tokens, LimitScope.KEY),
            *user.refusals(tokens, LimitScope.USER),
        ]
        return max(refusals, key=_wait_of)

    def weigh(
        self, key_id: int, user_id: int, limits: EffectiveLimits, tokens: int, now: float
    ) -> LimitDecision:
        """Say what `decide` would, without charging anybody."""
        key = self._keys.get(key_id) or _Account(limits.key, now)
        user = self._users.get(user_id) or _Account(limits.user, now)
        key_fits = key.fits(tokens, limits.key, now)
        if user.fits(tokens, limits.user, now) and key_fits:
            return _ADMITTED
        refusals = [
            *key.refusals(tokens, LimitScope.KEY),
            *user.refusals(tokens, LimitScope.USER),
        ]
        return max(refusals, key=_wait_of)

    def restore(self, key_id: int, user_id: int, limits: EffectiveLimits, now: float) -> None:
        """Count a call again that was open before a restart, whatever the limits say to it.

        It takes its slots only: what it took from the buckets has long been refilled.
        """
        key = self._keys.get(key_id)
        if key is None:
            key = self._keys[key_id] = _Account(limits.key, now)
        user = self._users.get(user_id)
        if user is None:
            user = self._users[user_id] = _Account(limits.user, now)
        key.active += 1
        user.active += 1

    def release(
        self, key_id: int, user_id: int, tokens_reserved: int, used: Usage, now: float
    ) -> None:
        """End a call that was admitted: free its slot and correct its tokens.

        Raises AssertionError for a call that was never admitted; open calls keep their accounts.
        """
        key, user = self._keys.get(key_id), self._users.get(user_id)
        if key is None or user is None or not (key.active and user.active):
            raise AssertionError(f"nothing to release for key {key_id} of user {user_id}")
        if key.limits.unlimited and user.limits.unlimited:
            key.active -= 1
            user.active -= 1
            return
        missing = used.prompt_total + used.completion_total - tokens_reserved
        key.free(missing, now)
        user.free(missing, now)

    def state(self, key_id: int, user_id: int, limits: EffectiveLimits, now: float) -> LimitState:
        """The buckets a caller is told about: of key and user, the one with less left."""
        if limits.unlimited:
            return UNLIMITED
        key, user = self._keys.get(key_id), self._users.get(user_id)
        if key is None:
            key = _Account(limits.key, now)
        elif key.at != now or key.limits is not limits.key:  # not as `decide` has just left it
            key.refill(limits.key, now)
        if user is None:
            user = _Account(limits.user, now)
        elif user.at != now or user.limits is not limits.user:
            user.refill(limits.user, now)
        requests = user if user.requests < key.requests else key
        tokens = user if user.tokens < key.tokens else key
        requests_left = tokens_left = None
        requests_reset = tokens_reset = 0.0
        bound = requests.limits
        requests_limit = bound.requests_per_minute
        if requests_limit is not None:
            level = requests.requests
            requests_left = int(level + _ROUNDING) if level > 0 else 0
            requests_reset = (bound.requests_burst - level) / bound.requests_rate
        bound = tokens.limits
        tokens_limit = bound.tokens_per_minute
        if tokens_limit is not None:
            level = tokens.tokens
            tokens_left = int(level + _ROUNDING) if level > 0 else 0
            tokens_reset = (bound.tokens_burst - level) / bound.tokens_rate
        return LimitState(
            requests_limit, requests_left, requests_reset, tokens_limit, tokens_left, tokens_reset
        )

    def active(self, key_id: int) -> int:
        """How many calls of a key are open."""
        account = self._keys.get(key_id)
        return 0 if account is None else account.active

    def __len__(self) -> int:
        """How many accounts are remembered, keys and users together."""
        return len(self._keys) + len(self._users)

    def _open(
        self, accounts: "dict[int, _Account]", account_id: int, limits: RateLimits, now: float
    ) -> "_Account | None":
        if len(accounts) >= self.accounts_max and not _evict(accounts, now):
            return None
        account = accounts[account_id] = _Account(limits, now)
        return account


class _Account:
    """Both buckets and the open calls of one key or one user. Levels may be infinite.

    The conditional expressions stand for `min` and `max`, whose calls cost three times as much,
    and `fits` and `free` refill in their own bodies: each runs twice per request.
    """

    __slots__ = ("active", "at", "limits", "requests", "tokens")

    def __init__(self, limits: RateLimits, now: float) -> None:
        self.limits = limits
        self.at = now
        self.active = 0
        self.requests = limits.requests_burst
        self.tokens = limits.tokens_burst

    def refill(self, limits: RateLimits, now: float) -> None:
        """Bring both levels up to `now`, then adopt `limits` if the catalog changed them.

        A clock that was set back costs the refill of one step, never the wait for it to catch up.
        """
        elapsed = now - self.at
        self.at = now
        ours = self.limits
        if elapsed > 0:
            requests = self.requests + elapsed * ours.requests_rate
            burst = ours.requests_burst
            self.requests = requests if requests < burst else burst  # noqa: FURB136 - hot
            tokens = self.tokens + elapsed * ours.tokens_rate
            burst = ours.tokens_burst
            self.tokens = tokens if tokens < burst else burst  # noqa: FURB136 - hot
        if ours is not limits:
            self.limits = limits
            self.requests = _adopt(self.requests, limits.requests_burst)
            self.tokens = _adopt(self.tokens, limits.tokens_burst)

    def fits(self, tokens: int, limits: RateLimits, now: float) -> bool:
        """Whether one more call of `tokens` may start now; refills, so that refusals can tell."""
        if self.limits is limits:
            elapsed = now - self.at
            self.at = now
            requests, level = self.requests, self.tokens
            if elapsed > 0:
                requests += elapsed * limits.requests_rate
                if requests > limits.requests_burst:  # noqa: PLR1730 - hot
                    requests = limits.requests_burst
                self.requests = requests
                level += elapsed * limits.tokens_rate
                if level > limits.tokens_burst:  # noqa: PLR1730 - hot
                    level = limits.tokens_burst
                self.tokens = level
        else:
            self.refill(limits, now)
            requests, level = self.requests, self.tokens
        burst = limits.tokens_burst
        return (
            self.active < limits.active_max
            and requests + limits.requests_slack >= 1
            and level + limits.tokens_slack >= (tokens if tokens < burst else burst)  # noqa: FURB136 - hot
            and tokens <= limits.tokens_max
        )

    def free(self, missing: int, now: float) -> None:
        """Free one slot and take `missing` tokens more (negative: give back)."""
        limits = self.limits
        elapsed = now - self.at
        self.at = now
        self.active -= 1
        level, burst = self.tokens, limits.tokens_burst
        if elapsed > 0:
            requests = self.requests + elapsed * limits.requests_rate
            most = limits.requests_burst
            self.requests = requests if requests < most else most  # noqa: FURB136 - hot
            level += elapsed * limits.tokens_rate
            if level > burst:  # noqa: PLR1730 - hot
                level = burst
        level -= missing
        if level > burst:
            level = burst
        elif level < -limits.tokens_max:
            level = -limits.tokens_max
        self.tokens = level

    def refusals(self, tokens: int, scope: LimitScope) -> list[LimitDecision]:
        """Why one more call of `tokens` may not start; empty when it may."""
        found: list[LimitDecision] = []
        limits = self.limits
        if self.requests + limits.requests_slack < 1:
            wait = (1 - self.requests) / limits.requests_rate
            found.append(_refusal(LimitKind.REQUESTS, scope, limits.requests_per_minute, wait))
        if tokens > limits.tokens_max:
            wait = RETRY_AFTER_SECONDS_MAX
            found.append(_refusal(LimitKind.TOKENS, scope, limits.tokens_per_minute, wait))
        elif self.tokens + limits.tokens_slack < min(tokens, limits.tokens_burst):
            wait = (min(tokens, limits.tokens_burst) - self.tokens) / limits.tokens_rate
            found.append(_refusal(LimitKind.TOKENS, scope, limits.tokens_per_minute, wait))
        if self.active >= limits.active_max:
            wait = CONCURRENCY_RETRY_SECONDS
            found.append(_refusal(LimitKind.CONCURRENCY, scope, limits.concurrency, wait))
        return found

    def full(self, now: float) -> bool:
        """Whether nothing would be lost by forgetting this account."""
        if self.active:
            return False
        self.refill(self.limits, now)
        return (
            self.requests >= self.limits.requests_burst and self.tokens >= self.limits.tokens_burst
        )


def rate_limit_headers(state: LimitState, now: float) -> tuple[tuple[str, str], ...]:
    """Both header dialects of `state`; `now` is Unix seconds. Unlimited kinds are left out.

    OpenAI's resets are durations (`120ms`, `6m0s`), Anthropic's RFC 3339 times rounded up to the
    second (WIRE.md sections 4 and 5).
    """
    rows: tuple[tuple[str, str], ...] = ()
    if state.requests_limit is not None:
        limit, left = str(state.requests_limit), str(state.requests_remaining)
        reset = state.requests_reset
        rows = (
            ("x-ratelimit-limit-requests", limit),
            ("x-ratelimit-remaining-requests", left),
            ("x-ratelimit-reset-requests", _duration(ceil(reset * 1000))),
            ("anthropic-ratelimit-requests-limit", limit),
            ("anthropic-ratelimit-requests-remaining", left),
            ("anthropic-ratelimit-requests-reset", _timestamp(ceil(now + reset))),
        )
    if state.tokens_limit is not None:
        limit, left, reset = (
            str(state.tokens_limit),
            str(state.tokens_remaining),
            state.tokens_reset,
        )
        rows += (
            ("x-ratelimit-limit-tokens", limit),
            ("x-ratelimit-remaining-tokens", left),
            ("x-ratelimit-reset-tokens", _duration(ceil(reset * 1000))),
            ("anthropic-ratelimit-tokens-limit", limit),
            ("anthropic-ratelimit-tokens-remaining", left),
            ("anthropic-ratelimit-tokens-reset", _timestamp(ceil(now + reset))),
        )
    return rows


@lru_cache(maxsize=16_384)
def _duration(milliseconds: int) -> str:
    """A duration as Go prints it, which is what OpenAI sends: `0s`, `120ms`, `8.64s`, `6m0s`."""
    if milliseconds <= 0:
        return "0s"
    seconds, rest = divmod(milliseconds, 1000)
    if not seconds:
        return f"{rest}ms"
    minutes, seconds = divmod(seconds, 60)
    fraction = f".{rest:03}".rstrip("0") if rest else ""
    return f"{minutes}m{seconds}{fraction}s" if minutes else f"{seconds}{fraction}s"


@lru_cache(maxsize=1024)
def _timestamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _bucket(what: str, limit: int | None) -> tuple[float, float]:
    """Rate per second and burst of a per-minute limit."""
    if limit is None:
        return 0.0, inf
    if limit < 1:
        raise ValueError(f"{what} must be at least 1 (leave it out for unlimited), not {limit}")
    return limit / MINUTE_SECONDS, max(1.0, limit / BURST_DIVISOR)


def _adopt(level: float, burst: float) -> float:
    """The level of a bucket whose size changed: full when one of the sizes was infinite."""
    return burst if burst == inf or level > burst else level


def _refusal(kind: LimitKind, scope: LimitScope, limit: int | None, wait: float) -> LimitDecision:
    if limit is None:
        raise AssertionError(f"the unlimited {kind} of a {scope} refused a call")
    retry_after = min(wait, RETRY_AFTER_SECONDS_MAX)
    return LimitDecision(
        admitted=False, kind=kind, scope=scope, limit=limit, retry_after=retry_after
    )


def _crowded(limits: EffectiveLimits, key: _Account | None) -> LimitDecision:
    """The answer to a newcomer when every account is in use."""
    scope = LimitScope.KEY if key is None else LimitScope.USER
    bound = limits.key if key is None else limits.user
    limit = bound.concurrency or 0
    return LimitDecision(
        admitted=False,
        kind=LimitKind.CONCURRENCY,
        scope=scope,
        limit=limit,
        retry_after=CONCURRENCY_RETRY_SECONDS,
    )


def _wait_of(decision: LimitDecision) -> float:
    return decision.retry_after


def _evict(accounts: dict[int, _Account], now: float) -> bool:
    """Forget the first full idle account of at most `SWEEP_MAX`, oldest first; the busy go last."""
    for _ in range(min(SWEEP_MAX, len(accounts))):
        account_id = next(iter(accounts))
        account = accounts.pop(account_id)
        if account.full(now):
            return True
        accounts[account_id] = account
    return False
