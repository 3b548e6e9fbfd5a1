"""What was charged, given back and owed upstream, by day and channel, model or group.

Rules: calls with detail and the sums of those without are one report; a call counts at the channel
that served it, a cost at the channel that was tried; a refund counts on the day of the call it
gives back, so that a day's margin is that of its calls. What a channel's cost is unknown for is
booked as zero, so the attempts without one are counted beside it. Nano-USD. This module must not
know who asks.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from proxy.storage.reader import Reader
from proxy.storage.reports.spans import DAY_OF_ID, Days, steps

DAYS_MAX: Final = 366
NAMES_MAX: Final = 500
"""Channels, models or groups told apart a day; the rest of a day is summed as `OTHERS`."""
OTHERS: Final = "…"
NO_CHANNEL: Final = ""


class By(StrEnum):
    """What sums are told apart by, beside the day."""

    CHANNEL = "channel"
    MODEL = "model"
    GROUP = "group"


@dataclass(slots=True)
class Margin:
    """Sums of calls. `expense`: used and not charged (overrun, forgiven). Nano-USD.

    `unknown`: attempts that served and cost nothing, as far as anybody said.
    """

    calls: int = 0
    errors: int = 0
    charged: int = 0
    refunded: int = 0
    expense: int = 0
    attempts: int = 0
    cost: int = 0
    unknown: int = 0

    @property
    def margin(self) -> int:
        """What is left of what was charged."""
        return self.charged - self.refunded - self.cost

    def add(self, other: "Margin") -> None:
        """Add another's sums to these."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_SUMS: Final = ("calls", "errors", "charged", "refunded", "expense", "attempts", "cost", "unknown")


@dataclass(slots=True)
class Report:
    """Sums by (UTC day since 1970, name); the name of calls that no channel served is empty."""

    rows: dict[tuple[int, str], Margin] = field(default_factory=dict)
    _names: dict[int, int] = field(default_factory=dict)

    def at(self, day: int, name: str) -> Margin:
        """The sums of a day and name, to be added to."""
        found = self.rows.get((day, name))
        if found is None:
            known = self._names.get(day, 0)
            if known >= NAMES_MAX and name != OTHERS:
                return self.at(day, OTHERS)
            self._names[day] = known + 1
            found = self.rows[(day, name)] = Margin()
        return found

    def by_name(self) -> list[tuple[str, Margin]]:
        """Sums of all days by name, the most charged first."""
        return sorted(
            self._grouped((name, row) for (_, name), row in self.rows.items()).items(),
            key=lambda pair: (-pair[1].charged, pair[0]),
        )

    def by_day(self, days: Days) -> list[tuple[int, Margin]]:
        """Sums of all names by day, days without calls among them."""
        found = self._grouped((day, row) for (day, _), row in self.rows.items())
        return [(day, found.get(day, Margin())) for day in range(days.first, days.last + 1)]

    def total(self) -> Margin:
        """Sums of everything."""
        total = Margin()
        for row in self.rows.values():
            total.add(row)
        return total

    @staticmethod
    def _grouped(pairs: Iterable[tuple[Any, Margin]]) -> dict[Any, Margin]:
        found: dict[Any, Margin] = {}
        for name, row in pairs:
            found.setdefault(name, Margin()).add(row)
        return found


_SERVED: Final = "(SELECT name FROM channel WHERE channel.id = rows.channel_id)"
_NAME_OF_CALL: Final = {By.CHANNEL: _SERVED, By.MODEL: "rows.model", By.GROUP: "rows.group_name"}
_CALLS: Final = (
    "SELECT {day}, {name}, count(*), coalesce(sum(error_code IS NOT NULL), 0), sum(charge), "
    "sum(overrun + forgiven) FROM call AS rows WHERE id BETWEEN ? AND ? GROUP BY 1, 2"
)
_ATTEMPTS: Final = (
    "SELECT {day}, {name}, count(*), sum(cost), sum(outcome = 'served' AND cost = 0) "
    "FROM (SELECT id, attempt.channel_id, model, group_name, outcome, cost FROM call "
    "JOIN attempt ON call_id = id WHERE id BETWEEN ? AND ?) AS rows GROUP BY 1, 2"
)
_ROLLUP: Final = (
    "SELECT day, {name}, sum(ended), sum(errors), sum(charge), sum(overrun + forgiven), "
    "sum(attempts), sum(cost) FROM rollup AS rows WHERE day BETWEEN ? AND ? GROUP BY 1, 2"
)
_REFUNDS: Final = (
    f"SELECT {DAY_OF_ID}, CASE WHEN known THEN {{name}} ELSE '{OTHERS}' END, sum(amount) "  # noqa: S608 - constants
    "FROM (SELECT call_id AS id, amount, call.id IS NOT NULL AS known, channel_id, model, "
    "group_name FROM wallet_change LEFT JOIN call ON call.id = call_id "
    "WHERE call_id BETWEEN ? AND ? AND kind = 'refund') AS rows GROUP BY 1, 2"
)
_MOVED: Final = "SELECT coalesce(sum(ended + attempts), 0) FROM rollup WHERE day BETWEEN ? AND ?"
TRIES_MAX: Final = 3


async def margin(reader: Reader, days: Days, by: By) -> Report:
    """Sum the calls of some days. Raises sqlite3.Error; ValueError above `DAYS_MAX` days."""
    if not 0 < days.last - days.first + 1 <= DAYS_MAX:
        raise ValueError(f"between 1 and {DAYS_MAX} days can be summed")
    before = await reader.rows(_MOVED, days)
    for _ in range(TRIES_MAX):
        report = await _summed(reader, days, _NAME_OF_CALL[by])
        after = await reader.rows(_MOVED, days)
        if after == before:
            return report
        before = after  # detail that left meanwhile may have been seen in neither place
    return await _summed(reader, days, _NAME_OF_CALL[by])


async def _summed(reader: Reader, days: Days, name: str) -> Report:
    report = Report()
    for day, who, calls, errors, charged, expense, attempts, cost in await reader.rows(
        _ROLLUP.format(name=name), days
    ):
        made = Margin(calls, errors, charged, 0, expense, attempts, cost)
        report.at(day, who or NO_CHANNEL).add(made)
    first, end = days.ids
    async for span in steps(reader, first, end):
        for day, who, *sums in await reader.rows(_CALLS.format(day=DAY_OF_ID, name=name), span):
            report.at(day, who or NO_CHANNEL).add(Margin(sums[0], sums[1], sums[2], 0, sums[3]))
        for day, who, *sums in await reader.rows(_ATTEMPTS.format(day=DAY_OF_ID, name=name), span):
            made = Margin(attempts=sums[0], cost=sums[1], unknown=sums[2])
            report.at(day, who or NO_CHANNEL).add(made)
    for day, who, amount in await reader.rows(_REFUNDS.format(name=name), (first, end - 1)):
        report.at(day, who or NO_CHANNEL).add(Margin(refunded=amount))
    return report
