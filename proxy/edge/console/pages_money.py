"""The operator's pages of money: redeem codes, plans, refunds of calls, corrections of wallets.

Rules: codes are in the answer to the form that made them and in no other; whatever moves money
asks for the password first. This module must not know SQL.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.core.ids import format_id, parse_id
from proxy.core.money import format_usd
from proxy.core.spreadsheets import MARK, csv_line
from proxy.core.top_ups import Currency
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.languages import later as _
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit
from proxy.storage.reports import wallet as reports

PAGE_CODES: Final = 50
LIMITS: Final = ("requests_per_minute", "tokens_per_minute", "concurrency")
FEES: Final = ("monthly_fee", "monthly_credit")
EXPIRIES: Final = ("", "7d", "30d", "90d", "365d")
_OPERATOR: Final = Role.OPERATOR
_NO_CHARGE: Final = _("No call with this id was charged.")


async def codes(seen: Visit) -> web.StreamResponse:
    """Codes and what became of them, latest first."""
    query = seen.request.query
    batch = query.get("batch", "").strip()[:200] or None
    before = int(query["before"]) if query.get("before", "").isdecimal() else None
    rows = await seen.do("code list", batch=batch, before=before, rows_max=PAGE_CODES + 1)
    shown = rows[:PAGE_CODES]
    asked = {"batch": batch} if batch else {}
    older = urlencode({**asked, "before": shown[-1]["id"]}) if len(rows) > PAGE_CODES else ""
    return seen.render(
        "operator/codes.html",
        codes=[_timed(row, "expires", "created", "redeemed") for row in shown],
        batch=batch or "",
        older=f"/operator/codes?{older}" if older else "",
        newer=f"/operator/codes?{urlencode(asked)}" if before else "",
    )


async def payments(seen: Visit) -> web.StreamResponse:
    """Payments by card, and what the provider said that somebody has to look at."""
    query = seen.request.query
    before = int(query["before"]) if query.get("before", "").isdecimal() else None
    rows = await seen.do("payment list", before=before, rows_max=PAGE_CODES + 1)
    shown = rows[:PAGE_CODES]
    older = f"/operator/payments?before={shown[-1]['id']}" if len(rows) > PAGE_CODES else ""
    return seen.render(
        "operator/payments.html",
        payments=[_timed(row, "created", "ended") for row in shown],
        paid=_paid,
        notes=[_timed(row, "at") for row in await seen.do("payment notes")],
        older=older,
        newer="/operator/payments" if before else "",
    )


async def new_codes(seen: Visit) -> web.StreamResponse:
    """An empty form."""
    return _codes_form(seen, {"count": "10", "expires": "90d"})


async def make_codes(seen: Visit) -> web.StreamResponse:
    """Make codes, and show them in this answer alone."""
    form = await seen.form()
    names = ("count", "amount", "batch", "note", "expires", "as")
    given = {name: str(form.get(name, "")).strip() for name in names}
    _ = seen.texts
    if not (given["count"].isascii() and given["count"].isdigit() and len(given["count"]) < 6):
        return _codes_form(seen, given, _("How many codes? A whole number, please."))
    try:
        made = await seen.do(
            "code make",
            count=int(given["count"]),
            amount=given["amount"],
            batch=given["batch"] or None,
            note=given["note"],
            expires=given["expires"] or None,
        )
    except Refused as refused:
        return _codes_form(seen, given, refused.message)
    if given["as"] != "csv":
        return seen.render("operator/codes_made.html", made=made)
    lines = [csv_line(("id", "code", "amount_usd", "batch", "expires"))]
    for one in made["codes"]:
        cells = (one["id"], one["code"], made["amount_usd"], made["batch"], made["expires"] or "")
        lines.append(csv_line(cells))
    return web.Response(
        text=MARK + "".join(lines),
        content_type="text/csv",
        charset="utf-8",
        headers={"content-disposition": 'attachment; filename="codes.csv"'},
    )


async def withdraw_codes(seen: Visit) -> web.StreamResponse:
    """Make a code, or the rest of a batch, worthless."""
    form, _ = await seen.form(), seen.texts
    code, batch = str(form.get("id", "")), str(form.get("batch", ""))
    which: dict[str, object] = {"id": int(code)} if code.isdecimal() else {"batch": batch}
    done = await seen.do("code withdraw", **which)
    said = _("{n} codes were withdrawn.", n=done["withdrawn"])
    return seen.redirect("/operator/codes", said)


async def plans(seen: Visit) -> web.StreamResponse:
    """All plans, and how many wallets are on each."""
    return seen.render("operator/plans.html", plans=await seen.do("plan list"))


async def plan_form(seen: Visit) -> web.StreamResponse:
    """A plan to change, or an empty form."""
    name = seen.request.query.get("name", "")
    if not name:
        return _plan_form(seen, {}, create=True)
    for row in await seen.do("plan list"):
        if row["plan"]["name"] == name:
            return _plan_form(seen, row["plan"] | {"basis": row["basis"]}, create=False)
    return seen.problem(404)


async def save_plan(seen: Visit) -> web.StreamResponse:
    """Make a plan, or change one."""
    form, _ = await seen.form(), seen.texts
    given = {name: str(form.get(name, "")).strip() for name in ("name", "basis", *LIMITS, *FEES)}
    create = form.get("create") == "1"
    wanted: dict[str, object] = {name: given[name] or None for name in FEES}
    wanted["offered"] = form.get("offered") == "1" or None
    for name in LIMITS:
        text = given[name]
        digits = text.isascii() and text.isdigit() and len(text) <= 13
        wanted[name] = int(text) if digits else text or None
    try:
        await seen.do(
            "plan set",
            name=given["name"],
            set=wanted,
            create=create,
            basis=None if create else given["basis"] or None,
        )
    except Refused as refused:
        again = given | {"offered": wanted["offered"]}
        return _plan_form(seen, again, create=create, fault=refused)
    return seen.redirect("/operator/plans", _("The plan is saved. It holds from now on."))


async def remove_plan(seen: Visit) -> web.StreamResponse:
    """Remove a plan that no wallet is on."""
    form, _ = await seen.form(), seen.texts
    await seen.do("plan remove", name=str(form.get("name", "")))
    return seen.redirect("/operator/plans", _("The plan is removed."))


async def refund_form(seen: Visit) -> web.StreamResponse:
    """What a call was charged, and a form to give it back."""
    return await _refund_page(seen, seen.request.match_info["request_id"], {})


async def refund(seen: Visit) -> web.StreamResponse:
    """Give back what a call was charged, or part of it."""
    request_id = seen.request.match_info["request_id"]
    form, _ = await seen.form(), seen.texts
    given = {name: str(form.get(name, "")).strip() for name in ("amount", "reason", "reference")}
    try:
        done = await seen.do(
            "wallet refund",
            call=request_id,
            amount=given["amount"] or None,
            reason=given["reason"],
            reference=given["reference"] or None,
        )
    except Refused as refused:
        return await _refund_page(seen, request_id, given, refused)
    said = _("{amount} USD went back to {wallet}.", amount=done["changed_usd"], wallet=done["user"])
    return seen.redirect(f"/operator/refund/{request_id}", said)


async def adjust_form(seen: Visit) -> web.StreamResponse:
    """A form to correct a wallet."""
    return seen.render(
        "operator/adjust.html", form={"user": seen.request.query.get("user", "")}, fault=None
    )


async def adjust(seen: Visit) -> web.StreamResponse:
    """Correct a wallet, up or down."""
    form, _ = await seen.form(), seen.texts
    names = ("user", "amount", "reason", "reference")
    given = {name: str(form.get(name, "")).strip() for name in names}
    try:
        done = await seen.do("wallet adjust", **given | {"reference": given["reference"] or None})
    except Refused as refused:
        return seen.render("operator/adjust.html", 422, form=given, fault=refused)
    said = _(
        "{wallet} was corrected by {amount} USD and has {balance} USD.",
        wallet=done["user"],
        amount=done["changed_usd"],
        balance=done["balance_usd"],
    )
    return seen.redirect(f"/operator/adjust?{urlencode({'user': given['user']})}", said)


def _timed(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """A row of an answer with its moments as Unix seconds."""
    moments = {
        name: None if row[name] is None else datetime.fromisoformat(row[name]).timestamp()
        for name in names
    }
    return {**row, **moments}


def _paid(row: Mapping[str, Any]) -> str:
    """What was to be paid, in its currency."""
    return f"{Currency(row['currency'], 0, '').shown(row['minor'])} {row['currency'].upper()}"


def _codes_form(seen: Visit, form: Mapping[str, str], fault: str = "") -> web.StreamResponse:
    return seen.render(
        "operator/codes_form.html", 422 if fault else 200, form=form, fault=fault, expiries=EXPIRIES
    )


def _plan_form(
    seen: Visit, form: Mapping[str, Any], *, create: bool, fault: Refused | None = None
) -> web.StreamResponse:
    return seen.render(
        "operator/plan_form.html",
        200 if fault is None else 422,
        form=form,
        create=create,
        fault=fault,
    )


async def _refund_page(
    seen: Visit, request_id: str, form: Mapping[str, str], fault: Refused | None = None
) -> web.StreamResponse:
    call_id = parse_id(request_id)
    reader = await seen.reader()
    found = None if call_id is None else await reports.charge_of(reader, call_id)
    if call_id is None or found is None:
        return seen.problem(404, seen.texts(_NO_CHARGE))
    return seen.render(
        "operator/refund.html",
        200 if fault is None else 422,
        request_id=format_id(call_id),
        charge=found,
        form=form,
        fault=fault,
        format_usd=format_usd,
    )


ROUTES = (
    Route("GET", "/operator/codes", _OPERATOR, codes),
    Route("GET", "/operator/codes/new", _OPERATOR, new_codes, step_up=True),
    Route("POST", "/operator/codes/new", _OPERATOR, make_codes, step_up=True),
    Route("POST", "/operator/codes/withdraw", _OPERATOR, withdraw_codes),
    Route("GET", "/operator/payments", _OPERATOR, payments),
    Route("GET", "/operator/plans", _OPERATOR, plans),
    Route("GET", "/operator/plans/edit", _OPERATOR, plan_form, step_up=True),
    Route("POST", "/operator/plans/edit", _OPERATOR, save_plan, step_up=True),
    Route("POST", "/operator/plans/remove", _OPERATOR, remove_plan, step_up=True),
    Route("GET", "/operator/refund/{request_id}", _OPERATOR, refund_form, step_up=True),
    Route("POST", "/operator/refund/{request_id}", _OPERATOR, refund, step_up=True),
    Route("GET", "/operator/adjust", _OPERATOR, adjust_form, step_up=True),
    Route("POST", "/operator/adjust", _OPERATOR, adjust, step_up=True),
)
