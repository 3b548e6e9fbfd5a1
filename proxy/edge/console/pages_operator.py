"""The operator's reports: the state of the relay, live traffic, errors, margin.

Rules: everything is read, nothing is decided; a report says since when it counts, and a figure that
is not known is a dash and never a zero. This module must not know how a figure is made.
"""

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.core.charts import Series, Words, bar_chart, largest, line_chart
from proxy.core.ids import format_id
from proxy.core.reconciliation.records import day_of
from proxy.edge.console.alerts import alerts
from proxy.edge.console.languages import Translator
from proxy.edge.console.render import count, day, usd
from proxy.edge.console.routes import Route
from proxy.edge.console.surroundings import Surroundings
from proxy.edge.console.visit import Visit
from proxy.edge.exposition import Picture
from proxy.storage.reports import errors as error_report
from proxy.storage.reports import traffic as traffic_report
from proxy.storage.reports.channels import key_counts, keyless, public_catalog, unpriced
from proxy.storage.reports.margin import By, Margin, Report, margin
from proxy.storage.reports.spans import Days

SPANS: Final = (1, 7, 30, 90)
"""Days that margin can be asked for."""
ERROR_HOURS: Final = (1, 24, 168)
DAY_SECONDS: Final = 86_400


async def overview(seen: Visit) -> web.StreamResponse:
    """The state of the relay on one page."""
    reader, now = await seen.reader(), seen.now
    traffic = await traffic_report.traffic(reader, now)
    today = (await margin(reader, Days(day_of(now), day_of(now)), By.CHANNEL)).total()
    catalog = await public_catalog(seen.surroundings.database)
    picture = await picture_of(seen.surroundings)
    silent = keyless(catalog, await key_counts(reader))
    return seen.render(
        "operator/overview.html",
        traffic=traffic,
        today=today,
        channels=sorted(catalog.channels.values(), key=lambda channel: channel.name),
        breakers={} if picture is None else picture.merged.breakers,
        known=picture is not None,
        streams=None if picture is None else picture.merged.streams,
        alerts=alerts(picture, unpriced(catalog), silent, seen.texts),
        chart=_minutes_chart(traffic, seen.texts),
    )


async def traffic_page(seen: Visit) -> web.StreamResponse:
    """The last hour by channel and model, and what is open."""
    traffic = await traffic_report.traffic(await seen.reader(), seen.now)
    return seen.render(
        "operator/traffic.html",
        traffic=traffic,
        chart=_minutes_chart(traffic, seen.texts),
    )


async def errors_page(seen: Visit) -> web.StreamResponse:
    """What failed lately, gathered by what went wrong."""
    asked = seen.request.query.get("hours", "")
    hours = int(asked) if asked in {str(each) for each in ERROR_HOURS} else 24
    found = await error_report.errors(await seen.reader(), seen.now, hours * 3600.0)
    return seen.render(
        "operator/errors.html", errors=found, hours=hours, choices=ERROR_HOURS, format_id=format_id
    )


async def margin_page(seen: Visit) -> web.StreamResponse:
    """What was charged less what it cost, by day and channel, model or group."""
    query = seen.request.query
    asked = query.get("days", "")
    span = int(asked) if asked in {str(each) for each in SPANS} else 7
    by = By(query["by"]) if query.get("by") in set(By) else By.CHANNEL
    last = day_of(seen.now)
    days = Days(last - span + 1, last)
    report = await margin(await seen.reader(), days, by)
    return seen.render(
        "operator/margin.html",
        report=report,
        rows=report.by_name(),
        days=[(one * DAY_SECONDS, row) for one, row in reversed(report.by_day(days))],
        total=report.total(),
        span=span,
        spans=SPANS,
        by=by.value,
        chart=_margin_chart(report, days, seen.texts),
        shares=_charged_chart(report, days, seen.texts),
    )


async def picture_of(surroundings: Surroundings) -> Picture | None:
    """The figures of all processes, where somebody gathers them."""
    return None if surroundings.picture is None else await surroundings.picture()


def chart_words(_: Translator, column: str) -> Words:
    """What a chart says besides its figures."""
    return Words(
        column=column,
        table=_("Show as a table"),
        total=_("Total"),
        summary=_("{title}: at most {most}, on {where}."),
    )


def _minutes_chart(traffic: traffic_report.Traffic, _: Translator) -> str:
    minutes = range(int(traffic.since), int(traffic.until) + 1, 60)
    by_minute = {int(row.at): row for row in traffic.minutes}
    rows = [by_minute.get(at) for at in minutes]
    good = tuple(0 if row is None else row.calls - row.failed for row in rows)
    failed = tuple(0 if row is None else row.failed for row in rows)
    return bar_chart(
        _("Calls by minute"),
        [f"{at // 3600 % 24:02}:{at // 60 % 60:02}" for at in minutes],
        [Series(_("served"), good), Series(_("failed"), failed)],
        count,
        chart_words(_, _("Minute (UTC)")),
    )


def _margin_chart(report: Report, days: Days, _: Translator) -> str:
    rows = [row for _day, row in report.by_day(days)]
    return line_chart(
        _("Charged and cost by day"),
        _days(days),
        [
            Series(_("Charged"), tuple(row.charged - row.refunded for row in rows)),
            Series(_("Upstream cost"), tuple(row.cost for row in rows)),
        ],
        usd,
        chart_words(_, _("Day")),
    )


def _charged_chart(report: Report, days: Days, _: Translator) -> str:
    numbers = range(days.first, days.last + 1)
    series = [
        Series(
            name or _("no channel"),
            tuple(report.rows.get((one, name), Margin()).charged for one in numbers),
        )
        for name, row in report.by_name()
        if row.charged
    ]
    words = chart_words(_, _("Day"))
    return bar_chart(_("Charged by day"), _days(days), largest(series, _("others")), usd, words)


def _days(days: Days) -> Sequence[str]:
    return [day(one * DAY_SECONDS) for one in range(days.first, days.last + 1)]


ROUTES = (
    Route("GET", "/operator", Role.OPERATOR, overview),
    Route("GET", "/operator/traffic", Role.OPERATOR, traffic_page),
    Route("GET", "/operator/errors", Role.OPERATOR, errors_page),
    Route("GET", "/operator/margin", Role.OPERATOR, margin_page),
)
