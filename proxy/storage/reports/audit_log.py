"""The audit log as operators look through it: by who, what, when and how it ended.

Rules: the latest first, a page at a time; secrets were never written (storage/audit.py). This
module must not know a page.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from proxy.storage.reader import Reader

ROWS_MAX: Final = 500
UNFINISHED: Final = "unfinished"


class Entry(NamedTuple):
    """One action. `at` Unix seconds, `arguments` JSON text; without an outcome it was cut off."""

    id: int
    at: float
    via: str
    actor: str
    address: str | None
    action: str
    arguments: str
    outcome: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Sought:
    """What to show; empty and None are no limit.

    `actor` and `action`: parts of them. `outcome`: done, refused or `UNFINISHED`. Unix seconds.
    """

    actor: str = ""
    action: str = ""
    outcome: str = ""
    since: float | None = None
    until: float | None = None


async def entries(
    reader: Reader, sought: Sought, before: int | None = None, rows_max: int = 50
) -> list[Entry]:
    """Return entries, the latest first; `before`: only those with a lower id. sqlite3.Error."""
    clauses, values = ["1"], list[Any]()
    for clause, value in (
        ("id < ?", before),
        ("instr(lower(actor), lower(?))", sought.actor or None),
        ("instr(action, lower(?))", sought.action or None),
        ("at >= ?", sought.since),
        ("at < ?", sought.until),
    ):
        if value is not None:
            clauses.append(clause)
            values.append(value)
    if sought.outcome:
        clauses.append("coalesce(outcome, ?) = ?")
        values += [UNFINISHED, sought.outcome]
    rows = await reader.rows(
        "SELECT id, at, via, actor, address, action, arguments, outcome, reason FROM audit "  # noqa: S608 - the clauses are ours
        f"WHERE {' AND '.join(clauses)} ORDER BY id DESC LIMIT ?",
        (*values, min(rows_max, ROWS_MAX)),
    )
    return [Entry(*row) for row in rows]
