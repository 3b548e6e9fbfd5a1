import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.storage import opening, space
from proxy.storage import sqlite as schema
from proxy.storage.checkpoints import CheckpointMark, wal_state
from proxy.storage.opening import open_ledger
from proxy.storage.sqlite import (
    Durability,
    Migration,
    SchemaError,
    StorageError,
    packaged_migrations,
)
from proxy.storage.verify import verify
from tests.storage.world import USD, closing, keeper, read
from tests.storage.world import opening as call

NOW = max(migration.number for migration in packaged_migrations())
NEXT = NOW + 1
GOOD = Migration(NEXT, f"{NEXT:04}_good.sql", "CREATE TABLE extra (id INTEGER) STRICT;")
BROKEN = Migration(NEXT, f"{NEXT:04}_broken.sql", "CREATE TABLE extra (x); CREATE TABLE call (x);")
THIEF = Migration(
    NEXT, f"{NEXT:04}_thief.sql", "UPDATE account SET balance = balance + 1 WHERE id = 9;"
)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger of today's schema with one charged call."""
    path = tmp_path / "sluice.db"

    async def main() -> None:
        books = await keeper(path)
        await books.admit(call(1))
        books.settle(closing(1))
        await books.close()

    asyncio.run(main())
    return path


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Callable[[Migration], None]:
    """Make this release one that brings a further migration."""
    known = tuple(packaged_migrations())

    def bring(migration: Migration) -> None:
        monkeypatch.setattr(schema, "packaged_migrations", lambda: iter((*known, migration)))

    return bring


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_migration_is_tried_on_a_copy_and_the_old_file_is_kept(
    ledger: Path, release: Callable[[Migration], None]
) -> None:
    before = read(ledger, "SELECT * FROM transfer")
    release(GOOD)
    told: list[str] = []
    open_ledger(ledger, Durability.PROCESS, 2.0, told.append).close()
    kept = ledger.with_name(f"sluice.db.schema-{NOW}")
    assert told == [
        f"schema {NOW} is brought up to date ({GOOD.name}); the old one is kept in {kept}"
    ]
    assert {file.name for file in ledger.parent.iterdir()} == {"sluice.db", kept.name}
    assert kept.stat().st_mode & 0o777 == 0o600
    assert read(kept, "SELECT max(number) FROM schema_version") == [(NOW,)]
    assert read(ledger, "SELECT max(number) FROM schema_version") == [(NEXT,)]
    assert read(kept, "SELECT * FROM transfer") == read(ledger, "SELECT * FROM transfer") == before
    open_ledger(ledger, Durability.PROCESS, 3.0, told.append).close()
    assert len(told) == 1


@pytest.mark.parametrize(
    ("migration", "reason"),
    [
        (BROKEN, "failed on a copy: table call already exists"),
        (THIEF, "do not add up: I1: account 9 stores 999950001, its postings sum to 999950000"),
    ],
    ids=["fails", "spoils the books"],
)
def test_a_migration_that_fails_on_the_copy_changes_nothing(
    ledger: Path, release: Callable[[Migration], None], migration: Migration, reason: str
) -> None:
    before = contents(ledger.parent)
    release(migration)
    with pytest.raises(SchemaError) as caught:
        open_ledger(ledger, Durability.PROCESS, 2.0)
    assert reason in str(caught.value)
    assert "start the previous release" in str(caught.value)
    assert "nothing was changed" in str(caught.value)
    assert contents(ledger.parent) == before


def test_a_migration_without_room_for_its_copies_is_not_begun(
    ledger: Path, release: Callable[[Migration], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(ledger.parent)
    release(GOOD)
    monkeypatch.setattr(space, "free_bytes", lambda _path: 1_000_000)
    with pytest.raises(StorageError, match=r"the migration .* needs .* MB of free space .* 1.0 MB"):
        open_ledger(ledger, Durability.PROCESS, 2.0)
    assert contents(ledger.parent) == before


def test_a_newer_schema_and_foreign_files_are_refused_and_left_alone(
    ledger: Path, release: Callable[[Migration], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    release(GOOD)
    open_ledger(ledger, Durability.PROCESS, 2.0).close()
    monkeypatch.undo()
    before = ledger.read_bytes()
    with pytest.raises(SchemaError, match=f"has schema {NEXT}, this release knows {NOW}: .*newer"):
        open_ledger(ledger, Durability.PROCESS, 3.0)
    foreign = ledger.parent / "foreign" / "sluice.db"
    foreign.parent.mkdir()
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE songs (name TEXT)")
    connection.close()
    was = foreign.read_bytes()
    with pytest.raises(SchemaError, match="not one of Sluice's"):
        open_ledger(foreign, Durability.PROCESS, 3.0)
    assert foreign.read_bytes() == was
    foreign.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(StorageError, match="not a database; restore a backup"):
        open_ledger(foreign, Durability.PROCESS, 3.0)
    assert ledger.read_bytes() == before


def test_a_new_file_is_made_without_a_rehearsal(tmp_path: Path) -> None:
    told: list[str] = []
    open_ledger(tmp_path / "sluice.db", Durability.PROCESS, 1.0, told.append).close()
    assert told == []
    assert {file.name for file in tmp_path.iterdir()} == {"sluice.db"}
    (tmp_path / "empty.db").touch()
    open_ledger(tmp_path / "empty.db", Durability.PROCESS, 1.0).close()


def test_a_database_that_must_have_been_there_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"
    Path(f"{path}-wal").write_bytes(b"x")
    with pytest.raises(
        StorageError, match="is missing although its WAL is there; put the file back"
    ):
        open_ledger(path, Durability.PROCESS, 1.0)
    Path(f"{path}.restoring").write_bytes(b"x")
    with pytest.raises(StorageError, match="interrupted; run `sluice restore"):
        open_ledger(path, Durability.PROCESS, 1.0)
    assert not path.exists()


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("database or disk is full", "free space at"),
        ("attempt to write a readonly database", "writable for this user"),
        ("unable to open database file", "writable for this user"),
        ("database disk image is malformed", "sluice restore FILE"),
        ("database is locked", "stop whatever else"),
        ("disk I/O error", "sluice doctor"),
    ],
)
def test_every_error_of_the_file_has_a_remedy(error: str, remedy: str) -> None:
    message = str(opening.explained(Path("d/sluice.db"), sqlite3.OperationalError(error)))
    assert error in message
    assert remedy in message


def test_any_failure_on_a_full_disk_is_for_lack_of_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    monkeypatch.setattr(space, "free_bytes", lambda _path: 4096)
    assert "free space at" in opening.remedy_for(error, tmp_path)

    def gone(_path: Path) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(space, "free_bytes", gone)
    assert "sluice doctor" in opening.remedy_for(error, tmp_path)


CUTS = ("missing", "empty", "header", "one page", "half", "one byte")


@pytest.mark.parametrize("cut", CUTS)
def test_a_wal_that_was_cut_is_never_believed_unread(tmp_path: Path, cut: str) -> None:
    """A keeper dies with a checkpoint half done; then its WAL is cut.

    The database alone is then no state that ever was. A start must refuse it, or find after
    reading all of it that the books add up.
    """
    live, path = tmp_path / "live" / "sluice.db", tmp_path / "sluice.db"
    live.parent.mkdir()
    _crash_in_a_checkpoint(live, path)
    wal = Path(f"{path}-wal")
    whole = wal.read_bytes()
    if cut == "missing":
        wal.unlink()
    else:
        state = wal_state(wal)
        assert state is not None
        pages = {"empty": 0, "header": 0, "one page": 1, "half": state.frames // 2}
        sizes = {name: 32 + 4120 * count for name, count in pages.items()}
        sizes |= {"empty": 0, "one byte": 32 + 4120 * state.frames - 1}
        wal.write_bytes(whole[: sizes[cut]])
    told: list[str] = []
    refused = ""
    try:
        open_ledger(path, Durability.PROCESS, 2.0, told.append).close()
    except StorageError as error:
        refused = error.remedy
    if refused:
        assert refused.startswith("restore a backup")
        return
    assert "the books add up" in told[0]
    assert verify(path).problems == ()
    told.clear()
    open_ledger(path, Durability.PROCESS, 3.0, told.append).close()
    assert told == [], "said once"


def test_a_wal_that_is_whole_is_believed_after_the_same_crash(tmp_path: Path) -> None:
    live, path = tmp_path / "live" / "sluice.db", tmp_path / "sluice.db"
    live.parent.mkdir()
    _crash_in_a_checkpoint(live, path)
    told: list[str] = []
    open_ledger(path, Durability.PROCESS, 2.0, told.append).close()
    assert told == []
    assert verify(path).problems == ()


def _crash_in_a_checkpoint(live: Path, path: Path) -> None:
    """Copy a running ledger to `path` as it would be found: half of its pages checkpointed."""

    async def main() -> None:
        books = await keeper(live, credit=100 * USD)
        for number in range(1, 201):
            await books.admit(call(number))
            await books.settle(closing(number)).committed
        CheckpointMark(live).write()
        for suffix in ("", "-wal", "-mark"):
            shutil.copyfile(f"{live}{suffix}", f"{path}{suffix}")
        await books.close()

    asyncio.run(main())
    whole = live.read_bytes()
    with path.open("r+b") as file:  # every second page as the checkpoint would have written it
        size = path.stat().st_size
        file.truncate(max(size, len(whole)))
        for page in range(0, len(whole) // 4096, 2):
            file.seek(page * 4096)
            file.write(whole[page * 4096 : page * 4096 + 4096])
