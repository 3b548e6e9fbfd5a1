"""Commands on wallets."""

import secrets
import sqlite3
from collections.abc import Mapping
from datetime import date

from proxy.app.commands.shapes import Handler, iso
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions.action import Actor
from proxy.core.actions.wallets import (
    WalletAdjust,
    WalletCredit,
    WalletHistory,
    WalletNoticeRead,
    WalletRefund,
    WalletShow,
    WalletThreshold,
)
from proxy.core.ids import format_id, parse_id
from proxy.core.ledger import DAY_SECONDS
from proxy.core.money import format_usd, parse_signed_usd, parse_usd
from proxy.core.sentences import Sentence
from proxy.storage import accounts, notices, wallet_changes
from proxy.storage.reader import Reader
from proxy.storage.reports import wallet as reports
from proxy.storage.reports.day_sums import DaySums
from proxy.storage.till import Aside, Event, Moved, ShortfallError
from proxy.storage.wallet_changes import OWN_REFERENCE, Change

HISTORY_DAYS_MAX = 366


async def wallet_credit(office: Office, _actor: Actor, a: WalletCredit) -> object:
    """Top a wallet up, once per reference."""
    amount = parse_signed_usd(a.amount)
    if amount < 0:
        raise CommandError(
            Sentence("a top-up adds money, and {amount} USD would take some", amount=a.amount),
            "correct the wallet instead (`sluice wallet adjust`), which also takes money away",
        )
    reference = _reference(a.reference, "cli")
    user_id = await office.read(lambda c: accounts.user_id_of(c, a.user))
    top_up = await office.keeper.credit(user_id, amount, a.reason, reference)
    return {
        "user": a.user,
        "credited_usd": format_usd(top_up.amount if top_up.fresh else 0),
        "balance_usd": format_usd(office.keeper.balance(user_id)),
        "reference": reference,
        "repeated": not top_up.fresh,
    }


async def wallet_show(office: Office, _actor: Actor, a: WalletShow) -> object:
    """A wallet, where its money came from and where it went."""
    row = await office.read(lambda c: accounts.show_wallet(c, a.user))
    return {
        "user": row.user,
        "balance_usd": format_usd(row.balance),
        "topped_up_usd": format_usd(row.topped_up),
        "charged_usd": format_usd(row.charged),
    }


async def wallet_refund(office: Office, actor: Actor, a: WalletRefund) -> object:
    """Give back what a call was charged, or part of it."""
    call_id = parse_id(a.call.strip())
    if call_id is None:
        raise CommandError(
            Sentence("{call!r} is not a request id", call=a.call), "take one from sluice usage"
        )
    amount = None if a.amount is None else parse_usd(a.amount)
    reference = _reference(a.reference, "refund")

    def refund(connection: sqlite3.Connection, event: Event) -> Moved[Change]:
        return wallet_changes.refund_call(
            connection, event, call_id, amount, a.reason, reference, actor.name
        )

    change = await office.keeper.till.move(refund)
    names = office.keeper.catalog.users
    user = names[change.user_id].name if change.user_id in names else str(change.user_id)
    return {"request_id": format_id(call_id)} | _changed(office, user, change, reference)


async def wallet_adjust(office: Office, actor: Actor, a: WalletAdjust) -> object:
    """Correct a wallet, up or down."""
    amount = parse_signed_usd(a.amount)
    reference = _reference(a.reference, "adjust")
    user_id = await office.read(lambda c: accounts.user_id_of(c, a.user))

    def adjust(connection: sqlite3.Connection, event: Event) -> Moved[Change]:
        return wallet_changes.adjust(
            connection, event, user_id, amount, a.reason, reference, actor.name
        )

    aside = Aside(user_id, -amount) if amount < 0 else None
    try:
        change = await office.keeper.till.move(adjust, aside=aside)
    except ShortfallError:
        # A repetition takes nothing, so it need not fit.
        done = await office.read(lambda c: wallet_changes.find_change(c, reference))
        if done is None or (done.user_id, done.amount) != (user_id, amount):
            raise
        change = done
    return _changed(office, a.user, change, reference)


async def wallet_history(office: Office, _actor: Actor, a: WalletHistory) -> object:
    """What came into a wallet and left it, latest first; charges by day."""
    if not 0 < a.days <= HISTORY_DAYS_MAX:
        raise CommandError(
            Sentence("between 1 and {most} days can be listed at once", most=HISTORY_DAYS_MAX)
        )
    user_id = await office.read(lambda c: accounts.user_id_of(c, a.user))
    at = office.clock()
    last = int(at // DAY_SECONDS) if a.until is None else _day(a.until)
    reader = await Reader.open(office.database)
    try:
        found = await reports.history(reader, DaySums(), user_id, last, at, a.days)
        now = await reports.now(reader, user_id)
    finally:
        await reader.close()
    return {
        "user": a.user,
        "balance_usd": format_usd(now.balance),
        "held_usd": format_usd(now.held),
        "available_usd": format_usd(now.available),
        "entries": [
            {
                "at": iso(min(entry.at, at)),  # of a day of charges: its end, or now
                "kind": entry.kind,
                "amount_usd": format_usd(entry.amount),
                "reason": entry.text or (f"{entry.calls:,} calls" if entry.calls else ""),
                "reference": entry.reference,
                "request_id": None if entry.call_id is None else format_id(entry.call_id),
            }
            for entry in found.entries
        ],
        "complete": found.complete,
        "older": None if found.older is None else (iso(found.older * DAY_SECONDS) or "")[:10],
    }


async def wallet_threshold(office: Office, actor: Actor, a: WalletThreshold) -> object:
    """Say below which balance the wallet's people are told."""
    if not actor.owner:
        raise CommandError("only who owns the wallet says when its people are told")
    below = parse_usd(a.below)
    user_id = await office.read(lambda c: accounts.user_id_of(c, a.user))
    await office.keeper.note(lambda c: notices.set_threshold(c, user_id, below))
    return {"user": a.user, "below_usd": format_usd(below)}


async def wallet_notice_read(office: Office, _actor: Actor, a: WalletNoticeRead) -> object:
    """Do not show a notice of a wallet any more."""
    now = office.clock()
    user_id = await office.read(lambda c: accounts.user_id_of(c, a.user))
    await office.keeper.note(lambda c: notices.end(c, user_id, a.kind, now))
    return {"user": a.user, "read": a.kind.value}


def _changed(office: Office, user: str, change: Change, reference: str) -> dict[str, object]:
    return {
        "user": user,
        "changed_usd": format_usd(change.amount if change.fresh else 0),
        "balance_usd": format_usd(office.keeper.balance(change.user_id)),
        "reference": reference,
        "repeated": not change.fresh,
    }


def _reference(given: str | None, kind: str) -> str:
    if given is None:
        return f"{kind}-{secrets.token_hex(8)}"
    if given.startswith(OWN_REFERENCE):
        raise CommandError(
            Sentence(
                "references that begin with {prefix!r} are the relay's own", prefix=OWN_REFERENCE
            )
        )
    return given


def _day(text: str) -> int:
    try:
        return (date.fromisoformat(text) - date(1970, 1, 1)).days
    except ValueError:
        raise CommandError(
            Sentence("{text!r} is not a date such as 2030-01-31", text=text)
        ) from None


HANDLERS: Mapping[str, Handler] = {
    "wallet credit": wallet_credit,
    "wallet show": wallet_show,
    "wallet refund": wallet_refund,
    "wallet adjust": wallet_adjust,
    "wallet history": wallet_history,
    "wallet threshold": wallet_threshold,
    "wallet notice read": wallet_notice_read,
}
