"""Copies of the database: one that is consistent while the keeper writes, and one put in its place.

Rules: a copy is one snapshot, taken through SQLite on a reading connection, so that it may run
beside the keeper and never holds up a commit (only the WAL's reuse, for as long as it takes). It
gets its name when it is whole and on the disk, never before. A restored file is checked page by
page, brought to today's schema and verified before anything is moved; what it replaces is kept. The
secrets are not in the database, so neither in a copy. This module must not know the tables.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from proxy.storage import redo, space
from proxy.storage.sqlite import (
    Durability,
    SchemaError,
    StorageError,
    migrate,
    open_reader,
    open_writer,
    pending,
    schema_version,
)
from proxy.storage.verify import Report, verify

PAGES_PER_STEP = 512
"""2 MB at a time: what a bar moves by, and how long the interpreter is not asked."""
SLACK_BYTES = 16 << 20
"""Asked for on top of what a copy needs: WAL, new pages of a migration."""
DAMAGE_LINES_MAX = 5
DATABASE_SUFFIXES = ("", "-wal", "-shm", "-mark", *redo.SUFFIXES)
"""The files of one database, itself first; they belong together and move together."""
RESTORING = ".restoring"
"""Suffix of a verified file on its way into place: while it is there nothing makes a new one."""

Progress = Callable[[int, int], object]
"""Told how many pages of how many are copied."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished copy."""

    path: Path
    bytes: int
    schema: int
    report: Report


@dataclass(frozen=True, slots=True)
class Restored:
    """A restore that happened. `replaced`: where the former database is now, None without one."""

    schema_before: int
    schema: int
    replaced: Path | None
    report: Report


def back_up(database: Path, target: Path, progress: Progress = lambda _done, _of: None) -> Backup:
    """Copy the database to `target`, a file of its own; refuses one that exists.

    The copy is verified like the ledger itself; a report that is not clean is the caller's to
    tell. Raises StorageError, sqlite3.Error, OSError.
    """
    if target.exists():
        raise StorageError(f"{target} exists already", "name a new file")
    if not target.parent.is_dir():
        raise StorageError(f"{target.parent} is no directory", "make it first")
    space.require(target, database_bytes(database) + SLACK_BYTES, "the backup")
    partial = target.with_name(target.name + ".partial")
    try:
        copy_database(database, partial, progress)
        found = _inspect(partial)
        report = verify(partial)
        _publish(partial, target)
    finally:
        remove_database(partial)
    return Backup(target, target.stat().st_size, found, report)


def restore(
    source: Path,
    database: Path,
    now: float,
    progress: Progress = lambda _done, _of: None,
) -> Restored:
    """Put the copy `source` in the place of `database`; the caller holds the directory's lock.

    The source is only read. What was there is moved to `DATABASE.replaced-TIME`, with its WAL.
    Raises StorageError (nothing was changed then), sqlite3.Error, OSError.
    """
    if not source.is_file():
        raise StorageError(f"there is no file {source}", "check the path")
    needed = 2 * database_bytes(source) + SLACK_BYTES
    space.require(database, needed, "the restore")
    fresh = database.with_name(database.name + RESTORING)
    partial = fresh.with_name(fresh.name + ".partial")
    remove_database(partial)
    try:
        copy_database(source, partial, progress)
        before = _inspect(partial)
        open_writer(partial, Durability.POWER, now).close()
        report = verify(partial)
        if not report.clean:
            raise StorageError(
                f"the books of {source} do not add up: {report.problems[0]}",
                "restore another backup; nothing was changed",
            )
        after = _inspect(partial)
        _publish(partial, fresh)
    except sqlite3.Error as error:
        raise StorageError(
            f"{source} cannot be restored: {error}", "restore another backup; nothing was changed"
        ) from None
    finally:
        remove_database(partial)
    replaced = _move_aside(database, now)
    _publish(fresh, database)
    return Restored(before, after, replaced, report)


def copy_database(source: Path, target: Path, progress: Progress = lambda _done, _of: None) -> None:
    """Copy one snapshot of `source` to the new file `target`, synced. Raises sqlite3.Error."""
    # Made before SQLite opens it: prices and balances are nobody else's business.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    reading = open_reader(source)
    try:
        # The transaction makes the steps one snapshot; without it each commit starts them anew.
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        writing = sqlite3.connect(target, isolation_level=None)
        try:
            reading.backup(
                writing,
                pages=PAGES_PER_STEP,
                progress=lambda _status, left, total: progress(total - left, total),
                sleep=0,
            )
            # One file, without a WAL beside it that could be forgotten.
            writing.execute("PRAGMA journal_mode = DELETE")
        finally:
            writing.close()
    finally:
        reading.close()
    _sync(target)


def database_bytes(database: Path) -> int:
    """What the database takes on the disk, its WAL included. Raises OSError."""
    wal = Path(f"{database}-wal")
    return database.stat().st_size + (wal.stat().st_size if wal.exists() else 0)


def remove_database(path: Path) -> None:
    """Remove a database file of ours, with what SQLite puts beside it; absent is fine."""
    for suffix in (*DATABASE_SUFFIXES, "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def check_in_place(database: Path) -> None:
    """Raise StorageError if the database is missing although it must have been there.

    A start that made a new one would show every user an empty wallet.
    """
    if database.exists():
        return
    fresh = database.with_name(database.name + RESTORING)
    if fresh.exists():
        raise StorageError(
            f"a restore into {database.parent} was interrupted",
            f"run `sluice restore {fresh} --data {database.parent}` to end it",
        )
    wal = Path(f"{database}-wal")
    if wal.exists() and wal.stat().st_size:  # a reader leaves an empty one
        raise StorageError(
            f"{database} is missing although its WAL is there",
            "put the file back, or restore a backup with `sluice restore`",
        )


def damage(connection: sqlite3.Connection) -> list[str]:
    """What SQLite's full integrity check says, empty for a sound file; bounded."""
    rows = connection.execute(f"PRAGMA integrity_check({DAMAGE_LINES_MAX})")
    return [str(line) for (line,) in rows if line != "ok"]


def _inspect(path: Path) -> int:
    """The schema version of a sound file of ours. Raises StorageError, SchemaError."""
    connection = open_reader(path)
    try:
        lines = damage(connection)
        if lines:
            raise StorageError(
                f"the file is damaged: {lines[0]}", "take another backup; nothing was changed"
            )
        pending(connection)
        version = schema_version(connection)
    finally:
        connection.close()
    if version == 0:
        raise SchemaError("the file holds no ledger", "check the path; nothing was changed")
    return version


def _move_aside(database: Path, now: float) -> Path | None:
    if not database.exists():
        return None
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = database.with_name(f"{database.name}.replaced-{moment}")
    number = 1
    while kept.exists():
        number += 1
        kept = database.with_name(f"{database.name}.replaced-{moment}-{number}")
    # The database first: a start that finds only its WAL refuses, the other way round it would
    # take an older state for the truth.
    for suffix in DATABASE_SUFFIXES:
        path = Path(f"{database}{suffix}")
        if path.exists():
            path.rename(f"{kept}{suffix}")
    _sync(database.parent)
    return kept


def _publish(partial: Path, target: Path) -> None:
    _sync(partial)
    partial.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def trial_of(kept: Path, trial: Path, now: float) -> Report:
    """Bring a copy of `kept` to today's schema and verify it; the copy is removed again.

    Raises SchemaError, sqlite3.Error, OSError.
    """
    remove_database(trial)
    try:
        shutil.copyfile(kept, trial)
        trial.chmod(0o600)
        connection = sqlite3.connect(trial, isolation_level=None)
        try:
            connection.execute("PRAGMA recursive_triggers = ON")
            migrate(connection, now)
        finally:
            connection.close()
        return verify(trial)
    finally:
        remove_database(trial)
