"""The thread that syncs the WAL: when it does, for what, and what it says of a failure.

The syncs are real, and seen: `Syncs` stands between the thread and `os.fdatasync`.
"""

import errno
import os
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.storage import syncer
from proxy.storage.syncer import Syncer

SECONDS_MAX = 10.0


class Syncs:
    """Every sync waits for `allow`; `begun` has the path each of them is of."""

    def __init__(self) -> None:
        self.begun: queue.Queue[str] = queue.Queue()
        self.failure: OSError | None = None
        self._allowed = threading.Semaphore(0)
        self._sync = os.fdatasync

    def fdatasync(self, descriptor: int) -> None:
        self.begun.put(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        assert self._allowed.acquire(timeout=SECONDS_MAX), "nobody let the sync end"
        if self.failure is not None:
            raise self.failure
        self._sync(descriptor)

    def begins(self) -> str:
        """Wait until a sync is under way."""
        return self.begun.get(timeout=SECONDS_MAX)

    def allow(self, count: int = 1) -> None:
        self._allowed.release(count)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    made = Syncs()
    monkeypatch.setattr(os, "fdatasync", made.fdatasync)
    monkeypatch.setattr(syncer, "SYNC_SECONDS_MAX", 0.0)
    return made


@pytest.fixture
def wal(tmp_path: Path) -> Path:
    path = tmp_path / "w.db-wal"
    path.write_bytes(b"frames")
    return path


@pytest.fixture
def open_syncer(wal: Path) -> Iterator[Callable[[], tuple[Syncer, "queue.Queue[BaseException]"]]]:
    """Make syncers whose threads have ended when the test has."""
    made: list[Syncer] = []

    def make() -> tuple[Syncer, "queue.Queue[BaseException]"]:
        errors: queue.Queue[BaseException] = queue.Queue()
        one = Syncer(wal, errors.put)
        made.append(one)
        return one, errors

    yield make
    for one in made:
        one._signal.put(None)
        one._thread.join(SECONDS_MAX)
        assert not one._thread.is_alive()


Open = Callable[[], tuple[Syncer, "queue.Queue[BaseException]"]]


def test_a_commit_is_synced_and_the_sync_is_of_the_wal(
    syncs: Syncs, wal: Path, open_syncer: Open
) -> None:
    one, errors = open_syncer()
    one.wake()
    assert syncs.begins() == str(wal)
    syncs.allow(2)  # and the last one
    one.stop()
    assert syncs.begins() == str(wal)
    assert syncs.begun.empty()
    assert errors.empty()


def test_the_end_syncs_what_nobody_had_synced_yet(
    syncs: Syncs, wal: Path, monkeypatch: pytest.MonkeyPatch, open_syncer: Open
) -> None:
    """A delay of hours: only the end can have brought the sync about, and without waiting."""
    monkeypatch.setattr(syncer, "SYNC_SECONDS_MAX", 3600.0)
    one, _ = open_syncer()
    one.wake()
    syncs.allow(2)
    one.stop()
    assert not one._thread.is_alive()
    assert [syncs.begins(), syncs.begins()] == [str(wal)] * 2


def test_commits_of_one_delay_share_a_sync(
    syncs: Syncs, monkeypatch: pytest.MonkeyPatch, open_syncer: Open
) -> None:
    monkeypatch.setattr(syncer, "SYNC_SECONDS_MAX", 3600.0)
    one, _ = open_syncer()
    delays: queue.Queue[float] = queue.Queue()
    over = threading.Event()

    def wait(delay: float) -> bool:
        delays.put(delay)
        return over.wait(SECONDS_MAX)

    monkeypatch.setattr(one._stopping, "wait", wait)
    one.wake()
    assert delays.get(timeout=SECONDS_MAX) == 3600.0
    for _ in range(1000):
        one.wake()
    assert syncs.begun.empty(), "not before the delay is over"
    over.set()
    syncs.allow(2)
    one.stop()
    assert syncs.begun.qsize() == 2, "one for all the commits, one at the end"
    assert delays.empty()


def test_a_commit_during_a_sync_needs_another_one(syncs: Syncs, open_syncer: Open) -> None:
    one, _ = open_syncer()
    one.wake()
    syncs.begins()
    one.wake()  # the sync under way may not have seen this commit's pages
    one.wake()
    syncs.allow()
    syncs.begins()
    assert syncs.begun.empty()
    syncs.allow(2)
    one.stop()
    syncs.begins()
    assert syncs.begun.empty(), "two commits during one sync share the next"


def test_how_long_a_sync_has_hung_can_be_seen(
    syncs: Syncs, monkeypatch: pytest.MonkeyPatch, open_syncer: Open
) -> None:
    monkeypatch.setattr(syncer, "perf_counter", lambda: 42.5)
    one, _ = open_syncer()
    assert one.syncing_since is None
    one.wake()
    syncs.begins()
    assert one.syncing_since == 42.5
    syncs.allow(2)
    one.stop()
    assert one.syncing_since is None


def test_nobody_who_commits_waits_for_the_disk(syncs: Syncs, open_syncer: Open) -> None:
    one, _ = open_syncer()
    one.wake()
    syncs.begins()  # and hangs
    for _ in range(100):
        one.wake()  # returns
    syncs.allow(3)
    one.stop()


def test_a_failed_sync_is_said_once_and_never_tried_again(syncs: Syncs, open_syncer: Open) -> None:
    """The kernel may have dropped the pages: a second sync that succeeds would prove nothing."""
    one, errors = open_syncer()
    syncs.failure = OSError(errno.EIO, "the disk is gone")
    one.wake()
    syncs.begins()
    syncs.allow(9)
    assert errors.get(timeout=SECONDS_MAX) is syncs.failure
    one._thread.join(SECONDS_MAX)
    one.wake()
    one.stop()  # returns, though there is nobody to stop
    assert errors.empty()
    assert syncs.begun.empty()


def test_a_failure_of_the_last_sync_is_said(syncs: Syncs, open_syncer: Open) -> None:
    one, errors = open_syncer()
    syncs.failure = OSError(errno.ENOSPC, "no space")
    syncs.allow()
    one.stop()
    assert errors.get_nowait() is syncs.failure


def test_a_wal_that_cannot_be_opened_is_a_failure(tmp_path: Path) -> None:
    errors: queue.Queue[BaseException] = queue.Queue()
    one = Syncer(tmp_path / "missing-wal", errors.put)
    assert isinstance(errors.get(timeout=SECONDS_MAX), FileNotFoundError)
    one.stop()
    assert errors.empty()


def test_it_keeps_no_descriptor(syncs: Syncs, wal: Path, open_syncer: Open) -> None:
    def of_the_wal() -> int:
        found = 0
        for each in Path("/proc/self/fd").iterdir():
            try:
                found += each.readlink() == wal
            except FileNotFoundError:  # the listing's own
                continue
        return found

    one, _ = open_syncer()
    one.wake()
    syncs.begins()
    assert of_the_wal() == 1
    syncs.allow(2)
    one.stop()
    assert of_the_wal() == 0
