"""Money that a provider gave back to who paid: taken from the wallet it had gone to, once.

Rules: a provider says how much it gave back in all, so what is told twice, late or in another
order takes nothing more: due is the share of the credit that the greatest sum told is of the
payment, less what was taken. The wallet never goes below what is free in it; what it does not cover
is noted for the operator, and is due still when the next word comes. Amounts are nano-USD. This
module must not know how a provider speaks.
"""

import sqlite3
from typing import Final, NamedTuple

from proxy.storage.till import Event, Moved
from proxy.storage.wallet_changes import OWN_REFERENCE, adjust

NOT_COVERED: Final = "the wallet did not cover it"
"""What is noted for the operator where a wallet has less than was given back."""


class Due(NamedTuple):
    """What is still to be taken from a wallet. `minor`: given back in all."""

    payment_id: int
    user_id: int
    minor: int
    amount: int


def note(
    connection: sqlite3.Connection, provider: str, intent: str, currency: str, minor: int
) -> None:
    """Keep how much was given back in all of what the provider calls `intent`."""
    connection.execute(
        "INSERT INTO payment_refund VALUES (?, ?, ?, ?) ON CONFLICT (provider, intent) "
        "DO UPDATE SET minor = max(minor, excluded.minor) WHERE currency = excluded.currency",
        (provider, intent, currency, minor),
    )


def find_due(connection: sqlite3.Connection, provider: str, intent: str) -> Due | None:
    """What is still to be taken; None where nothing is, or the payment is not known."""
    row = connection.execute(
        "SELECT payment.id, user_id, refund.minor, payment.minor, amount, (SELECT "
        "coalesce(sum(amount), 0) FROM payment_debit WHERE payment_id = payment.id) "
        "FROM payment_refund AS refund JOIN payment USING (provider, intent) "
        "WHERE provider = ? AND intent = ? AND status = 'paid' "
        "AND payment.currency = refund.currency ORDER BY payment.id LIMIT 1",
        (provider, intent),
    ).fetchone()
    if row is None:
        return None
    payment_id, user_id, minor, paid, credit, taken = row
    left = credit * min(minor, paid) // paid - taken
    return Due(payment_id, user_id, minor, left) if left > 0 else None


def take(
    connection: sqlite3.Connection, event: Event, provider: str, intent: str, most: int
) -> Moved[int]:
    """Take what is due, but no more than `most`, which the caller has set aside."""
    due = find_due(connection, provider, intent)
    if due is None:
        return Moved(0)
    amount = min(due.amount, most)
    if amount < due.amount:
        _note_missing(connection, event, due, amount)
    if amount == 0:
        return Moved(0)
    reference = f"{OWN_REFERENCE}{provider}-refund:{due.payment_id}:{event.id}"
    reason = f"given back by {provider}"
    moved = adjust(connection, event, due.user_id, -amount, reason, reference, provider)
    connection.execute(
        "INSERT INTO payment_debit VALUES (?, ?, ?)", (event.id, due.payment_id, amount)
    )
    return Moved(amount, moved.transfers)


def _note_missing(connection: sqlite3.Connection, event: Event, due: Due, amount: int) -> None:
    connection.execute(
        "INSERT INTO payment_message (id, payment_id, kind, at, outcome) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        (
            f"{OWN_REFERENCE}{due.payment_id}:{due.minor}:{due.amount - amount}",
            due.payment_id,
            "refund",
            event.at,
            NOT_COVERED,
        ),
    )
