"""Reports on the whole relay, as the operator's pages show them.

Rules: figures come from storage/reports and are only written down here. This module must not know
how a figure is made.
"""

from collections.abc import Mapping

from proxy.app.commands.shapes import Desk, Report, day_text, money, parse_day
from proxy.core.actions.action import Actor
from proxy.core.actions.reports import ReportMargin
from proxy.core.actions.unfit import Findings
from proxy.core.reconciliation.records import day_of
from proxy.storage.reports.margin import By, Margin, margin
from proxy.storage.reports.spans import Days


async def report_margin(desk: Desk, _actor: Actor, a: ReportMargin) -> object:
    """What was charged, given back and owed upstream: in all, by name and by day."""
    findings = Findings()
    last = day_of(desk.now) if a.until is None else findings.judge("until", parse_day, a.until)
    findings.tell()
    if last is None:
        raise AssertionError("a day that could not be read was not told")
    days = Days(last - a.days + 1, last)
    report = await margin(desk.reader, days, By(a.by))
    names = report.by_name()
    return {
        "since": day_text(days.first),
        "until": day_text(days.last),
        "by": a.by,
        "total": _sums(report.total()),
        "names": [
            {"name": name or None, **_sums(row)}
            for name, row in names[a.skip : a.skip + a.rows_max]
        ],
        "more": len(names) > a.skip + a.rows_max,
        "days": [{"day": day_text(day), **_sums(row)} for day, row in report.by_day(days)],
    }


def _sums(row: Margin) -> dict[str, object]:
    """Sums as the page has them; `unknown_costs`: attempts that served at a cost nobody told."""
    return {
        "calls": row.calls,
        "errors": row.errors,
        "attempts": row.attempts,
        "unknown_costs": row.unknown,
        **money(
            charged=row.charged,
            refunded=row.refunded,
            cost=row.cost,
            margin=row.margin,
            expense=row.expense,
        ),
    }


REPORTS: Mapping[str, Report] = {"report margin": report_margin}
