import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.storage import batch, inserts
from proxy.storage.inserts import FEW_ROWS, KINDS_MAX, UNKNOWN_MAX, Inserts, Row, pieces
from proxy.storage.sqlite import migrate

SOME = st.sampled_from
TEXTS = ("chat", "m", "", "it's \x00 \N{SNOWMAN}")
FORMS = (*batch._OPENS, *batch._CALLS, *batch._ATTEMPTS, batch._CHARGES)
COLUMNS = ("id", "kind", "amount", "at")


def one_by_one(form: Any, connection: sqlite3.Connection, columns: Sequence[Any]) -> None:
    """Insert rows as anybody would: each with every value it says."""
    said = form._said
    names = (*form._columns, *said)
    connection.executemany(
        f"INSERT INTO {form._table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
        [(*row, *said.values()) for row in zip(*columns, strict=True)],
    )


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.execute(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, kind TEXT, amount INTEGER, no TEXT, at REAL, "
        "last INTEGER NOT NULL DEFAULT 7) STRICT"
    )
    yield made
    made.close()


def notes(**changes: Any) -> Inserts:
    options: dict[str, Any] = {
        "order": ("id", "kind", "amount", "no", "at", "last"),
        "alone": frozenset({"id", "at"}),
    }
    return Inserts("note", COLUMNS, **(options | changes))


def write(form: Inserts, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    for piece in pieces(rows):
        form.insert(connection, list(zip(*piece, strict=True)))


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 63, 64, 65, 127, 200])
def test_the_pieces_of_rows_are_the_rows_and_of_few_sizes(count: int) -> None:
    rows = [(number,) for number in range(count)]
    cut = list(pieces(rows))
    assert [row for piece in cut for row in piece] == rows
    assert {len(piece) for piece in cut} <= {*range(1, FEW_ROWS), 8, 16, 32, 64}


def rows_of(form: Any, ids: Sequence[int], data: st.DataObject) -> list[Row]:
    """Rows of one width for calls `ids`, many of them alike, with every value a table may have."""
    schema = sqlite3.connect(":memory:", isolation_level=None)
    migrate(schema, 1.0)
    kinds = {
        name: (kind, needed)
        for _, name, kind, needed, *_ in schema.execute(f"PRAGMA table_info({form._table})")
    }
    schema.close()
    columns: list[list[Any]] = [list(ids)]
    for name in form._columns[1:]:
        kind, needed = kinds[name]
        values: st.SearchStrategy[Any] = SOME((0, 1, 2**62, 7))
        if name in {"number", "forgiven"}:
            values = st.just(0)
        elif name in {"charge_max", "budget_after", "debit", "amount"}:
            values = SOME((1, 9))
        elif kind == "TEXT":
            values = SOME(TEXTS)
        elif kind == "REAL":
            values = SOME((1.5, -0.0, 0.0, 1e300, 3.0))
        if not needed:
            values = st.none() | values
        column = [data.draw(values)] * len(ids)
        for place in data.draw(st.lists(st.integers(0, len(ids) - 1), max_size=2)):
            column[place] = data.draw(values)
        columns.append(column)
    return list(zip(*columns, strict=True))


@settings(max_examples=80)
@given(st.data())
def test_rows_are_in_the_file_as_if_each_were_written_alone(data: st.DataObject) -> None:
    form = data.draw(SOME(FORMS))
    sizes = SOME((1, 2, 7, 8, 9, 63, 64, 65, 70))
    size = data.draw(sizes if form.width < 20 else SOME((1, 2, 9, 17)))
    rows = rows_of(form, data.draw(st.permutations(range(size))), data)
    tables = []
    for insert in (Inserts.insert, one_by_one):
        connection = sqlite3.connect(":memory:", isolation_level=None)
        migrate(connection, 1.0)
        for piece in pieces(rows):
            insert(form, connection, list(zip(*piece, strict=True)))
        found = connection.execute(f"SELECT * FROM {form._table}").fetchall()
        tables.append(repr(sorted(found, key=lambda row: int(row[0]))))
        connection.close()
    assert tables[0] == tables[1]


def test_what_rows_say_alike_is_bound_once_whatever_was_alike_before(
    connection: sqlite3.Connection,
) -> None:
    form = notes()
    written: list[Row] = []
    for kinds in ("aaaaaaaa", "aaaaaaab", "abababab", "bbbbbbbb"):
        for amount in (1, None):
            ids = range(len(written), len(written) + len(kinds))
            some = [
                (one, kind, one if amount is None else amount, 1.5)
                for one, kind in zip(ids, kinds, strict=True)
            ]
            write(form, connection, some)
            written += some
    found = connection.execute("SELECT id, kind, amount, at FROM note ORDER BY id").fetchall()
    assert found == written
    # Amounts alone that are alike are not worth it, both are.
    assert list(form._kinds) == [(1, 2)]


def test_a_row_says_null_and_defaults_of_what_it_does_not(connection: sqlite3.Connection) -> None:
    write(notes(said={"no": "it"}), connection, [(1, "a", 2, 1.5)])
    write(notes(), connection, [(2, "a", 2, 1.5)])
    found = connection.execute("SELECT * FROM note ORDER BY id").fetchall()
    assert found == [(1, "a", 2, "it", 1.5, 7), (2, "a", 2, None, 1.5, 7)]


def test_kinds_of_statements_stay_few_and_follow_what_is_usual(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inserts, "WORTH", 1)
    names = tuple(f"c{number}" for number in range(6))
    connection.execute(f"CREATE TABLE wide (id INTEGER PRIMARY KEY, {', '.join(names)})")
    columns = ("id", *names)
    form = Inserts("wide", columns, order=columns, alone=frozenset({"id"}))
    written = 0

    def of_kind(*alike: int) -> None:
        nonlocal written
        rows = [
            (one, *[0 if place in alike else one for place in range(1, 7)])
            for one in range(written, written + FEW_ROWS)
        ]
        form.insert(connection, list(zip(*rows, strict=True)))
        written += FEW_ROWS
        stored = connection.execute("SELECT * FROM wide WHERE id >= ?", (rows[0][0],)).fetchall()
        assert stored == rows

    kept = [(1, 2), (2, 3), (3, 4), (4, 5)]
    assert len(kept) == KINDS_MAX
    for kind in kept:
        of_kind(*kind)
    of_kind(1, 2)
    for _ in range(UNKNOWN_MAX - 1):
        of_kind(5, 6)
        assert len(form._kinds) == KINDS_MAX
        assert (5, 6) not in form._kinds
    of_kind(5, 6)
    assert list(form._kinds) == [(3, 4), (4, 5), (1, 2), (5, 6)], "used longest ago, gone first"
    assert not [shared for shared, _ in form._statements if shared == (2, 3)]
    of_kind(1, 2, 3, 4)
    assert list(form._kinds)[-1] in {(1, 2), (3, 4)}, "the most that is known"
