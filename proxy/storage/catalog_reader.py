"""Keeps a process's snapshot of the catalog at the version the keeper names.

Rules: the file is read on a read-only connection, in a thread, by one reader at a time; a
snapshot is swapped by reference; a read that fails is said once and tried again, and the old
snapshot stays. This module must not know who names versions.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

from proxy.core.catalog import Catalog
from proxy.storage.secrets import SecretError
from proxy.storage.snapshots import load_catalog
from proxy.storage.sqlite import open_reader

RETRY_SECONDS = 0.5

log = logging.getLogger("sluice.port")


class CatalogReader:
    """See the module docstring. `known` is set once there is a snapshot.

    `in_force` is called with each version when every subscriber has acted on it.
    """

    def __init__(
        self, path: Path, master: bytes, in_force: Callable[[int], object] = lambda _: None
    ) -> None:
        self.known = asyncio.Event()
        self._path = path
        self._master = master
        self._in_force = in_force
        self._catalog: Catalog | None = None
        self._wanted = 0
        self._reading: asyncio.Task[None] | None = None
        self._subscribers: list[Callable[[Catalog], object]] = []

    @property
    def catalog(self) -> Catalog:
        """The snapshot in force."""
        if self._catalog is None:
            raise AssertionError("no catalog has been read yet")
        return self._catalog

    @property
    def version(self) -> int:
        """The version in force; 0 before the first."""
        return 0 if self._catalog is None else self._catalog.version

    def subscribe(self, callback: Callable[[Catalog], object]) -> Callable[[], None]:
        """Call `callback` with every new catalog; returns what ends that."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def want(self, version: int) -> None:
        """Read the file, unless this version is the one in force."""
        self._wanted = version
        known = self._catalog
        if (known is None or known.version != version) and self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())

    def close(self) -> None:
        """Read nothing more."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> None:
        version = -1
        while version < self._wanted:
            try:
                catalog = await asyncio.to_thread(
                    read_catalog, self._path, self._master, self._catalog
                )
            except (sqlite3.Error, SecretError) as error:
                log.error("the catalog cannot be read: %s", error)  # noqa: TRY400 - no trace of keys
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if catalog.version == version:  # the file is behind its keeper
                await asyncio.sleep(RETRY_SECONDS)
                continue
            version = catalog.version
            self._catalog = catalog
            self.known.set()
            for callback in tuple(self._subscribers):
                callback(catalog)
            self._in_force(version)
        self._reading = None


def read_catalog(path: Path, master: bytes, known: Catalog | None = None) -> Catalog:
    """Read the catalog as it is in the file now; `known`: an earlier one, to read less.

    Raises SecretError, sqlite3.Error.
    """
    connection = open_reader(path)
    try:
        connection.execute("BEGIN")
        return load_catalog(connection, master, known)
    finally:
        connection.close()
