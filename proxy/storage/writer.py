"""The one thread that writes the database: batches in, commits out.

Rules: rows are collected on the event loop; one batch is with the thread at a time, and the next
one forms while it commits. A commit is announced once per batch, by one wake of the loop. A
failed commit or sync is fatal: nothing more is written, every commit to come fails, `on_fatal`
is called once; it is never retried on the same handle (after a failed fsync the kernel may have
dropped the pages). With durability `process` a second thread syncs the WAL file at most
`SYNC_SECONDS_MAX` after the first commit it has not seen; nobody waits for it.

With a redo log (storage/redo.py) opened and ended calls are durable when they are logged, and
follow here with the next tick, many to a batch. An open row may be lazy: it waits a tick or two,
unless somebody waits for it, and a call that settles meanwhile is written once, as ended. Without
a log a batch that follows close upon another waits a moment for plain calls under way, never for
anybody else's work. This module must not know what the rows mean.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from proxy.core.ledger import Charge, Posting
from proxy.storage.batch import ORDINARY_CALL_COLUMNS, SHARED_COLUMNS, Batch, imbalance
from proxy.storage.checkpoints import CheckpointMark
from proxy.storage.commits import Commit
from proxy.storage.inserts import Row
from proxy.storage.ports import KeeperUnavailableError
from proxy.storage.redo import ENDED, OPENED, SETTLED, UNDONE, Logged, RedoLog
from proxy.storage.sqlite import Durability
from proxy.storage.syncer import Syncer
from proxy.storage.work import Work

TICK_SECONDS = 0.010
"""A lazy row waits between one and two ticks."""
LOGGED_TICK_SECONDS = 0.200
"""The same with a redo log, whose rows follow into the database within one tick.

Whatever is durable is so without it; who reads the file asks for it to be caught up first. A batch
takes the interpreter from the loop while it is bound: at 20 ms that was the tail of the first byte
at one call after the other, and a third of the system calls of a plain call.
"""
PACE_SECONDS = 0.001
"""How long a batch waits for plain calls under way when another has just left: a batch costs as
much as two calls in it, so that many small ones double the CPU of a call."""
CHECKPOINT_PAGES = 1_000
"""The WAL is checkpointed when about this many pages have been written to it."""
AUDIT_COMMITS = 4_096
"""The books are summed after so many commits; a sum over accounts, not over postings."""
QUEUE_CALLS_MAX = 30_000
"""Above this many ended calls waiting the disk is not keeping up: admit nothing."""

_ORDINARY = len(ORDINARY_CALL_COLUMNS)
Result = TypeVar("Result")


class OpenRow:
    """The commit of one lazy open row; satisfies `ports.Durable`. Waiting for it hurries it."""

    __slots__ = ("_call_id", "_writer")

    def __init__(self, writer: "Writer", call_id: int) -> None:
        self._writer = writer
        self._call_id = call_id

    def done(self) -> bool:
        """Whether the row is durable, or never will be."""
        return not self._writer.is_opening(self._call_id)

    def exception(self) -> BaseException | None:
        """Why the row cannot become durable; None while nothing is wrong."""
        return self._writer.failed

    def add_done_callback(self, callback: "Callable[[Commit], object]", /) -> None:
        """Call `callback` on the event loop once done; soon, if it is done already."""
        (self._writer.open_now(self._call_id) or self._writer.durable).add_done_callback(callback)

    def __await__(self) -> Generator[object, None, None]:
        """Wait for the row. Raises KeeperUnavailableError if it cannot become durable."""
        commit = self._writer.open_now(self._call_id)
        if commit is not None:
            yield from commit.__await__()
        if self._writer.failed is not None:
            raise self._writer.failed


class Writer:
    """Collects rows and writes them in order. Everything but `_run` happens on the loop."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        durability: Durability,
        loop: asyncio.AbstractEventLoop,
        on_fatal: Callable[[BaseException], object],
        redo: RedoLog | None = None,
    ) -> None:
        self.batch = Batch()
        self.commit = Commit(loop)
        self.durable = Commit(loop)
        """A commit that has happened, for what has nothing to wait for."""
        self.durable.finish()
        self.failed: KeeperUnavailableError | None = None
        self.commits = 0
        self.commit_seconds = 0.0
        self.checkpoint_seconds = 0.0
        self.imbalance = 0
        self._connection = connection
        self._mark = CheckpointMark(path)
        self._loop = loop
        self._on_fatal = on_fatal
        self._redo = redo
        self._tick_seconds = TICK_SECONDS if redo is None else LOGGED_TICK_SECONDS
        self._lazy: dict[int, Row] = {}
        self._lazy_older: dict[int, Row] = {}
        self._work: list[Work[object]] = []
        self._tick_handle: asyncio.TimerHandle | None = None
        self._pace_handle: asyncio.TimerHandle | None = None
        self._handed_at = -PACE_SECONDS
        self._busy = False
        self._in_flight = self.commit
        """The commit of the batch the thread works on, while `_busy`."""
        self._opening: Mapping[int, Row] = {}
        """The open rows in that batch."""
        self._flushing = False
        self._stopping = False
        self._ended = Commit(loop)
        self._wal_pages = 0
        self._queue: queue.SimpleQueue[tuple[Batch, Commit, list[Work[object]]] | None] = (
            queue.SimpleQueue()
        )
        self._syncer = (
            Syncer(Path(f"{path}-wal"), self._fail_from_thread)
            if durability is Durability.PROCESS
            else None
        )
        self._thread = threading.Thread(target=self._run, name="sluice-writer", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Rows waiting to be handed to the thread."""
        return len(self.batch) + len(self._lazy) + len(self._lazy_older)

    @property
    def sync_seconds(self) -> float:
        """For how long the sync under way has kept the disk; 0.0 if none is."""
        since = None if self._syncer is None else self._syncer.syncing_since
        return 0.0 if since is None else perf_counter() - since

    @property
    def logging(self) -> bool:
        """Whether what is opened or ended now is durable at once."""
        return self._redo is not None and not self._redo.suspended

    def open(self, call_id: int, row: Row) -> Commit:
        """Write an open row; returns the commit that makes it durable, or has."""
        self.batch.opens[call_id] = row
        if self._log((OPENED, call_id, row)):
            return self.durable
        self.flush()
        return self.commit

    def open_lazily(self, call_id: int, row: Row) -> Commit | OpenRow:
        """Write an open row within two ticks, unless `end` comes first; in a log at once."""
        redo = self._redo  # what `_log` does, without its frame: 700 instructions a call
        if redo is not None and self.failed is None and redo.append((OPENED, call_id, row)):
            if self._tick_handle is None:
                self._tick_handle = self._loop.call_later(self._tick_seconds, self._tick)
            self.batch.opens[call_id] = row
            return self.durable
        self._lazy[call_id] = row
        if self._tick_handle is None:
            self._tick_handle = self._loop.call_later(self._tick_seconds, self._tick)
        return OpenRow(self, call_id)

    def open_now(self, call_id: int) -> Commit | None:
        """Hurry a lazy open row; return the commit it waits for, None when it is durable."""
        self._hurry(call_id)
        if self.logging:
            return None
        if call_id in self.batch.opens:
            self.flush_together()
            return self.commit
        return self._in_flight if call_id in self._opening else None

    def _hurry(self, call_id: int) -> None:
        row = self._lazy.pop(call_id, None) or self._lazy_older.pop(call_id, None)
        if row is not None:
            self.batch.opens[call_id] = row
            self._log((OPENED, call_id, row))

    def is_opening(self, call_id: int) -> bool:
        """Whether the open row may not be durable yet."""
        if self.failed is not None:
            return False
        if call_id in self._lazy or call_id in self._lazy_older:
            return True
        # Not whether any batch is under way: the next one may be before this one is announced.
        return not self.logging and (call_id in self._opening or call_id in self.batch.opens)

    def end(
        self,
        call_id: int,
        row: Row,
        attempts: Sequence[Row],
        transfers: Sequence[Posting],
        spend: Row | None,
        charge: Charge | None = None,
    ) -> Commit:
        """Write an ended call and what it cost; returns the commit that makes it so, or has."""
        batch = self.batch
        batch.end(row, attempts, transfers, spend, charge)
        batch.marks.pop(call_id, None)
        if batch.opens.pop(call_id, None) is None:
            self._close(call_id)
        elif len(row) == _ORDINARY:
            row = row[SHARED_COLUMNS:]  # the log's file of this batch has them: it was opened there
        if self._log((ENDED, call_id, row, attempts, transfers, spend, charge)):
            return self.durable
        self.flush_together()
        return self.commit

    def settle(self, call_id: int, opened: Row, said: Row, transfers: Sequence[Posting]) -> Commit:
        """Write an ended call by one row: its open row and what `rows.settled_row` said."""
        batch, row = self.batch, opened + said
        batch.settle(row, transfers)
        if batch.marks:
            batch.marks.pop(call_id, None)
        if batch.opens.pop(call_id, None) is None:
            self._close(call_id)
            said = row
        redo, record = self._redo, (SETTLED, call_id, said, transfers)  # as in `open_lazily`
        if redo is not None and self.failed is None and redo.append(record):
            if self._tick_handle is None:
                self._tick_handle = self._loop.call_later(self._tick_seconds, self._tick)
            return self.durable
        self.flush_together()
        return self.commit

    def follow(self) -> Commit:
        """Return the commit with which the file has what was decided so far: within a tick.

        Not sooner, or whoever asks often would make many small commits of few.
        """
        if self.failed is not None:
            lost = Commit(self._loop)
            lost.finish(self.failed)
            return lost
        if len(self.batch):
            if self._tick_handle is None and self._pace_handle is None:
                self.flush()
            return self.commit
        return self._in_flight if self._busy else self.durable

    def undo(self, call_id: int) -> None:
        """Take an open row away as if it had never been."""
        self._close(call_id)
        if not self._log((UNDONE, call_id)):
            self.flush_together()

    def mark(self, call_id: int, row: Row) -> None:
        """Update an open row within a tick; of several marks the last one counts."""
        if self._lazy or self._lazy_older:
            self._hurry(call_id)
        self.batch.marks[call_id] = row
        if self._tick_handle is None:
            self._tick_handle = self._loop.call_later(self._tick_seconds, self._tick)

    def _close(self, call_id: int) -> None:
        """Take the open row away: out of the queue if it is still there, else by a delete."""
        batch = self.batch
        batch.marks.pop(call_id, None)
        row = batch.opens.pop(call_id, None) or self._lazy.pop(call_id, None)
        if not (row or self._lazy_older.pop(call_id, None)):
            batch.closes.append((call_id,))

    def _log(self, record: Logged) -> bool:
        """Make `record` durable at once; the database follows with the next tick."""
        if self._redo is None or self.failed is not None or not self._redo.append(record):
            return False
        if self._tick_handle is None:
            self._tick_handle = self._loop.call_later(self._tick_seconds, self._tick)
        return True

    def flush_together(self) -> None:
        """Send the batch, but soon after another only when no plain call may still join it."""
        if self._flushing:
            return
        if self._lazy or self._lazy_older:
            if self._pace_handle is not None:
                return
            if self._loop.time() - self._handed_at < PACE_SECONDS:
                self._pace_handle = self._loop.call_later(PACE_SECONDS, self.flush)
                return
        self.flush()

    def flush(self) -> None:
        """Send the batch as soon as this turn of the loop has added its rows to it."""
        if self._pace_handle is not None:
            self._pace_handle.cancel()
            self._pace_handle = None
        if not self._flushing:
            self._flushing = True
            if not self._busy:
                self._loop.call_soon(self._hand_over)

    async def call(
        self,
        function: Callable[[sqlite3.Connection], Result],
        then: Callable[[Result], object] | None = None,
        otherwise: Callable[[], object] | None = None,
    ) -> Result:
        """Run `function` on the writer thread, after everything asked for before it.

        It gets the connection inside a transaction and must not commit. On the loop `then` is
        called with a committed result, or else `otherwise`, also when the caller no longer waits.
        Raises the ValueError `function` raised (nothing is changed then), KeeperUnavailableError.
        """
        future: asyncio.Future[Result] = self._loop.create_future()
        work = Work(function, then, future, otherwise)
        if self.failed is not None:
            work.finish(self.failed)
            return await future
        self._work.append(work)  # type: ignore[arg-type] # invariant; its result goes to its own future
        self.flush()
        return await future

    async def stop(self) -> None:
        """Write what is queued, sync and close the file. Idempotent; no row may follow."""
        if not self._stopping:
            self._stopping = True
            self._take_lazy()
            self._take_lazy()
            self.flush()
            if self._tick_handle is not None:
                self._tick_handle.cancel()
        await self._ended
        self._thread.join()
        if self._redo is not None:
            self._redo.close(delete=self.failed is None)
            self._redo = None

    def _tick(self) -> None:
        self._tick_handle = None
        self._take_lazy()
        if len(self.batch):
            self.flush()
        if self._lazy_older and not self._stopping:
            self._tick_handle = self._loop.call_later(self._tick_seconds, self._tick)

    def _take_lazy(self) -> None:
        for call_id in tuple(self._lazy_older):
            self._hurry(call_id)
        self._lazy_older = self._lazy
        self._lazy = {}

    def _hand_over(self) -> None:
        self._flushing = False
        if self.failed is not None:
            self._fail_waiting(self.failed)
            return
        handed = (self.batch, self.commit, self._work)
        if self._redo is not None:
            self.batch.serial = self._redo.turn()
        self.batch = Batch()
        self.commit = Commit(self._loop)
        self._work = []
        self._busy = True
        self._in_flight = handed[1]
        self._opening = handed[0].opens
        self._handed_at = self._loop.time()
        self._queue.put(handed)

    def _committed(self, commit: Commit, work: list[Work[object]]) -> None:
        self._busy, self._opening = False, {}
        if self._redo is not None and self._redo.suspended and not len(self.batch):
            self._redo.suspended = False  # the database has all that was decided
        if self._flushing:
            self._hand_over()
        elif self._stopping:
            self._queue.put(None)
        commit.finish()
        for each in work:
            each.finish()

    def _fail(self, error: BaseException, commit: Commit, work: list[Work[object]]) -> None:
        failed = self._failed_with(error)
        self._busy, self._opening = False, {}
        commit.finish(failed)
        for each in work:
            each.finish(failed)
        self._fail_waiting(failed)

    def _fail_from_thread(self, error: BaseException) -> None:
        self._loop.call_soon_threadsafe(self._failed_with, error)

    def _failed_with(self, error: BaseException) -> KeeperUnavailableError:
        if self.failed is None:
            self.failed = KeeperUnavailableError(f"the ledger cannot be written: {error}")
            self.failed.__cause__ = error
            self._on_fatal(error)
        return self.failed

    def _fail_waiting(self, failed: KeeperUnavailableError) -> None:
        commit, work = self.commit, self._work
        self._flushing = False
        self.batch = Batch()
        self.commit = Commit(self._loop)
        self._work = []
        commit.finish(failed)
        for each in work:
            each.finish(failed)
        if self._stopping:
            self._queue.put(None)

    # Below: on the writer thread.

    def _run(self) -> None:
        handed = None
        try:
            while (handed := self._queue.get()) is not None:
                self._write(*handed)
        finally:
            if handed is not None:  # a fault of ours; the thread's hook says which
                error = AssertionError("the writer thread died")
                self._loop.call_soon_threadsafe(self._fail, error, handed[1], handed[2])
            if self._syncer is not None:
                self._syncer.stop()
            self._mark.close(self._connection)
            self._loop.call_soon_threadsafe(self._ended.finish)

    def _write(self, batch: Batch, commit: Commit, work: list[Work[object]]) -> None:
        started = perf_counter()
        try:
            if len(batch):
                batch.apply(self._connection)
            for each in work:
                each.run(self._connection)
        except (sqlite3.Error, OSError, AssertionError) as error:
            self._loop.call_soon_threadsafe(self._fail, error, commit, work)
            return
        self.commit_seconds += perf_counter() - started
        self.commits += 1
        self._loop.call_soon_threadsafe(self._committed, commit, work)
        self._after_commit(len(batch) + 64 * len(work))

    def _after_commit(self, rows: int) -> None:
        if self._syncer is not None:
            self._syncer.wake()
        # A commit rewrites the right edge of each of about eight trees; a row adds little.
        self._wal_pages += 8 + rows // 8
        if self._wal_pages >= CHECKPOINT_PAGES and self.failed is None:
            self._wal_pages = 0
            started = perf_counter()
            try:
                self._mark.write()
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except (sqlite3.Error, OSError) as error:
                self._fail_from_thread(error)
            self.checkpoint_seconds += perf_counter() - started
        if self.commits % AUDIT_COMMITS == 1:
            self.imbalance = imbalance(self._connection)
