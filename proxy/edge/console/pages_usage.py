"""The usage log and one call's receipt.

Rules: a reader sees calls of the wallet in use, a member of a team those of their own keys, an
operator any receipt; a call of anybody else is a page that does not exist. Nothing of a call is
markup. This module must not know SQL.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from proxy.core import charts
from proxy.core.actions.action import Role
from proxy.core.charts import Chart
from proxy.core.entities import Verdict
from proxy.core.ids import format_id, parse_id
from proxy.core.money import format_multiplier
from proxy.core.receipts import SCRIPT, account, usd_text
from proxy.edge.console import usage_export, usage_live, usage_query
from proxy.edge.console.languages import Translator
from proxy.edge.console.render import count, usd
from proxy.edge.console.routes import Route
from proxy.edge.console.usage_query import Asked
from proxy.edge.console.visit import Visit
from proxy.edge.generation import receipt
from proxy.storage.ports import CallRecord
from proxy.storage.reports import usage_log
from proxy.storage.reports.usage_log import Sum, Sums, Wanted

ROWS: Final = 50
CHART_DAYS_MAX: Final = 366
"""Days that are drawn, where a question is about more."""
PARTS_MAX: Final = charts.SERIES_MAX
_DAY: Final = 86_400


async def usage(seen: Visit) -> web.StreamResponse:
    """The log, newest first, with what it sums to."""
    if seen.wallet is None:
        return seen.render("usage/none.html")
    return _sought(seen) or await _log(seen, usage_query.asked(seen), summed=True, of_all=False)


async def calls(seen: Visit) -> web.StreamResponse:
    """The operator's log, of all wallets or of one, which alone is summed."""
    question = await usage_query.asked_of_all(seen)
    summed = question.wanted.wallet is not None
    return _sought(seen) or await _log(seen, question, summed=summed, of_all=True)


def _sought(seen: Visit) -> web.Response | None:
    """Lead to the call whose number was written, if it is one."""
    call_id = parse_id(seen.request.query.get("id", "").strip())
    return None if call_id is None else seen.redirect(f"/usage/{format_id(call_id)}")


async def _log(seen: Visit, question: Asked, *, summed: bool, of_all: bool) -> web.StreamResponse:
    reader = await seen.reader()
    wanted = question.wanted
    page = await usage_log.page(reader, wanted, before=question.before, rows_max=ROWS)
    running = [] if question.before else await usage_log.open_calls(reader, wanted)
    period = usage_log.over_period(wanted, seen.now)
    sums = None
    if summed and not question.before:
        sums = await seen.surroundings.day_sums.sums(reader, period, seen.now)
    choices = await usage_log.choices(reader, wanted.wallet, wanted.person)
    names = {key.id: key.name for key in choices.keys}
    return seen.render(
        "usage/log.html",
        all=of_all,
        question=question,
        page=page,
        running=running,
        choices=choices,
        verdicts=_verdicts(seen.texts),
        options_of=lambda names: [(name, name) for name in names],
        sums=sums,
        drawn=None if sums is None else drawn(seen, period, sums, names),
        format_id=format_id,
        now=seen.now,
    )


def drawn(seen: Visit, period: Wanted, sums: Sums, keys: Mapping[int, str]) -> dict[str, Any]:
    """Charts by day and model (of what, and the chart), and of what was spent by model and key."""
    _ = seen.texts
    days = _days(period, sums, seen.now)
    labels = [datetime.fromtimestamp(day * _DAY, UTC).strftime("%m-%d") for day in days]
    rest = _("Others")
    words = charts.Words(
        column=_("Day"),
        table=_("Show as a table"),
        total=_("Total"),
        summary=_("{title}: at most {most}, on {where}."),
    )

    def by_day(title: str, figure: Callable[[Sum], int], unit: charts.Unit) -> Chart:
        cells = {at: figure(one) for at, one in sums.by_day_and_model.items()}
        series = [
            charts.Series(model, tuple(cells.get((day, model), 0) for day in days))
            for model in sums.by_model
        ]
        return charts.bar_chart(title, labels, charts.largest(series, rest), unit, words)

    by_model = [(model, one.charge) for model, one in sums.by_model.items()]
    by_key = [(keys.get(key) or f"#{key}", one.charge) for key, one in sums.by_key.items()]
    return {
        "days": [
            (_("Spent"), by_day(_("Spent by day"), lambda one: one.charge, usd)),
            (_("Calls"), by_day(_("Calls by day"), lambda one: one.calls, count)),
            (_("Tokens"), by_day(_("Tokens by day"), _tokens, count)),
        ],
        "models": charts.share_bar(_("Spent by model"), _largest(by_model, rest), usd),
        "keys": charts.share_bar(_("Spent by key"), _largest(by_key, rest), usd),
    }


def _tokens(one: Sum) -> int:
    return one.input_tokens + one.output_tokens


async def one_call(seen: Visit) -> web.StreamResponse:
    """A call's receipt, or how far it is."""
    call_id = parse_id(seen.request.match_info["request_id"])
    reader = await seen.reader()
    found = None if call_id is None else await _found(seen, call_id)
    if call_id is None or found is None:
        wanted = _may_see(seen)
        running = (
            []
            if call_id is None or wanted is None
            else [row for row in await usage_log.open_calls(reader, wanted) if row.id == call_id]
        )
        if not running:
            return seen.problem(404)
        return seen.render("usage/running.html", call=running[0], format_id=format_id)
    price = found.price
    made = None if price is None else account(found.usage, price, found.multiplier)
    return seen.render(
        "usage/receipt.html",
        call=found,
        request_id=format_id(found.call_id),
        made=made,
        operator=seen.role is not None and seen.role.covers(Role.OPERATOR),
        foreign=await _foreign(seen, call_id),
        refunded=found.refunded,
        due=found.charge + found.overrun + found.forgiven,
        multiplier=format_multiplier(found.multiplier),
        usd_text=usd_text,
        script=SCRIPT,
    )


async def receipt_file(seen: Visit) -> web.StreamResponse:
    """The receipt as JSON, as the relay's own endpoint gives it."""
    call_id = parse_id(seen.request.match_info["request_id"])
    found = None if call_id is None else await _found(seen, call_id)
    if found is None:
        return seen.problem(404)
    name = f"receipt-{format_id(found.call_id)}.json"
    return _attachment(receipt(found), name, "application/json")


async def script_file(_seen: Visit) -> web.StreamResponse:
    """The program that recomputes a receipt."""
    return _attachment(SCRIPT.encode(), "recompute.py", "text/x-python")


def _attachment(body: bytes, name: str, content_type: str) -> web.Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)


def _may_see(seen: Visit) -> Wanted | None:
    """Which calls the reader may look at, one by one; None: none at all."""
    person, wallet = seen.person, seen.wallet
    if person is not None and person.role.covers(Role.OPERATOR):
        return Wanted()
    if person is None or wallet is None:
        return None
    return Wanted(wallet=wallet.id, person=None if wallet.role == "owner" else person.id)


async def _foreign(seen: Visit, call_id: int) -> str:
    """The name of the wallet a call is of, if it is not the one in use."""
    own = Wanted(wallet=-1 if seen.wallet is None else seen.wallet.id)
    reader = await seen.reader()
    if await usage_log.calls_named(reader, own, [call_id]):
        return ""
    return (await usage_log.calls_named(reader, Wanted(), [call_id]))[0].wallet


async def _found(seen: Visit, call_id: int) -> CallRecord | None:
    wanted = _may_see(seen)
    if wanted is None:
        return None
    return await usage_log.record(await seen.reader(), wanted, call_id)


def _verdicts(texts: Translator) -> list[tuple[str, str]]:
    """Every verdict and what it is called."""
    _ = texts
    names = {
        Verdict.COMPLETE: _("complete"),
        Verdict.CLIENT_GONE: _("caller left"),
        Verdict.UPSTREAM_TRUNCATED: _("provider broke off"),
        Verdict.UPSTREAM_ERROR: _("provider error"),
        Verdict.TIMEOUT: _("timed out"),
        Verdict.CUT_FOR_BALANCE: _("balance used up"),
        Verdict.CUT_FOR_MAX_COST: _("cost limit reached"),
        Verdict.CUT_BY_SHUTDOWN: _("cut by a restart"),
        Verdict.CUT_BY_REVOCATION: _("key revoked"),
        Verdict.REJECTED: _("refused"),
        Verdict.INTERNAL_ERROR: _("relay error"),
    }
    return [(verdict.value, names[verdict]) for verdict in Verdict]


def _days(period: Wanted, sums: Sums, now: float) -> list[int]:
    """The days to draw, the newest ones where there are too many."""
    last = int(now // _DAY)
    if period.until is not None:
        last = min(last, int(period.until // _DAY) - 1)
    known = [*sums.by_day, last]
    first = int(period.since // _DAY) if period.since is not None else min(known)
    return list(range(max(first, last - CHART_DAYS_MAX + 1), last + 1))


def _largest(parts: Sequence[tuple[str, int]], rest: str) -> list[tuple[str, int]]:
    ordered = sorted(parts, key=lambda one: (-one[1], one[0]))
    if len(ordered) <= PARTS_MAX:
        return ordered
    others = sum(value for _, value in ordered[PARTS_MAX - 1 :])
    return [*ordered[: PARTS_MAX - 1], (rest, others)]


ROUTES: Final = (
    Route("GET", "/usage", Role.USER, usage),
    Route("GET", "/usage/live", Role.USER, usage_live.live),
    Route("GET", "/usage/export.csv", Role.USER, usage_export.as_csv),
    Route("GET", "/usage/export.json", Role.USER, usage_export.as_json),
    Route("GET", "/usage/recompute.py", Role.USER, script_file),
    Route("GET", "/usage/{request_id}", Role.USER, one_call),
    Route("GET", "/operator/calls", Role.OPERATOR, calls),
    Route("GET", "/operator/calls/live", Role.OPERATOR, usage_live.live_of_all),
    Route("GET", "/usage/{request_id}/receipt.json", Role.USER, receipt_file),
)
