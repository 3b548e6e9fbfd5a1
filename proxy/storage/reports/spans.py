"""Spans of time as spans of call ids, and long walks over calls in short steps.

Rules: ids sort by time (core/ids.py), so a span of time is a range of the table's own order and
needs no index. A walk asks for a bounded number of calls at a time: one long statement would hold
its view of the file, and with it the write-ahead log, for as long as it runs. This module must not
know what is asked of the calls.
"""

from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from proxy.core.ids import EPOCH_MS
from proxy.storage.reader import Reader
from proxy.storage.retention import DAY_MS, first_id_of

CALLS_A_STEP: Final = 5_000
"""Some 20 ms of SQLite's time for sums over them."""
ID_MAX: Final = (1 << 63) - 1
DAY_OF_ID: Final = f"((id >> 22) + {EPOCH_MS}) / {DAY_MS}"
"""SQL: the UTC day since 1970 of a call's id."""
_LAST_OF_STEP: Final = (
    "SELECT max(id), count(*) FROM "
    "(SELECT id FROM call WHERE id >= ? AND id < ? ORDER BY id LIMIT ?) AS step"
)


class Days(NamedTuple):
    """UTC days since 1970, `first` to `last`, both included."""

    first: int
    last: int

    @property
    def ids(self) -> tuple[int, int]:
        """The ids that calls of these days may have: from, up to but without."""
        return first_id_of(self.first), first_id_of(self.last + 1)


async def steps(
    reader: Reader, first: int, end: int, calls: int = CALLS_A_STEP
) -> AsyncIterator[tuple[int, int]]:
    """Yield ranges of ids, both ends included, that hold every call of [first, end) in order.

    Each holds at most `calls`. Raises sqlite3.Error.
    """
    while first < end:
        ((last, found),) = await reader.rows(_LAST_OF_STEP, (first, end, calls))
        if last is None:
            return
        yield first, last
        if found < calls:
            return
        first = last + 1
