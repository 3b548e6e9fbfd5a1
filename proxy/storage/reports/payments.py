"""Payments of a wallet, for the pages that tell how far one is.

Rules: only reads; a payment of another wallet is none. This module must not know the provider.
"""

from typing import Final, NamedTuple

from proxy.storage.reader import Reader

_ONE: Final = (
    "SELECT id, currency, minor, amount, session, status, created_at FROM payment "
    "WHERE user_id = ? AND id = ?"
)


class Payment(NamedTuple):
    """`minor` in the smallest unit of the currency, `amount` nano-USD."""

    id: int
    currency: str
    minor: int
    amount: int
    session: str | None
    status: str
    created_at: float


async def payment(reader: Reader, wallet: int, number: int) -> Payment | None:
    """Read one payment of a wallet. Raises sqlite3.Error."""
    rows = await reader.rows(_ONE, (wallet, number))
    return Payment(*rows[0]) if rows else None
