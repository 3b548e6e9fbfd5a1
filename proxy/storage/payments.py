"""Payments in the file: begun, open, credited once.

Rules: what is credited is what was agreed when it began; a provider's word counts only if it names
the payment, its session, its currency and its amount; each message counts once, and a payment is
credited once however many messages say so, because its top-up has its reference; what does not fit
is kept for the operator and moves nothing. Amounts are nano-USD, times Unix seconds. This module
must not know how a provider speaks.
"""

import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from proxy.core.actions.payments import Said
from proxy.core.sentences import Sentence
from proxy.storage import refunds
from proxy.storage.till import Event, Moved
from proxy.storage.wallet_changes import AMOUNT_MAX, OWN_REFERENCE, add_top_up

ROWS_MAX: Final = 1_000
WORD_CHARS_MAX: Final = 300
OPEN_MAX: Final = 20
"""Payments of one wallet that are neither paid nor over, of the last day."""
DAY_SECONDS: Final = 86_400
_COLUMNS: Final = (
    "payment.id, user_id, currency, minor, amount, session, status, payment.created_at"
)


class Outcome(StrEnum):
    """What came of a provider's word."""

    CREDITED = "credited"
    REPEATED = "repeated"
    EXPIRED = "expired"
    REFUNDED = "refunded"
    EARLY = "of no payment that is known yet"
    NOTED = "noted"
    UNKNOWN = "no such payment"
    OTHER_SESSION = "another session"
    OTHER_AMOUNT = "another amount or currency"


@dataclass(frozen=True, slots=True)
class Word:
    """What a provider said. `message` is its id, None where it was asked."""

    provider: str
    said: Said
    kind: str
    message: str | None
    reference: str | None
    session: str | None
    currency: str | None
    minor: int | None
    intent: str | None = None


class Begun(NamedTuple):
    """A new payment. `reference` names it to the provider: no other relay has the same."""

    id: int
    reference: str


class Told(NamedTuple):
    """What came of a word, and whose wallet it was about."""

    outcome: Outcome
    user_id: int | None = None
    amount: int = 0


class PaymentRow(NamedTuple):
    id: int
    user: str
    provider: str
    currency: str
    minor: int
    rate: str
    amount: int
    session: str | None
    status: str
    created_at: float
    ended_at: float | None
    taken: int
    """Of `amount`, because the provider gave money back."""
    messages: str
    """Kinds and outcomes of what was said of it, in order."""


class NoteRow(NamedTuple):
    """A word of a provider; `id` is the provider's own, by which it is found there."""

    id: str
    payment: int | None
    kind: str
    at: float
    outcome: str


def begin(
    connection: sqlite3.Connection,
    user_id: int,
    person_id: int | None,
    provider: str,
    currency: str,
    minor: int,
    rate: str,
    amount: int,
    now: float,
) -> Begun:
    """Note that somebody goes to pay. Raises ValueError."""
    if minor <= 0 or not 0 < amount <= AMOUNT_MAX:
        raise ValueError("a payment must be above 0")
    waiting = connection.execute(
        "SELECT count(*) FROM payment WHERE user_id = ? AND status IN ('begun', 'open') "
        "AND created_at > ?",
        (user_id, now - DAY_SECONDS),
    ).fetchone()[0]
    if waiting >= OPEN_MAX:
        raise ValueError(
            Sentence(
                "{waiting} payments of this wallet are open; finish one or wait a day",
                waiting=waiting,
            )
        )
    cursor = connection.execute(
        "INSERT INTO payment (user_id, person_id, provider, currency, minor, rate, amount, "
        "created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (user_id, person_id, provider, currency, minor, rate, amount, now),
    )
    if cursor.lastrowid is None:
        raise AssertionError("an insert has a row id")
    return Begun(cursor.lastrowid, _reference(cursor.lastrowid, now))


def opened(connection: sqlite3.Connection, payment_id: int, session: str) -> None:
    """Note the provider's session of a payment that has begun. Raises ValueError."""
    cursor = connection.execute(
        "UPDATE payment SET session = ?, status = 'open' WHERE id = ? AND status = 'begun' "
        "AND session IS NULL",
        (session, payment_id),
    )
    if cursor.rowcount == 0:
        row = connection.execute(
            "SELECT session FROM payment WHERE id = ?", (payment_id,)
        ).fetchone()
        if row != (session,):
            raise ValueError(
                Sentence("payment {payment_id} has not just begun", payment_id=payment_id)
            )


def told(connection: sqlite3.Connection, event: Event, word: Word) -> Moved[Told]:
    """Act on a provider's word, once."""
    if word.message is not None:
        query = "SELECT outcome FROM payment_message WHERE id = ?"
        if connection.execute(query, (word.message[:WORD_CHARS_MAX],)).fetchone() is not None:
            return Moved(Told(Outcome.REPEATED))
    row = _find(connection, word)
    moved = _act(connection, event, word, row)
    if word.message is not None:
        connection.execute(
            "INSERT INTO payment_message (id, payment_id, kind, at, outcome, intent) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (
                word.message[:WORD_CHARS_MAX],
                None if row is None else row[0],
                word.kind[:WORD_CHARS_MAX],
                event.at,
                moved.result.outcome.value,
                word.intent,
            ),
        )
    return moved


def list_payments(
    connection: sqlite3.Connection,
    user_id: int | None,
    *,
    before_id: int | None = None,
    rows_max: int = 50,
) -> list[PaymentRow]:
    """Payments of one wallet, or all, latest first, below `before_id`. Raises ValueError."""
    if not 0 < rows_max <= ROWS_MAX:
        raise ValueError(
            Sentence("between 1 and {most:,} rows can be listed at once", most=ROWS_MAX)
        )
    where = "?2 IS NULL" if user_id is None else "payment.user_id = ?2"
    rows = connection.execute(
        "SELECT payment.id, user.name, provider, currency, minor, rate, amount, session, status, "  # noqa: S608 - constants
        "payment.created_at, ended_at, "
        "(SELECT coalesce(sum(debit.amount), 0) FROM payment_debit AS debit "
        "WHERE payment_id = payment.id), coalesce((SELECT group_concat(kind || ': ' || outcome, "
        "'; ') FROM payment_message WHERE payment_id = payment.id), '') "
        f"FROM payment JOIN user ON user.id = user_id WHERE payment.id < ?1 AND {where} "
        "ORDER BY payment.id DESC LIMIT ?3",
        ((1 << 63) - 1 if before_id is None else before_id, user_id, rows_max),
    )
    return [PaymentRow(*row) for row in rows]


def list_notes(connection: sqlite3.Connection, rows_max: int = 50) -> list[NoteRow]:
    """Words that moved nothing, though they may have to: latest first. Raises ValueError."""
    if not 0 < rows_max <= ROWS_MAX:
        raise ValueError(
            Sentence("between 1 and {most:,} rows can be listed at once", most=ROWS_MAX)
        )
    rows = connection.execute(
        "SELECT id, payment_id, kind, at, outcome FROM payment_message "
        "WHERE outcome NOT IN (?, ?, ?, ?) ORDER BY at DESC, id LIMIT ?",
        (
            Outcome.CREDITED.value,
            Outcome.REPEATED.value,
            Outcome.EXPIRED.value,
            Outcome.REFUNDED.value,
            rows_max,
        ),
    )
    return [NoteRow(*row) for row in rows]


def _find(connection: sqlite3.Connection, word: Word) -> tuple[Any, ...] | None:
    """The payment that a word is about: by our reference, or by the session we know."""
    if word.reference is not None:
        number = word.reference.partition("-")[0]
        if number.isascii() and number.isdigit() and len(number) <= 18:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM payment WHERE id = ? AND provider = ?",  # noqa: S608 - constants
                (int(number), word.provider),
            ).fetchone()
            if row is not None and _reference(row[0], row[7]) == word.reference:
                return tuple(row)
    elif word.intent is not None:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM payment WHERE provider = ? AND intent = ? "  # noqa: S608 - constants
            "ORDER BY id LIMIT 1",
            (word.provider, word.intent),
        ).fetchone()
        return None if row is None else tuple(row)
    return None


def _act(
    connection: sqlite3.Connection, event: Event, word: Word, row: tuple[Any, ...] | None
) -> Moved[Told]:
    if word.said is Said.NOTED:
        return Moved(Told(Outcome.NOTED))
    if word.said is Said.REFUNDED:
        return Moved(_given_back(connection, word, row))
    if row is None:
        return Moved(Told(Outcome.UNKNOWN))
    payment_id, user_id, currency, minor, amount, session, status, _ = row
    if word.session is None or session not in {None, word.session}:
        return Moved(Told(Outcome.OTHER_SESSION, user_id))
    if word.said is Said.EXPIRED:
        if status in {"begun", "open"}:
            connection.execute(
                "UPDATE payment SET status = 'expired', ended_at = ? WHERE id = ?",
                (event.at, payment_id),
            )
        return Moved(Told(Outcome.EXPIRED, user_id))
    if (word.currency, word.minor) != (currency, minor):
        return Moved(Told(Outcome.OTHER_AMOUNT, user_id))
    if status == "paid":
        return Moved(Told(Outcome.REPEATED, user_id))
    reference = f"{OWN_REFERENCE}{word.provider}:{payment_id}"
    added = add_top_up(connection, event, user_id, amount, f"paid by {word.provider}", reference)
    connection.execute(
        "UPDATE payment SET status = 'paid', session = ?, ended_at = ?, event_id = ?, intent = ? "
        "WHERE id = ?",
        (word.session, event.at, added.result.event_id, word.intent, payment_id),
    )
    # What was told of it too early is not for the operator any more.
    connection.execute(
        "UPDATE payment_message SET payment_id = ?, outcome = ? WHERE intent = ? AND outcome = ?",
        (payment_id, Outcome.REFUNDED.value, word.intent, Outcome.EARLY.value),
    )
    return Moved(Told(Outcome.CREDITED, user_id, amount), added.transfers)


def _given_back(connection: sqlite3.Connection, word: Word, row: tuple[Any, ...] | None) -> Told:
    """Keep how much went back; storage/refunds.py says what is due for it."""
    if word.intent is None or word.currency is None or not word.minor or word.minor < 0:
        return Told(Outcome.NOTED)
    if row is None:
        refunds.note(connection, word.provider, word.intent, word.currency, word.minor)
        return Told(Outcome.EARLY)
    _, user_id, currency, minor, *_ = row
    if word.currency != currency or word.minor > minor:
        return Told(Outcome.OTHER_AMOUNT, user_id)
    refunds.note(connection, word.provider, word.intent, word.currency, word.minor)
    return Told(Outcome.REFUNDED, user_id)


def _reference(payment_id: int, created_at: float) -> str:
    return f"{payment_id}-{int(created_at * 1_000_000)}"
