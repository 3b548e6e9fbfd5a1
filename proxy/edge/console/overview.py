"""What somebody sees first: what is left, what was spent, what happened last, what to do next.

Rules: the same view of calls as the usage log has: those of the wallet in use, for a member of a
team those of their own keys. Sums are of the last `DAYS` days. This module must not know SQL.
"""

from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from proxy.core import charts
from proxy.core.ids import format_id
from proxy.edge.console.render import usd
from proxy.edge.console.visit import Visit
from proxy.storage.reports import usage_log
from proxy.storage.reports import wallet as money
from proxy.storage.reports.usage_log import Sum, Sums, Wanted

DAYS: Final = 30
ROWS: Final = 6
_DAY: Final = 86_400


async def overview(seen: Visit) -> web.StreamResponse:
    """The first page of who is signed in."""
    wallet, person = seen.wallet, seen.person
    if wallet is None or person is None:
        return seen.render("overview.html", page=None)
    today = int(seen.now // _DAY)
    mine = None if wallet.role == "owner" else person.id
    wanted = Wanted(wallet=wallet.id, person=mine, since=float((today - DAYS + 1) * _DAY))
    reader = await seen.reader()
    sums = await seen.surroundings.day_sums.sums(reader, wanted, seen.now)
    calls = await usage_log.page(reader, Wanted(wallet=wallet.id, person=mine), rows_max=ROWS)
    choices = await usage_log.choices(reader, wallet.id, mine)
    return seen.render(
        "overview.html",
        page=calls,
        sums=sums,
        today=sums.by_day.get(today, Sum()),
        chart=_chart(seen, sums, today),
        keys=len(choices.keys),
        notices=await money.notices(reader, wallet.id),
        threshold=(await money.now(reader, wallet.id)).threshold,
        format_id=format_id,
    )


def _chart(seen: Visit, sums: Sums, today: int) -> charts.Chart:
    """What was spent, day by day."""
    _ = seen.texts
    days = range(today - DAYS + 1, today + 1)
    labels = [datetime.fromtimestamp(day * _DAY, UTC).strftime("%m-%d") for day in days]
    spent = tuple(sums.by_day[day].charge if day in sums.by_day else 0 for day in days)
    words = charts.Words(
        column=_("Day"),
        table=_("Show as a table"),
        total=_("Total"),
        summary=_("{title}: at most {most}, on {where}."),
    )
    title = _("Spent by day")
    return charts.bar_chart(title, labels, [charts.Series(_("Spent"), spent)], usd, words)
