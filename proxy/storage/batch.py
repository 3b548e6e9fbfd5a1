"""One transaction's worth of ledger rows, and the statements that write them.

Rules: rows are collected on the event loop and applied on the writer thread, once, in one
transaction; balances move only by the transfers of the same batch; an update that misses its row
is a broken assumption and fails the batch. Rows are tuples in column order, because one is built
per call on the hot path, and go in several to a statement, because the thread gives up the
interpreter and asks for it back at each, by their ids, so that pages fill up one after the other.
What nearly every row of a table says alike is not in its rows but in the statement: such a row is
ordinary, and told by its width; how they are bound is in storage/inserts.py. This module must not
know threads, futures or how amounts are decided.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

from proxy.core.ledger import (
    ACCOUNT_KIND_BITS,
    LINE_CHARGE,
    REVENUE,
    AccountKind,
    Charge,
    Posting,
    Transfer,
)
from proxy.storage.inserts import Cell, Inserts, Row, pieces

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
SETTLED_COLUMNS = (
    *ORDINARY_OPEN_COLUMNS,
    *ORDINARY_CALL_COLUMNS[SHARED_COLUMNS:-1],
    "ended_at", "channel_key_id", "attempt_started_at", "upstream_request_id", "cost",
    "attempt_duration_ms", "period", "period_start", "spent",
)  # fmt: skip
"""All that most calls leave, in one row that is taken apart a column at a time: an ordinary call
with an ordinary attempt at the channel and model that it names, the charge to its user's wallet,
and what its key has spent with it. Rows of their own cost the loop twice as much."""

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


_ID: Final = itemgetter(0)
_WALLET: Final = int(AccountKind.WALLET)
_TIMES: Final = frozenset({"id", "started_at", "ttft_ms", "duration_ms"})
_OPENS: Final = tuple(
    Inserts("open_call", columns, order=OPEN_COLUMNS, alone=_TIMES)
    for columns in (ORDINARY_OPEN_COLUMNS, OPEN_COLUMNS)
)
_CALLS: Final = (
    Inserts(
        "call", ORDINARY_CALL_COLUMNS, order=CALL_COLUMNS, alone=_TIMES, said=ORDINARY_CALL_SAYS
    ),
    Inserts("call", CALL_COLUMNS, order=CALL_COLUMNS, alone=_TIMES),
)
_ATTEMPTS: Final = tuple(
    Inserts("attempt", columns, order=ATTEMPT_COLUMNS, alone=_TIMES | {"call_id"}, said=said)
    for columns, said in (
        (ORDINARY_ATTEMPT_COLUMNS, ORDINARY_ATTEMPT_SAYS),
        (ATTEMPT_COLUMNS, None),
    )
)
_CHARGES: Final = Inserts(
    "transfer",
    ("event_id", "debit", "amount", "at"),
    order=Transfer._fields,
    alone=frozenset({"event_id", "at"}),
    said={"line": LINE_CHARGE, "kind": "charge", "credit": REVENUE},
)
_OF_CALL: Final = slice(len(ORDINARY_OPEN_COLUMNS), SETTLED_COLUMNS.index("ended_at"))
_OF_ATTEMPT: Final = [
    SETTLED_COLUMNS.index(name)
    for name in (
        "id", "channel_id", "channel_key_id", "attempt_started_at", "upstream_request_id",
        "upstream_model", "cost", "attempt_duration_ms",
    )
]  # fmt: skip
_KEY, _USER, _STARTED, _CHARGED, _ENDED, _PERIOD = (
    SETTLED_COLUMNS.index(name)
    for name in ("key_id", "user_id", "started_at", "charge", "ended_at", "period")
)
_TRANSFERS: Final = Inserts(
    "transfer", Transfer._fields, order=Transfer._fields, alone=frozenset({"event_id", "at"})
)


def completed(row: Row) -> Row:
    """A row of `call` of this or an older release, as wide as the table is now, or ordinary."""
    missing = len(CALL_COLUMNS) - len(row)
    if len(row) == len(ORDINARY_CALL_COLUMNS):
        return row
    return (*row, *CALL_ADDED[-missing:]) if missing else row


class Batch:
    """Rows on their way to one commit."""

    __slots__ = (
        "attempts", "calls", "charges", "closes", "marks", "opens", "serial", "settled", "spends",
        "transfers",
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
        """By key: only the last one of each counts, and counts for more than those of `settled`."""
        self.settled: list[Row] = []
        """Of `SETTLED_COLUMNS`, in the order in which they were settled."""
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

    def settle(self, row: Row, transfers: Sequence[Posting]) -> None:
        """Add an ended call that one row of `SETTLED_COLUMNS` says all of but `transfers`."""
        self.settled.append(row)
        if transfers:
            self.transfers.extend(transfers)
        if self.spends:
            self.spends.pop(row[_KEY], None)

    def __len__(self) -> int:
        """Rows that grow with traffic; balances and spends are bounded by accounts."""
        return (
            len(self.opens) + len(self.marks) + len(self.closes)
            + len(self.calls) + len(self.attempts) + len(self.charges) + len(self.transfers)
            + 3 * len(self.settled)
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
        spends, deltas = self.spends, dict[int, int]()
        if self.settled:
            last = {row[_KEY]: row for row in self.settled}
            spends = {key: (key, *row[_PERIOD:]) for key, row in last.items()} | spends
            _insert_settled(connection, self.settled, deltas)
        if deltas or self.charges or self.transfers:
            post(connection, self.transfers, self.charges, deltas)
        if spends:
            connection.executemany(_UPSERT_SPEND, spends.values())
        if self.serial is not None:
            connection.execute(_UPDATE_REDO, (self.serial,))


def post(
    connection: sqlite3.Connection,
    transfers: Sequence[Posting],
    charges: Sequence[Charge] = (),
    moved: Mapping[int, int] | None = None,
) -> None:
    """Add transfers and move the balances they name, inside the caller's transaction.

    `moved`: what transfers that were added before give to accounts. One update per account,
    however many transfers name it. Raises sqlite3.IntegrityError if a wallet would go below zero
    or a charge exists already.
    """
    short: list[Row] = [*charges]
    others: list[Row] = []
    deltas = dict(moved or {})
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
    for form, some in ((_CHARGES, short), (_TRANSFERS, others)):
        for piece in pieces(some):
            form.insert(connection, list(zip(*piece, strict=True)))
    rows = [(delta, account) for account, delta in deltas.items()]
    _exactly(connection.executemany(_UPDATE_BALANCE, rows), len(rows))


def _insert_settled(
    connection: sqlite3.Connection, rows: list[Row], deltas: dict[int, int]
) -> None:
    """Add rows of `SETTLED_COLUMNS` but for what keys have spent; `deltas` get what is charged."""
    rows.sort(key=_ID)
    get, charged = deltas.get, 0
    for piece in pieces(rows):
        columns: list[Any] = list(zip(*piece, strict=True))
        ids, ended, amounts = columns[0], columns[_ENDED], columns[_CHARGED]
        lasted = [
            (end - start) * 1000.0 if end > start else 0.0
            for start, end in zip(columns[_STARTED], ended, strict=True)
        ]
        wallets = [user << ACCOUNT_KIND_BITS | _WALLET for user in columns[_USER]]
        for wallet, amount in zip(wallets, amounts, strict=True):
            deltas[wallet] = get(wallet, 0) - amount
        charged += sum(amounts)
        _CALLS[0].insert(connection, [*columns[:SHARED_COLUMNS], *columns[_OF_CALL], lasted])
        _ATTEMPTS[0].insert(connection, [columns[place] for place in _OF_ATTEMPT])
        _CHARGES.insert(connection, [ids, wallets, amounts, ended])
    deltas[REVENUE] = get(REVENUE, 0) + charged


def imbalance(connection: sqlite3.Connection) -> int:
    """Return the sum of all stored balances: 0, since every transfer adds to it what it takes."""
    return int(connection.execute("SELECT coalesce(sum(balance), 0) FROM account").fetchone()[0])


def _insert(connection: sqlite3.Connection, forms: Sequence[Inserts], rows: list[Row]) -> None:
    # Calls end in another order than they began in; a row of `call` out of order costs 4,500
    # instructions more, which look for its place and make room there.
    rows.sort(key=_ID)
    widths = set(map(len, rows))
    written = 0
    for form in forms:
        if form.width in widths:
            some = rows if len(widths) == 1 else [row for row in rows if len(row) == form.width]
            for piece in pieces(some):
                form.insert(connection, list(zip(*piece, strict=True)))
            written += len(some)
    if written != len(rows):
        raise AssertionError(f"{len(rows) - written} rows are of no form that is known")


def _exactly(cursor: sqlite3.Cursor, expected: int) -> None:
    if cursor.rowcount != expected:
        raise AssertionError(f"{cursor.rowcount} rows were there to change, not {expected}")
