"""The audit log: every action that changed something, who did it, from where, how it ended.

Rules: what is shown was written without secrets; nothing here changes anything. This module must
not know what an action does.
"""

from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

import orjson
from aiohttp import web

from proxy.core.actions.action import Role
from proxy.core.actions.table import ACTIONS
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit
from proxy.storage.reports.audit_log import UNFINISHED, Sought, entries

LIST: Final = "/operator/audit"
ROWS: Final = 50
DAY_SECONDS: Final = 86_400
OUTCOMES: Final = ("done", "refused", UNFINISHED)


async def audit(seen: Visit) -> web.StreamResponse:
    """A page of the log."""
    query = seen.request.query
    asked = {
        name: query.get(name, "").strip()
        for name in ("actor", "action", "outcome", "since", "until")
    }
    last = _day(asked["until"])
    sought = Sought(
        asked["actor"],
        asked["action"],
        asked["outcome"] if asked["outcome"] in OUTCOMES else "",
        _day(asked["since"]),
        None if last is None else last + DAY_SECONDS,
    )
    said = query.get("before", "")
    before = int(said) if said.isascii() and said.isdigit() and len(said) < 19 else None
    found = await entries(await seen.reader(), sought, before, ROWS + 1)
    shown = found[:ROWS]
    given = {name: value for name, value in asked.items() if value}
    more = len(found) > ROWS
    return seen.render(
        "operator/audit.html",
        entries=[(entry, _arguments(entry.arguments)) for entry in shown],
        asked=asked,
        actions=sorted(name for name, action in ACTIONS.items() if action.audited),
        older=f"{LIST}?{urlencode(given | {'before': shown[-1].id})}" if more else "",
        newer=f"{LIST}?{urlencode(given)}" if before is not None else "",
    )


def _arguments(text: str) -> list[tuple[str, str]]:
    """Arguments by name as the log has them: JSON that was written by us."""
    said = orjson.loads(text)
    return [
        (name, value if isinstance(value, str) else orjson.dumps(value).decode())
        for name, value in said.items()
    ]


def _day(text: str) -> float | None:
    """A date as the Unix seconds of its beginning (UTC); None for what is none."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


ROUTES = (Route("GET", LIST, Role.OPERATOR, audit),)
