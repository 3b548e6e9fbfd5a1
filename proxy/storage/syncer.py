"""The thread that makes commits outlive the power: one sync for all of a tenth of a second.

Rules: it knows one file, the WAL, and is told after each commit; nobody waits for it; a failed
sync is fatal, because after it the kernel may have dropped the pages. This module must not know
what is written.
"""

import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

SYNC_SECONDS_MAX = 0.080
"""With the tick that a redo log may be ahead a power cut costs 100 ms and one sync at most."""


class Syncer:
    """The second thread: bounds how long a commit may live in the page cache only."""

    def __init__(self, wal: Path, on_error: Callable[[BaseException], object]) -> None:
        self._wal = wal
        self._on_error = on_error
        self.syncing_since: float | None = None
        """When the sync under way began, by `perf_counter`."""
        self._armed = False
        self._stopping = threading.Event()
        self._signal: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sluice-sync", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was committed: sync within `SYNC_SECONDS_MAX`."""
        if not self._armed:
            self._armed = True
            self._signal.put(SYNC_SECONDS_MAX)

    def stop(self) -> None:
        """Sync once more and end."""
        self._stopping.set()
        self._signal.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            # Closing this descriptor drops no lock of SQLite's: those are on the other two files.
            descriptor = os.open(self._wal, os.O_RDONLY)
        except OSError as error:
            self._on_error(error)
            return
        try:
            delay: float | None = 0.0
            while delay is not None:
                delay = self._signal.get()
                if delay is not None:
                    self._stopping.wait(delay)
                self._armed = False  # before the sync: a commit during it needs another one
                self.syncing_since = perf_counter()
                os.fdatasync(descriptor)
                self.syncing_since = None
        except OSError as error:
            self._on_error(error)
        finally:
            os.close(descriptor)
