"""Commands that tell what was used."""

from collections.abc import Mapping

from proxy.app.commands.shapes import Desk, Handler, Report, iso
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Role
from proxy.core.actions.usage import UsageDaily, UsageList
from proxy.core.ids import format_id, parse_id
from proxy.core.ledger import DAY_SECONDS
from proxy.core.money import format_usd
from proxy.core.sentences import Sentence
from proxy.storage import accounts, retention


async def usage_list(office: Office, actor: Actor, a: UsageList) -> object:
    """Ended calls, latest first, with what each cost."""
    before = None if a.before is None else parse_id(a.before)
    if a.before is not None and before is None:
        raise CommandError(
            Sentence("{before!r} is not a request id", before=a.before),
            "take one from sluice usage",
        )
    rows = await office.read(
        lambda c: accounts.list_usage(
            c, a.user, before_id=before, rows_max=a.rows_max, person=_maker(actor)
        )
    )
    return [
        {
            "request_id": format_id(row.id),
            "started": iso(row.started_at),
            "user": row.user,
            "key": row.key,
            "model": row.model,
            "verdict": row.verdict,
            "source": row.source,
            "input": row.input_tokens,
            "output": row.output_tokens,
            "other": _other(row) | ({"variant": row.variant} if row.variant else {}),
            "charge_usd": format_usd(row.charge),
            "overrun_usd": format_usd(row.overrun),
            "forgiven_usd": format_usd(row.forgiven),
            "balance_usd": format_usd(row.balance_after),
            "status": row.status,
            "ms": round(row.duration_ms),
        }
        for row in rows
    ]


async def usage_daily(desk: Desk, actor: Actor, a: UsageDaily) -> object:
    """Sums per UTC day, user and model, of calls with detail and of those rolled up."""
    # What the operator pays is for operators to know.
    if not 0 < a.days <= retention.DAYS_LISTED_MAX:
        raise CommandError(
            Sentence("between 1 and {most:,} days can be listed", most=retention.DAYS_LISTED_MAX)
        )
    since = int(desk.now // DAY_SECONDS) - a.days + 1
    rows = await desk.read(lambda c: retention.list_days(c, since, a.user, _maker(actor)))
    operator = actor.role.covers(Role.OPERATOR)
    return [
        {
            "day": (iso(row.day * DAY_SECONDS) or "")[:10],
            "user": row.user,
            "model": row.model,
            "calls": row.calls,
            "errors": row.errors,
            "input": row.input_tokens,
            "output": row.output_tokens,
            "other": _other(row),
            "charge_usd": format_usd(row.charge),
            **(_operators(row) if operator else {}),
        }
        for row in rows
    ]


def _maker(actor: Actor) -> int | None:
    """The person whose keys' calls alone the actor may see; None: everybody's."""
    return None if actor.owner else actor.person


def _operators(row: retention.DayRow) -> dict[str, object]:
    return {"expense_usd": format_usd(row.expense), "cost_usd": format_usd(row.cost)}


def _other(row: accounts.UsageRow | retention.DayRow) -> dict[str, object]:
    """What was used that is no token."""
    used: dict[str, object] = {
        "images": row.images,
        "characters": row.characters,
        "audio_seconds": row.audio_ms / 1000,
        "searches": row.searches,
    }
    return {name: count for name, count in used.items() if count}


HANDLERS: Mapping[str, Handler] = {"usage": usage_list}
REPORTS: Mapping[str, Report] = {"usage daily": usage_daily}
