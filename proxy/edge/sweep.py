"""One coarse timer for every deadline of a worker, instead of a timer per stream.

Anything with a deadline registers and is asked, four times a second, what time it is. A set of
five thousand streams costs about a millisecond a tick. This module must not know what the
deadlines are for.
"""

import asyncio
from typing import Final, Protocol

TICK_SECONDS: Final = 0.25


class Ticking(Protocol):
    """Something with deadlines."""

    def tick(self, now: float) -> None:
        """Look at the deadlines; `now` is loop time. Must not raise."""


class Sweep:
    """Calls `tick` on everything registered, and measures how late the loop is."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._members: set[Ticking] = set()
        self._handle: asyncio.TimerHandle | None = None
        self.lag_seconds = 0.0

    def add(self, member: Ticking) -> None:
        """Start ticking `member`."""
        self._members.add(member)

    def remove(self, member: Ticking) -> None:
        """Stop ticking `member`; no error if it was not there."""
        self._members.discard(member)

    def start(self) -> None:
        """Begin to tick."""
        self._handle = self._loop.call_later(TICK_SECONDS, self._tick)
        self._due = self._loop.time() + TICK_SECONDS

    def stop(self) -> None:
        """Stop for good."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        now = self._loop.time()
        self.lag_seconds = max(0.0, now - self._due)
        for member in tuple(self._members):
            member.tick(now)
        self._due = self._loop.time() + TICK_SECONDS
        self._handle = self._loop.call_later(TICK_SECONDS, self._tick)
