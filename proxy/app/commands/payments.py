"""Commands on payments."""

import sqlite3
from collections.abc import Mapping

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
from proxy.storage import accounts, payments
from proxy.storage.payments import Told, Word
from proxy.storage.till import Event, Moved


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
    word = Word(a.provider, a.said, a.kind, a.message, a.reference, a.session, a.currency, a.minor)

    def tell(connection: sqlite3.Connection, event: Event) -> Moved[Told]:
        return payments.told(connection, event, word)

    told = await office.keeper.till.move(tell)
    return {"outcome": told.outcome.value, "credited_usd": format_usd(told.amount)}


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


HANDLERS: Mapping[str, Handler] = {
    "payment begin": payment_begin,
    "payment open": payment_open,
    "payment said": payment_said,
    "payment list": payment_list,
    "payment notes": payment_notes,
}
