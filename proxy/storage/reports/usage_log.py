"""The usage log: ended and running calls of a wallet, or of all, and what they sum to.

Rules: newest first, paged by id. Every statement looks at a bounded number of rows: where a filter
picks few of many, the search stops after `SCANNED_ROWS_MAX` and says how far back it got, so that
one question never holds the file's view for long. What left the detail is in the sums of its day.
Between two statements a call may move from the one to the other: sums of a range that is just
being rolled up may have it twice. Amounts are nano-USD, times Unix seconds. This module must not
know who may ask.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import orjson

from proxy.core.entities import Usage
from proxy.core.ids import EPOCH_MS, first_id_at, moment_of
from proxy.storage.accounts import COMPLETION_TOTAL, PROMPT_TOTAL
from proxy.storage.ports import CallRecord
from proxy.storage.reader import Reader
from proxy.storage.records import read_call

PAGE_ROWS_MAX: Final = 1_000
SCANNED_ROWS_MAX: Final = 20_000
"""Rows one statement looks at."""
SUMMED_ROWS_MAX: Final = 200_000
"""Rows of detail that sums are made of."""
PERIOD_DAYS: Final = 30
OPEN_ROWS_MAX: Final = 200
RECENT_ROWS_MAX: Final = 2_000
"""Calls whose models and groups are offered as filters."""
KEYS_MAX: Final = 2_000
NAMESAKES_MAX: Final = 10
_ID_MAX: Final = (1 << 63) - 1
_DAY_SECONDS: Final = 86_400
_USAGE: Final = Usage.__struct_fields__
_DAY: Final = f"((id >> 22) + {EPOCH_MS}) / {_DAY_SECONDS * 1000}"
_PLAIN: Final = (
    "id", "user_id", "key_id", "endpoint", "model", "upstream_model", "group_name", "stream",
    "verdict", "source", "charge", "overrun", "forgiven", "balance_after", "status",
    "error_code", "finish_reason", "ttft_ms", "duration_ms", "started_at", "client_reference",
    "anomalies",
)  # fmt: skip
_OPEN: Final = (
    "id", "user_id", "key_id", "endpoint", "model", "group_name", "stream", "source", "charge",
    "hold", "started_at", "client_reference", "delivered_bytes", "usage",
)  # fmt: skip
_NAMES: Final = (
    "LEFT JOIN key ON key.id = key_id LEFT JOIN user ON user.id = {table}.user_id "
    "LEFT JOIN channel ON channel.id = channel_id"
)
_NAMED: Final = "coalesce(user.name, ''), coalesce(key.name, ''), coalesce(channel.name, '')"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls are asked for; None means any. `wallet` None is the operator's view."""

    wallet: int | None = None
    person: int | None = None
    """Only calls of keys this person made."""
    key: int | None = None
    model: str | None = None
    group: str | None = None
    verdict: str | None = None
    failed: bool = False
    """Only calls that did not end as `complete`."""
    since: float | None = None
    until: float | None = None
    """Exclusive."""

    @property
    def picks(self) -> bool:
        """Whether calls of the wallet and time are passed over."""
        rest = (self.person, self.key, self.model, self.group, self.verdict)
        return self.failed or any(one is not None for one in rest)

    @property
    def ended(self) -> bool:
        """Whether the question is how calls ended: open ones, and sums by day, do not know."""
        return self.failed or self.verdict is not None


class CallRow(NamedTuple):
    """One ended call."""

    id: int
    wallet_id: int
    wallet: str
    key_id: int
    key: str
    channel: str
    endpoint: str
    model: str
    upstream_model: str | None
    group: str
    stream: bool
    verdict: str
    source: str
    charge: int
    overrun: int
    forgiven: int
    balance_after: int
    status: int
    error_code: str | None
    finish_reason: str | None
    ttft_ms: float | None
    duration_ms: float
    started_at: float
    client_reference: str | None
    anomalies: tuple[str, ...]
    usage: Usage


class OpenRow(NamedTuple):
    """A call under way, as of its last mark: `charge` is its bill if it ended there."""

    id: int
    wallet_id: int
    wallet: str
    key_id: int
    key: str
    channel: str
    endpoint: str
    model: str
    group: str
    stream: bool
    source: str
    charge: int
    hold: int
    started_at: float
    client_reference: str | None
    delivered_bytes: int
    usage: Usage | None


class Page(NamedTuple):
    """Some ended calls. `older`: pass as `before` to go on, None at the end.

    `searched_to`: the search stopped there before the page was full; None if it did not.
    """

    calls: list[CallRow]
    older: int | None
    searched_to: float | None


@dataclass(slots=True)
class Sum:
    """What some calls come to."""

    calls: int = 0
    errors: int = 0
    charge: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, figures: Sequence[int]) -> None:
        """Add the five figures in the order of the fields."""
        calls, errors, charge, read, written = figures
        self.calls += calls
        self.errors += errors
        self.charge += charge
        self.input_tokens += read
        self.output_tokens += written


@dataclass(slots=True)
class Sums:
    """What the calls asked for come to, in all and apart. Days count from 1970, UTC."""

    total: Sum = field(default_factory=Sum)
    by_day: dict[int, Sum] = field(default_factory=dict)
    by_model: dict[str, Sum] = field(default_factory=dict)
    by_key: dict[int, Sum] = field(default_factory=dict)
    by_day_and_model: dict[tuple[int, str], Sum] = field(default_factory=dict)
    back_to: float | None = None
    """Only calls since then are in it, because there are too many; None: all."""

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows of (day, model, key id, and the figures of a `Sum`)."""
        for day, model, key_id, *figures in rows:
            self.total.add(figures)
            self.by_day.setdefault(day, Sum()).add(figures)
            self.by_model.setdefault(model, Sum()).add(figures)
            self.by_key.setdefault(key_id, Sum()).add(figures)
            self.by_day_and_model.setdefault((day, model), Sum()).add(figures)


class KeyName(NamedTuple):
    """A key as a filter names it."""

    id: int
    name: str


class Choices(NamedTuple):
    """What there is to filter by: the wallet's keys, and what its newest calls used."""

    keys: list[KeyName]
    models: list[str]
    groups: list[str]


async def page(
    reader: Reader, wanted: Wanted, *, before: int | None = None, rows_max: int = 50
) -> Page:
    """Read ended calls below the id `before`, newest first. Raises sqlite3.Error."""
    if not 0 < rows_max <= PAGE_ROWS_MAX:
        raise AssertionError(f"a page has 1 to {PAGE_ROWS_MAX} rows, not {rows_max}")
    lowest, above = _span(wanted, before)
    floor = await _floor(reader, wanted, lowest, above) if wanted.picks else lowest
    where, values = _where(wanted, floor, above)
    rows = await reader.rows(_select_calls(where), (*values, rows_max + 1))
    calls = [_call(row) for row in rows[:rows_max]]
    if len(rows) > rows_max:
        return Page(calls, calls[-1].id, None)
    if floor > lowest:
        return Page(calls, floor, moment_of(floor))
    return Page(calls, None, None)


async def calls_named(reader: Reader, wanted: Wanted, ids: Sequence[int]) -> list[CallRow]:
    """Read those of some calls that have ended and are wanted, newest first."""
    if len(ids) > PAGE_ROWS_MAX:
        raise AssertionError(f"{len(ids)} calls are too many to read at once")
    where, values = _where(wanted, 0, _ID_MAX)
    marks = ", ".join("?" * len(ids))
    query = _select_calls(f"call.id IN ({marks}) AND {where}")
    return [_call(row) for row in await reader.rows(query, (*ids, *values, len(ids)))]


async def open_calls(
    reader: Reader, wanted: Wanted, *, rows_max: int = OPEN_ROWS_MAX
) -> list[OpenRow]:
    """Read calls under way, newest first; a verdict is what none of them has yet."""
    if wanted.ended:
        return []
    lowest, above = _span(wanted, None)
    where, values = _where(wanted, lowest, above, table="open_call")
    columns = ", ".join(f"open_call.{name}" for name in _OPEN)
    query = (
        f"SELECT {_NAMED}, {columns} FROM open_call "  # noqa: S608 - constants
        f"{_NAMES.format(table='open_call')} WHERE {where} ORDER BY open_call.id DESC LIMIT ?"
    )
    return [_open(row) for row in await reader.rows(query, (*values, rows_max))]


async def sums(reader: Reader, wanted: Wanted, *, rows_max: int = SUMMED_ROWS_MAX) -> Sums:
    """Add up what is asked for, in slices, newest first; at most `rows_max` rows of detail.

    Verdicts are not kept by day, so a filter by verdict sums the detail alone.
    """
    found = Sums()
    lowest, above = _span(wanted, None)
    left = rows_max
    while True:
        floor = await _floor(reader, wanted, lowest, above)
        where, values = _where(wanted, floor, above)
        query = (
            f"SELECT {_DAY} AS day, model, key_id, count(*), "  # noqa: S608 - constants
            f"coalesce(sum(error_code IS NOT NULL), 0), sum(charge), sum({PROMPT_TOTAL}), "
            f"sum({COMPLETION_TOTAL}) FROM call WHERE {where} GROUP BY day, model, key_id"
        )
        found.add(await reader.rows(query, values))
        left -= SCANNED_ROWS_MAX
        if floor == lowest:
            break
        if left <= 0:
            found.back_to = moment_of(floor)
            return found
        above = floor
    if not wanted.ended:
        found.add(await _rolled_up(reader, wanted))
    return found


def over_period(wanted: Wanted, now: float) -> Wanted:
    """The same question, of the last `PERIOD_DAYS` where it names no time."""
    if wanted.since is not None or wanted.until is not None:
        return wanted
    today = now // _DAY_SECONDS * _DAY_SECONDS
    return replace(wanted, since=today - (PERIOD_DAYS - 1) * _DAY_SECONDS)


async def record(reader: Reader, wanted: Wanted, call_id: int) -> CallRecord | None:
    """One ended call with all that its charge recomputes from, if it is wanted."""
    rows = await calls_named(reader, wanted, [call_id])
    return await read_call(reader, rows[0].wallet_id, call_id) if rows else None


async def wallet_named(reader: Reader, name: str) -> int | None:
    """The id of the wallet of that name, or None."""
    rows = await reader.rows("SELECT id FROM user WHERE name = ?", (name,))
    return int(rows[0][0]) if rows else None


async def keys_named(reader: Reader, wanted: Wanted, name: str) -> list[int]:
    """The first ids of keys of that name, of the wallet and person if they are asked for."""
    query = (
        "SELECT id FROM key WHERE name = ?1 AND (?2 IS NULL OR user_id = ?2) "
        "AND (?3 IS NULL OR person_id = ?3) ORDER BY id LIMIT ?4"
    )
    values = (name, wanted.wallet, wanted.person, NAMESAKES_MAX)
    rows = await reader.rows(query, values)
    return [int(key) for (key,) in rows]


async def choices(reader: Reader, wallet: int | None, person: int | None = None) -> Choices:
    """Read what a wallet's log can be filtered by; of all wallets no keys are offered."""
    keys: list[KeyName] = []
    if wallet is not None:
        query = (
            "SELECT id, name FROM key WHERE user_id = ?1 AND (?2 IS NULL OR person_id = ?2) "
            "ORDER BY name LIMIT ?3"
        )
        keys = [KeyName(*row) for row in await reader.rows(query, (wallet, person, KEYS_MAX))]
    mine = "" if wallet is None else "WHERE user_id = ?2 "
    recent = await reader.rows(
        "SELECT DISTINCT model, group_name FROM (SELECT model, group_name FROM call "  # noqa: S608 - constants
        f"{mine}ORDER BY id DESC LIMIT ?1)",
        (RECENT_ROWS_MAX,) if wallet is None else (RECENT_ROWS_MAX, wallet),
    )
    models = sorted({model for model, _ in recent})
    return Choices(keys, models, sorted({group for _, group in recent}))


def _span(wanted: Wanted, before: int | None) -> tuple[int, int]:
    """The least id asked for, and the one above the greatest."""
    lowest = 0 if wanted.since is None else first_id_at(wanted.since)
    above = _ID_MAX if wanted.until is None else first_id_at(wanted.until)
    return lowest, above if before is None else min(above, before)


async def _floor(reader: Reader, wanted: Wanted, lowest: int, above: int) -> int:
    """The least id of the newest `SCANNED_ROWS_MAX` calls of the wallet and time."""
    mine = "" if wanted.wallet is None else "user_id = ?4 AND "
    values = (lowest, above, SCANNED_ROWS_MAX - 1)
    rows = await reader.rows(
        f"SELECT id FROM call WHERE {mine}id >= ?1 AND id < ?2 "  # noqa: S608 - constants
        "ORDER BY id DESC LIMIT 1 OFFSET ?3",
        values if wanted.wallet is None else (*values, wanted.wallet),
    )
    return int(rows[0][0]) if rows else lowest


def narrowed(wanted: Wanted, table: str = "") -> tuple[str, tuple[Any, ...]]:
    """What picks calls beside their time: terms that go on with AND, and their values."""
    of = f"{table}." if table else ""
    terms: list[str] = [""]
    cells: list[Any] = []
    for column, value in (
        ("user_id", wanted.wallet),
        ("key_id", wanted.key),
        ("model", wanted.model),
        ("group_name", wanted.group),
        ("verdict", wanted.verdict),
    ):
        if value is not None:
            terms.append(f"{of}{column} = ?")
            cells.append(value)
    if wanted.failed:
        terms.append(f"{of}verdict <> 'complete'")
    if wanted.person is not None:
        terms.append(f"{of}key_id IN (SELECT id FROM key WHERE person_id = ?)")  # noqa: S608 - constants
        cells.append(wanted.person)
    return " AND ".join(terms), tuple(cells)


def _where(
    wanted: Wanted, floor: int, above: int, table: str = "call"
) -> tuple[str, tuple[Any, ...]]:
    picked, values = narrowed(wanted, table)
    return f"{table}.id >= ? AND {table}.id < ?{picked}", (floor, above, *values)


def _select_calls(where: str) -> str:
    columns = ", ".join(f"call.{name}" for name in (*_PLAIN, *_USAGE))
    return (
        f"SELECT {_NAMED}, {columns} FROM call "  # noqa: S608 - constants
        f"{_NAMES.format(table='call')} WHERE {where} ORDER BY call.id DESC LIMIT ?"
    )


async def _rolled_up(reader: Reader, wanted: Wanted) -> list[tuple[Any, ...]]:
    first = 0 if wanted.since is None else int(wanted.since // _DAY_SECONDS)
    last = _ID_MAX if wanted.until is None else int(-(-wanted.until // _DAY_SECONDS)) - 1
    picked, values = narrowed(wanted)
    return await reader.rows(
        "SELECT day, model, key_id, sum(ended), sum(errors), sum(charge), "  # noqa: S608 - constants
        f"sum({PROMPT_TOTAL}), sum({COMPLETION_TOTAL}) FROM rollup WHERE day BETWEEN ? AND ?"
        f"{picked} GROUP BY day, model, key_id",
        (first, last, *values),
    )


def _call(row: tuple[Any, ...]) -> CallRow:
    wallet, key, channel, *cells = row
    plain: dict[str, Any] = dict(zip(_PLAIN, cells, strict=False))
    anomalies = plain.pop("anomalies")
    return CallRow(
        wallet_id=plain.pop("user_id"),
        wallet=wallet,
        key=key,
        channel=channel,
        group=plain.pop("group_name"),
        stream=bool(plain.pop("stream")),
        anomalies=tuple(anomalies.split(",")) if anomalies else (),
        usage=Usage(*cells[len(_PLAIN) :]),
        **plain,
    )


def _open(row: tuple[Any, ...]) -> OpenRow:
    wallet, key, channel, *cells = row
    plain: dict[str, Any] = dict(zip(_OPEN, cells, strict=True))
    usage = plain.pop("usage")
    return OpenRow(
        wallet_id=plain.pop("user_id"),
        wallet=wallet,
        key=key,
        channel=channel,
        group=plain.pop("group_name"),
        stream=bool(plain.pop("stream")),
        usage=None if usage is None else Usage(**orjson.loads(usage)),
        **plain,
    )
