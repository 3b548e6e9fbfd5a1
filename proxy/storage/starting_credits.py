"""Who has had what an account is given: a person once in their life, and an address once.

Rules: as storage/accounts.py. An account that is deleted or takes another address leaves a digest
of the old one, keyed with the pepper, so that nothing of the address can be read from it; without
it, whoever deletes their account and registers again would be given money each time. The same holds
for the month of a plan that gives something for nothing: whoever comes with the address has had
it until it ends. This module must not know what makes a credit due.
"""

import hashlib
import hmac
import sqlite3
from typing import Final

_PURPOSE: Final = b"starting credit "
_DAY_SECONDS: Final = 86_400
_MONTH_DAYS_MAX: Final = 32
"""Days from now on which a month that is under way can end, today among them."""


def reference(person_id: int) -> str:
    """What the top-up of a person's starting credit is called."""
    return f"start-person-{person_id}"


def digest_of(pepper: bytes, email: str) -> bytes:
    """What is kept of an address, 32 bytes."""
    return hmac.digest(pepper, _PURPOSE + email.lower().encode(), hashlib.sha256)


def leave(connection: sqlite3.Connection, digest: bytes, person_id: int) -> None:
    """Remember the address that a person gives up, if they had their starting credit."""
    connection.execute(
        "INSERT OR IGNORE INTO starting_credit_given SELECT ? FROM top_up WHERE reference = ?",
        (digest, reference(person_id)),
    )


def is_had(connection: sqlite3.Connection, digest: bytes) -> bool:
    """Whether an earlier account of this address had its starting credit."""
    query = "SELECT 1 FROM starting_credit_given WHERE digest = ?"
    return connection.execute(query, (digest,)).fetchone() is not None


def leave_months(
    connection: sqlite3.Connection, pepper: bytes, email: str, wallet_id: int, now: float
) -> None:
    """Remember until when a wallet has been given what its plans give for nothing."""
    rows = connection.execute(
        "SELECT plan, next_at FROM subscription JOIN plan ON plan.name = plan "
        "WHERE user_id = ? AND next_at > ? AND monthly_credit > 0 AND monthly_fee = 0",
        (wallet_id, now),
    ).fetchall()
    connection.executemany(
        "INSERT OR IGNORE INTO starting_credit_given VALUES (?)",
        [(_month_digest(pepper, email, plan, -(-end // _DAY_SECONDS)),) for plan, end in rows],
    )


def take_months(
    connection: sqlite3.Connection, pepper: bytes, email: str, wallet_id: int, now: float
) -> None:
    """Let a new wallet have the months that an earlier account of its address was given."""
    free = "SELECT name FROM plan WHERE monthly_credit > 0 AND monthly_fee = 0"
    today = int(now // _DAY_SECONDS)
    for (plan,) in connection.execute(free).fetchall():
        # The last day first: who has left twice has had what ends later.
        for day in range(today + _MONTH_DAYS_MAX, today, -1):
            if is_had(connection, _month_digest(pepper, email, plan, day)):
                end = day * _DAY_SECONDS
                connection.execute(
                    "INSERT INTO subscription VALUES (?, ?, ?, ?, ?)",
                    (wallet_id, plan, end, int(now), end),
                )
                break


def _month_digest(pepper: bytes, email: str, plan: str, day: int) -> bytes:
    """What is kept of an address that has had a plan's month until that day, from 1970, began."""
    text = f"{day} {email.lower()} {plan}"
    return hmac.digest(pepper, b"month of a plan " + text.encode(), hashlib.sha256)
