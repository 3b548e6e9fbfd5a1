"""Attempts of a channel in a span of time, as a provider's usage export is compared with them.

Rules: an attempt belongs to the time it began; one whose usage is the call's own is told with the
source of that, because a provider never said it. Bounded: a span with more attempts than asked for
is refused, never shortened, since a missing row would look like one the provider made up. This
module must not know what an export looks like.
"""

from typing import Any, Final

import orjson

from proxy.core.entities import Usage, UsageSource
from proxy.core.ids import first_id_at
from proxy.core.reconciliation.records import Our
from proxy.storage.reader import Reader
from proxy.storage.reports.spans import steps

CALL_SECONDS_MAX: Final = 86_400.0
"""How long before the span a call may have begun whose attempt is in it."""
_COUNTED: Final = frozenset({UsageSource.COUNTED, UsageSource.ESTIMATED})
_USAGE: Final = Usage.__struct_fields__
_ROWS: Final = (
    f"SELECT call_id, number, attempt.started_at, attempt.status, outcome, upstream_request_id, "  # noqa: S608 - constants
    f"attempt.upstream_model, model, cost, charge, verdict, source, usage, "
    f"number = (SELECT max(number) FROM attempt AS late WHERE late.call_id = id), "
    f"{', '.join(f'call.{name}' for name in _USAGE)} FROM call "
    "JOIN attempt ON call_id = id WHERE id BETWEEN ? AND ? AND attempt.channel_id = ? "
    "AND attempt.started_at >= ? AND attempt.started_at < ? ORDER BY call_id, number"
)


class TooManyError(Exception):
    """There are more attempts in the span than may be compared at once."""


async def attempts(
    reader: Reader, channel_id: int, since: float, until: float, rows_max: int
) -> list[Our]:
    """Return the attempts at a channel that began in [since, until), Unix seconds.

    Raises TooManyError, sqlite3.Error.
    """
    found: list[Our] = []
    first, end = first_id_at(max(0.0, since - CALL_SECONDS_MAX)), first_id_at(until)
    async for span in steps(reader, first, end):
        rows = await reader.rows(_ROWS, (*span, channel_id, since, until))
        if len(found) + len(rows) > rows_max:
            raise TooManyError
        found.extend([_attempt(row) for row in rows])
    return found


def _attempt(row: tuple[Any, ...]) -> Our:
    call_id, number, at, status, outcome, request_id, upstream_model, model, *rest = row
    cost, charge, verdict, source, own, last, *cells = rest
    of_call = Usage(*cells)
    usage = of_call if own is None else Usage(**orjson.loads(own))
    reported = usage.prompt_total + usage.completion_total > 0
    if own is None:
        said = UsageSource(source)
    elif not reported and last and UsageSource(source) in _COUNTED:
        # What the caller was billed by stands for what the provider did not say.
        usage, said = of_call, UsageSource(source)
    else:
        said = UsageSource.REPORTED if reported else UsageSource.NONE
    return Our(
        call_id, number, at, status, outcome, request_id, upstream_model, model, usage, said,
        cost, charge, verdict,
    )  # fmt: skip
