"""Months that begin on the day somebody began: when the one around a moment starts and ends.

Rules: counted from the first beginning, in UTC, so that who began on the 31st is back on the 31st
after a shorter month, whose last day stands in for it. This module must not know what months are
for.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

LATEST: Final = 253_402_300_799.0
"""The last second of the year 9999, after which no moment can be told, in Unix seconds."""


class Month(NamedTuple):
    """From `start` up to but without `end`, Unix seconds."""

    start: int
    end: int


def month_around(anchor: int, now: float) -> Month:
    """Return the month around `now` of those that count from `anchor`; the first if before it."""
    first = datetime.fromtimestamp(anchor, UTC)
    moment = datetime.fromtimestamp(max(now, float(anchor)), UTC)
    number = (moment.year - first.year) * 12 + moment.month - first.month
    if _beginning(first, number) > moment:
        number -= 1
    start, end = _beginning(first, number), _beginning(first, number + 1)
    return Month(int(start.timestamp()), int(end.timestamp()))


def _beginning(first: datetime, number: int) -> datetime:
    year, month = divmod(first.month - 1 + number, 12)
    first_day = first.replace(year=first.year + year, month=month + 1, day=1)
    last = ((first_day + timedelta(days=31)).replace(day=1) - timedelta(days=1)).day
    return first_day.replace(day=min(first.day, last))
