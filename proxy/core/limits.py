"""Rate and concurrency limits: token buckets per key and per user, decided in memory.

Rules: time is an argument (seconds, never running backwards further than it is ignored); a
decision is a value; on refusal nothing changes. This module must not know about money, HTTP
responses or where the numbers come from.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LimitState:
    """The live buckets of a key, for the rate-limit headers of both dialects.

    None means unlimited. `*_reset` is seconds until the bucket is full again.
    """

    requests_limit: int | None = None
    requests_remaining: int | None = None
    requests_reset: float = 0.0
    tokens_limit: int | None = None
    tokens_remaining: int | None = None
    tokens_reset: float = 0.0
