"""What is new in a usage log since somebody looked: calls that ended, calls under way.

Rules: ids are of a call's beginning, so one that took long ends behind others that began later.
Each look reads the newest `WINDOW_ROWS` ended calls and all open ones, and by name those that were
open at the last look and are not any more; what was told is not told again. A call that was never
seen open and ends behind `WINDOW_ROWS` later ones is only in the log. This module must not know
who listens, nor how often.
"""

from typing import Final, NamedTuple

from proxy.storage.reader import Reader
from proxy.storage.reports.usage_log import (
    CallRow,
    OpenRow,
    Wanted,
    calls_named,
    open_calls,
    page,
)

WINDOW_ROWS: Final = 100


class News(NamedTuple):
    """Calls that ended since the last look, oldest first, and those under way, newest first."""

    ended: list[CallRow]
    running: list[OpenRow]


class Tail:
    """The calls that are `wanted`, looked at again and again over one reader."""

    def __init__(self, reader: Reader, wanted: Wanted) -> None:
        self._reader = reader
        self._wanted = wanted
        self._told: set[int] = set()
        self._open: set[int] = set()

    async def look(self) -> News:
        """Return what is new; the first look tells the newest calls. Raises sqlite3.Error."""
        # Open ones first: a call that ends in between is told now, or vanished at the next look.
        running = await open_calls(self._reader, self._wanted)
        window = (await page(self._reader, self._wanted, rows_max=WINDOW_ROWS)).calls
        seen = {call.id for call in window}
        ended = [call for call in window if call.id not in self._told]
        now_open = {call.id for call in running}
        vanished = self._open - now_open - seen - self._told
        if vanished:
            ended += await calls_named(self._reader, self._wanted, sorted(vanished))
        self._told = seen | (self._told & now_open)
        self._open = now_open
        running = [call for call in running if call.id not in seen]
        return News(sorted(ended, key=lambda call: call.id), running)
