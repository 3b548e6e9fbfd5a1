"""Opens a ledger that may hold an operator's books: looks before it writes.

Rules: a schema is changed in place only after the same change of a copy has been verified, and a
copy of the old one is kept; whatever goes wrong before that leaves the file as it was. A WAL that
lost what a checkpoint had begun to copy is noticed, and the books are then read whole before they
are believed. The caller holds the data directory's lock. This module must not know the tables.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.storage import space
from proxy.storage.backup import (
    SLACK_BYTES,
    check_in_place,
    copy_database,
    database_bytes,
    remove_database,
    trial_of,
)
from proxy.storage.checkpoints import CheckpointMark
from proxy.storage.sqlite import (
    Durability,
    Migration,
    SchemaError,
    StorageError,
    connect_writer,
    migrate,
    open_reader,
    pending,
    schema_version,
)
from proxy.storage.verify import verify

FULL_BYTES = 1 << 20
"""With less than this free, whatever failed failed for lack of space."""
COPIES = 3
"""How often the database must fit beside itself: the kept copy, the trial, what that grows by."""


def open_ledger(
    path: Path,
    durability: Durability,
    now: float,
    told: Callable[[str], object] = lambda _sentence: None,
) -> sqlite3.Connection:
    """Open (or create) the database for its one writer, at today's schema.

    `told` hears what an operator should know: a migration, a WAL that was cut. Raises
    StorageError with its remedy; the file is then as it was.
    """
    check_in_place(path)
    mark = CheckpointMark(path)
    try:
        lost = mark.lost()
        if path.exists() and path.stat().st_size:
            _look(path)
        connection = connect_writer(path, durability)
        try:
            missing = pending(connection)
            if lost is not None and not missing:
                _read_whole(path, lost, told)
                mark.clear()
            if missing and schema_version(connection):
                _rehearse(path, connection, missing, now, told)
            migrate(connection, now)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise explained(path, error) from None
    except OSError as error:
        raise StorageError(
            f"{path} cannot be opened: {error.strerror}", f"check the owner of {path.parent}"
        ) from None
    return connection


@contextmanager
def guarded(path: Path, connection: sqlite3.Connection) -> Iterator[None]:
    """Close `connection` if what is inside fails; an error of SQLite becomes a StorageError."""
    try:
        yield
    except sqlite3.Error as error:
        connection.close()
        raise explained(path, error) from None
    except BaseException:
        connection.close()
        raise


def explained(path: Path, error: sqlite3.Error) -> StorageError:
    """What an error of SQLite means to an operator, and what to do about it."""
    return StorageError(f"{path} cannot be used: {error}", remedy_for(error, path.parent))


def remedy_for(error: BaseException, folder: Path) -> str:
    """What to do about a database in `folder` that could not be read or written."""
    text = str(error)
    try:
        full = space.free_bytes(folder) < FULL_BYTES
    except OSError:
        full = False
    if full or "full" in text or "No space" in text:
        remedy = f"free space at {folder}, then start again"
    elif "readonly" in text or "Read-only" in text or "unable to open" in text:
        remedy = f"make {folder} writable for this user, and its file system"
    elif "malformed" in text or "not a database" in text:
        remedy = f"restore a backup with `sluice restore FILE --data {folder}`"
    elif "locked" in text:
        remedy = "stop whatever else has the file open (fuser names it)"
    else:
        remedy = "see `sluice doctor`, and the kernel's log (dmesg)"
    return remedy


def _look(path: Path) -> None:
    """Refuse what is not ours or too new before a byte of it is changed."""
    connection = open_reader(path)
    try:
        pending(connection)
    finally:
        connection.close()


def _rehearse(
    path: Path,
    connection: sqlite3.Connection,
    missing: tuple[Migration, ...],
    now: float,
    told: Callable[[str], object],
) -> None:
    """Keep a copy of the old schema and try the migrations on another. Raises SchemaError."""
    version = schema_version(connection)
    names = ", ".join(migration.name for migration in missing)
    kept = path.with_name(f"{path.name}.schema-{version}")
    partial = path.with_name(f"{kept.name}.partial")
    space.require(path, COPIES * database_bytes(path) + SLACK_BYTES, f"the migration ({names})")
    try:
        copy_database(path, partial)
        report = trial_of(partial, path.with_name(f"{path.name}.trial"), now)
        if not report.clean:
            raise SchemaError(
                f"after the migration ({names}) the books of a copy do not add up: "
                f"{report.problems[0]}",
                "start the previous release and run `sluice ledger verify` there; "
                "nothing was changed",
            )
        partial.rename(kept)
    except (sqlite3.Error, OSError) as error:
        raise SchemaError(
            f"the migration ({names}) failed on a copy: {error}",
            "start the previous release; nothing was changed",
        ) from None
    finally:
        remove_database(partial)
    told(f"schema {version} is brought up to date ({names}); the old one is kept in {kept}")


def _read_whole(path: Path, lost: str, told: Callable[[str], object]) -> None:
    """Verify the books although that takes a while. Raises StorageError."""
    report = verify(path)
    if not report.clean:
        raise StorageError(
            f"{lost}, and the books do not add up: {report.problems[0]}",
            f"restore a backup with `sluice restore FILE --data {path.parent}`",
        )
    told(f"{lost}; the books add up, but the latest calls before the crash may be missing")
