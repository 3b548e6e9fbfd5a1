"""One coarse timer for every deadline of a worker, instead of a timer per stream.

Anything with a deadline registers and is asked, four times a second, what time it is. Not all in
one go: no event moves while they are asked, which takes the longer the more they are, so a round is
spread over turns of a few members each. This module must not know what the deadlines are for.
"""

import asyncio
from typing import Final, Protocol

TICK_SECONDS: Final = 0.25
"""A round, in which every member is asked once."""
TURNS_MAX: Final = 16
TOGETHER_MIN: Final = 8
"""So few members are not worth a turn of the loop each."""


class Ticking(Protocol):
    """Something with deadlines."""

    def tick(self, now: float) -> None:
        """Look at the deadlines; `now` is loop time. Must not raise."""


class Sweep:
    """Calls `tick` on everything registered."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._members: set[Ticking] = set()
        self._handle: asyncio.TimerHandle | None = None
        self._due: list[Ticking] = []
        """Who is still to be asked in this round; those who left meanwhile are in it."""
        self._together = TOGETHER_MIN
        self._pause = TICK_SECONDS

    def add(self, member: Ticking) -> None:
        """Start ticking `member`."""
        self._members.add(member)

    def remove(self, member: Ticking) -> None:
        """Stop ticking `member`; no error if it was not there."""
        self._members.discard(member)

    def start(self) -> None:
        """Begin to tick."""
        self._handle = self._loop.call_later(TICK_SECONDS, self._turn)

    def stop(self) -> None:
        """Stop for good."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _turn(self) -> None:
        now = self._loop.time()
        if not self._due:
            self._begin_round()
        some = self._due[-self._together :]
        del self._due[-self._together :]
        for member in some:
            if member in self._members:
                member.tick(now)
        self._handle = self._loop.call_later(self._pause, self._turn)

    def _begin_round(self) -> None:
        self._due = list(self._members)
        self._together = max(TOGETHER_MIN, -(-len(self._due) // TURNS_MAX))
        self._pause = TICK_SECONDS / max(1, -(-len(self._due) // self._together))
