import sqlite3
from pathlib import Path

import pytest

from proxy.storage.sqlite import (
    Durability,
    Migration,
    SchemaError,
    connect_writer,
    migrate,
    open_reader,
    open_writer,
    packaged_migrations,
)

ONE = Migration(1, "0001_one.sql", "CREATE TABLE one (id INTEGER PRIMARY KEY) STRICT;")
TWO = Migration(2, "0002_two.sql", "CREATE TABLE two (id INTEGER PRIMARY KEY) STRICT;")
BROKEN = Migration(2, "0002_two.sql", "CREATE TABLE two (id INTEGER); CREATE TABLE one (x);")


def tables(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    return {name for (name,) in rows}


def test_packaged_migrations_have_one_number_each_in_order() -> None:
    numbers = [migration.number for migration in packaged_migrations()]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 1


def test_a_new_file_gets_the_schema_and_a_known_one_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    for _ in range(2):
        connection = open_writer(path, Durability.PROCESS, 5.0)
        applied = connection.execute("SELECT number, applied_at FROM schema_version").fetchall()
        assert applied == [(migration.number, 5.0) for migration in packaged_migrations()]
        assert {"account", "transfer", "call", "open_call", "attempt"} <= tables(connection)
        connection.close()


def test_migrations_go_forward_one_by_one() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    assert migrate(connection, 1.0, (ONE,)) == 1
    assert migrate(connection, 2.0, (ONE, TWO)) == 2
    assert tables(connection) >= {"one", "two"}
    with pytest.raises(SchemaError, match="newer release"):
        migrate(connection, 3.0, (ONE,))
    with pytest.raises(SchemaError, match="differs"):
        migrate(connection, 3.0, (ONE._replace(sql="SELECT 1;"), TWO))
    connection.close()


def test_a_migration_that_fails_leaves_the_schema_it_found() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, 1.0, (ONE,))
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(connection, 2.0, (ONE, BROKEN))
    assert not connection.in_transaction
    assert "two" not in tables(connection)
    assert migrate(connection, 3.0, (ONE, TWO)) == 2
    connection.close()


@pytest.mark.parametrize(("durability", "level"), [("process", 1), ("power", 2)])
def test_the_writer_is_set_up_as_documented(tmp_path: Path, durability: str, level: int) -> None:
    connection = open_writer(tmp_path / "a.db", Durability(durability), 1.0)

    def pragma(name: str) -> object:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == level
    assert pragma("foreign_keys") == 1
    assert pragma("recursive_triggers") == 1
    connection.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        open_writer(path, Durability.PROCESS, 1.0)


def test_a_database_in_memory_cannot_be_a_ledger() -> None:
    with pytest.raises(SchemaError, match="WAL"):
        open_writer(Path(":memory:"), Durability.PROCESS, 1.0)


def test_a_reader_neither_writes_nor_checkpoints(tmp_path: Path) -> None:
    path, wal = tmp_path / "a.db", tmp_path / "a.db-wal"
    writer = open_writer(path, Durability.PROCESS, 1.0)
    writer.execute("INSERT INTO account (id, balance) VALUES (9, 5)")
    reader = open_reader(path)
    assert reader.execute("SELECT balance FROM account WHERE id = 9").fetchone() == (5,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("UPDATE account SET balance = 6 WHERE id = 9")
    size = wal.stat().st_size
    reader.close()
    assert wal.stat().st_size == size > 0
    writer.close()
    with pytest.raises(sqlite3.OperationalError):
        open_reader(tmp_path / "absent.db").execute("SELECT 1 FROM account")
    assert not (tmp_path / "absent.db").exists()


@pytest.fixture
def ledger(tmp_path: Path) -> sqlite3.Connection:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, 1.0)
    connection.execute("INSERT INTO account (id) VALUES (9)")
    connection.execute("INSERT INTO transfer VALUES (1, 0, 'charge', 9, 2, 5, 1.0, NULL)")
    return connection


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE transfer SET amount = 6",
        "DELETE FROM transfer",
        "INSERT OR REPLACE INTO transfer VALUES (1, 0, 'charge', 9, 2, 6, 1.0, NULL)",
        "INSERT INTO transfer VALUES (1, 0, 'charge', 9, 2, 5, 1.0, NULL)",
        "INSERT INTO transfer VALUES (1, 1, 'charge', 9, 2, 5, 1.0, NULL)",
        "INSERT INTO transfer VALUES (2, 0, 'charge', 9, 2, 0, 1.0, NULL)",
        "INSERT INTO transfer VALUES (2, 0, 'charge', 9, 2, -1, 1.0, NULL)",
        "INSERT INTO transfer VALUES (2, 0, 'charge', 9, 9, 1, 1.0, NULL)",
        "INSERT INTO transfer VALUES (2, 0, 'gift', 9, 2, 1, 1.0, NULL)",
        "INSERT INTO transfer VALUES (2, 0, 'charge', 9, 2, 1.5, 1.0, NULL)",
        "INSERT INTO transfer VALUES (2, 0, 'refund', 2, 9, 1, 1.0, NULL)",
        "UPDATE account SET balance = -1 WHERE id = 9",
        "INSERT INTO key_spend VALUES (1, 'total', 0, -1)",
    ],
)
def test_the_schema_itself_keeps_the_ledgers_rules(
    ledger: sqlite3.Connection, statement: str
) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        ledger.execute(statement)
    assert ledger.execute("SELECT amount FROM transfer").fetchall() == [(5,)]
    ledger.close()


def test_every_transfer_reads_as_two_postings(ledger: sqlite3.Connection) -> None:
    rows = ledger.execute("SELECT account_id, amount FROM posting ORDER BY amount").fetchall()
    assert rows == [(9, -5), (2, 5)]
    ledger.close()


def test_transfers_of_an_older_file_come_along(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path, isolation_level=None)
    first = tuple(packaged_migrations())[:1]
    migrate(connection, 1.0, first)
    rows = [(1, 0, "top_up", 7, 9, 5, 1.0, None), (2, 0, "refund", 2, 9, 1, 1.0, 1)]
    connection.executemany("INSERT INTO transfer VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    connection.close()
    connection = open_writer(path, Durability.PROCESS, 2.0)
    assert connection.execute("SELECT * FROM transfer").fetchall() == rows
    assert connection.execute("SELECT sum(amount) FROM posting").fetchone() == (0,)
    for kind in ("gift", "", "Charge"):
        with pytest.raises(sqlite3.IntegrityError, match="kind"):
            connection.execute("INSERT INTO transfer VALUES (3, 1, ?, 2, 9, 1, 1.0, NULL)", (kind,))
    for change in ("UPDATE transfer SET amount = 2", "DELETE FROM transfer"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(change)
    connection.close()


def test_the_kinds_of_transfers_grow_without_touching_one(tmp_path: Path) -> None:
    """0015 writes the rule of a table anew; its rows, key, triggers and readers stay."""
    path = tmp_path / "a.db"
    known = tuple(each for each in packaged_migrations() if each.number < 15)
    connection = connect_writer(path, Durability.PROCESS)
    migrate(connection, 1.0, known)
    rows = [(number, 0, "charge", 9, 2, number, 1.0, None) for number in range(1, 2_000)]
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO transfer VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    connection.execute("COMMIT")
    reader = open_reader(path)
    insert = "INSERT INTO transfer VALUES (9999, {}, '{}', 9, 2, 5, 1.0, NULL)"
    with pytest.raises(sqlite3.IntegrityError, match="kind"):
        connection.execute(insert.format(0, "fee"))
    migrate(connection, 2.0)
    for line, kind in enumerate(("fee", "adjustment")):
        connection.execute(insert.format(line + 1, kind))
    for kind in ("fees", "", "refund", "gift"):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(insert.format(7, kind))
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(insert.format(7, "charge"))
    for statement in ("UPDATE transfer SET amount = 1", "DELETE FROM transfer"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    assert connection.execute("SELECT * FROM transfer WHERE event_id < 2000").fetchall() == rows
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert reader.execute("SELECT count(*) FROM transfer").fetchone() == (2_001,)
    assert connection.execute("PRAGMA writable_schema").fetchone() == (0,)
    reader.close()
    connection.close()
    again = sqlite3.connect(path, isolation_level=None)
    assert again.execute("SELECT count(*) FROM posting").fetchone() == (4_002,)
    again.close()
