"""Which wallets a person may use, and what is in them.

Rules: only reads, a few rows. This module must not know who shows what.
"""

from typing import Final, NamedTuple

from proxy.core.ledger import AccountKind
from proxy.storage.people import RANK
from proxy.storage.reader import Reader

_OF_PERSON: Final = (
    "SELECT user.id, user.name, user.plan, membership.role, balance, "
    "(SELECT coalesce(sum(hold), 0) FROM open_call WHERE open_call.user_id = user.id) "
    "FROM membership JOIN user ON user.id = user_id AND user.enabled = 1 "
    "JOIN account ON account.id = (user.id << 3 | ?) WHERE person_id = ? "
    "ORDER BY membership.created_at, user.id LIMIT ?"
)
WALLETS_MAX: Final = 200


class Wallet(NamedTuple):
    """A wallet and what its reader is to it: `owner` or `member`. Amounts nano-USD."""

    id: int
    name: str
    plan: str
    role: str
    balance: int
    held: int
    """For calls under way; part of the balance."""


async def of_person(reader: Reader, person_id: int) -> list[Wallet]:
    """The wallets a person belongs to, the oldest membership first. Raises sqlite3.Error."""
    values = (int(AccountKind.WALLET), person_id, WALLETS_MAX)
    return [Wallet(*row) for row in await reader.rows(_OF_PERSON, values)]


async def rank(reader: Reader, person_id: int, wallet: str) -> str | None:
    """What an enabled person is to the wallet of that name, or None. Raises sqlite3.Error."""
    rows = await reader.rows(RANK, (person_id, wallet))
    return str(rows[0][0]) if rows else None
