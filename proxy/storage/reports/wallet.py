"""A wallet's history: what came in and went out, day by day, and what open calls hold.

Rules: postings one by one where there are few (top-ups, refunds, fees, corrections), charges of
calls as the sum of each UTC day, which the usage log explains call by call. A page is a window of
whole days, newest first, and looks at a bounded number of rows. Amounts are nano-USD, times Unix
seconds. This module must not know who may ask.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from proxy.core.ids import moment_of
from proxy.core.ledger import DAY_SECONDS, AccountKind
from proxy.storage.reader import Reader
from proxy.storage.reports import usage_log
from proxy.storage.reports.spans import ID_MAX, Days
from proxy.storage.retention import first_id_of

WINDOW_DAYS: Final = 31
ENTRIES_MAX: Final = 1_000
"""Postings that one window shows one by one."""

_ENTRIES: Final = (
    "SELECT event_id, 'top_up', amount, reason, reference, NULL, at FROM top_up "
    "WHERE user_id = ?1 AND event_id >= ?2 AND event_id < ?3 UNION ALL "
    "SELECT event_id, kind, amount, reason, reference, call_id, at FROM wallet_change "
    "WHERE user_id = ?1 AND event_id >= ?2 AND event_id < ?3 ORDER BY event_id DESC LIMIT ?4"
)
_LATEST_BEFORE: Final = (
    "SELECT max(coalesce((SELECT max(event_id) FROM top_up WHERE user_id = ?1 AND event_id < ?2), "
    "-1), coalesce((SELECT max(event_id) FROM wallet_change WHERE user_id = ?1 "
    "AND event_id < ?2), -1), coalesce((SELECT max(id) FROM call WHERE user_id = ?1 AND id < ?2), "
    "-1)), (SELECT max(day) FROM rollup WHERE user_id = ?1 AND day < ?3)"
)
_NOW: Final = (
    "SELECT balance, (SELECT coalesce(sum(hold), 0) FROM open_call WHERE user_id = ?1), "
    "(SELECT count(*) FROM open_call WHERE user_id = ?1), "
    "(SELECT amount FROM wallet_threshold WHERE user_id = ?1) FROM account WHERE id = ?2"
)


class Entry(NamedTuple):
    """One posting, or the charges of one day (`kind` "charges", with `calls`)."""

    kind: str
    amount: int
    """What the wallet gained; below zero: lost."""
    at: float
    text: str = ""
    reference: str = ""
    event_id: int | None = None
    call_id: int | None = None
    calls: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """One window, newest first. `older`: the last day of the next window; None: no more.

    `complete` is False where the window has more rows than are looked at.
    """

    days: Days
    entries: list[Entry]
    older: int | None
    complete: bool


class Now(NamedTuple):
    """What a wallet has. `held` is the part of the balance that open calls keep."""

    balance: int
    held: int
    open_calls: int
    threshold: int | None

    @property
    def available(self) -> int:
        """What a new call could hold."""
        return max(0, self.balance - self.held)


async def now(reader: Reader, wallet: int) -> Now:
    """Read what a wallet has at this moment. Raises sqlite3.Error."""
    account = wallet << 3 | int(AccountKind.WALLET)
    rows = await reader.rows(_NOW, (wallet, account))
    return Now(*rows[0]) if rows else Now(0, 0, 0, None)


async def spent(reader: Reader, wallet: int, days: Days) -> int:
    """What calls of these days were charged. Raises sqlite3.Error."""
    return (await _charges(reader, wallet, days)).total.charge


async def history(reader: Reader, wallet: int, last_day: int, window: int = WINDOW_DAYS) -> History:
    """Read the window that ends with `last_day`, counted from 1970. Raises sqlite3.Error."""
    days = Days(max(0, last_day - window + 1), last_day)
    lowest, above = days.ids
    rows = await reader.rows(_ENTRIES, (wallet, lowest, above, ENTRIES_MAX))
    entries = [
        Entry(_kind(kind, reference), amount, at, reason, reference, event_id, call_id)
        for event_id, kind, amount, reason, reference, call_id, at in rows
    ]
    sums = await _charges(reader, wallet, days)
    entries += [
        Entry("charges", -day.charge, (number + 1) * DAY_SECONDS - 1.0, calls=day.calls)
        for number, day in sums.by_day.items()
        if day.charge
    ]
    entries.sort(key=lambda entry: (entry.at, entry.event_id or 0), reverse=True)
    complete = len(rows) < ENTRIES_MAX and sums.back_to is None
    return History(days, entries, await _older(reader, wallet, days.first), complete)


async def _charges(reader: Reader, wallet: int, days: Days) -> usage_log.Sums:
    wanted = usage_log.Wanted(
        wallet=wallet,
        since=float(days.first * DAY_SECONDS),
        until=float((days.last + 1) * DAY_SECONDS),
    )
    return await usage_log.sums(reader, wanted)


async def _older(reader: Reader, wallet: int, day: int) -> int | None:
    first = min(first_id_of(day), ID_MAX)
    ((event, rolled_up),) = await reader.rows(_LATEST_BEFORE, (wallet, first, day))
    found = -1 if rolled_up is None else int(rolled_up)
    if event >= 0:
        found = max(found, int(moment_of(event) // DAY_SECONDS))
    return found if found >= 0 else None


def _kind(kind: str, reference: str) -> str:
    """A top-up by where its money came from."""
    if kind != "top_up" or not reference.startswith("sluice:"):
        return kind
    source = reference.split(":")[1]
    return {"code": "code", "plan": "credit"}.get(source, "payment")
