import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from proxy.storage import backup as module
from proxy.storage import space
from proxy.storage.backup import back_up, check_in_place, copy_database, restore
from proxy.storage.sqlite import Durability, StorageError, open_writer, packaged_migrations
from proxy.storage.verify import verify
from tests.storage.test_verify import spoil
from tests.storage.world import NOW, USD, closing, keeper, opening, read


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "sluice.db"
    path.parent.mkdir()

    async def main() -> None:
        books = await keeper(path)
        await books.admit(opening(1))
        books.settle(closing(1))
        await books.close()

    asyncio.run(main())
    return path


def test_a_backup_beside_a_busy_keeper_is_one_moment(tmp_path: Path) -> None:
    """Commits go on between the steps of the copy, and it still is one state that adds up."""
    path, copy = tmp_path / "sluice.db", tmp_path / "copy.db"
    made: list[int] = []

    async def main() -> None:
        books = await keeper(path, credit=1000 * USD)
        for number in range(1, 301):
            await books.admit(opening(number))
            await books.settle(closing(number)).committed
        loop = asyncio.get_running_loop()

        async def one(number: int) -> None:
            await books.admit(opening(number))
            await books.settle(closing(number)).committed
            made.append(number)

        def between(done: int, of: int) -> None:
            assert 0 < done <= of
            asyncio.run_coroutine_threadsafe(one(1000 + done), loop).result(10)

        await asyncio.to_thread(copy_database, path, copy, between)
        await books.close()

    step = module.PAGES_PER_STEP
    module.PAGES_PER_STEP = 4
    try:
        asyncio.run(main())
    finally:
        module.PAGES_PER_STEP = step
    assert len(made) > 5
    assert read(copy, "SELECT count(*), max(id) FROM call") == [(300, 300)]
    assert verify(copy).problems == ()
    assert read(path, "SELECT count(*) FROM call") == [(300 + len(made),)]
    assert verify(path).problems == ()


def test_a_backup_is_one_private_file_that_tells_what_it_is(ledger: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.db"
    told: list[tuple[int, int]] = []
    made = back_up(ledger, target, lambda done, of: told.append((done, of)))
    assert made.path == target
    assert made.bytes == target.stat().st_size > 4096
    assert made.schema == max(migration.number for migration in packaged_migrations())
    assert made.report.clean
    assert told[-1][0] == told[-1][1] > 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert {file.name for file in tmp_path.iterdir()} == {"b.db", "data"}
    assert read(target, "PRAGMA journal_mode") == [("delete",)]
    with pytest.raises(StorageError, match="exists already; name a new file"):
        back_up(ledger, target)
    with pytest.raises(StorageError, match="is no directory; make it first"):
        back_up(ledger, tmp_path / "absent" / "b.db")


def test_books_that_do_not_add_up_are_copied_and_said_so(ledger: Path, tmp_path: Path) -> None:
    spoil(ledger, "UPDATE account SET balance = balance + 1 WHERE id = 9")
    made = back_up(ledger, tmp_path / "b.db")
    assert made.report.problems[0].startswith("I1: account 9")
    with pytest.raises(StorageError, match=r"do not add up: I1.*nothing was changed"):
        restore(tmp_path / "b.db", tmp_path / "fresh.db", NOW)
    assert not (tmp_path / "fresh.db").exists()


def test_a_copy_without_room_is_not_begun(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(ledger, tmp_path / "b.db")
    monkeypatch.setattr(space, "free_bytes", lambda _path: 1000)
    with pytest.raises(StorageError, match="the backup needs"):
        back_up(ledger, tmp_path / "c.db")
    with pytest.raises(StorageError, match="the restore needs"):
        restore(tmp_path / "b.db", ledger, NOW)
    assert {file.name for file in tmp_path.iterdir()} == {"b.db", "data"}


def test_a_restore_keeps_what_it_replaces(ledger: Path, tmp_path: Path) -> None:
    back_up(ledger, tmp_path / "b.db")
    spoil(ledger, "UPDATE account SET balance = balance + 1 WHERE id = 9")
    Path(f"{ledger}-mark").write_bytes(b"old mark")
    Path(f"{ledger}-redo1").write_bytes(b"old log")
    before = ledger.read_bytes()
    done = restore(tmp_path / "b.db", ledger, NOW)
    assert done.replaced == ledger.with_name("sluice.db.replaced-20270115T080000Z")
    assert done.replaced.read_bytes() == before
    assert Path(f"{done.replaced}-mark").read_bytes() == b"old mark"
    assert Path(f"{done.replaced}-redo1").read_bytes() == b"old log", "or it would be replayed"
    assert not Path(f"{ledger}-redo1").exists()
    assert done.report.clean
    assert done.report.calls == 1
    assert not Path(f"{ledger}-mark").exists()
    assert verify(ledger).problems == ()
    again = restore(tmp_path / "b.db", ledger, NOW)
    assert again.replaced is not None
    assert again.replaced.name.endswith("Z-2")


def test_a_restore_of_an_older_schema_brings_it_up_to_date(tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    connection = sqlite3.connect(old, isolation_level=None)
    (first, *_) = packaged_migrations()
    connection.executescript(first.sql)
    connection.execute(
        "CREATE TABLE schema_version (number INTEGER PRIMARY KEY, name TEXT NOT NULL, "
        "checksum TEXT NOT NULL, applied_at REAL NOT NULL) STRICT"
    )
    row = (first.number, first.name, first.checksum, 1.0)
    connection.execute("INSERT INTO schema_version VALUES (?, ?, ?, ?)", row)
    connection.close()
    was = old.read_bytes()
    done = restore(old, tmp_path / "sluice.db", NOW)
    assert (done.schema_before, done.replaced) == (1, None)
    assert done.schema > 1
    assert old.read_bytes() == was
    assert {file.name for file in tmp_path.iterdir()} == {"old.db", "sluice.db"}


def damaged(path: Path) -> None:
    connection = sqlite3.connect(path)
    query = "SELECT rootpage FROM sqlite_schema WHERE name = 'call_by_user'"
    page = connection.execute(query).fetchone()[0]
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096 + 8)
        file.write(b"\xff" * 40)


def test_what_is_no_sound_backup_changes_nothing(ledger: Path, tmp_path: Path) -> None:
    before = ledger.read_bytes()
    bad = tmp_path / "bad.db"
    cases: list[tuple[str, bytes | None]] = [("there is no file", None)]
    back_up(ledger, tmp_path / "good.db")
    whole = (tmp_path / "good.db").read_bytes()
    cases += [
        ("not a database", b"no database" * 1000),
        ("nothing was changed", whole[: len(whole) // 2]),
    ]
    connection = sqlite3.connect(tmp_path / "songs.db")
    connection.execute("CREATE TABLE songs (name TEXT)")
    connection.close()
    cases += [("not one of Sluice's", (tmp_path / "songs.db").read_bytes()), ("no ledger", b"")]
    for reason, content in cases:
        if content is not None:
            bad.write_bytes(content)
        with pytest.raises(StorageError, match=reason):
            restore(bad, ledger, NOW)
        assert ledger.read_bytes() == before
    bad.write_bytes(whole)
    damaged(bad)
    with pytest.raises(StorageError, match=r"malformed; restore another|the file is damaged"):
        restore(bad, ledger, NOW)
    names = {file.name for file in ledger.parent.iterdir()}
    assert names <= {"sluice.db", "sluice.db-wal", "sluice.db-shm"}, "nothing is left lying about"


def test_a_restore_that_is_killed_midway_is_noticed_and_ended(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever step it is killed at: the old file, or a refusal with a way on; never a new one."""
    back_up(ledger, tmp_path / "b.db")
    renames = 0
    real = Path.rename

    def killed(self: Path, target: Path | str) -> Path:
        nonlocal renames
        renames += 1
        if renames == at:
            raise KeyboardInterrupt
        return real(self, target)

    for at in (1, 2, 3):
        renames = 0
        monkeypatch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            restore(tmp_path / "b.db", ledger, NOW + at)
        monkeypatch.undo()
        if ledger.exists():
            check_in_place(ledger)
            continue
        with pytest.raises(StorageError, match=r"interrupted; run `sluice restore .*restoring"):
            check_in_place(ledger)
        restore(Path(f"{ledger}.restoring"), ledger, NOW + 10 + at)
        check_in_place(ledger)
        assert verify(ledger).calls == 1
    assert not ledger.with_name("sluice.db.restoring").exists()


def test_nobody_else_reads_a_copy_while_it_is_made(ledger: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    modes: list[int] = []
    try:
        back_up(
            ledger,
            tmp_path / "b.db",
            lambda _done, _of: modes.append((tmp_path / "b.db.partial").stat().st_mode & 0o777),
        )
    finally:
        os.umask(before)
    assert set(modes) == {0o600}


def test_an_open_call_is_restored_as_open_and_settled_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        books = await keeper(path)
        admitted = await books.admit(opening(5, stream=True))
        await admitted.committed  # type: ignore[union-attr]
        await asyncio.to_thread(back_up, path, tmp_path / "b.db")
        await books.close()

    asyncio.run(main())
    done = restore(tmp_path / "b.db", tmp_path / "fresh.db", NOW)
    assert done.report.open_calls == 1

    async def start() -> None:
        books = await keeper(tmp_path / "fresh.db")
        assert books.recovery.calls == 1
        await books.close()

    asyncio.run(start())
    open_writer(tmp_path / "fresh.db", Durability.PROCESS, NOW).close()
    assert verify(tmp_path / "fresh.db", quiet=True).problems == ()
