"""Commands on payments."""

import sqlite3
from collections.abc import Mapping
from typing import Final

from proxy.app.commands.shapes import Handler, iso
from proxy.app.office import Office
from proxy.core.actions.action import Actor
from proxy.core.actions.payments import (
    PaymentBegin,
    PaymentListing,
    PaymentNotes,
    PaymentOpen,
    PaymentSaid,
)
from proxy.core.money import format_usd
from proxy.core.top_ups import read_rates
from proxy.storage import accounts, payments, refunds
from proxy.storage.payments import Told, Word
from proxy.storage.till import Aside, Event, Moved, ShortfallError

TAKES_MAX: Final = 5
"""How often the free part of a wallet is tried, while calls change it."""


async def payment_begin(office: Office, actor: Actor, a: PaymentBegin) -> object:
    """Note that somebody goes to pay."""
    currency = read_rates(f"{a.currency}={a.rate}")[a.currency]
    amount, now = currency.worth(a.minor), office.clock()
    user_id = await office.read(lambda c: accounts.user_id_of(c, a.user))
    begun = await office.keeper.note(
        lambda c: payments.begin(
            c, user_id, actor.person, a.provider, a.currency, a.minor, a.rate, amount, now
        )
    )
    return {"payment": begun.id, "reference": begun.reference, "amount_usd": format_usd(amount)}


async def payment_open(office: Office, _actor: Actor, a: PaymentOpen) -> object:
    """Note where they pay."""
    await office.keeper.note(lambda c: payments.opened(c, a.payment, a.session))
    return {"payment": a.payment}


async def payment_said(office: Office, _actor: Actor, a: PaymentSaid) -> object:
    """Act on what the provider says."""
    word = Word(
        a.provider, a.said, a.kind, a.message, a.reference, a.session, a.currency, a.minor, a.intent
    )

    def tell(connection: sqlite3.Connection, event: Event) -> Moved[Told]:
        return payments.told(connection, event, word)

    told = await office.keeper.till.move(tell)
    # A step of its own, done again with every word: one that is lost in between is repeated by the
    # provider, since it was not answered.
    taken = 0 if a.intent is None else await _take_back(office, a.provider, a.intent)
    return {
        "outcome": told.outcome.value,
        "credited_usd": format_usd(told.amount),
        "taken_usd": format_usd(taken),
    }


async def payment_list(office: Office, _actor: Actor, a: PaymentListing) -> object:
    """Payments and what became of them, latest first."""

    def read(connection: sqlite3.Connection) -> list[payments.PaymentRow]:
        user_id = None if a.user is None else accounts.user_id_of(connection, a.user)
        return payments.list_payments(connection, user_id, before_id=a.before, rows_max=a.rows_max)

    return [
        {
            "id": row.id,
            "user": row.user,
            "provider": row.provider,
            "currency": row.currency,
            "minor": row.minor,
            "rate": row.rate,
            "amount_usd": format_usd(row.amount),
            "taken_usd": format_usd(row.taken),
            "taken_nano": row.taken,
            "status": row.status,
            "session": row.session,
            "created": iso(row.created_at),
            "ended": iso(row.ended_at),
            "messages": row.messages,
        }
        for row in await office.read(read)
    ]


async def payment_notes(office: Office, _actor: Actor, a: PaymentNotes) -> object:
    """What a provider said that moved nothing and somebody has to look at."""
    rows = await office.read(lambda c: payments.list_notes(c, a.rows_max))
    return [row._asdict() | {"at": iso(row.at)} for row in rows]


async def _take_back(office: Office, provider: str, intent: str) -> int:
    """Take from a wallet what the provider gave back of its payment, as far as it is there."""
    due = await office.read(lambda c: refunds.find_due(c, provider, intent))
    if due is None:
        return 0
    most = due.amount
    for _ in range(TAKES_MAX):
        try:
            return await _take(office, provider, intent, Aside(due.user_id, most))
        except ShortfallError as short:  # calls go on meanwhile, so there may be less again
            most = max(0, min(most, short.free))
    return await _take(office, provider, intent, Aside(due.user_id, 0))


async def _take(office: Office, provider: str, intent: str, aside: Aside) -> int:
    def take(connection: sqlite3.Connection, event: Event) -> Moved[int]:
        return refunds.take(connection, event, provider, intent, aside.amount)

    return await office.keeper.till.move(take, aside=aside if aside.amount else None)


HANDLERS: Mapping[str, Handler] = {
    "payment begin": payment_begin,
    "payment open": payment_open,
    "payment said": payment_said,
    "payment list": payment_list,
    "payment notes": payment_notes,
}
