"""What people are told about a wallet: that little is left, that a plan has ended.

Rules: of each kind a wallet has one notice at a time; it stands until its reason is gone, or until
somebody has read it. Amounts are nano-USD, times Unix seconds. This module must not know how
notices reach anybody.
"""

import sqlite3
from typing import NamedTuple

from proxy.core.actions.wallets import NoticeKind
from proxy.storage.wallet_changes import AMOUNT_MAX


class Crossing(NamedTuple):
    """A wallet whose balance went below its threshold, or is above it again."""

    user_id: int
    balance: int
    threshold: int


_STANDS = (
    "EXISTS (SELECT 1 FROM notice WHERE notice.user_id = threshold.user_id "
    "AND kind = 'low_balance' AND ended_at IS NULL)"
)
_WATCHED = (
    "SELECT threshold.user_id, balance, threshold.amount FROM wallet_threshold AS threshold "
    "JOIN account ON account.id = (threshold.user_id << 3 | 1) "
)
LOW = f"{_WATCHED} WHERE balance < threshold.amount AND NOT {_STANDS} LIMIT 1000"
ENOUGH = f"{_WATCHED} WHERE balance >= threshold.amount AND {_STANDS} LIMIT 1000"


def set_threshold(connection: sqlite3.Connection, user_id: int, amount: int) -> None:
    """Tell the wallet's people below `amount`; 0: never. Raises ValueError."""
    if not 0 <= amount <= AMOUNT_MAX:
        raise ValueError("the balance to be told below must be between 0 and 10^9 USD")
    if amount == 0:
        connection.execute("DELETE FROM wallet_threshold WHERE user_id = ?", (user_id,))
        end(connection, user_id, NoticeKind.LOW_BALANCE, 0.0)
        return
    connection.execute(
        "INSERT INTO wallet_threshold VALUES (?1, ?2) ON CONFLICT (user_id) DO UPDATE "
        "SET amount = ?2",
        (user_id, amount),
    )


def raise_notice(
    connection: sqlite3.Connection, user_id: int, kind: NoticeKind, detail: str, now: float
) -> bool:
    """Let a notice stand; False if one of its kind stands already."""
    cursor = connection.execute(
        "INSERT INTO notice (user_id, kind, detail, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (user_id, kind.value, detail, now),
    )
    return cursor.rowcount == 1


def end(connection: sqlite3.Connection, user_id: int, kind: NoticeKind, now: float) -> None:
    """End a notice, because its reason is gone or it was read."""
    connection.execute(
        "UPDATE notice SET ended_at = ? WHERE user_id = ? AND kind = ? AND ended_at IS NULL",
        (now, user_id, kind.value),
    )


def mark_mailed(connection: sqlite3.Connection, notice_id: int, now: float) -> bool:
    """Note that a mail is about to be sent; False if one was."""
    cursor = connection.execute(
        "UPDATE notice SET mailed_at = ? WHERE id = ? AND mailed_at IS NULL", (now, notice_id)
    )
    return cursor.rowcount == 1


def watch_balances(connection: sqlite3.Connection, now: float) -> int:
    """Raise and end notices of low balance by what wallets have now; returns how many changed."""
    low = [Crossing(*row) for row in connection.execute(LOW)]
    for wallet in low:
        raise_notice(connection, wallet.user_id, NoticeKind.LOW_BALANCE, str(wallet.balance), now)
    enough = [Crossing(*row) for row in connection.execute(ENOUGH)]
    for wallet in enough:
        end(connection, wallet.user_id, NoticeKind.LOW_BALANCE, now)
    return len(low) + len(enough)
