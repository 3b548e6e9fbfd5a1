"""A connection that reads the database beside its writer, for pages and reports.

Rules: it never writes, never checkpoints and never creates the file (storage/sqlite.py says why);
statements run in aiosqlite's thread, so the event loop does not wait for a disk. Each runs to its
end in one trip: one left half-way would keep its view of the file for all who share the connection,
and while they overlap nobody would see what was committed since. No secret is read here. This
module must not know who shows what.
"""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import aiosqlite

from proxy.storage.sqlite import open_reader

ROWS_A_TIME = 64
"""Rows fetched by one trip to the thread."""


class OpenCalls(NamedTuple):
    """What the file knows of open calls. `held` nano-USD, `oldest` seconds since the epoch."""

    calls: int
    held: int
    oldest: float | None


class Reader:
    """One connection, from `open` to `close`. Every method raises sqlite3.Error."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, path: Path) -> "Reader":
        """Open the database at `path`, which must exist."""
        # Opened before it is aiosqlite's, which leaves a thread behind when it cannot connect.
        opened = await asyncio.to_thread(open_reader, path)
        return cls(await aiosqlite.Connection(lambda: opened, ROWS_A_TIME))

    async def close(self) -> None:
        """End the connection and its thread."""
        await self._connection.close()

    async def rows(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Return every row of a query that answers with few."""
        return [tuple(row) for row in await self._connection.execute_fetchall(query, values)]

    async def open_calls(self) -> OpenCalls:
        """Count the calls that are open in the file, and what is held for them."""
        query = "SELECT count(*), coalesce(sum(hold), 0), min(started_at) FROM open_call"
        (row,) = await self.rows(query, ())
        return OpenCalls(*row)
