"""What changes a wallet beside calls: top-ups, refunds of calls, the operator's corrections.

Rules: each function runs in a transaction of the till (storage/till.py), checks everything before
it writes anything, and returns the transfers that go with its row; a reference counts once, and
naming it again for something else is refused; what a call gets back is never more than it was
charged, also when its detail is long gone, because its transfers stay. Amounts are nano-USD. This
module must not know who asks.
"""

import sqlite3
from typing import Any, NamedTuple

from proxy.core.ids import format_id
from proxy.core.ledger import (
    ACCOUNT_KIND_BITS,
    ADJUSTMENT,
    FUNDING,
    LINE_CHARGE,
    REVENUE,
    AccountKind,
    Transfer,
    account_id,
)
from proxy.core.money import NANO, USD_MAX, format_usd
from proxy.core.sentences import Sentence
from proxy.storage.accounts import check_name
from proxy.storage.batch import Value
from proxy.storage.till import Event, Moved

AMOUNT_MAX = USD_MAX * NANO
OWN_REFERENCE = "sluice:"
"""Begins the references that are made here; whoever credits by hand may not use it."""
REASON_CHARS_MAX = 500
LINE_FEE = 1
"""Beside what the same event may give on the first line."""


class TopUp(NamedTuple):
    """A credit to a wallet; `fresh` is False for the repetition of a reference."""

    event_id: int
    user_id: int
    amount: int
    fresh: bool


class Change(NamedTuple):
    """A refund, correction or fee. `amount` is what the wallet gained; `fresh` as in `TopUp`."""

    event_id: int
    user_id: int
    amount: int
    fresh: bool


class Charged(NamedTuple):
    """What a call was charged to whom, and how much of that went back already."""

    user_id: int
    charge: int
    refunded: int


def add_top_up(
    connection: sqlite3.Connection,
    event: Event,
    user_id: int,
    amount: int,
    reason: str,
    reference: str,
) -> Moved[TopUp]:
    """Credit a wallet, once per `reference`.

    Raises ValueError for an amount that is not 0 < amount <= 10^9 USD, an unknown user, or a
    reference that was used for another user or amount.
    """
    if not 0 < amount <= AMOUNT_MAX:
        raise ValueError(
            Sentence("a top-up must be above 0 and at most {most:,} USD", most=USD_MAX)
        )
    check_name(Sentence("reference"), reference)
    query = "SELECT event_id, user_id, amount FROM top_up WHERE reference = ?"
    earlier = _one(connection, query, reference)
    if earlier is not None:
        if earlier[1:] != (user_id, amount):
            raise ValueError(
                Sentence("reference {reference!r} was used for another top-up", reference=reference)
            )
        return Moved(TopUp(int(earlier[0]), user_id, amount, fresh=False))
    wallet = _wallet(connection, user_id)
    connection.execute(
        "INSERT INTO top_up VALUES (?, ?, ?, ?, ?, ?)",
        (event.id, user_id, amount, reason, reference, event.at),
    )
    made = Transfer(event.id, LINE_CHARGE, "top_up", FUNDING, wallet, amount, event.at)
    return Moved(TopUp(event.id, user_id, amount, fresh=True), [made])


def find_charge(connection: sqlite3.Connection, call_id: int) -> Charged | None:
    """What a call was charged, from its transfer; None if it was charged nothing."""
    row = _one(
        connection,
        "SELECT debit, amount FROM transfer WHERE event_id = ? AND line = ? AND kind = 'charge'",
        call_id,
        LINE_CHARGE,
    )
    if row is None:
        return None
    refunded = "SELECT coalesce(sum(amount), 0) FROM wallet_change WHERE call_id = ?"
    back = connection.execute(refunded, (call_id,)).fetchone()[0]
    return Charged(int(row[0]) >> ACCOUNT_KIND_BITS, int(row[1]), int(back))


def refund_call(
    connection: sqlite3.Connection,
    event: Event,
    call_id: int,
    amount: int | None,
    reason: str,
    reference: str,
    actor: str,
) -> Moved[Change]:
    """Give back `amount` of what a call was charged, or all that is left of it.

    Raises ValueError for a call that was charged nothing, more than is left, no reason, or a
    reference that was used for something else.
    """
    _check_reason(reason)
    charged = find_charge(connection, call_id)
    if charged is None:
        raise ValueError(
            Sentence(
                "call {call_id} was charged nothing: there is nothing to give",
                call_id=format_id(call_id),
            )
        )
    earlier = _earlier(connection, reference, "refund", charged.user_id, amount, call_id)
    if earlier is not None:
        return Moved(earlier)
    left = charged.charge - charged.refunded
    amount = left if amount is None else amount
    if not 0 < amount <= left:
        raise ValueError(
            Sentence(
                "call {call_id} was charged {charge} USD, of which {left} are left to refund",
                call_id=format_id(call_id),
                charge=format_usd(charged.charge),
                left=format_usd(left),
            )
        )
    wallet = _wallet(connection, charged.user_id)
    _insert(connection, event, "refund", charged.user_id, amount, reason, reference, actor, call_id)
    made = Transfer(
        event.id, LINE_CHARGE, "refund", REVENUE, wallet, amount, event.at, refers_to=call_id
    )
    return Moved(Change(event.id, charged.user_id, amount, fresh=True), [made])


def adjust(
    connection: sqlite3.Connection,
    event: Event,
    user_id: int,
    amount: int,
    reason: str,
    reference: str,
    actor: str,
) -> Moved[Change]:
    """Correct a wallet by `amount`, which may be below zero; the caller has set that aside.

    Raises ValueError for an amount of 0 or beyond 10^9 USD, an unknown user, no reason, or a
    reference that was used for something else.
    """
    _check_reason(reason)
    if not 0 < abs(amount) <= AMOUNT_MAX:
        raise ValueError(
            Sentence("an adjustment must not be 0, and is at most {most:,} USD", most=USD_MAX)
        )
    earlier = _earlier(connection, reference, "adjustment", user_id, amount, None)
    if earlier is not None:
        return Moved(earlier)
    wallet = _wallet(connection, user_id)
    _insert(connection, event, "adjustment", user_id, amount, reason, reference, actor, None)
    debit, credit = (ADJUSTMENT, wallet) if amount > 0 else (wallet, ADJUSTMENT)
    made = Transfer(event.id, LINE_CHARGE, "adjustment", debit, credit, abs(amount), event.at)
    return Moved(Change(event.id, user_id, amount, fresh=True), [made])


def take_fee(
    connection: sqlite3.Connection,
    event: Event,
    user_id: int,
    amount: int,
    reason: str,
    reference: str,
) -> Moved[Change]:
    """Take a fee, once per `reference`; the caller has set it aside. Raises ValueError."""
    if not 0 < amount <= AMOUNT_MAX:
        raise AssertionError(f"a fee of {amount}")
    earlier = _earlier(connection, reference, "fee", user_id, -amount, None)
    if earlier is not None:
        return Moved(earlier)
    wallet = _wallet(connection, user_id)
    _insert(connection, event, "fee", user_id, -amount, reason, reference, "plan", None)
    made = Transfer(event.id, LINE_FEE, "fee", wallet, REVENUE, amount, event.at)
    return Moved(Change(event.id, user_id, -amount, fresh=True), [made])


def find_change(connection: sqlite3.Connection, reference: str) -> Change | None:
    """The refund, correction or fee with this reference, as a repetition of it would be told."""
    query = "SELECT event_id, user_id, amount FROM wallet_change WHERE reference = ?"
    row = _one(connection, query, reference)
    return None if row is None else Change(int(row[0]), int(row[1]), int(row[2]), fresh=False)


def _earlier(
    connection: sqlite3.Connection,
    reference: str,
    kind: str,
    user_id: int,
    amount: int | None,
    call_id: int | None,
) -> Change | None:
    check_name(Sentence("reference"), reference)
    row = _one(
        connection,
        "SELECT event_id, kind, user_id, call_id, amount FROM wallet_change WHERE reference = ?",
        reference,
    )
    if row is None:
        return None
    if row[1:4] != (kind, user_id, call_id) or amount not in {None, row[4]}:
        raise ValueError(
            Sentence("reference {reference!r} was used for something else", reference=reference)
        )
    return Change(int(row[0]), user_id, int(row[4]), fresh=False)


def _insert(
    connection: sqlite3.Connection,
    event: Event,
    kind: str,
    user_id: int,
    amount: int,
    reason: str,
    reference: str,
    actor: str,
    call_id: int | None,
) -> None:
    connection.execute(
        "INSERT INTO wallet_change (event_id, user_id, kind, amount, reason, reference, call_id, "
        "actor, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (event.id, user_id, kind, amount, reason, reference, call_id, actor, event.at),
    )


def _wallet(connection: sqlite3.Connection, user_id: int) -> int:
    """The account of a user's wallet. Raises ValueError."""
    wallet = account_id(AccountKind.WALLET, user_id)
    if _one(connection, "SELECT 1 FROM account WHERE id = ?", wallet) is None:
        raise ValueError(
            Sentence("there is no user {user_id}: see `sluice user list`", user_id=user_id)
        )
    return wallet


def _check_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > REASON_CHARS_MAX or not reason.isprintable():
        raise ValueError(
            Sentence(
                "a reason is needed, of 1 to {most} printable characters: "
                "it is shown to whom the wallet belongs",
                most=REASON_CHARS_MAX,
            )
        )


def _one(connection: sqlite3.Connection, query: str, *values: Value) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = connection.execute(query, values).fetchone()
    return row
