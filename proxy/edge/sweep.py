"""One coarse timer for every deadline of a worker, instead of a timer per stream.

Anything with a deadline registers and is asked, four times a second, what time it is. Not all in
one go: no event moves while they are asked, which takes the longer the more they are, so a round is
spread over turns of a few members each; and of those who do more than look (a stream's progress
mark counts its text, tens of microseconds) a turn has two at most. This module must not know what
the deadlines are for.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

TICK_SECONDS: Final = 0.25
"""A round, in which every member is asked once."""
TURNS_MAX: Final = 16
TOGETHER_MIN: Final = 8
"""So few members are not worth a turn of the loop each."""
WORKING_MAX: Final = 2
"""Members that did more than look, after which a turn ends."""


class Ticking(Protocol):
    """Something with deadlines."""

    quiet_until: float
    """It has none before this loop time, and is not asked till about then, which is half a round
    sooner or later; it may come back to it."""

    def tick(self, now: float) -> bool | None:
        """Look at the deadlines at loop time `now`. Must not raise. True: it did more than look."""


class Sweep:
    """Calls `tick` on everything registered."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._members: set[Ticking] = set()
        self.add: Final[Callable[[Ticking], None]] = self._members.add
        """Starts ticking a member. The set's own, as the next: each call is in here once."""
        self.remove: Final[Callable[[Ticking], None]] = self._members.discard
        """Stops ticking a member; no error if it was not there."""
        self._handle: asyncio.TimerHandle | None = None
        self._due: list[Ticking] = []
        """Who is still to be asked in this round; those who left meanwhile are in it."""
        self._together = TOGETHER_MIN
        self._share = TICK_SECONDS
        """Of the round, for each whom it began with."""
        self._ends = loop.time()

    def start(self) -> None:
        """Begin to tick."""
        self._handle = self._loop.call_later(TICK_SECONDS, self._turn)

    def stop(self) -> None:
        """Stop for good."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _turn(self) -> None:
        now, members = self._loop.time(), self._members
        due = self._due
        if not due:
            self._ends = now + TICK_SECONDS
            # Most are streams that flow, which cost less to leave out than to ask.
            last = self._ends + TICK_SECONDS / 2
            due = self._due = [member for member in members if member.quiet_until < last]
            self._together = max(TOGETHER_MIN, -(-len(due) // TURNS_MAX))
            self._share = TICK_SECONDS / (len(due) or 1)
        left, working, soon = self._together, 0, now + TICK_SECONDS / 2
        while due and left and working < WORKING_MAX:
            left -= 1
            member = due.pop()
            if member.quiet_until <= soon and member in members and member.tick(now):
                working += 1
        # When as many would have been asked had they come one by one through the whole round.
        wait = self._ends - self._share * len(due) - now
        self._handle = self._loop.call_later(wait if wait > 0 else 0.0, self._turn)
