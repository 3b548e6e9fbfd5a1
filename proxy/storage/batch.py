"""One transaction's worth of ledger rows, and the statements that write them.

Rules: rows are collected on the event loop and applied on the writer thread, once, in one
transaction; balances move only by the transfers of the same batch; an update that misses its row
is a broken assumption and fails the batch. Rows are tuples in column order, because one is built
per call on the hot path, and go in several to a statement, because the thread gives up the
interpreter and asks for it back at each, by their ids, so that pages fill up one after the other.
What nearly every row of a table says alike is not in its rows but in the statement: such a row is
ordinary, and told by its width; what all rows of one statement say alike is bound once. This module
must not know threads, futures or how amounts are decided.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Final, TypeAlias

from proxy.core.ledger import LINE_CHARGE, REVENUE, Charge, Posting, Transfer

Cell: TypeAlias = str | int | float | None
Row: TypeAlias = tuple[Cell, ...]
Value: TypeAlias = Cell | bytes
"""What any statement may bind."""

OPEN_COLUMNS = (
    "id", "key_id", "user_id", "endpoint", "dialect", "model", "group_name", "stream",
    "price_version", "multiplier", "started_at", "client_reference", "input_estimate", "hold",
    "charge_max",
)  # fmt: skip
CALL_COLUMNS = (
    "id", "key_id", "user_id", "endpoint", "dialect", "model", "group_name", "stream",
    "price_version", "multiplier", "started_at", "client_reference",
    "verdict", "source", "charge", "overrun", "forgiven", "balance_after", "budget_after",
    "input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning",
    "audio_input", "audio_output", "images", "characters", "calls",
    "delivered_bytes", "delivered_events", "status", "error_code", "finish_reason",
    "channel_id", "upstream_model", "ttft_ms", "duration_ms", "anomalies",
    "audio_ms", "searches", "variant",
    "image_input", "image_output", "cache_read_audio", "cache_read_image", "answer_id",
)  # fmt: skip
CALL_ADDED: Final[Row] = (0, 0, "", 0, 0, 0, 0, None)
"""What a row of `call` lacks that an older release made: columns are only added at the end."""
ATTEMPT_COLUMNS = (
    "call_id", "number", "channel_id", "channel_key_id", "started_at", "status", "outcome",
    "upstream_request_id", "upstream_model", "usage", "cost", "duration_ms",
)  # fmt: skip

ORDINARY_OPEN_COLUMNS = tuple(
    name for name in OPEN_COLUMNS if name not in {"client_reference", "charge_max"}
)
ORDINARY_CALL_COLUMNS = (
    "id", "key_id", "user_id", "endpoint", "dialect", "model", "group_name", "stream",
    "price_version", "multiplier", "started_at",
    "source", "charge", "balance_after",
    "input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning",
    "delivered_bytes", "delivered_events", "finish_reason", "channel_id", "upstream_model",
    "ttft_ms", "duration_ms",
)  # fmt: skip
SHARED_COLUMNS: Final = OPEN_COLUMNS.index("client_reference")
"""How many columns an open row and the row of its call, of either width, begin with alike."""
ORDINARY_CALL_SAYS: Final[Mapping[str, str | int]] = {
    "verdict": "complete", "overrun": 0, "forgiven": 0, "audio_input": 0, "audio_output": 0,
    "images": 0, "characters": 0, "calls": 1, "status": 200,
}  # fmt: skip
"""What is not in an ordinary row of `call`; every other column is at the table's own default."""
ORDINARY_ATTEMPT_COLUMNS = (
    "call_id", "channel_id", "channel_key_id", "started_at", "upstream_request_id",
    "upstream_model", "cost", "duration_ms",
)  # fmt: skip
ORDINARY_ATTEMPT_SAYS: Final[Mapping[str, str | int]] = {
    "number": 0, "status": 200, "outcome": "served",
}  # fmt: skip
"""The same of `attempt`: the first served, and its usage is the call's."""

_SAME_FOR_MOST: Final = ("endpoint", "dialect", "group_name", "multiplier")
_SAME_FOR_A_MODEL: Final = (*_SAME_FOR_MOST, "model", "stream", "price_version")
_SAME_FOR_A_CHANNEL: Final = ("source", "finish_reason", "channel_id", "upstream_model")

ROWS_PER_STATEMENT_MAX = 64
"""Some 3,100 variables at most; SQLite's own bound is 32,766."""
FEW_ROWS: Final = 8
"""Above it the rows of a statement are a power of two, so that statements stay few in SQLite's
cache: each is as large as its rows. Below it nobody looks for what they say alike."""

_UPDATE_MARK = (
    "UPDATE open_call SET hold = ?, charge = ?, source = ?, usage = ?, delivered_bytes = ?, "
    "channel_id = ? WHERE id = ?"
)
_DELETE_OPEN = "DELETE FROM open_call WHERE id = ?"
_UPDATE_BALANCE = "UPDATE account SET balance = balance + ? WHERE id = ?"
_UPDATE_REDO = "UPDATE redo SET applied = ?"
_UPSERT_SPEND = (
    "INSERT INTO key_spend (key_id, period, period_start, spent) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (key_id) DO UPDATE SET period = excluded.period, "
    "period_start = excluded.period_start, spent = excluded.spent"
)


_Pick: TypeAlias = Callable[[Row], tuple[Cell, ...]]
_ID: Final = itemgetter(0)
_EACH_ALONE: Final = -1
"""The level of a statement whose rows share nothing."""


class _Form:
    """One width that rows of a table have; columns they lack are as `said`, or at their default.

    `alike`: sets of columns that the rows of a statement often say alike, the largest first. The
    first that they do say alike is bound once: a text costs 800 instructions, a number 250.
    """

    __slots__ = ("_columns", "_levels", "_said", "_statements", "_table", "width")

    def __init__(
        self,
        table: str,
        columns: tuple[str, ...],
        said: Mapping[str, str | int] | None = None,
        alike: tuple[tuple[str, ...], ...] = (),
    ) -> None:
        self.width = len(columns)
        self._table = table
        self._columns = columns
        self._said = said or {}
        self._levels: list[tuple[list[int], _Pick, _Pick]] = []
        """Places of columns that are bound once, what picks those of a row, and all others."""
        for names in alike:
            once = [columns.index(name) for name in names]
            each = [one for one in range(self.width) if one not in once]
            self._levels.append((once, itemgetter(*once), itemgetter(*each)))
        self._statements: dict[tuple[int, int], str] = {}
        """By level and how many rows they insert."""

    def insert(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Insert rows of this width. After an error the transaction has to be rolled back."""
        start, left, size = 0, len(rows), ROWS_PER_STATEMENT_MAX
        while left:
            while size > left and size > FEW_ROWS:
                size >>= 1
            some = rows[start : start + size]
            count = len(some)
            start, left = start + size, left - count
            values: list[Cell] = []
            level, alone = _EACH_ALONE, some
            if count >= FEW_ROWS:  # to look for what fewer share costs more than it saves
                for number, (_, shared, others) in enumerate(self._levels):
                    said = [shared(row) for row in some]
                    if said.count(said[0]) == count:
                        level, alone = number, [others(row) for row in some]
                        values += said[0]
                        break
            for row in alone:
                values += row  # copies it whole; a chain would ask for each value
            statement = self._statements.get((level, count)) or self._statement(level, count)
            connection.execute(statement, values)

    def _statement(self, level: int, count: int) -> str:
        said = [
            f"'{value}'" if isinstance(value, str) else str(value) for value in self._said.values()
        ]
        row = ["?"] * self.width + said
        first = row.copy()
        if level != _EACH_ALONE:
            # Numbers for no others: SQLite looks each of them up among all that came before.
            once = self._levels[level][0]
            for place, one in enumerate(once, 1):
                first[one] = row[one] = f"?{place}"
            first[row.index("?")] = f"?{len(once) + 1}"
        rows = [first, *[row] * (count - 1)]
        values = ", ".join(f"({', '.join(row)})" for row in rows)
        columns = ", ".join((*self._columns, *self._said))
        # OR FAIL: nobody goes on in a transaction that had an error, so no pages need be kept to
        # take back one statement of it.
        made = f"INSERT OR FAIL INTO {self._table} ({columns}) VALUES {values}"  # noqa: S608 - constants
        self._statements[level, count] = made
        return made


_OPENS: Final = tuple(
    _Form("open_call", columns, alike=(_SAME_FOR_A_MODEL, _SAME_FOR_MOST))
    for columns in (ORDINARY_OPEN_COLUMNS, OPEN_COLUMNS)
)
_CALLS: Final = (
    _Form(
        "call",
        ORDINARY_CALL_COLUMNS,
        ORDINARY_CALL_SAYS,
        ((*_SAME_FOR_A_MODEL, *_SAME_FOR_A_CHANNEL), _SAME_FOR_MOST),
    ),
    _Form("call", CALL_COLUMNS),
)
_ATTEMPTS: Final = (
    _Form(
        "attempt",
        ORDINARY_ATTEMPT_COLUMNS,
        ORDINARY_ATTEMPT_SAYS,
        (("channel_id", "upstream_model"),),
    ),
    _Form("attempt", ATTEMPT_COLUMNS),
)
_CHARGES: Final = _Form(
    "transfer",
    ("event_id", "debit", "amount", "at"),
    {"line": LINE_CHARGE, "kind": "charge", "credit": REVENUE},
)
_TRANSFERS: Final = _Form("transfer", Transfer._fields)


def completed(row: Row) -> Row:
    """A row of `call` of this or an older release, as wide as the table is now, or ordinary."""
    missing = len(CALL_COLUMNS) - len(row)
    if len(row) == len(ORDINARY_CALL_COLUMNS):
        return row
    return (*row, *CALL_ADDED[-missing:]) if missing else row


class Batch:
    """Rows on their way to one commit."""

    __slots__ = (
        "attempts", "calls", "charges", "closes", "marks", "opens", "serial", "spends", "transfers",
    )  # fmt: skip

    def __init__(self) -> None:
        self.opens: dict[int, Row] = {}
        self.marks: dict[int, Row] = {}
        self.closes: list[tuple[int]] = []
        self.calls: list[Row] = []
        self.attempts: list[Row] = []
        self.charges: list[Charge] = []
        self.transfers: list[Posting] = []
        self.spends: dict[Cell, Row] = {}
        """By key: only the last one of each counts."""
        self.serial: int | None = None
        """Of the last record of the redo log that these rows include; None without a log."""

    def end(
        self,
        row: Row,
        attempts: Sequence[Row],
        transfers: Sequence[Posting],
        spend: Row | None,
        charge: Charge | None = None,
    ) -> None:
        """Add an ended call and all that was posted with it; `spend` is of `key_spend`."""
        self.calls.append(row)
        self.attempts.extend(attempts)
        if charge is not None:
            self.charges.append(charge)
        if transfers:
            self.transfers.extend(transfers)
        if spend is not None:
            self.spends[spend[0]] = spend

    def __len__(self) -> int:
        """Rows that grow with traffic; balances and spends are bounded by accounts."""
        return (
            len(self.opens) + len(self.marks) + len(self.closes)
            + len(self.calls) + len(self.attempts) + len(self.charges) + len(self.transfers)
        )  # fmt: skip

    def apply(self, connection: sqlite3.Connection) -> None:
        """Write everything in one transaction. Raises sqlite3.Error with nothing written."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._write(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _write(self, connection: sqlite3.Connection) -> None:
        if self.opens:
            _insert(connection, _OPENS, list(self.opens.values()))
        if self.marks:
            _exactly(connection.executemany(_UPDATE_MARK, self.marks.values()), len(self.marks))
        if self.closes:
            _exactly(connection.executemany(_DELETE_OPEN, self.closes), len(self.closes))
        if self.calls:
            _insert(connection, _CALLS, self.calls)
        if self.attempts:
            _insert(connection, _ATTEMPTS, self.attempts)
        if self.charges or self.transfers:
            post(connection, self.transfers, self.charges)
        if self.spends:
            connection.executemany(_UPSERT_SPEND, self.spends.values())
        if self.serial is not None:
            connection.execute(_UPDATE_REDO, (self.serial,))


def post(
    connection: sqlite3.Connection, transfers: Sequence[Posting], charges: Sequence[Charge] = ()
) -> None:
    """Add transfers and move the balances they name, inside the caller's transaction.

    One update per account, however many transfers name it. Raises sqlite3.IntegrityError if a
    wallet would go below zero or a charge exists already.
    """
    short: list[Row] = [*charges]
    others: list[Row] = []
    deltas: dict[int, int] = {}
    get = deltas.get
    charged = 0
    for _, debit, amount, _ in charges:
        deltas[debit] = get(debit, 0) - amount
        charged += amount
    if charged:
        deltas[REVENUE] = get(REVENUE, 0) + charged
    for transfer in transfers:
        event_id, line, kind, debit, credit, amount, at, refers_to = transfer
        deltas[debit] = get(debit, 0) - amount
        deltas[credit] = get(credit, 0) + amount
        if kind == "charge" and credit == REVENUE and line == LINE_CHARGE and refers_to is None:
            short.append((event_id, debit, amount, at))
        else:
            others.append(transfer)
    short.sort(key=_ID)
    _CHARGES.insert(connection, short)
    _TRANSFERS.insert(connection, others)
    rows = [(delta, account) for account, delta in deltas.items()]
    _exactly(connection.executemany(_UPDATE_BALANCE, rows), len(rows))


def imbalance(connection: sqlite3.Connection) -> int:
    """Return the sum of all stored balances: 0, since every transfer adds to it what it takes."""
    return int(connection.execute("SELECT coalesce(sum(balance), 0) FROM account").fetchone()[0])


def _insert(connection: sqlite3.Connection, forms: Sequence[_Form], rows: list[Row]) -> None:
    # Calls end in another order than they began in; a row of `call` out of order costs 4,500
    # instructions more, which look for its place and make room there.
    rows.sort(key=_ID)
    widths = set(map(len, rows))
    written = 0
    for form in forms:
        if form.width in widths:
            some = rows if len(widths) == 1 else [row for row in rows if len(row) == form.width]
            form.insert(connection, some)
            written += len(some)
    if written != len(rows):
        raise AssertionError(f"{len(rows) - written} rows are of no form that is known")


def _exactly(cursor: sqlite3.Cursor, expected: int) -> None:
    if cursor.rowcount != expected:
        raise AssertionError(f"{cursor.rowcount} rows were there to change, not {expected}")
