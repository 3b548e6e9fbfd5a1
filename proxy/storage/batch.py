"""One transaction's worth of ledger rows, and the statements that write them.

Rules: rows are collected on the event loop and applied on the writer thread, once, in one
transaction; balances move only by the transfers of the same batch; an update that misses its row
is a broken assumption and fails the batch. Rows are tuples in column order, because one is built
per call on the hot path, and go in several to a statement, because the thread gives up the
interpreter and asks for it back at each. This module must not know threads, futures or how amounts
are decided.
"""

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Final, TypeAlias

from proxy.core.ledger import Transfer

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


ROWS_PER_STATEMENT_MAX = 16
"""Some 750 variables at most, and as many statements in SQLite's cache for each of four tables."""

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


def completed(row: Row) -> Row:
    """A row of `call` of this or an older release, as wide as the table is now."""
    missing = len(CALL_COLUMNS) - len(row)
    return (*row, *CALL_ADDED[-missing:]) if missing else row


class Batch:
    """Rows on their way to one commit."""

    __slots__ = ("attempts", "calls", "closes", "marks", "opens", "serial", "spends", "transfers")

    def __init__(self) -> None:
        self.opens: dict[int, Row] = {}
        self.marks: dict[int, Row] = {}
        self.closes: list[tuple[int]] = []
        self.calls: list[Row] = []
        self.attempts: list[Row] = []
        self.transfers: list[Transfer] = []
        self.spends: dict[Cell, Row] = {}
        """By key: only the last one of each counts."""
        self.serial: int | None = None
        """Of the last record of the redo log that these rows include; None without a log."""

    def end(
        self,
        row: Row,
        attempts: Sequence[Row],
        transfers: Sequence[Transfer],
        spend: Row | None,
    ) -> None:
        """Add an ended call and all that was posted with it; `spend` is of `key_spend`."""
        self.calls.append(row)
        self.attempts.extend(attempts)
        self.transfers.extend(transfers)
        if spend is not None:
            self.spends[spend[0]] = spend

    def __len__(self) -> int:
        """Rows that grow with traffic; balances and spends are bounded by accounts."""
        return (
            len(self.opens) + len(self.marks) + len(self.closes)
            + len(self.calls) + len(self.attempts) + len(self.transfers)
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
            _insert(connection, "open_call", OPEN_COLUMNS, tuple(self.opens.values()))
        if self.marks:
            _exactly(connection.executemany(_UPDATE_MARK, self.marks.values()), len(self.marks))
        if self.closes:
            _exactly(connection.executemany(_DELETE_OPEN, self.closes), len(self.closes))
        if self.calls:
            _insert(connection, "call", CALL_COLUMNS, self.calls)
        if self.attempts:
            _insert(connection, "attempt", ATTEMPT_COLUMNS, self.attempts)
        if self.transfers:
            post(connection, self.transfers)
        if self.spends:
            connection.executemany(_UPSERT_SPEND, self.spends.values())
        if self.serial is not None:
            connection.execute(_UPDATE_REDO, (self.serial,))


def post(connection: sqlite3.Connection, transfers: list[Transfer]) -> None:
    """Add `transfers` and move the balances they name, inside the caller's transaction.

    One update per account, however many transfers name it. Raises sqlite3.IntegrityError if a
    wallet would go below zero or a charge exists already.
    """
    _insert(connection, "transfer", Transfer._fields, transfers)
    deltas: dict[int, int] = {}
    get = deltas.get
    for _, _, _, debit, credit, amount, _, _ in transfers:
        deltas[debit] = get(debit, 0) - amount
        deltas[credit] = get(credit, 0) + amount
    rows = [(delta, account) for account, delta in deltas.items()]
    _exactly(connection.executemany(_UPDATE_BALANCE, rows), len(rows))


def _insert(
    connection: sqlite3.Connection, table: str, columns: tuple[str, ...], rows: Sequence[Row]
) -> None:
    for start in range(0, len(rows), ROWS_PER_STATEMENT_MAX):
        some = rows[start : start + ROWS_PER_STATEMENT_MAX]
        values = tuple(chain.from_iterable(some))
        connection.execute(_insert_statement(table, columns, len(some)), values)


@cache
def _insert_statement(table: str, columns: tuple[str, ...], rows: int) -> str:
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * rows)}"  # noqa: S608 - constants


def _exactly(cursor: sqlite3.Cursor, expected: int) -> None:
    if cursor.rowcount != expected:
        raise AssertionError(f"{cursor.rowcount} rows were there to change, not {expected}")
