"""Lets the detail of old calls leave, and keeps their sums: the daily roll-up.

Rules: only calls and attempts leave; transfers stay for ever. A call whose row, transfers and price
do not agree is evidence and stays as it is. In one transaction a few calls are added to the sums of
their day and deleted; what the sums grew by is compared with what the rows summed to before, and
any difference undoes the transaction. Few at a time, because commits of calls wait on the same
thread. This module must not know when it runs.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.core.entities import Price, Usage
from proxy.core.ids import EPOCH_MS
from proxy.core.pricing import charge
from proxy.storage.accounts import COMPLETION_TOTAL, PROMPT_TOTAL
from proxy.storage.snapshots import load_prices

CALLS_PER_BATCH = 64
DAY_MS = 86_400_000
DAYS_LISTED_MAX = 3_660
_MILLISECONDS_SHIFT = 22
_USAGE = Usage.__struct_fields__
_COUNTS = tuple(name for name in _USAGE if name != "variant")
"""What can be summed; a charge was recomputed with its variant before that leaves."""
_KEY = ("user_id", "day", "key_id", "model", "channel_id", "group_name")
_MONEY = ("charge", "overrun", "forgiven")
_OF_CALLS = ("ended", "errors", *_MONEY, *_COUNTS)
_OF_ATTEMPTS = ("attempts", "cost")
_SUMS = (*_OF_CALLS, *_OF_ATTEMPTS)
_DAY = f"((id >> {_MILLISECONDS_SHIFT}) + {EPOCH_MS}) / {DAY_MS}"

_KEYS = ", ".join(_KEY)
_CALL_SUMS = "count(*), coalesce(sum(error_code IS NOT NULL), 0), " + ", ".join(
    f"coalesce(sum({name}), 0)" for name in (*_MONEY, *_COUNTS)
)
_ADD_CALLS = (
    f"INSERT INTO rollup ({_KEYS}, {', '.join(_OF_CALLS)}) "  # noqa: S608 - constants
    f"SELECT user_id, {_DAY} AS day, key_id, model, coalesce(channel_id, 0) AS channel, "
    f"group_name, {_CALL_SUMS} FROM call WHERE id BETWEEN ? AND ? "
    "GROUP BY user_id, day, key_id, model, channel, group_name "
    f"ON CONFLICT ({_KEYS}) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _OF_CALLS)
)
_ADD_ATTEMPTS = (
    f"INSERT INTO rollup ({_KEYS}, attempts, cost) "  # noqa: S608 - constants
    f"SELECT user_id, {_DAY} AS day, key_id, model, attempt.channel_id AS channel, group_name, "
    "count(*), sum(cost) FROM call JOIN attempt ON call_id = id WHERE id BETWEEN ? AND ? "
    "GROUP BY user_id, day, key_id, model, channel, group_name "
    f"ON CONFLICT ({_KEYS}) DO UPDATE SET attempts = attempts + excluded.attempts, "
    "cost = cost + excluded.cost"
)
_SUMS_OF_DETAIL = f"SELECT {_CALL_SUMS} FROM call WHERE id BETWEEN ? AND ?"  # noqa: S608 - constants
_SUMS_OF_ATTEMPTS = (
    "SELECT count(*), coalesce(sum(cost), 0) FROM attempt WHERE call_id BETWEEN ? AND ?"
)
_SUMS_OF_ROLLUP = (
    f"SELECT {', '.join(f'coalesce(sum({name}), 0)' for name in _SUMS)} FROM ("  # noqa: S608 - constants
    f"SELECT user_id, {_DAY} AS day, key_id, model, coalesce(channel_id, 0) AS channel_id, "
    "group_name FROM call WHERE id BETWEEN ?1 AND ?2 UNION "
    f"SELECT user_id, {_DAY}, key_id, model, attempt.channel_id, group_name FROM call "
    "JOIN attempt ON call_id = id WHERE id BETWEEN ?1 AND ?2"
    f") JOIN rollup USING ({_KEYS})"
)
_POSTED = (
    "coalesce((SELECT sum(amount) FROM transfer WHERE event_id = id AND kind = '{}'), 0) <> {}"
)
_DISAGREEING = (
    "SELECT id FROM call WHERE id BETWEEN ? AND ? AND ("  # noqa: S608 - constants
    + " OR ".join(_POSTED.format(name, name) for name in _MONEY)
    + " OR "
    + _POSTED.format(
        "upstream_cost",
        "coalesce((SELECT sum(cost) FROM attempt WHERE call_id = id), 0)",
    )
    + ")"
)
_CHARGES = (
    f"SELECT id, model, price_version, multiplier, charge + overrun + forgiven, "  # noqa: S608 - constants
    f"{', '.join(_USAGE)} FROM call WHERE id BETWEEN ? AND ? AND charge + overrun + forgiven > 0"
)
_OTHER = ("images", "characters", "audio_ms", "searches")


def _daily(mine: str) -> str:
    """The sums of each day; `mine` picks rows of `call` and `rollup`, so that an index serves."""
    other, sums = ", ".join(_OTHER), ", ".join(f"sum({name})" for name in _OTHER)
    return (
        "SELECT day, user.name, model, sum(ended), sum(errors), sum(input), sum(written), "  # noqa: S608 - constants
        f"sum(charge), sum(overrun + forgiven), sum(cost), {sums} "
        f"FROM (SELECT day, user_id, model, ended, errors, {PROMPT_TOTAL} AS input, "
        f"{COMPLETION_TOTAL} AS written, charge, overrun, forgiven, cost, {other} "
        f"FROM rollup WHERE day >= ?1{mine} "
        f"UNION ALL SELECT {_DAY}, user_id, model, 1, error_code IS NOT NULL, "
        f"{PROMPT_TOTAL}, {COMPLETION_TOTAL}, charge, overrun, forgiven, "
        "coalesce((SELECT sum(cost) FROM attempt WHERE call_id = id), 0), "
        f"{other} FROM call WHERE id >= ?2{mine}"
        ") AS every JOIN user ON user.id = user_id "
        "GROUP BY day, user_id, model ORDER BY day DESC, user_id, model"
    )


_OF_ALL = _daily("")
_OF_USER = _daily(" AND user_id = ?3")
_OF_PERSON = _daily(" AND user_id = ?3 AND key_id IN (SELECT key.id FROM key WHERE person_id = ?4)")


class Step(NamedTuple):
    """What one transaction did. `done`: nothing is left below the limit."""

    rolled_up: int
    done: bool


class DayRow(NamedTuple):
    """One user's calls of one model on one UTC day; `day` counts from 1970. Nano-USD."""

    day: int
    user: str
    model: str
    calls: int
    errors: int
    input_tokens: int
    output_tokens: int
    charge: int
    expense: int
    """Overrun and forgiven."""
    cost: int
    images: int
    characters: int
    audio_ms: int
    searches: int


@dataclass(slots=True)
class RollUp:
    """One walk over the calls with an id below `before`, in order of id."""

    before: int
    kept: list[int] = field(default_factory=list)
    """Calls that stay because they do not agree with their transfers or price; the first few."""
    _after: int = -1
    _prices: Mapping[tuple[str, int], Price] | None = None

    def step(self, connection: sqlite3.Connection) -> Step:
        """Take the next few calls, inside the caller's transaction.

        Raises ValueError, for which the caller undoes it, if the sums do not come out equal.
        """
        ids = self._next(connection)
        if not ids:
            return Step(0, done=True)
        wrong = self._wrong(connection, ids[0], ids[-1])
        if wrong:
            at = ids.index(wrong[0])
            if at == 0:
                if len(self.kept) < CALLS_PER_BATCH:
                    self.kept.append(ids[0])
                self._after = ids[0]
                return Step(0, done=False)
            ids = ids[:at]
        _move(connection, ids[0], ids[-1], len(ids))
        return Step(len(ids), done=False)

    def _next(self, connection: sqlite3.Connection) -> list[int]:
        rows = connection.execute(
            "SELECT id FROM call WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
            (self._after, self.before, CALLS_PER_BATCH),
        )
        return [call_id for (call_id,) in rows]

    def _wrong(self, connection: sqlite3.Connection, first: int, last: int) -> list[int]:
        """Calls that do not add up; a roll-up would hide them for ever."""
        if self._prices is None:
            self._prices = load_prices(connection)
        wrong = [call_id for (call_id,) in connection.execute(_DISAGREEING, (first, last))]
        for call_id, model, version, multiplier, posted, *counts in connection.execute(
            _CHARGES, (first, last)
        ):
            price = self._prices.get((model, version))
            if price is None or charge(Usage(*counts), price, multiplier) != posted:
                wrong.append(call_id)
        return sorted(wrong)


def first_id_of(day: int) -> int:
    """The smallest id a call of that UTC day may have; 0 for days before ids began."""
    return max(0, (day * DAY_MS - EPOCH_MS)) << _MILLISECONDS_SHIFT


def list_days(
    connection: sqlite3.Connection, since_day: int, user: str | None, person: int | None = None
) -> list[DayRow]:
    """Sums per day, user and model from detail and roll-up together, latest day first.

    `person`: only of the user's keys that this person made.
    """
    values: tuple[int, ...] = (since_day, first_id_of(since_day))
    query = _OF_ALL
    if user is not None:
        row = connection.execute("SELECT id FROM user WHERE name = ?", (user,)).fetchone()
        if row is None:
            return []
        query = _OF_USER if person is None else _OF_PERSON
        values = (*values, row[0]) if person is None else (*values, row[0], person)
    return [DayRow(*row) for row in connection.execute(query, values)]


def _move(connection: sqlite3.Connection, first: int, last: int, calls: int) -> None:
    span = (first, last)
    detail = (
        *connection.execute(_SUMS_OF_DETAIL, span).fetchone(),
        *connection.execute(_SUMS_OF_ATTEMPTS, span).fetchone(),
    )
    before = connection.execute(_SUMS_OF_ROLLUP, span).fetchone()
    connection.execute(_ADD_CALLS, span)
    connection.execute(_ADD_ATTEMPTS, span)
    after = connection.execute(_SUMS_OF_ROLLUP, span).fetchone()
    grown = tuple(late - early for early, late in zip(before, after, strict=True))
    if grown != detail or detail[0] != calls:
        raise ValueError(
            f"the roll-up of calls {first} to {last} grew by {grown}, the calls sum to {detail}"
        )
    connection.execute("DELETE FROM attempt WHERE call_id BETWEEN ? AND ?", span)
    deleted = connection.execute("DELETE FROM call WHERE id BETWEEN ? AND ?", span).rowcount
    if deleted != calls:
        raise ValueError(f"{deleted} calls were there to delete, not {calls}")
