"""The wallet's page: what is in it, how money gets in, and where it went.

Rules: members see it, owners choose its plan and when to be told; a code is given to the keeper
and to nobody else. An amount is shown exactly. This module must not know SQL, nor any provider of
payments.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.core.ids import format_id
from proxy.core.ledger import DAY_SECONDS
from proxy.core.money import format_usd
from proxy.core.spreadsheets import MARK, csv_line
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.languages import later as _
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit
from proxy.storage.people import OWNER
from proxy.storage.reports import wallet as reports
from proxy.storage.reports.memberships import Wallet
from proxy.storage.reports.spans import Days
from proxy.storage.reports.wallet import Entry, History

EXPORT_WINDOWS_MAX: Final = 600
"""Windows of one export: fifty years."""
COLUMNS: Final = (
    "time", "kind", "in_usd", "out_usd", "calls", "reason", "reference", "request_id",
)  # fmt: skip
"""Amounts apart, since a spreadsheet would take one with a minus for a formula."""


_SAID: Final = (
    _("a code has 24 letters and digits"),
    _("a code has only letters and digits, and no U"),
    _("this code has a typing error in it: compare it with where you have it from"),
    _("this code cannot be redeemed: it is unknown, used, withdrawn or past its date"),
    _("too many of the codes you tried were wrong"),
)
"""What the keeper says of codes (core/codes.py, storage/codes.py), so that it has its Chinese."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a form was refused for: which one, what was typed, and why."""

    form: str
    typed: str
    message: str
    remedy: str = ""


async def wallet(seen: Visit) -> web.StreamResponse:
    """The wallet in use."""
    if seen.wallet is None:
        return seen.render("usage/none.html")
    return await _page(seen, seen.wallet)


async def redeem(seen: Visit) -> web.StreamResponse:
    """Top up with a code."""
    if seen.wallet is None:
        return seen.problem(404)
    code = str((await seen.form()).get("code", ""))
    try:
        done = await seen.do("code redeem", user=seen.wallet.name, code=code)
    except Refused as refused:
        fault = Fault("code", code, refused.message, refused.remedy)
        return await _page(seen, seen.wallet, fault)
    if done["repeated"]:
        said = seen.texts(_("This wallet has had that code before."))
        return seen.redirect("/wallet", said, "info")
    said = seen.texts(_("{amount} USD were credited."), amount=done["credited_usd"])
    return seen.redirect("/wallet", said)


async def threshold(seen: Visit) -> web.StreamResponse:
    """Say below which balance the wallet's people are told."""
    if seen.wallet is None or seen.wallet.role != OWNER:
        return seen.problem(404)
    below = str((await seen.form()).get("below", "")).strip() or "0"
    try:
        await seen.do("wallet threshold", user=seen.wallet.name, below=below)
    except Refused as refused:
        return await _page(seen, seen.wallet, Fault("below", below, refused.message))
    return seen.redirect("/wallet", seen.texts(_("Saved.")))


async def choose(seen: Visit) -> web.StreamResponse:
    """Choose a plan among those on offer."""
    if seen.wallet is None:
        return seen.problem(404)
    plan = str((await seen.form()).get("plan", ""))
    try:
        done = await seen.do("plan choose", user=seen.wallet.name, plan=plan)
    except Refused as refused:
        return await _page(seen, seen.wallet, Fault("plan", plan, refused.message, refused.remedy))
    said = seen.texts(_("The wallet is on the plan {plan} now."), plan=done["plan"])
    return seen.redirect("/wallet", said)


async def read_notice(seen: Visit) -> web.StreamResponse:
    """Do not show a notice any more."""
    if seen.wallet is None:
        return seen.problem(404)
    kind = str((await seen.form()).get("kind", ""))
    await seen.do("wallet notice read", user=seen.wallet.name, kind=kind)
    return seen.redirect("/wallet")


async def export(seen: Visit) -> web.StreamResponse:
    """The whole history as CSV, newest first."""
    if seen.wallet is None:
        return seen.problem(404)
    response = web.StreamResponse(
        headers={
            "content-type": "text/csv; charset=utf-8",
            "content-disposition": 'attachment; filename="wallet.csv"',
        }
    )
    seen.take_leave(response)
    window = await _history(seen, seen.wallet, _today(seen))
    await response.prepare(seen.request)
    await response.write((MARK + csv_line(COLUMNS)).encode())
    for _number in range(EXPORT_WINDOWS_MAX):
        await response.write("".join(map(_line, window.entries)).encode())
        if window.older is None:
            break
        window = await _history(seen, seen.wallet, window.older)
    await response.write_eof()
    return response


def _line(entry: Entry) -> str:
    at = datetime.fromtimestamp(entry.at, UTC)
    charges = entry.kind == "charges"
    return csv_line(
        (
            at.date().isoformat() if charges else at.isoformat(timespec="seconds"),
            entry.kind,
            format_usd(max(0, entry.amount)),
            format_usd(max(0, -entry.amount)),
            entry.calls,
            entry.text,
            entry.reference,
            "" if entry.call_id is None else format_id(entry.call_id),
        )
    )


async def _page(seen: Visit, used: Wallet, fault: Fault | None = None) -> web.StreamResponse:
    reader, today = await seen.reader(), _today(seen)
    until = _day(seen.request.query.get("until"), today)
    moment = datetime.fromtimestamp(seen.now, UTC)
    history = await _history(seen, used, until)
    month = Days(today - moment.day + 1, today)
    spent = await reports.charges(reader, seen.surroundings.day_sums, used.id, month, seen.now)
    plan = await reports.plan_of(reader, used.id)
    return seen.render(
        "wallet/wallet.html",
        200 if fault is None else 422,
        now=await reports.now(reader, used.id),
        spent_today=spent.by_day[today].charge if today in spent.by_day else 0,
        spent_month=spent.total.charge,
        history=history,
        first_page=until == today,
        older="" if history.older is None else f"/wallet?until={_text(history.older)}#history",
        notices=await reports.notices(reader, used.id),
        plan=plan,
        plans=await reports.plans_offered(reader, used.id),
        owner=used.role == OWNER,
        fault=fault,
        cards=seen.surroundings.options.takes_cards,
        format_id=format_id,
        format_usd=format_usd,
        day_text=_text,
    )


async def _history(seen: Visit, used: Wallet, last_day: int) -> History:
    reader, day_sums = await seen.reader(), seen.surroundings.day_sums
    return await reports.history(reader, day_sums, used.id, last_day, seen.now)


def _today(seen: Visit) -> int:
    return int(seen.now // DAY_SECONDS)


def _day(text: str | None, default: int) -> int:
    try:
        found = (date.fromisoformat(text or "") - date(1970, 1, 1)).days
    except ValueError:
        return default
    return min(max(found, 0), default)


def _text(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_SECONDS, UTC).date().isoformat()


ROUTES = (
    Route("GET", "/wallet", Role.USER, wallet),
    Route("GET", "/wallet/history.csv", Role.USER, export),
    Route("POST", "/wallet/redeem", Role.USER, redeem),
    Route("POST", "/wallet/threshold", Role.USER, threshold),
    Route("POST", "/wallet/plan", Role.USER, choose),
    Route("POST", "/wallet/notice", Role.USER, read_notice),
)
