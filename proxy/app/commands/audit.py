"""The audit log as an action tells it."""

from collections.abc import Mapping

import orjson

from proxy.app.commands.shapes import Desk, Report, iso, parse_period
from proxy.core.actions.action import Actor
from proxy.core.actions.audit import AuditList
from proxy.storage.reports.audit_log import Sought, entries


async def audit_list(desk: Desk, _actor: Actor, a: AuditList) -> object:
    """Who changed what, from where, and how it ended; the latest first."""
    since, until = parse_period(a.since, a.until, desk.now)
    sought = Sought(a.actor.strip(), a.action.strip(), a.outcome or "", since, until)
    return [
        {
            "id": row.id,
            "at": iso(row.at),
            "actor": row.actor,
            "via": row.via,
            "address": row.address,
            "action": row.action,
            "outcome": row.outcome or "unfinished",
            "reason": row.reason,
            "arguments": orjson.loads(row.arguments),
        }
        for row in await entries(desk.reader, sought, a.before, a.rows_max)
    ]


REPORTS: Mapping[str, Report] = {"audit list": audit_list}
