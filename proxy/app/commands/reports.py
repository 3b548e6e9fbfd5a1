"""Reports on the whole relay, as the operator's pages show them.

Rules: figures come from storage/reports and are only written down here. This module must not know
how a figure is made.
"""

from collections.abc import Mapping
from typing import Final

from proxy.app.commands.shapes import Desk, Report, day_text, iso, last_day, money
from proxy.core.actions.action import Actor
from proxy.core.actions.reports import (
    ReportChannels,
    ReportErrors,
    ReportMargin,
    ReportOverview,
    ReportTraffic,
)
from proxy.core.entities import Channel
from proxy.core.ids import format_id
from proxy.core.reconciliation.records import day_of
from proxy.edge.console.alerts import alerts
from proxy.edge.console.languages import ENGLISH, Translator
from proxy.edge.exposition import Picture
from proxy.storage.reports.channels import (
    in_order,
    key_counts,
    keyless,
    public_catalog,
    unpriced,
)
from proxy.storage.reports.errors import Failures, errors
from proxy.storage.reports.margin import By, Margin, margin
from proxy.storage.reports.spans import Days
from proxy.storage.reports.traffic import Part, Traffic, traffic

HEALTH: Final = ("healthy", "tried again", "failing")
"""What a breaker's state means (edge/health.py)."""


async def report_margin(desk: Desk, _actor: Actor, a: ReportMargin) -> object:
    """What was charged, given back and owed upstream: in all, by name and by day."""
    last = last_day(a.until, desk.now)
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


async def report_overview(desk: Desk, _actor: Actor, _a: ReportOverview) -> object:
    """The state of the relay; `relay` is None where no process of it can be asked."""
    seen = await traffic(desk.reader, desk.now)
    today = day_of(desk.now)
    sums = await margin(desk.reader, Days(today, today), By.CHANNEL)
    catalog = await public_catalog(desk.database)
    picture = await _picture(desk)
    silent = keyless(catalog, await key_counts(desk.reader))
    english = Translator(ENGLISH, {})
    return {
        "at": iso(desk.now),
        "relay": None if picture is None else _relay(picture),
        "alerts": [
            {"kind": each.kind, "text": each.text}
            for each in alerts(picture, unpriced(catalog), silent, english)
        ],
        "since": iso(seen.since),
        "calls": seen.whole.calls,
        "failed": seen.whole.failed,
        "calls_a_minute": seen.a_minute,
        "open_calls": seen.open_calls,
        **money(held=seen.held),
        "today": _sums(sums.total()),
        "channels": [
            {"name": each.name, **_health(each, picture), **_calls(seen, each.name)}
            for each in sorted(catalog.channels.values(), key=lambda channel: channel.name)
        ],
    }


async def report_channels(desk: Desk, _actor: Actor, _a: ReportChannels) -> object:
    """How each channel does, in the order in which they are asked."""
    seen = await traffic(desk.reader, desk.now)
    today = day_of(desk.now)
    sums = dict((await margin(desk.reader, Days(today, today), By.CHANNEL)).by_name())
    catalog = await public_catalog(desk.database)
    picture = await _picture(desk)
    keys = await key_counts(desk.reader)
    resting = {} if picture is None else picture.merged.resting
    nothing = Margin()
    return {
        "since": iso(seen.since),
        "today": day_text(today),
        "channels": [
            {
                "name": each.name,
                **_health(each, picture),
                "dialect": each.dialect.value,
                "groups": sorted(each.groups),
                "models": len(each.models),
                "keys": keys.get(each.id, 0),
                "resting_keys": resting.get(each.name, 0),
                "priority": each.priority,
                "weight": each.weight,
                **_calls(seen, each.name),
                **money(
                    cost_today=sums.get(each.name, nothing).cost,
                    margin_today=sums.get(each.name, nothing).margin,
                ),
            }
            for each in in_order(catalog)
        ],
    }


async def report_traffic(desk: Desk, _actor: Actor, a: ReportTraffic) -> object:
    """Calls by minute, by channel and model, and those that run now."""
    seen = await traffic(desk.reader, desk.now, a.minutes * 60.0)
    return {
        "since": iso(seen.since),
        "until": iso(seen.until),
        "calls_a_minute": seen.a_minute,
        "total": _part(seen.whole),
        "minutes": [
            {"at": iso(row.at), "calls": row.calls, "failed": row.failed}
            | money(charged=row.charged)
            for row in seen.minutes
        ],
        "parts": [
            {"channel": row.channel or None, "model": row.model, **_part(row)} for row in seen.parts
        ],
        "open": [
            {
                "channel": row.channel or None,
                "model": row.model,
                "calls": row.calls,
                **money(held=row.held),
                "oldest": iso(row.oldest),
            }
            for row in seen.open
        ],
    }


async def report_errors(desk: Desk, _actor: Actor, a: ReportErrors) -> object:
    """What callers were told, and what channels answered although another one served."""
    found = await errors(desk.reader, desk.now, a.hours * 3600.0)
    return {
        "since": iso(found.since),
        "looked_at": found.looked_at,
        "calls": [_failures(row) for row in found.calls],
        "attempts": [_failures(row) for row in found.attempts],
    }


def _failures(row: Failures) -> dict[str, object]:
    return {
        "error": row.error,
        "channel": row.channel or None,
        "model": row.model,
        "status": row.status,
        "count": row.calls,
        "users": row.users,
        "latest": iso(row.latest),
        "examples": [format_id(each) for each in row.examples],
    }


def _part(row: Part) -> dict[str, object]:
    """Calls with how soon their first token came, in milliseconds."""
    return {
        "calls": row.calls,
        "failed": row.failed,
        "output_tokens": row.output_tokens,
        **money(charged=row.charged),
        "ttft_p50_ms": row.ttft_p50,
        "ttft_p95_ms": row.ttft_p95,
    }


def _calls(seen: Traffic, channel: str) -> dict[str, object]:
    calls, failed = seen.by_channel.get(channel, (0, 0))
    return {"calls": calls, "failed": failed}


def _health(channel: Channel, picture: Picture | None) -> dict[str, object]:
    """`health` is None where nobody has asked the channel yet, or nobody can say."""
    state = None if picture is None else picture.merged.breakers.get(channel.name)
    return {"enabled": channel.enabled, "health": None if state is None else HEALTH[state]}


def _relay(picture: Picture) -> dict[str, object]:
    return {
        "keeper": picture.keeper_up,
        "ready": picture.ready,
        "workers": picture.merged.workers,
        "streams": picture.merged.streams,
    }


async def _picture(desk: Desk) -> Picture | None:
    return None if desk.picture is None else await desk.picture()


REPORTS: Mapping[str, Report] = {
    "report overview": report_overview,
    "report traffic": report_traffic,
    "report errors": report_errors,
    "report channels": report_channels,
    "report margin": report_margin,
}
