"""How handlers look, results and refusals are written, and moments read.

Rules: times are ISO 8601 in UTC, to the second; amounts exact decimal text in US dollars, beside it
nano-USD where a program computes with them; a refusal is a message and a remedy. This module must
not know any command.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from proxy.app.office import Office
from proxy.core.actions.action import Actor
from proxy.core.actions.unfit import Findings, UnfitError
from proxy.core.money import format_usd
from proxy.core.months import LATEST
from proxy.core.reconciliation.records import day_of
from proxy.core.sentences import Sentence, text_of
from proxy.edge.exposition import Picture
from proxy.storage.reader import Reader
from proxy.storage.reports.day_sums import DaySums
from proxy.storage.sqlite import open_reader

Handler = Callable[[Office, Actor, Any], Awaitable[object]]
"""Does one action for an actor who may, and returns plain JSON values. Raises CommandError."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Desk:
    """What a report is made from. `now`: Unix seconds.

    `picture`: asks how the relay's processes do; None where nobody says.
    """

    reader: Reader
    database: Path
    now: float
    picture: Callable[[], Awaitable[Picture]] | None = None
    day_sums: DaySums = field(default_factory=DaySums)

    async def read(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a reading function in a thread, on one more connection. Raises sqlite3.Error."""

        def run() -> Result:
            with closing(open_reader(self.database)) as connection:
                return function(connection)

        return await asyncio.to_thread(run)


Report = Callable[[Desk, Actor, Any], Awaitable[object]]
"""Makes one report for an actor who may; plain JSON values. Raises ValueError, sqlite3.Error."""

SPANS = {"d": 86_400, "h": 3_600, "m": 60}

DAY_SECONDS: Final = 86_400
YEARS: Final = range(2020, 2089)
"""What ids can tell of (core/ids.py)."""


def iso(moment: float | None) -> str | None:
    """Unix seconds as ISO 8601 in UTC, to the second; what is after `LATEST` as that."""
    if moment is None:
        return None
    return datetime.fromtimestamp(min(moment, LATEST), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_span(text: str) -> float:
    """Seconds of a span such as `30d`, `12h` or `15m`. Raises ValueError."""
    if text[-1:] in SPANS and text[:-1].isascii() and text[:-1].isdigit() and len(text) < 10:
        return float(int(text[:-1]) * SPANS[text[-1]])
    raise ValueError(Sentence("{text!r} is no span such as 30d, 12h or 15m", text=text))


def parse_time(text: str, now: float) -> float:
    """A moment: `30d`, `12h` from now, or an ISO 8601 date or time. Raises ValueError."""
    moment = _time(text, now)
    if moment > LATEST:  # nothing that lists it could tell it
        raise ValueError(Sentence("{text!r} is after the year 9999", text=text))
    return moment


def _time(text: str, now: float) -> float:
    try:
        return now + parse_span(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            Sentence(
                "{text!r} is neither a span such as 30d nor a date such as 2030-01-31", text=text
            )
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def money(**amounts: int) -> dict[str, object]:
    """Amounts of nano-USD by name, each as `<name>_usd` and `<name>_nano`."""
    found: dict[str, object] = {}
    for name, nano in amounts.items():
        found[f"{name}_usd"] = format_usd(nano)
        found[f"{name}_nano"] = nano
    return found


def day_text(day: int) -> str:
    """A UTC day since 1970 as `2026-01-31`."""
    return datetime.fromtimestamp(day * DAY_SECONDS, UTC).strftime("%Y-%m-%d")


def parse_day(text: str) -> int:
    """The UTC day since 1970 of a date. Raises ValueError."""
    try:
        moment = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        moment = None
    if moment is None or moment.year not in YEARS:
        raise ValueError(Sentence("{text!r} is no day such as 2026-01-31", text=text))
    return int(moment.timestamp() // DAY_SECONDS)


def last_day(until: str | None, now: float) -> int:
    """The last UTC day of a report, today where none is said. Raises UnfitError."""
    if until is None:
        return day_of(now)
    try:
        return parse_day(until)
    except ValueError as error:
        raise UnfitError({"until": text_of(error)}) from None


def parse_past(text: str, now: float, *, last: bool = False) -> float:
    """A moment: `7d`, `12h` before now, or an ISO 8601 date or time. Raises ValueError.

    `last`: of a day its end is meant, so that it is included.
    """
    try:
        return max(0.0, now - parse_span(text))
    except ValueError:
        pass
    try:
        return float((parse_day(text) + last) * DAY_SECONDS)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.year not in YEARS:
        raise ValueError(
            Sentence(
                "{text!r} is neither a span such as 7d nor a day or time such as 2026-01-31",
                text=text,
            )
        )
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def parse_period(
    since: str | None, until: str | None, now: float
) -> tuple[float | None, float | None]:
    """Both ends of a time that is asked about, each None if it is not. Raises UnfitError."""
    findings = Findings()
    first = last = None
    if since is not None:
        first = findings.judge("since", lambda text: parse_past(text, now), since)
    if until is not None:
        last = findings.judge("until", lambda text: parse_past(text, now, last=True), until)
    findings.tell()
    if first is not None and last is not None and last <= first:
        raise UnfitError(
            {
                "until": Sentence(
                    "{until!r} is not after {since!r}", until=str(until), since=str(since)
                )
            }
        )
    return first, last
