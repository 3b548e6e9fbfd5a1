import asyncio
import sqlite3
from pathlib import Path

from proxy.storage.notices import set_threshold, watch_balances
from proxy.storage.reader import Reader
from proxy.storage.reports.notices import Owner, Unmailed, crossed, owners, unmailed
from tests.storage.world import NOW, keeper


def people(connection: sqlite3.Connection) -> None:
    for number, (role, enabled) in enumerate((("owner", 1), ("member", 1), ("owner", 0)), 1):
        connection.execute(
            "INSERT INTO person (email, enabled, language, created_at) VALUES (?, ?, 'zh', 0)",
            (f"p{number}@example.com", enabled),
        )
        connection.execute("INSERT INTO membership VALUES (?, 1, ?, 0)", (number, role))


def test_what_is_to_be_told_is_found_with_whom(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "a.db", credit=100)
        await books.note(people)
        reader = await Reader.open(tmp_path / "a.db")
        assert not await crossed(reader)
        await books.note(lambda c: set_threshold(c, 1, 101))
        assert await crossed(reader)
        await books.note(lambda c: watch_balances(c, NOW))
        assert not await crossed(reader)
        assert await unmailed(reader) == [Unmailed(1, 1, "ann", "low_balance", "100", 100, 101)]
        await books.credit(1, 1, "x", "r")
        assert await crossed(reader), "it has enough again"
        await books.note(lambda c: watch_balances(c, NOW))
        assert await unmailed(reader) == []
        assert await owners(reader, 1) == [Owner("p1@example.com", "zh")]
        await reader.close()
        await books.close()

    asyncio.run(main())
