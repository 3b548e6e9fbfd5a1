"""The data directory: where its files are, and who alone may write there.

Rules: one process holds the exclusive lock file while it has the database open to write, be it
the relay or a command for a stopped relay; the kernel drops the lock when the process dies, so
there is nothing to clean up. The directory is for its owner only. This module must not know what
is in the files.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOCK_PAUSE_SECONDS = 0.01


class DirectoryError(Exception):
    """The data directory cannot be used; the message says why and what to do."""


class LockedError(DirectoryError):
    """Another process has the directory open to write."""


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """The paths below one data directory."""

    root: Path

    @property
    def database(self) -> Path:
        """The ledger and catalog."""
        return self.root / "sluice.db"

    @property
    def control(self) -> Path:
        """The unix socket commands are sent to."""
        return self.root / "control.sock"

    @property
    def port(self) -> Path:
        """The unix socket workers and the console reach the keeper by."""
        return self.root / "keeper.sock"

    @property
    def secrets(self) -> Path:
        """Where the pepper and the master key are."""
        return self.root / "secrets"

    @property
    def lock(self) -> Path:
        """The lock file; holds the process id of who has it, for people."""
        return self.root / "lock"

    def create(self) -> None:
        """Make the directories, for the owner only. Raises DirectoryError."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.secrets.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DirectoryError(
                f"cannot create {self.root}: {error.strerror}; "
                "name a directory this user may write with --data"
            ) from None

    @contextmanager
    def locked(self, seconds_max: float = 0.0) -> Iterator[None]:
        """Hold the exclusive lock. Blocks for up to `seconds_max` while someone else holds it.

        Raises LockedError then.
        """
        self.create()
        try:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DirectoryError(
                f"cannot open {self.lock}: {error.strerror}; check its owner and permissions"
            ) from None
        try:
            if not _take(descriptor, seconds_max):
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "?"
                raise LockedError(
                    f"{self.root} is in use by process {holder}; stop it or name another "
                    "directory with --data"
                )
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)


def _take(descriptor: int, seconds_max: float) -> bool:
    until = time.monotonic() + seconds_max
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return True


def holder(directory: DataDirectory) -> int | None:
    """The process that holds the lock, None if nobody does; takes nothing and makes nothing.

    Raises OSError where the lock file is not for this user.
    """
    try:
        descriptor = os.open(directory.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).strip()
        return int(text) if text.isdigit() else 0
    else:
        return None
    finally:
        os.close(descriptor)
