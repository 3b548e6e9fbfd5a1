"""What is to be told to the people of wallets, and who they are.

Rules: only reads, bounded. Amounts are nano-USD. This module must not know how anybody is told.
"""

from typing import Final, NamedTuple

from proxy.storage.notices import ENOUGH, LOW
from proxy.storage.reader import Reader

NOTICES_MAX: Final = 100
OWNERS_MAX: Final = 20
_CROSSED: Final = f"SELECT EXISTS ({LOW}) OR EXISTS ({ENOUGH})"
_UNMAILED: Final = (
    "SELECT notice.id, notice.user_id, user.name, kind, detail, balance, "
    "coalesce(threshold.amount, 0) FROM notice JOIN user ON user.id = notice.user_id "
    "JOIN account ON account.id = (notice.user_id << 3 | 1) "
    "LEFT JOIN wallet_threshold AS threshold ON threshold.user_id = notice.user_id "
    "WHERE ended_at IS NULL AND mailed_at IS NULL ORDER BY notice.id LIMIT ?"
)
_OWNERS: Final = (
    "SELECT email, language FROM membership JOIN person ON person.id = person_id "
    "WHERE user_id = ? AND membership.role = 'owner' AND enabled = 1 "
    "ORDER BY person.id LIMIT ?"
)


class Unmailed(NamedTuple):
    """A notice that stands and was mailed to nobody."""

    id: int
    user_id: int
    wallet: str
    kind: str
    detail: str
    balance: int
    threshold: int


class Owner(NamedTuple):
    email: str
    language: str | None


async def crossed(reader: Reader) -> bool:
    """Whether any wallet went below its threshold, or above it again. Raises sqlite3.Error."""
    return bool((await reader.rows(_CROSSED, ()))[0][0])


async def unmailed(reader: Reader) -> list[Unmailed]:
    """Read what nobody was mailed. Raises sqlite3.Error."""
    return [Unmailed(*row) for row in await reader.rows(_UNMAILED, (NOTICES_MAX,))]


async def owners(reader: Reader, wallet: int) -> list[Owner]:
    """Read who owns a wallet and may sign in. Raises sqlite3.Error."""
    return [Owner(*row) for row in await reader.rows(_OWNERS, (wallet, OWNERS_MAX))]
