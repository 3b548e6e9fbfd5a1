"""Statements that insert many rows, whose values are bound column by column.

Rules: rows of one statement are those of one form, that is of one width; what most rows of a form
say alike is in the statement, and what all rows of one statement say alike is bound once: a text
costs 800 instructions to bind, a number 250. Columns are named in the order of their table, those
between that nobody says as NULL: SQLite makes the record of a row where its values are then, and
copies all of them otherwise. Texts of statements stay few, for SQLite keeps each prepared. This
module must not know what the rows mean, nor transactions.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

Cell: TypeAlias = str | int | float | None
Row: TypeAlias = tuple[Cell, ...]
Column: TypeAlias = Sequence[Cell]
Places: TypeAlias = tuple[int, ...]

ROWS_PER_STATEMENT_MAX: Final = 64
"""Some 3,100 variables at most; SQLite's own bound is 32,766."""
FEW_ROWS: Final = 8
"""Above it the rows of a statement are a power of two, so that statements stay few in SQLite's
cache: each is as large as its rows. Below it nobody looks for what they say alike."""
KINDS_MAX: Final = 4
"""Kinds of statements, by which columns they share, that a form keeps."""
UNKNOWN_MAX: Final = 32
"""So many statements that could share more than any that is kept, and one of them is kept instead
of the one that was used longest ago: each size of each kind is prepared once, for as much as some
hundred rows."""
WORTH: Final = 2
"""Columns more to share that are worth a kind of statement."""


def pieces(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Cut `rows` into those of one statement each."""
    start, left, size = 0, len(rows), ROWS_PER_STATEMENT_MAX
    while left > 0:
        while size > left and size > FEW_ROWS:
            size >>= 1
        yield rows[start : start + size]
        start, left = start + size, left - size


class Inserts:
    """Inserts rows of one width into a table; what they do not say is as `said`, or by default.

    `order`: names of the table's columns in its order, up to the last that is said. `alone`:
    columns whose values are hardly ever alike, as ids and times are: nobody looks.
    """

    __slots__ = (
        "_columns", "_kinds", "_may_share", "_order", "_said", "_statements", "_table", "_unknown",
        "width",
    )  # fmt: skip

    def __init__(
        self,
        table: str,
        columns: tuple[str, ...],
        *,
        order: tuple[str, ...],
        alone: frozenset[str],
        said: Mapping[str, str | int] | None = None,
    ) -> None:
        self.width = len(columns)
        self._table = table
        self._columns = columns
        self._said = said or {}
        last = max(order.index(name) for name in (*columns, *self._said))
        self._order = order[: last + 1]
        self._may_share = [place for place, name in enumerate(columns) if name not in alone]
        self._kinds: dict[Places, Places] = {}
        """By what they share, what they do not; the one used last comes last."""
        self._unknown = 0
        self._statements: dict[tuple[Places, int], str] = {}
        """By what they share, and how many rows they insert."""

    def insert(self, connection: sqlite3.Connection, columns: Sequence[Column]) -> None:
        """Insert the rows of one statement. After an error the transaction has to be rolled back.

        `columns`: of each column the values of all rows.
        """
        count = len(columns[0])
        shared: Places = ()
        others: Sequence[int] = range(self.width)
        if count >= FEW_ROWS:  # to look for what fewer share costs more than it saves
            shared, others = self._kind(columns, count)
        values: list[Cell] = [columns[place][0] for place in shared]
        each: list[Cell] = [None] * (len(others) * count)
        for first, place in enumerate(others):
            each[first :: len(others)] = columns[place]
        statement = self._statements.get((shared, count)) or self._statement(shared, count)
        connection.execute(statement, values + each)

    def _kind(self, columns: Sequence[Column], count: int) -> tuple[Places, Sequence[int]]:
        """The places of columns to bind once, and of all others."""
        alike = []
        for place in self._may_share:
            column = columns[place]
            value = column[0]
            if value == column[-1] and column.count(value) == count:
                alike.append(place)
        found, kinds = tuple(alike), self._kinds
        if found not in kinds:
            within = [each for each in kinds if set(each) <= set(found)]
            best = max(within, key=len, default=())
            if len(found) - len(best) < WORTH or not self._learn(found):
                found = best
            if not found:
                return (), range(self.width)
        others = kinds[found] = kinds.pop(found)
        return found, others

    def _learn(self, shared: Places) -> bool:
        """Keep another kind of statement, if it is time to."""
        self._unknown += 1
        if len(self._kinds) == KINDS_MAX:
            if self._unknown < UNKNOWN_MAX:
                return False
            self._forget(next(iter(self._kinds)))
        self._unknown = 0
        self._kinds[shared] = tuple([one for one in range(self.width) if one not in shared])
        return True

    def _forget(self, shared: Places) -> None:
        del self._kinds[shared]
        for said in [each for each in self._statements if each[0] == shared]:
            del self._statements[said]

    def _statement(self, shared: Places, count: int) -> str:
        # Numbers for no others: SQLite looks each of them up among all that came before.
        number = {self._columns[place]: f"?{nth}" for nth, place in enumerate(shared, 1)}
        row = []
        for name in self._order:
            said = self._said.get(name)
            if name in number:
                row.append(number[name])
            elif name in self._columns:
                row.append("?")
            else:
                row.append("NULL" if said is None else _literal(said))
        first = row.copy()
        if shared:
            first[row.index("?")] = f"?{len(shared) + 1}"
        rows = [first, *[row] * (count - 1)]
        values = ", ".join(f"({', '.join(row)})" for row in rows)
        # OR FAIL: nobody goes on in a transaction that had an error, so no pages need be kept to
        # take back one statement of it.
        made = f"INSERT OR FAIL INTO {self._table} ({', '.join(self._order)}) VALUES {values}"  # noqa: S608 - constants
        self._statements[shared, count] = made
        return made


def _literal(value: str | int) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)
