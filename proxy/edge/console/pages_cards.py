"""Topping up by card: what it will be worth, where to pay, and what Stripe says of it.

Rules: a browser is believed nothing: whether somebody has paid is what Stripe signs, or answers
when it is asked; the keeper decides whether that is credited, once. What Stripe sends is refused
unless it is signed, small and recent; while the keeper is away it is told to come again. This
module must not know SQL.
"""

import asyncio
from typing import Any, Final

from aiohttp import web

from proxy.core.actions.action import Actor, Role, Via
from proxy.core.actions.payments import Said
from proxy.core.sentences import text_of
from proxy.core.top_ups import Currency
from proxy.edge import log
from proxy.edge.console import stripe_line
from proxy.edge.console.keeper_line import KeeperGoneError, Refused
from proxy.edge.console.languages import later as _
from proxy.edge.console.routes import Route
from proxy.edge.console.stripe_line import (
    MESSAGE_BYTES_MAX,
    PAID,
    PROVIDER,
    ForgedError,
    Message,
    Order,
    Session,
    StripeError,
)
from proxy.edge.console.visit import Visit
from proxy.storage.reports import payments as reports
from proxy.storage.reports.payments import Payment
from proxy.storage.secrets import SecretError

ACTOR: Final = Actor(Role.ADMIN, PROVIDER, Via.CONSOLE)
"""Who acts when Stripe says something: nobody who is signed in."""
COMPLETED: Final = frozenset(
    {"checkout.session.completed", "checkout.session.async_payment_succeeded"}
)
OVER: Final = frozenset({"checkout.session.expired", "checkout.session.async_payment_failed"})
REFUNDED: Final = "charge.refunded"
NOTED: Final = frozenset({"charge.dispute.created", "charge.dispute.closed", "refund.failed"})
"""These say that money may move, but not that it has: that is for the operator to judge."""
AWAY_SECONDS: Final = "30"
BODY_SECONDS_MAX: Final = 10.0
_NOT_NOW: Final = _("Cards cannot be taken at the moment. Nothing was charged.")


async def card(seen: Visit) -> web.StreamResponse:
    """What a payment will be worth, and the way to it."""
    options = seen.surroundings.options
    if seen.wallet is None or not options.takes_cards:
        return seen.problem(404)
    form = await seen.form()
    typed, code = str(form.get("amount", "")).strip(), str(form.get("currency", ""))
    currency = options.currencies.get(code)
    fault, minor = _judged(seen, currency, typed)
    if currency is None or fault:
        return _form(seen, typed, code, fault)
    try:
        begun = await seen.do(
            "payment begin",
            user=seen.wallet.name,
            provider=PROVIDER,
            currency=code,
            minor=minor,
            rate=currency.text,
        )
        session = await asyncio.to_thread(
            stripe_line.open_session, options, _order(seen, begun, currency, minor)
        )
    except Refused as refused:
        return _form(seen, typed, code, refused.message)
    except (StripeError, SecretError) as error:
        log.get().error("a payment could not be begun", reason=str(error))
        return _form(seen, typed, code, seen.texts(_NOT_NOW))
    await seen.surroundings.keeper.do(
        "payment open", {"payment": begun["payment"], "session": session.id}, ACTOR
    )
    return seen.render(
        "wallet/pay.html",
        url=session.url,
        paid=f"{currency.shown(minor)} {code.upper()}",
        worth=currency.worth(minor),
        rate=currency.text if code != "usd" else "",
    )


async def card_form(seen: Visit) -> web.StreamResponse:
    """How much, and in which currency."""
    if seen.wallet is None or not seen.surroundings.options.takes_cards:
        return seen.problem(404)
    return _form(seen, "", "", "")


async def returned(seen: Visit) -> web.StreamResponse:
    """How far a payment is, asked of Stripe where the keeper does not know yet."""
    number = seen.request.match_info["payment"]
    options = seen.surroundings.options
    if seen.wallet is None or not number.isdecimal() or len(number) > 18:
        return seen.problem(404)
    reader = await seen.reader()
    found = await reports.payment(reader, seen.wallet.id, int(number))
    if found is None:
        return seen.problem(404)
    if found.status == "open" and found.session is not None and options.takes_cards:
        await _ask(seen, found, found.session)
        found = await reports.payment(reader, seen.wallet.id, int(number)) or found
    currency = Currency(found.currency, 0, "")
    return seen.render(
        "wallet/paid.html",
        payment=found,
        paid=f"{currency.shown(found.minor)} {found.currency.upper()}",
    )


async def webhook(seen: Visit) -> web.StreamResponse:
    """Something that Stripe sends, or somebody who says so."""
    surroundings, request = seen.surroundings, seen.request
    if not surroundings.options.takes_cards:
        return web.Response(status=404)
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            body = await _body(request)
    except TimeoutError:
        return web.Response(status=408, text="the message did not arrive in time")
    if len(body) > MESSAGE_BYTES_MAX:
        return web.Response(status=413, text="the message is too large")
    signature = request.headers.get("stripe-signature", "")
    try:
        message = await asyncio.to_thread(stripe_line.verify, surroundings.options, body, signature)
        said = _word(message)
    except ForgedError as error:
        log.get().warning("a message that Stripe did not send", reason=str(error))
        return web.Response(status=400, text=str(error))
    except SecretError as error:
        log.get().error("a message of Stripe's cannot be checked", reason=str(error))
        return web.Response(status=503, headers={"retry-after": AWAY_SECONDS})
    if said is None:
        return web.Response(text="not for us")
    try:
        told: Any = await surroundings.keeper.do("payment said", said, ACTOR)
    except (KeeperGoneError, Refused) as error:
        # Stripe repeats what is not answered with success, for days.
        log.get().error("what Stripe said is not noted", reason=str(error))
        return web.Response(status=503, headers={"retry-after": AWAY_SECONDS})
    return web.Response(text=str(told["outcome"]))


async def _body(request: web.Request) -> bytes:
    """Read a message, and no more than one byte beyond what is taken."""
    parts: list[bytes] = []
    left = MESSAGE_BYTES_MAX + 1
    while left > 0 and not request.content.at_eof():
        parts.append(await request.content.read(left))
        left -= len(parts[-1])
    return b"".join(parts)


def _word(message: Message) -> dict[str, object] | None:
    """What a message means for us; None if nothing. Raises ForgedError."""
    word: dict[str, object] = {
        "provider": PROVIDER, "kind": message.type, "message": message.id,
    }  # fmt: skip
    if message.type == REFUNDED or message.type in NOTED:
        charge = message.charge()
        word["intent"] = charge.payment_intent
        if message.type in NOTED or not charge.payment_intent or not charge.amount_refunded:
            return word | {"said": Said.NOTED.value}
        given = {"currency": charge.currency, "minor": charge.amount_refunded}
        return word | given | {"said": Said.REFUNDED.value}
    if message.type not in COMPLETED | OVER:
        return None
    session = message.session()
    if message.type in OVER:
        return word | _of(session) | {"said": Said.EXPIRED.value}
    if session.payment_status != PAID:
        return None  # it is under way, and another message follows
    return word | _of(session) | {"said": Said.PAID.value}


def _of(session: Session) -> dict[str, object]:
    return {
        "reference": session.client_reference_id,
        "session": session.id,
        "currency": session.currency,
        "minor": session.amount_total,
        "intent": session.payment_intent,
    }


async def _ask(seen: Visit, found: Payment, session_id: str) -> None:
    """Ask Stripe for a payment's state and tell the keeper; not knowing is no fault."""
    try:
        session = await asyncio.to_thread(
            stripe_line.read_session, seen.surroundings.options, session_id
        )
    except (StripeError, SecretError) as error:
        log.get().warning("a payment could not be looked at", reason=str(error))
        return
    if session.id != found.session or session.payment_status != PAID:
        return
    said = {"provider": PROVIDER, "kind": "asked", "said": Said.PAID.value} | _of(session)
    await seen.surroundings.keeper.do("payment said", said, ACTOR)


def _judged(seen: Visit, currency: Currency | None, typed: str) -> tuple[str, int]:
    """Why an amount is not taken, or the amount in the smallest unit."""
    if currency is None:
        return seen.texts(_("This currency is not taken.")), 0
    try:
        minor = currency.minor(typed)
    except ValueError as error:
        return seen.texts(text_of(error)), 0
    bounds = seen.surroundings.options.fault_of(currency.worth(minor))
    if bounds is not None:
        said = _("A top-up is worth {least} to {most} USD.")
        return seen.texts(said, least=bounds[0], most=bounds[1]), 0
    return "", minor


def _order(seen: Visit, begun: dict[str, Any], currency: Currency, minor: int) -> Order:
    base = seen.surroundings.options.console_url.rstrip("/")
    name = "" if seen.wallet is None else seen.wallet.name
    return Order(
        reference=begun["reference"],
        currency=currency.code,
        minor=minor,
        title=f"Sluice: {begun['amount_usd']} USD, {name}",
        email="" if seen.person is None else seen.person.email,
        success_url=f"{base}/wallet/card/{begun['payment']}",
        cancel_url=f"{base}/wallet",
    )


def _form(seen: Visit, typed: str, code: str, fault: str) -> web.StreamResponse:
    options = seen.surroundings.options
    return seen.render(
        "wallet/card.html",
        422 if fault else 200,
        typed=typed,
        code=code,
        fault=fault,
        currencies=list(options.currencies.values()),
        least=options.top_up_min,
        most=options.top_up_max,
    )


ROUTES = (
    Route("GET", "/wallet/card", Role.USER, card_form),
    Route("POST", "/wallet/card", Role.USER, card),
    Route("GET", "/wallet/card/{payment}", Role.USER, returned),
    Route("POST", "/webhooks/stripe", None, webhook, foreign=True),
)
