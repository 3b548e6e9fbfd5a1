"""Work for the writer: its own transaction, refused alone, and what follows whoever waits."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.storage.ports import KeeperUnavailableError
from proxy.storage.work import FAULTS, ChangeFaultError, Work

SECONDS_MAX = 10.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A file with one row, in autocommit, as the writer has its own."""
    connection = sqlite3.connect(
        tmp_path / "w.db", isolation_level=None, check_same_thread=False, timeout=0
    )
    connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY)")
    connection.execute("INSERT INTO t VALUES (1)")
    yield connection
    connection.close()


def stored(path: Path) -> list[int]:
    """What another connection sees: nothing that is not committed."""
    other = sqlite3.connect(path / "w.db")
    try:
        return [row[0] for row in other.execute("SELECT a FROM t ORDER BY a")]
    finally:
        other.close()


def insert(*values: int) -> Callable[[sqlite3.Connection], int]:
    def function(connection: sqlite3.Connection) -> int:
        for value in values:
            connection.execute("INSERT INTO t VALUES (?)", (value,))
        return len(values)

    return function


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await work()

    asyncio.run(bounded())


async def done(work: Work[Any], connection: sqlite3.Connection) -> None:
    """Run it on a thread, as the writer does, and bring it home on the loop."""
    await asyncio.to_thread(work.run, connection)
    work.finish()


def test_it_is_in_the_file_before_anybody_hears_of_it(
    tmp_path: Path, database: sqlite3.Connection
) -> None:
    async def main() -> None:
        followed: list[tuple[int, list[int], bool]] = []
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def follow(result: int) -> None:
            followed.append((result, stored(tmp_path), future.done()))

        work = Work(insert(2, 3), follow, future)
        await asyncio.to_thread(work.run, database)
        assert not followed, "nothing follows on the writer's thread"
        assert not future.done()
        assert not database.in_transaction
        work.finish()
        assert future.result() == 2
        assert followed == [(2, [1, 2, 3], False)], "first what follows, then who waits"

    run(main)


@pytest.mark.parametrize("kind", ["value", "integrity"])
def test_a_refusal_changes_nothing_and_leaves_the_connection_fit_for_the_next(
    tmp_path: Path, database: sqlite3.Connection, kind: str
) -> None:
    def refuse(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO t VALUES (2)")
        if kind == "value":
            raise ValueError("the plan is not known")
        connection.execute("INSERT INTO t VALUES (1)")
        raise AssertionError("SQLite took a second row of one key")

    async def main() -> None:
        followed: list[int] = []
        loop = asyncio.get_running_loop()
        refused: asyncio.Future[int] = loop.create_future()
        await done(Work(refuse, followed.append, refused), database)
        expected = "the plan is not known" if kind == "value" else "UNIQUE constraint failed"
        with pytest.raises(ValueError, match=expected):
            await refused
        assert (followed, stored(tmp_path)) == ([], [1])
        accepted: asyncio.Future[int] = loop.create_future()
        await done(Work(insert(4), followed.append, accepted), database)
        assert (await accepted, followed, stored(tmp_path)) == (1, [1], [1, 4])

    run(main)


def test_what_follows_a_commit_happens_though_nobody_waits_any_more(
    tmp_path: Path, database: sqlite3.Connection
) -> None:
    async def main() -> None:
        followed: list[int] = []
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.cancel()
        await done(Work(insert(2), followed.append, future), database)
        assert (followed, stored(tmp_path)) == ([1], [1, 2])
        assert future.cancelled()

        refused: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        refused.cancel()
        await done(Work(insert(1), followed.append, refused), database)
        assert followed == [1]

    run(main)


def test_a_failed_commit_is_an_outage_and_nothing_follows(
    tmp_path: Path, database: sqlite3.Connection
) -> None:
    async def main() -> None:
        followed: list[int] = []
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        work = Work(insert(2), followed.append, future)
        other = sqlite3.connect(tmp_path / "w.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        # What is not the function's own refusal is for the writer, which fails as a whole.
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await asyncio.to_thread(work.run, database)
        other.close()
        work.finish(KeeperUnavailableError("the disk is full"))
        with pytest.raises(KeeperUnavailableError, match="the disk is full"):
            await future
        assert (followed, stored(tmp_path)) == ([], [1])

        # What the writer says counts, not what the function returned or refused.
        for values in ((5,), (1,)):
            late: asyncio.Future[int] = loop.create_future()
            ran = Work(insert(*values), followed.append, late)
            await asyncio.to_thread(ran.run, database)
            ran.finish(KeeperUnavailableError("the sync failed"))
            with pytest.raises(KeeperUnavailableError, match="the sync failed"):
                await late
            assert followed == []

    run(main)


def test_it_needs_nobody_to_act_on_its_result(tmp_path: Path, database: sqlite3.Connection) -> None:
    async def main() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await done(Work(insert(2, 3), None, future), database)
        assert (await future, stored(tmp_path)) == (2, [1, 2, 3])

    run(main)


@pytest.mark.parametrize(
    "fault",
    [
        lambda _: dict[str, int]()["name"],
        lambda c: c.execute("INSERT INTO t VALUES (?)", (1 << 64,)),
        lambda c: c.execute("INSERT INTO t VALUES (?)", ({},)),
        lambda c: c.execute("INSERT INTO t VALUES (?)", (1, 2)),
        lambda _: None + 1,  # type: ignore[operator] # the fault
    ],
)
def test_a_fault_of_the_function_is_undone_and_stops_nobody_else(
    tmp_path: Path, database: sqlite3.Connection, fault: Callable[[sqlite3.Connection], object]
) -> None:
    def function(connection: sqlite3.Connection) -> object:
        insert(7)(connection)
        return fault(connection)

    async def main() -> None:
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        await done(Work(function, None, future), database)
        with pytest.raises(ChangeFaultError) as told:
            await future
        assert isinstance(told.value.__cause__, FAULTS)
        assert stored(tmp_path) == [1]
        assert not database.in_transaction
        after: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await done(Work(insert(2), None, after), database)
        assert await after == 1

    run(main)
