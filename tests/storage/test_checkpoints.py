import sqlite3
from pathlib import Path

import pytest

from proxy.storage.checkpoints import CheckpointMark, wal_state

FRAME = 4096 + 24


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database as a crash leaves it: rows in the WAL, nothing checkpointed, nobody's locks."""
    path = tmp_path / "a.db"
    live = tmp_path / "live.db"
    connection = sqlite3.connect(live, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE t (x)")
    for number in range(10):
        connection.execute("INSERT INTO t VALUES (?)", (f"{number}" * 5000,))
    for suffix in ("", "-wal"):
        Path(f"{path}{suffix}").write_bytes(Path(f"{live}{suffix}").read_bytes())
    connection.close()
    return path


def wal(path: Path) -> Path:
    return Path(f"{path}-wal")


def test_the_frames_of_a_wal_are_counted_as_sqlite_counts_them(database: Path) -> None:
    state = wal_state(wal(database))
    assert state is not None
    connection = sqlite3.connect(database)
    _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert state.frames == frames > 10
    # From here on SQLite begins the file anew and leaves the rest of it as it is.
    connection.execute("INSERT INTO t VALUES (1)")
    connection.commit()
    again = wal_state(wal(database))
    assert again is not None
    assert again.salts != state.salts
    assert 0 < again.frames < state.frames
    assert wal(database).stat().st_size == 32 + state.frames * FRAME
    connection.close()
    assert wal_state(wal(database)) is None


def test_a_wal_that_is_as_it_was_left_lacks_nothing(database: Path) -> None:
    mark = CheckpointMark(database)
    assert mark.lost() is None
    mark.write()
    assert mark.lost() is None
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    connection.execute("INSERT INTO t VALUES (1)")
    connection.commit()
    assert mark.lost() is None, "begun anew, so all of the old one was copied"
    mark.close(connection)
    assert not Path(f"{database}-mark").exists()


def test_a_wal_that_was_cut_is_noticed(database: Path) -> None:
    mark = CheckpointMark(database)
    mark.write()
    whole = wal(database).read_bytes()
    for size in (0, 31, 32, 33, 32 + FRAME, len(whole) - 1):
        wal(database).write_bytes(whole[:size])
        assert "cut or removed" in str(mark.lost()), size
    broken = bytearray(whole)
    broken[17] ^= 1  # the salts, so the header's checksum
    wal(database).write_bytes(broken)
    assert "0 of at least" in str(mark.lost())
    wal(database).write_bytes(b"\0" * 64)
    assert mark.lost()
    wal(database).unlink()
    assert mark.lost()
    mark.clear()
    assert mark.lost() is None


def test_a_mark_that_was_never_finished_says_nothing(database: Path) -> None:
    Path(f"{database}-mark").write_bytes(b"\0\0\0\1")
    wal(database).unlink()
    assert CheckpointMark(database).lost() is None
    Path(f"{database}-mark").unlink()
    CheckpointMark(database).write()
    assert not Path(f"{database}-mark").exists(), "no WAL, so nothing to lose"


def test_a_close_that_may_not_mark_still_closes(tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (x)")
    Path(f"{database}-mark").mkdir()
    CheckpointMark(database).close(connection)
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")
