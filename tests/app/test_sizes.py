import sqlite3
from pathlib import Path

from proxy.app.sizes import storage_figures


def test_files_and_free_space_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"
    assert storage_figures(path) is None
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE t (x)")
    alone = storage_figures(path)
    assert alone is not None
    assert (alone.database_bytes, alone.wal_bytes) == (path.stat().st_size, 0)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("INSERT INTO t VALUES (1)")
    beside = storage_figures(path)
    assert beside is not None
    assert beside.wal_bytes == path.with_name("sluice.db-wal").stat().st_size > 0
    assert beside.free_bytes > 0
    connection.close()
