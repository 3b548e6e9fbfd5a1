import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.storage import writer as module
from proxy.storage.batch import imbalance
from proxy.storage.commits import Commit
from proxy.storage.inserts import Row
from proxy.storage.ports import KeeperUnavailableError
from proxy.storage.sqlite import Durability, open_writer
from proxy.storage.writer import OpenRow, Writer
from tests.storage.test_batch import call_row, open_row


class Desk:
    """A writer on a fresh file, and what it complained about."""

    def __init__(self, folder: Path, durability: Durability = Durability.PROCESS) -> None:
        self.path = folder / "a.db"
        self.faults: list[BaseException] = []
        self.connection = open_writer(self.path, durability, 1.0)
        loop = asyncio.get_running_loop()
        self.writer = Writer(self.connection, self.path, durability, loop, self.faults.append)

    async def end(self, call_id: int) -> None:
        """Write one ended call and wait for it."""
        self.writer.batch.calls.append(call_row(call_id))
        commit = self.writer.commit
        self.writer.flush()
        await commit

    def ids(self, table: str) -> list[int]:
        reader = sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)
        try:
            return [row[0] for row in reader.execute(f"SELECT id FROM {table} ORDER BY id")]
        finally:
            reader.close()


def run(folder: Path, scene: Callable[[Desk], object]) -> Desk:
    async def main() -> Desk:
        desk = Desk(folder)
        try:
            await scene(desk)  # type: ignore[misc]
        finally:
            await desk.writer.stop()
        return desk

    return asyncio.run(main())


def test_one_turn_of_the_loop_is_one_commit(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        await asyncio.gather(*(desk.end(number) for number in range(50)))
        assert desk.writer.commits == 1
        await desk.end(50)
        assert desk.writer.commits == 2

    assert run(tmp_path, scene).ids("call") == list(range(51))


def test_rows_added_while_a_commit_runs_follow_in_the_next(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        entered, leave = threading.Event(), threading.Event()

        def block(_: sqlite3.Connection) -> None:
            entered.set()
            leave.wait(10)

        blocked = asyncio.ensure_future(desk.writer.call(block))
        await asyncio.to_thread(entered.wait, 10)
        waits = [asyncio.ensure_future(desk.end(number)) for number in range(5)]
        await asyncio.sleep(0)
        assert desk.writer.depth == 5
        leave.set()
        await asyncio.gather(blocked, *waits)
        assert desk.writer.commits == 2

    assert run(tmp_path, scene).ids("call") == [0, 1, 2, 3, 4]


def test_the_file_follows_what_was_decided_when_somebody_wants_to_read_it(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        writer = desk.writer
        assert writer.follow() is writer.durable, "it has everything"
        writer.batch.calls.append(call_row(1))
        forming = writer.follow()
        assert writer.follow() is forming
        await asyncio.sleep(0)
        assert not forming.done()
        assert writer.follow() is forming, "it is with the thread"
        await writer.follow()
        assert desk.ids("call") == [1]
        assert writer.follow().done()

    run(tmp_path, scene)


def test_whoever_reads_often_makes_no_commits_of_their_own(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        writer = desk.writer
        writer.open_lazily(1, open_row(1))
        assert writer.open_now(1) is not None
        await asyncio.gather(*[writer.follow() for _ in range(50)])
        assert desk.ids("open_call") == [1]
        assert writer.commits == 1

    run(tmp_path, scene)


def test_a_file_that_cannot_be_written_follows_no_more(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        desk.connection.execute("DROP TABLE call")
        with pytest.raises(KeeperUnavailableError):
            await desk.end(1)
        with pytest.raises(KeeperUnavailableError, match="cannot be written"):
            await desk.writer.follow()
        desk.faults.clear()

    run(tmp_path, scene)


def test_a_batch_soon_after_another_waits_for_the_plain_calls_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PACE_SECONDS", 3_600.0)

    async def scene(desk: Desk) -> None:
        writer = desk.writer

        def end(number: int) -> Commit:
            return writer.end(number, call_row(number), (), (), None)

        for number in range(1, 5):
            writer.open_lazily(number, open_row(number))
        writer._handed_at = writer._loop.time() - 7_200.0
        await end(1)  # nothing has left for long: at once, whoever is under way
        second, third = end(2), end(3)
        assert second is third
        assert not writer._flushing
        assert end(4) is second  # the last one under way takes all of them along
        await second
        assert writer.commits == 2
        writer.open_lazily(5, open_row(5))
        writer.open_lazily(6, open_row(6))
        fifth = end(5)
        writer.flush()  # somebody in a hurry takes it along, too
        assert end(6) is fifth
        await fifth
        writer.open_lazily(7, open_row(7))
        writer.open_lazily(8, open_row(8))
        end(7)  # nobody comes: stopping does not wait

    desk = run(tmp_path, scene)
    assert desk.ids("call") == [1, 2, 3, 4, 5, 6, 7]
    assert desk.ids("open_call") == [8]


def test_nobody_waits_long_for_a_call_that_does_not_end(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        writer = desk.writer
        writer.open_lazily(1, open_row(1))
        await desk.end(2)
        writer.batch.calls.append(call_row(3))
        commit = writer.commit
        writer.flush_together()
        await commit

    assert run(tmp_path, scene).ids("call") == [2, 3]


def test_a_lazy_row_is_written_by_itself_and_taken_back_in_time(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        writer = desk.writer
        for number in (1, 2):
            writer.open_lazily(number, open_row(number))
        assert writer.depth == 2
        writer.undo(1)
        assert writer.depth == 1
        while not desk.ids("open_call"):
            await asyncio.sleep(0.001)
        assert desk.ids("open_call") == [2]
        writer.undo(2)
        assert writer.batch.closes == [(2,)]
        await desk.end(2)

    desk = run(tmp_path, scene)
    assert desk.ids("open_call") == []


def test_a_lazy_row_that_is_committed_waits_for_no_batch_after_it(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        writer = desk.writer
        writer.open_lazily(1, open_row(1))
        row = OpenRow(writer, 1)
        said: list[tuple[bool, bool]] = []
        row.add_done_callback(lambda _: said.append((row.done(), writer._busy)))
        await asyncio.sleep(0)  # its batch is with the thread, and not yet announced
        assert not row.done()
        assert writer.open_now(1) is not None
        writer.open(2, open_row(2))
        while not said:
            await asyncio.sleep(0)
        assert said == [(True, True)], "durable, though the next batch is under way"
        assert row.exception() is None
        assert writer.open_now(1) is None
        await row

    run(tmp_path, scene)


def test_an_open_row_not_yet_handed_over_is_taken_back_too(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        writer = desk.writer
        writer.batch.opens[1] = open_row(1)
        writer.mark(1, mark(1, 5))
        writer.undo(1)
        assert len(writer.batch) == 0
        writer.open_lazily(2, open_row(2))
        writer.mark(2, mark(2, 5))
        writer.mark(2, mark(2, 6))
        assert list(writer.batch.opens) == [2]
        await desk.end(9)
        assert desk.ids("open_call") == [2]

    desk = run(tmp_path, scene)
    reader = sqlite3.connect(desk.path)
    assert reader.execute("SELECT charge FROM open_call").fetchall() == [(6,)]
    reader.close()


def mark(call_id: int, charge: int) -> Row:
    return (10, charge, "counted", "{}", 1, None, call_id)


def test_stopping_writes_what_is_queued_and_syncs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)

    async def main() -> None:
        desk = Desk(tmp_path)
        desk.writer.batch.calls.append(call_row(1))
        desk.writer.open_lazily(2, open_row(2))
        await asyncio.gather(desk.writer.stop(), desk.writer.stop())
        await desk.writer.stop()
        assert desk.ids("call") == [1]
        assert desk.ids("open_call") == [2]
        assert synced

    asyncio.run(main())


def test_a_commit_is_synced_by_the_second_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda _: synced.set())

    async def scene(desk: Desk) -> None:
        await desk.end(1)
        assert await asyncio.to_thread(synced.wait, 10)

    run(tmp_path, scene)


def test_power_durability_needs_no_second_thread(tmp_path: Path) -> None:
    others = {*threading.enumerate()}  # a keeper of another test may still be ending

    async def main() -> None:
        desk = Desk(tmp_path, Durability.POWER)
        await desk.end(1)
        began = {*threading.enumerate()} - others
        assert not [each for each in began if each.name == "sluice-sync"]
        await desk.writer.stop()

    asyncio.run(main())


def test_a_failed_sync_is_fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)

    async def scene(desk: Desk) -> None:
        await desk.end(1)
        while not desk.faults:
            await asyncio.sleep(0.001)
        with pytest.raises(KeeperUnavailableError, match="Input/output"):
            await desk.end(2)

    desk = run(tmp_path, scene)
    assert len(desk.faults) == 1
    assert desk.ids("call") == [1]


def test_a_wal_that_cannot_be_opened_is_fatal(tmp_path: Path) -> None:
    async def main() -> None:
        faults: list[BaseException] = []
        connection = open_writer(tmp_path / "a.db", Durability.POWER, 1.0)
        loop = asyncio.get_running_loop()
        elsewhere = tmp_path / "elsewhere.db"
        writer = Writer(connection, elsewhere, Durability.PROCESS, loop, faults.append)
        while not faults:
            await asyncio.sleep(0.001)
        await writer.stop()

    asyncio.run(main())


def test_a_full_disk_is_fatal_and_loses_nothing_that_was_told(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        await desk.end(1)
        pages = desk.connection.execute("PRAGMA page_count").fetchone()[0]
        desk.connection.execute(f"PRAGMA max_page_count = {pages}")
        waits = [asyncio.ensure_future(desk.end(number)) for number in range(2, 400)]
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(outcome, KeeperUnavailableError) for outcome in outcomes)
        with pytest.raises(KeeperUnavailableError, match="full"):
            await desk.end(500)
        with pytest.raises(KeeperUnavailableError, match="full"):
            await desk.writer.call(lambda _: None)

    desk = run(tmp_path, scene)
    assert [str(fault) for fault in desk.faults] == ["database or disk is full"]
    assert desk.ids("call") == [1]


def test_rows_waiting_when_a_commit_fails_fail_with_it(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        await desk.end(1)
        first = asyncio.ensure_future(desk.end(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # handed over
        second = asyncio.ensure_future(desk.end(2))
        work = asyncio.ensure_future(desk.writer.call(lambda _: 1))
        outcomes = await asyncio.gather(first, second, work, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [KeeperUnavailableError] * 3

    assert run(tmp_path, scene).ids("call") == [1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_our_own_on_the_thread_is_fatal_and_hangs_nobody(tmp_path: Path) -> None:
    def fault(_: sqlite3.Connection) -> None:
        raise RuntimeError("a mistake")

    async def scene(desk: Desk) -> None:
        with pytest.raises(KeeperUnavailableError, match="died"):
            await desk.writer.call(fault)
        assert len(desk.faults) == 1

    run(tmp_path, scene)


def test_work_runs_in_order_and_is_refused_alone(tmp_path: Path) -> None:
    def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO account (id) VALUES (17)")
        raise ValueError("no such thing")

    def twice(connection: sqlite3.Connection) -> None:
        for _ in range(2):
            connection.execute("INSERT INTO account (id) VALUES (17)")

    def count(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM call").fetchone()[0])

    async def scene(desk: Desk) -> None:
        desk.writer.batch.calls.append(call_row(1))
        results: list[int] = []
        outcomes = await asyncio.gather(
            desk.writer.call(refuse),
            desk.writer.call(count, results.append),
            desk.writer.call(twice),
            return_exceptions=True,
        )
        assert [str(outcome) for outcome in outcomes] == [
            "no such thing",
            "1",
            "UNIQUE constraint failed: account.id",
        ]
        assert isinstance(outcomes[2], ValueError)
        assert results == [1]
        await desk.end(2)
        assert 17 not in desk.ids("account")

    run(tmp_path, scene)


def test_the_wal_is_checkpointed_and_the_books_are_summed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_PAGES", 30)
    monkeypatch.setattr(module, "AUDIT_COMMITS", 2)

    async def scene(desk: Desk) -> None:
        for number in range(20):
            await desk.end(number)
        assert desk.writer.checkpoint_seconds > 0
        assert desk.writer.imbalance == 0
        desk.connection.execute("UPDATE account SET balance = 5 WHERE id = 2")
        for number in range(20, 23):
            await desk.end(number)
        while desk.writer.imbalance != 5:
            await asyncio.sleep(0.001)
        assert imbalance(desk.connection) == 5

    desk = run(tmp_path, scene)
    assert desk.path.stat().st_size > 0
