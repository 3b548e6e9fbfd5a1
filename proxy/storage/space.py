"""How much room the database's file system has, and when that is too little.

Rules: free space is what an ordinary user may still write; looking asks the kernel alone and never
waits for a disk; below the minimum nothing new is admitted, and again only some way above it, so
that the edge is not crossed at every look. This module must not know what is written there.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from proxy.storage.sqlite import StorageError

LOOK_SECONDS = 1.0
"""Between two looks. What a relay can write meanwhile is far below any sensible minimum."""
RECOVERED_SHARE = 8
"""Admits again once an eighth above the minimum is free."""


def free_bytes(path: Path) -> int:
    """Free bytes where `path` is or would be. Raises OSError."""
    folder = path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def require(path: Path, needed: int, what: str) -> None:
    """Raise StorageError unless `needed` bytes are free where `path` is or would be."""
    try:
        free = free_bytes(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be looked at: {error.strerror}", "check it") from None
    if free < needed:
        raise StorageError(
            f"{what} needs {megabytes(needed)} of free space at {path.parent}, there are "
            f"{megabytes(free)}",
            "free some or grow the disk; nothing was changed",
        )


def megabytes(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1_000_000:,.1f} MB"


class SpaceWatch:
    """Looks once a second on the event loop; `short` says why nothing may be admitted, or None."""

    def __init__(
        self,
        path: Path,
        minimum: int,
        told: Callable[[str | None], object],
        measure: Callable[[Path], int] = free_bytes,
    ) -> None:
        self.free = 0
        """Free bytes at the last look; 0 before the first."""
        self.short: str | None = None
        self._path = path
        self._minimum = minimum
        self._told = told
        self._measure = measure
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now and once a second from now on, on the running loop."""
        self.look()
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(LOOK_SECONDS, self.start)

    def stop(self) -> None:
        """Look no more. Safe to call twice."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def look(self) -> None:
        """Measure once; tells `told` the reason when it becomes short, None when it recovers."""
        try:
            self.free = self._measure(self._path)
        except OSError as error:
            reason: str | None = f"the free space of {self._path.parent} is unknown: {error}"
        else:
            least = self._minimum + (self._minimum // RECOVERED_SHARE if self.short else 0)
            reason = None
            if self.free < least:
                reason = (
                    f"the disk is nearly full: {megabytes(self.free)} free at "
                    f"{self._path.parent}, disk_free_bytes_min is {megabytes(self._minimum)}"
                )
        changed = (reason is None) != (self.short is None)
        self.short = reason
        if changed:
            self._told(reason)
