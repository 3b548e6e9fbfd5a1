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
from proxy.storage.plans import IS_TEAM
from proxy.storage.reader import Reader
from proxy.storage.reports.day_sums import DaySums
from proxy.storage.reports.spans import ID_MAX, Days
from proxy.storage.reports.usage_log import Sums, Wanted
from proxy.storage.retention import first_id_of

WINDOW_DAYS: Final = 31
ENTRIES_MAX: Final = 1_000
"""Postings that one window shows one by one."""
PLANS_MAX: Final = 100
"""Plans on offer, or notices, that a page shows."""

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


async def history(
    reader: Reader,
    day_sums: DaySums,
    wallet: int,
    last_day: int,
    moment: float,
    window: int = WINDOW_DAYS,
) -> History:
    """Read the window that ends with `last_day`, counted from 1970, as of `moment`.

    Raises sqlite3.Error.
    """
    days = Days(max(0, last_day - window + 1), last_day)
    lowest, above = days.ids
    rows = await reader.rows(_ENTRIES, (wallet, lowest, above, ENTRIES_MAX))
    entries = [
        Entry(_kind(kind, reference), amount, at, reason, reference, event_id, call_id)
        for event_id, kind, amount, reason, reference, call_id, at in rows
    ]
    sums = await charges(reader, day_sums, wallet, days, moment)
    entries += [
        Entry("charges", -day.charge, (number + 1) * DAY_SECONDS - 1.0, calls=day.calls)
        for number, day in sums.by_day.items()
        if day.charge
    ]
    entries.sort(key=lambda entry: (entry.at, entry.event_id or 0), reverse=True)
    complete = len(rows) < ENTRIES_MAX and sums.back_to is None
    return History(days, entries, await _older(reader, wallet, days.first), complete)


async def charges(
    reader: Reader, day_sums: DaySums, wallet: int, days: Days, moment: float
) -> Sums:
    """Read what calls of these days were charged, by day. Raises sqlite3.Error."""
    wanted = Wanted(
        wallet=wallet,
        since=float(days.first * DAY_SECONDS),
        until=float((days.last + 1) * DAY_SECONDS),
    )
    return await day_sums.sums(reader, wanted, moment)


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


class PlanRow(NamedTuple):
    """A plan as its wallets see it; limits None without one, amounts of a month."""

    name: str
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrency: int | None
    fee: int
    credit: int


class PlanNow(NamedTuple):
    """A wallet's plan. `until`: when its month ends; None: there is nothing to pay."""

    plan: PlanRow
    until: int | None


class Notice(NamedTuple):
    """Something a wallet's people are told. `detail`: a balance, or the name of a plan."""

    kind: str
    detail: str
    at: float


_PLAN: Final = (
    "plan.name, requests_per_minute, tokens_per_minute, concurrency, monthly_fee, "
    f"CASE WHEN monthly_fee = 0 AND {IS_TEAM} THEN 0 ELSE monthly_credit END"
)
"""A plan as it is for the wallet ?1: what it gives for nothing it gives to no team."""


async def plan_of(reader: Reader, wallet: int) -> PlanNow | None:
    """Read which plan a wallet is on; None for no wallet. Raises sqlite3.Error."""
    rows = await reader.rows(
        f"SELECT {_PLAN}, next_at FROM user JOIN plan ON plan.name = user.plan "  # noqa: S608 - constants
        "LEFT JOIN subscription AS term ON term.user_id = user.id AND term.plan = user.plan "
        "AND monthly_fee + monthly_credit > 0 WHERE user.id = ?1",
        (wallet,),
    )
    return PlanNow(PlanRow(*rows[0][:-1]), rows[0][-1]) if rows else None


async def plans_offered(reader: Reader, wallet: int) -> list[PlanRow]:
    """Read what the owners of a wallet may choose, the cheapest first. Raises sqlite3.Error."""
    query = f"SELECT {_PLAN} FROM plan WHERE offered = 1 ORDER BY monthly_fee, name LIMIT ?2"  # noqa: S608 - constants
    return [PlanRow(*row) for row in await reader.rows(query, (wallet, PLANS_MAX))]


async def notices(reader: Reader, wallet: int) -> list[Notice]:
    """Read what stands, newest first. Raises sqlite3.Error."""
    query = (
        "SELECT kind, detail, at FROM notice WHERE user_id = ? AND ended_at IS NULL "
        "ORDER BY id DESC LIMIT ?"
    )
    return [Notice(*row) for row in await reader.rows(query, (wallet, PLANS_MAX))]


class Given(NamedTuple):
    """One refund of a call."""

    amount: int
    reason: str
    reference: str
    actor: str
    at: float


class Charge(NamedTuple):
    """What a call was charged, to which wallet, and what went back; its detail may be gone."""

    wallet: str
    charge: int
    refunds: list[Given]

    @property
    def left(self) -> int:
        """What may still go back."""
        return self.charge - sum(given.amount for given in self.refunds)


async def charge_of(reader: Reader, call_id: int) -> Charge | None:
    """Read what a call was charged; None if nothing. Raises sqlite3.Error."""
    rows = await reader.rows(
        "SELECT coalesce(name, ''), amount FROM transfer LEFT JOIN user ON user.id = debit >> 3 "
        "WHERE event_id = ? AND line = 0 AND kind = 'charge'",
        (call_id,),
    )
    if not rows:
        return None
    given = await reader.rows(
        "SELECT amount, reason, reference, actor, at FROM wallet_change WHERE call_id = ? "
        "ORDER BY event_id DESC LIMIT ?",
        (call_id, ENTRIES_MAX),
    )
    return Charge(rows[0][0], rows[0][1], [Given(*row) for row in given])
