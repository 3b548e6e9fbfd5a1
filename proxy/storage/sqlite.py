"""Opening the database file: one writer, read-only readers, forward migrations.

Rules: exactly one connection of one process may ever write or checkpoint a database (before
3.51.3 SQLite can corrupt a WAL file that two connections write or checkpoint at once, and stock
Debian ships 3.40); whoever opens the writer holds the data directory's lock. Everyone else opens
`query_only`. Migrations are numbered files that never change once released: the file remembers
their checksums. This module must not know what the tables mean.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import NamedTuple

BUSY_SECONDS_MAX = 5.0
STATEMENTS_CACHED_MAX = 256
WAL_PAGES_MAX = 4_000
"""Backstop of the writer's own checkpoints (storage/writer.py), in pages of 4 KiB."""
WAL_BYTES_KEPT_MAX = 16 * 1024 * 1024


_NULLS: dict[None, None] = {}
# The module asks every value that is not exactly a str, int or float how to be stored. None has no
# answer of its own and is asked in every way there is: 3,200 instructions each instead of 900.
sqlite3.register_adapter(type(None), _NULLS.get)

_VERSION_TABLE = (
    "CREATE TABLE IF NOT EXISTS schema_version (number INTEGER PRIMARY KEY, "
    "name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at REAL NOT NULL) STRICT;"
)


class Durability(StrEnum):
    """What a commit survives: the death of every process, or also of the machine's power."""

    PROCESS = "process"
    POWER = "power"


class StorageError(Exception):
    """The database cannot be opened or changed: `message` says why, `remedy` what to do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


class SchemaError(StorageError):
    """The file is not ours, was made by a newer release, or a migration failed or was edited."""


class Migration(NamedTuple):
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def open_writer(path: Path, durability: Durability, now: float) -> sqlite3.Connection:
    """Open (or create) the database for its one writer and bring its schema up to date.

    For a file that may hold an operator's books use `storage/opening.py`, which tries a migration
    on a copy first. Transactions are explicit. Raises SchemaError, sqlite3.Error.
    """
    connection = connect_writer(path, durability)
    try:
        migrate(connection, now)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_writer(path: Path, durability: Durability) -> sqlite3.Connection:
    """Open (or create) the database for its one writer, whatever schema it has.

    Raises SchemaError, sqlite3.Error.
    """
    connection = sqlite3.connect(
        path,
        timeout=BUSY_SECONDS_MAX,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_CACHED_MAX,
    )
    try:
        _set_up_writer(connection, durability)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the database to read only: never writes, never checkpoints, never creates it."""
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro",  # so that closing it never checkpoints
        uri=True,
        timeout=BUSY_SECONDS_MAX,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def migrate(
    connection: sqlite3.Connection, now: float, migrations: tuple[Migration, ...] | None = None
) -> int:
    """Apply what is missing, all of it in one transaction; returns the version.

    Raises SchemaError if the file knows a migration we do not, or another text of one we do;
    sqlite3.Error, with nothing changed, if one fails.
    """
    missing = pending(connection, migrations)
    if missing:
        _apply(connection, missing, now)
    return schema_version(connection)


def pending(
    connection: sqlite3.Connection, migrations: tuple[Migration, ...] | None = None
) -> tuple[Migration, ...]:
    """The migrations the file has not seen, in order; writes nothing. Raises SchemaError."""
    known = tuple(packaged_migrations()) if migrations is None else migrations
    applied = _applied(connection)
    newest = max((migration.number for migration in known), default=0)
    if max(applied, default=0) > newest:
        raise SchemaError(
            f"the database has schema {max(applied)}, this release knows {newest}: "
            "it was written by a newer release",
            f"start that one, or restore a backup of schema {newest}",
        )
    for migration in known:
        if applied.get(migration.number, migration.checksum) != migration.checksum:
            raise SchemaError(
                f"migration {migration.name} differs from the one applied",
                "install the release again, its files were edited",
            )
    return tuple(migration for migration in known if migration.number not in applied)


def schema_version(connection: sqlite3.Connection) -> int:
    """The newest migration the file has seen; 0 for a file without any."""
    return max(_applied(connection), default=0)


def packaged_migrations() -> Iterator[Migration]:
    """Yield the migrations of this release in order."""
    folder = resources.files("proxy.storage") / "schema"
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            yield Migration(int(entry.name.split("_")[0]), entry.name, entry.read_text("utf-8"))


def _set_up_writer(connection: sqlite3.Connection, durability: Durability) -> None:
    row = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if row is None or row[0] != "wal":
        raise SchemaError("the file system cannot hold a WAL database (no shared memory?)")
    # NORMAL: a commit is in the page cache, safe against kill -9; the writer's second thread
    # bounds what a power cut costs. FULL: every commit waits for the disk.
    level = "FULL" if durability is Durability.POWER else "NORMAL"
    connection.execute(f"PRAGMA synchronous = {level}")
    # The writer checkpoints after it has answered its waiters; SQLite's own, inside a commit,
    # is only the backstop.
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT_MAX}")
    connection.execute("PRAGMA temp_store = MEMORY")  # no temporary file can fail a batch
    connection.execute("PRAGMA foreign_keys = ON")
    # Without it `INSERT OR REPLACE` would delete past the append-only triggers.
    connection.execute("PRAGMA recursive_triggers = ON")


def _applied(connection: sqlite3.Connection) -> dict[int, str]:
    """Checksums by number; empty for a new file. Raises SchemaError for one of somebody else's."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if "schema_version" not in tables:
        if tables:
            raise SchemaError(
                "the file is a database, but not one of Sluice's",
                "check the path; nothing was changed",
            )
        return {}
    rows = connection.execute("SELECT number, checksum FROM schema_version")
    return {int(number): str(checksum) for number, checksum in rows}


def _apply(connection: sqlite3.Connection, missing: tuple[Migration, ...], now: float) -> None:
    steps = [_VERSION_TABLE]
    for migration in missing:
        row = f"{migration.number}, '{migration.name}', '{migration.checksum}', {now!r}"
        record = f"INSERT INTO schema_version VALUES ({row});"  # noqa: S608 - our own file names
        steps.append(f"{migration.sql}\n;{record}")
    try:
        connection.executescript("BEGIN IMMEDIATE;\n" + "\n".join(steps) + "\nCOMMIT;")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
