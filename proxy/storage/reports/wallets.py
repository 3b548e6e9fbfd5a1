"""Wallets as operators see them: whose they are, what is in them, what was spent lately.

Rules: a page at a time by name; the people of a wallet and its keys are counted, or listed up to a
bound for one of them. Nano-USD. This module must not know a page.
"""

from typing import Any, Final, NamedTuple

from proxy.core.ids import first_id_at
from proxy.core.ledger import AccountKind
from proxy.storage.reader import Reader

ROWS_MAX: Final = 500
MEMBERS_MAX: Final = 200
SPEND_SECONDS: Final = 30 * 86_400


class WalletLine(NamedTuple):
    """One wallet. `created_at` Unix seconds."""

    id: int
    name: str
    plan: str
    enabled: bool
    created_at: float
    balance: int
    keys: int
    """Enabled ones."""
    people: int


class Member(NamedTuple):
    """One person of a wallet."""

    email: str
    rank: str
    role: str
    enabled: bool


class Spent(NamedTuple):
    """Calls of the last 30 days that still have their detail."""

    calls: int
    failed: int
    charged: int
    last: float | None


_LINES: Final = (
    "SELECT user.id, name, plan, enabled, created_at, "  # noqa: S608 - a constant
    f"(SELECT balance FROM account WHERE account.id = (user.id << 3 | {int(AccountKind.WALLET)})), "
    "(SELECT count(*) FROM key WHERE user_id = user.id AND enabled), "
    "(SELECT count(*) FROM membership WHERE membership.user_id = user.id) FROM user "
)
_SPENT: Final = (
    "SELECT count(*), coalesce(sum(error_code IS NOT NULL), 0), coalesce(sum(charge), 0), "
    "max(started_at) FROM (SELECT * FROM call WHERE user_id = ? AND id >= ? "
    "ORDER BY id DESC LIMIT ?)"
)
CALLS_MAX: Final = 200_000


async def wallets(
    reader: Reader, search: str, after: str, rows_max: int = 50
) -> tuple[list[WalletLine], int]:
    """Return wallets by name behind `after`, and how many there are in all. sqlite3.Error."""
    rows = await reader.rows(
        f"{_LINES} WHERE instr(lower(name), lower(?)) AND name > ? ORDER BY name LIMIT ?",
        (search, after, min(rows_max, ROWS_MAX)),
    )
    ((found,),) = await reader.rows(
        "SELECT count(*) FROM user WHERE instr(lower(name), lower(?))", (search,)
    )
    return [_line(row) for row in rows], found


async def wallet(reader: Reader, name: str) -> WalletLine | None:
    """Return the wallet of this name. Raises sqlite3.Error."""
    rows = await reader.rows(f"{_LINES} WHERE name = ?", (name,))
    return _line(rows[0]) if rows else None


async def members(reader: Reader, user_id: int) -> list[Member]:
    """Return the people of a wallet by address. Raises sqlite3.Error."""
    rows = await reader.rows(
        "SELECT email, membership.role, person.role, enabled FROM membership "
        "JOIN person ON person.id = person_id WHERE user_id = ? ORDER BY email LIMIT ?",
        (user_id, MEMBERS_MAX),
    )
    return [Member(row[0], row[1], row[2], bool(row[3])) for row in rows]


async def spent(reader: Reader, user_id: int, now: float) -> Spent:
    """Sum a wallet's latest calls. Raises sqlite3.Error."""
    rows = await reader.rows(_SPENT, (user_id, first_id_at(now - SPEND_SECONDS), CALLS_MAX))
    return Spent(*rows[0])


def _line(row: tuple[Any, ...]) -> WalletLine:
    number, name, plan, enabled, *rest = row
    return WalletLine(number, name, plan, bool(enabled), *rest)
