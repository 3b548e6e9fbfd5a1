import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from proxy.storage.reader import OpenCalls, Reader
from tests.storage.world import NOW, closing, keeper, opening


def test_open_calls_are_read_beside_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        books = await keeper(path)
        reader = await Reader.open(path)
        assert await reader.open_calls() == OpenCalls(0, 0, None)
        for call_id in (1, 2):
            admission = await books.admit(opening(call_id, stream=True, started_at=NOW + call_id))
            await admission.committed  # type: ignore[union-attr]  # admitted, or the next line fails
        assert await reader.open_calls() == OpenCalls(2, 200_000, NOW + 1)
        await books.settle(closing(1)).committed
        assert (await reader.open_calls()).calls == 1
        books.settle(closing(2))
        await books.close()
        assert await reader.open_calls() == OpenCalls(0, 0, None)
        await reader.close()

    asyncio.run(main())
    assert not [one for one in threading.enumerate() if "worker_thread" in one.name]


def test_nothing_can_be_written_or_made(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        with pytest.raises(sqlite3.OperationalError):
            await Reader.open(path)
        assert not path.exists()
        assert not [one for one in threading.enumerate() if "worker_thread" in one.name]
        books = await keeper(path)
        reader = await Reader.open(path)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await reader._connection.execute("DELETE FROM open_call")
        async with reader._connection.execute("PRAGMA wal_autocheckpoint") as cursor:
            assert await cursor.fetchone() == (0,)
        await reader.close()
        await books.close()

    asyncio.run(main())


def test_another_file_is_an_error_and_leaves_no_thread(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"
    path.write_bytes(b"not a database, not at all" * 100)

    async def main() -> None:
        reader = await Reader.open(path)
        with pytest.raises(sqlite3.DatabaseError):
            await reader.open_calls()
        await reader.close()

    before = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() == before


def test_who_shares_a_reader_sees_what_was_committed_before_he_asked(tmp_path: Path) -> None:
    path = tmp_path / "any.db"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE one (id INTEGER PRIMARY KEY)")
    writer.executemany("INSERT INTO one VALUES (?)", [(-1,), (-2,)])

    async def main() -> None:
        reader = await Reader.open(path)
        for number in range(1, 201):
            others = [asyncio.ensure_future(reader.rows("SELECT id FROM one", ())) for _ in "four"]
            for _ in range(number % 50):
                await asyncio.sleep(0)  # let the others come to different places
            writer.execute("INSERT INTO one VALUES (?)", (number,))
            assert await reader.rows("SELECT id FROM one WHERE id = ?", (number,))
            await asyncio.gather(*others)
        await reader.close()

    asyncio.run(main())
    writer.close()
