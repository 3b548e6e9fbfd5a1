"""What a wallet's calls come to by day: each day is added up once, and kept when it is over.

Rules: a day's detail and what left it are read by one statement, so that a call that moves from the
one to the other is counted once; a day is over when the one after it is, since a call counts where
it began and may end later. How many rows one question looks at is bounded: what was too much is
said, and as each day is kept, asking again goes further back. This module must not know who asks.
"""

from collections import OrderedDict
from dataclasses import replace
from typing import Any, Final

from proxy.core.ids import first_id_at, moment_of
from proxy.storage.accounts import COMPLETION_TOTAL, PROMPT_TOTAL
from proxy.storage.reader import Reader
from proxy.storage.reports.usage_log import Sums, Wanted, narrowed

DAY_SECONDS: Final = 86_400
LOOKED_AT_MAX: Final = 200_000
"""Calls one question looks at."""
DAY_CALLS_MAX: Final = 200_000
"""Calls of one wallet and day that are added up; of busier days nothing is said."""
DAYS_MAX: Final = 400
KEPT_ROWS_MAX: Final = 200_000
"""Rows of sums that are kept, by day, model and key."""
_COUNT: Final = (
    "SELECT count(*) FROM (SELECT 1 FROM call WHERE user_id = ? AND id >= ? AND id < ? LIMIT ?)"
)
_FIRST_DAYS: Final = (
    "SELECT (SELECT min(id) FROM call WHERE user_id = ?1), "
    "(SELECT min(day) FROM rollup WHERE user_id = ?1)"
)
_FIGURES: Final = "sum(calls_made), sum(errors), sum(charge), sum(input), sum(written)"

Rows = list[tuple[Any, ...]]


class DaySums:
    """Sums of days that are over, for everybody who asks in this process."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Wanted, int], Rows] = OrderedDict()
        self._rows = 0

    async def sums(self, reader: Reader, wanted: Wanted, now: float) -> Sums:
        """Add up the days of `wanted`, whose times are midnights or None. Raises sqlite3.Error."""
        if wanted.wallet is None:
            raise AssertionError("sums by day are a wallet's")
        found = Sums()
        first, last = await self._days(reader, wanted, now)
        question = replace(wanted, since=None, until=None)
        left = LOOKED_AT_MAX
        for number, day in enumerate(range(last, first - 1, -1)):
            over = (day + 2) * DAY_SECONDS <= now and wanted.person is None
            rows = self._look_up(question, day) if over else None
            if rows is None:
                calls = await _calls(reader, wanted.wallet, day)
                left -= calls
                if calls > DAY_CALLS_MAX or left < 0 or number >= DAYS_MAX:
                    found.back_to = float((day + 1) * DAY_SECONDS)
                    break
                rows = await _add_up(reader, question, day)
                if over:
                    self._keep(question, day, rows)
            found.add(rows)
        return found

    async def _days(self, reader: Reader, wanted: Wanted, now: float) -> tuple[int, int]:
        """The first and the last day on which there can be a call that is wanted."""
        ((call_id, rolled_up),) = await reader.rows(_FIRST_DAYS, (wanted.wallet,))
        days = [] if call_id is None else [int(moment_of(call_id) // DAY_SECONDS)]
        days += [] if rolled_up is None else [rolled_up]
        if not days:
            return 1, 0
        first, last = min(days), int(now // DAY_SECONDS)
        if wanted.since is not None:
            first = max(first, int(wanted.since // DAY_SECONDS))
        if wanted.until is not None:
            last = min(last, int(wanted.until // DAY_SECONDS) - 1)
        return first, last

    def _look_up(self, question: Wanted, day: int) -> Rows | None:
        rows = self._kept.get((question, day))
        if rows is not None:
            self._kept.move_to_end((question, day))
        return rows

    def _keep(self, question: Wanted, day: int, rows: Rows) -> None:
        self._kept[question, day] = rows
        self._rows += len(rows) + 1
        while self._rows > KEPT_ROWS_MAX:
            _, dropped = self._kept.popitem(last=False)
            self._rows -= len(dropped) + 1


async def _calls(reader: Reader, wallet: int, day: int) -> int:
    """How many calls the wallet has of a day; at most one more than can be added up."""
    first, above = _ids_of(day)
    rows = await reader.rows(_COUNT, (wallet, first, above, DAY_CALLS_MAX + 1))
    return int(rows[0][0])


async def _add_up(reader: Reader, question: Wanted, day: int) -> Rows:
    """Rows of (day, model, key id, and the figures of a `Sum`) of one day."""
    first, above = _ids_of(day)
    picked, values = narrowed(question)
    detail = (
        "SELECT model, key_id, 1 AS calls_made, error_code IS NOT NULL AS errors, charge, "  # noqa: S608 - constants
        f"{PROMPT_TOTAL} AS input, {COMPLETION_TOTAL} AS written FROM call "
        f"WHERE id >= ? AND id < ?{picked}"
    )
    cells: list[Any] = [first, above, *values]
    if not question.ended:
        detail += (
            f" UNION ALL SELECT model, key_id, ended, errors, charge, {PROMPT_TOTAL}, "  # noqa: S608 - constants
            f"{COMPLETION_TOTAL} FROM rollup WHERE day = ?{picked}"
        )
        cells += [day, *values]
    return await reader.rows(
        f"SELECT {day} AS day, model, key_id, {_FIGURES} FROM ({detail}) "  # noqa: S608 - constants
        "GROUP BY model, key_id",
        tuple(cells),
    )


def _ids_of(day: int) -> tuple[int, int]:
    return first_id_at(day * DAY_SECONDS), first_id_at((day + 1) * DAY_SECONDS)
