"""What passes through the relay: calls a minute, success and speed by channel and model, now.

Rules: calls of the last hour by when they began, from the file, which readers see at most a moment
late; open ones beside them. At most `CALLS_MAX` of the latest calls are looked at, and the report
says from when on: the busier a relay, the shorter the time that tells the same. Percentiles are
values that were measured (the nearest rank), never between two. This module must not know a page.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from proxy.core.ids import first_id_at, moment_of
from proxy.storage.accounts import COMPLETION_TOTAL
from proxy.storage.reader import Reader
from proxy.storage.reports.spans import ID_MAX

MINUTE_MS: Final = 60_000
CALLS_MAX: Final = 100_000
ROWS_MAX: Final = 200
RECENT_MINUTES: Final = 5
COMPLETION_SUM: Final = f"sum({COMPLETION_TOTAL})"
_FROM: Final = "SELECT id FROM call WHERE id >= ? ORDER BY id DESC LIMIT 1 OFFSET ?"
_MINUTES: Final = (
    f"SELECT ((id >> 22) - ?) / {MINUTE_MS}, count(*), sum(error_code IS NOT NULL), sum(charge) "  # noqa: S608 - constants
    "FROM call WHERE id BETWEEN ? AND ? GROUP BY 1 ORDER BY 1"
)
_CHANNEL: Final = "coalesce((SELECT name FROM channel WHERE channel.id = channel_id), '')"
_NEAREST: Final = (
    "max(CASE WHEN ttft_ms IS NOT NULL AND place <= (timed * {0} + 99) / 100 THEN ttft_ms END)"
)
_PARTS: Final = (
    f"SELECT {_CHANNEL} AS channel, model, count(*), sum(error_code IS NOT NULL), sum(charge), "  # noqa: S608 - constants
    f"{COMPLETION_SUM}, {_NEAREST.format(50)}, {_NEAREST.format(95)} FROM ("
    "SELECT *, row_number() OVER (part ORDER BY ttft_ms) AS place, count(*) OVER part AS timed "
    "FROM call WHERE id BETWEEN ? AND ? WINDOW part AS "
    "(PARTITION BY channel_id, model, ttft_ms IS NULL)"
    ") GROUP BY channel_id, model ORDER BY 3 DESC, 1, 2 LIMIT ?"
)
_WHOLE: Final = (
    f"SELECT count(*), coalesce(sum(error_code IS NOT NULL), 0), coalesce(sum(charge), 0), "  # noqa: S608 - constants
    f"coalesce({COMPLETION_SUM}, 0), {_NEAREST.format(50)}, {_NEAREST.format(95)} FROM ("
    "SELECT *, row_number() OVER (part ORDER BY ttft_ms) AS place, count(*) OVER part AS timed "
    "FROM call WHERE id BETWEEN ? AND ? WINDOW part AS (PARTITION BY ttft_ms IS NULL))"
)
_OPEN: Final = (
    f"SELECT {_CHANNEL} AS channel, model, count(*), sum(hold), min(started_at) FROM open_call "  # noqa: S608 - constants
    "GROUP BY channel_id, model ORDER BY 3 DESC, 1, 2 LIMIT ?"
)


class Minute(NamedTuple):
    """One minute: `at` Unix seconds, `charged` nano-USD; calls count when they began."""

    at: float
    calls: int
    failed: int
    charged: int


class Part(NamedTuple):
    """Calls of one channel and model; times in milliseconds, None where none was measured."""

    channel: str
    """Empty for calls that no channel served."""
    model: str
    calls: int
    failed: int
    charged: int
    output_tokens: int
    ttft_p50: float | None
    ttft_p95: float | None


class OpenPart(NamedTuple):
    """Open calls of one channel and model. `held` nano-USD, `oldest` Unix seconds."""

    channel: str
    model: str
    calls: int
    held: int
    oldest: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """What began between `since` and `until` (Unix seconds) and has ended, and what is open."""

    since: float
    until: float
    whole: Part
    minutes: tuple[Minute, ...]
    parts: tuple[Part, ...]
    open: tuple[OpenPart, ...]

    @property
    def a_minute(self) -> int:
        """Calls a minute over the last `RECENT_MINUTES` whole ones, rounded to the nearest."""
        end = self.until - self.until % 60
        since = max(end - RECENT_MINUTES * 60, self.since)
        minutes = round((end - since) / 60)
        if minutes < 1:
            return sum(row.calls for row in self.minutes)
        calls = sum(row.calls for row in self.minutes if since <= row.at < end)
        return (2 * calls + minutes) // (2 * minutes)

    @property
    def open_calls(self) -> int:
        """How many calls are open, as far as the file knows."""
        return sum(row.calls for row in self.open)

    @property
    def held(self) -> int:
        """What is held for them."""
        return sum(row.held for row in self.open)

    @property
    def by_channel(self) -> dict[str, tuple[int, int]]:
        """Calls and failed calls by channel."""
        found: dict[str, tuple[int, int]] = {}
        for part in self.parts:
            calls, failed = found.get(part.channel, (0, 0))
            found[part.channel] = calls + part.calls, failed + part.failed
        return found


async def traffic(reader: Reader, now: float, seconds: float = 3600.0) -> Traffic:
    """Report on the last `seconds`, or on fewer if they had more than `CALLS_MAX` calls.

    Minutes are whole ones of the clock, so the first may begin later. Raises sqlite3.Error.
    """
    since = now - now % 60 - (seconds - 60)
    first = first_id_at(since)
    rows = await reader.rows(_FROM, (first, CALLS_MAX))
    if rows:
        moment = moment_of(rows[0][0])
        since = moment - moment % 60 + 60
        first = first_id_at(since)
    span = (first, ID_MAX)
    minutes = await reader.rows(_MINUTES, ((first >> 22), *span))
    (whole,) = await reader.rows(_WHOLE, span)
    return Traffic(
        since=since,
        until=now,
        whole=Part("", "", *whole),
        minutes=tuple(Minute(since + 60 * row[0], *row[1:]) for row in minutes),
        parts=tuple(Part(*row) for row in await reader.rows(_PARTS, (*span, ROWS_MAX))),
        open=tuple(OpenPart(*row) for row in await reader.rows(_OPEN, (ROWS_MAX,))),
    )
