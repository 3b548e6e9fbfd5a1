"""Calls that failed lately, gathered by what went wrong, where, for which model, with examples.

Rules: a failed call is one that told its caller an error; an attempt that failed where another
channel served is told apart, because no caller saw it. The latest first; what is looked at is
bounded, and the report says from when on. This module must not know a page.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from proxy.core.ids import first_id_at, moment_of
from proxy.storage.reader import Reader
from proxy.storage.reports.spans import ID_MAX

CALLS_MAX: Final = 200_000
"""Calls looked at, failed or not."""
ROWS_MAX: Final = 200
EXAMPLES_MAX: Final = 3


class Failures(NamedTuple):
    """Failures of one kind. `latest` Unix seconds, `examples` call ids, latest first."""

    error: str
    channel: str
    """Empty where no channel was tried, or it is gone."""
    model: str
    status: int | None
    """Told to the caller, or by the upstream where it is an attempt's; the latest one's."""
    calls: int
    users: int
    latest: float
    examples: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Errors:
    """`calls` failed for their callers, `attempts` at a channel failed; since Unix seconds."""

    since: float
    looked_at: int
    calls: tuple[Failures, ...]
    attempts: tuple[Failures, ...]


_FROM: Final = "SELECT id FROM call WHERE id >= ? ORDER BY id DESC LIMIT 1 OFFSET ?"
_COUNT: Final = "SELECT count(*) FROM call WHERE id BETWEEN ? AND ?"
_NAMED: Final = (
    "SELECT what, coalesce((SELECT name FROM channel WHERE channel.id = channel_id), ''), model, "
    "status, count(*), count(DISTINCT user_id), max(id), "  # of max(id) is the row of `status`
    "group_concat(CASE WHEN place <= {examples} THEN id END) FROM (SELECT *, row_number() OVER "
    "(PARTITION BY what, channel_id, model ORDER BY id DESC) AS place FROM ({rows})) "
    "GROUP BY what, channel_id, model ORDER BY 5 DESC, 7 DESC LIMIT ?"
)
_CALLS: Final = _NAMED.format(
    examples=EXAMPLES_MAX,
    rows="SELECT id, error_code AS what, channel_id, model, status, user_id FROM call "
    "WHERE id BETWEEN ? AND ? AND error_code IS NOT NULL",
)
_ATTEMPTS: Final = _NAMED.format(
    examples=EXAMPLES_MAX,
    rows="SELECT call_id AS id, outcome AS what, attempt.channel_id, model, attempt.status, "
    "user_id FROM attempt JOIN call ON call.id = call_id "
    "WHERE call_id BETWEEN ? AND ? AND outcome NOT IN ('served', 'interrupted')",
)


async def errors(reader: Reader, now: float, seconds: float = 86_400.0) -> Errors:
    """Report on the last `seconds`, or on fewer if they had more than `CALLS_MAX` calls.

    Raises sqlite3.Error.
    """
    since = now - seconds
    first = first_id_at(since)
    rows = await reader.rows(_FROM, (first, CALLS_MAX - 1))
    if rows:
        first = rows[0][0]
        since = moment_of(first)
    span = (first, ID_MAX)
    ((looked_at,),) = await reader.rows(_COUNT, span)
    return Errors(
        since,
        looked_at,
        tuple([_failures(row) for row in await reader.rows(_CALLS, (*span, ROWS_MAX))]),
        tuple([_failures(row) for row in await reader.rows(_ATTEMPTS, (*span, ROWS_MAX))]),
    )


def _failures(row: tuple[Any, ...]) -> Failures:
    error, channel, model, status, calls, users, latest, examples = row
    ids = sorted({int(each) for each in examples.split(",")}, reverse=True)
    return Failures(
        error, channel, model, status, calls, users, moment_of(latest), tuple(ids[:EXAMPLES_MAX])
    )
