"""An open data directory, as commands work on it: keeper, secrets, read-only connections.

Rules: the running relay makes an `Office` around its own keeper; a command for a stopped relay
opens one by itself, under the directory's lock, and closes it before it prints. This module must
not know any command.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import TypeVar

from proxy.app.control import CommandError
from proxy.app.directory import DataDirectory
from proxy.storage.billing import Keeper
from proxy.storage.secrets import SecretError, load_or_create_secret
from proxy.storage.sqlite import Durability, SchemaError, open_reader

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the data directory's secret files hold: for client keys, and for upstream keys."""

    pepper: bytes = field(repr=False)
    master: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Office:
    """What commands work on."""

    keeper: Keeper
    database: Path
    secrets: Secrets
    clock: Callable[[], float] = time

    async def read(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a reading function on a read-only connection of its own, off the loop."""
        return await asyncio.to_thread(self._read, function)

    def _read(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        connection = open_reader(self.database)
        try:
            return function(connection)
        finally:
            connection.close()


def load_secrets(directory: DataDirectory) -> Secrets:
    """Read the secret files, made on first use. Raises SecretError."""
    return Secrets(
        load_or_create_secret(directory.secrets / "pepper"),
        load_or_create_secret(directory.secrets / "master"),
    )


@asynccontextmanager
async def open_office(
    directory: DataDirectory, durability: Durability = Durability.PROCESS
) -> AsyncIterator[Office]:
    """Open the database to write; the caller holds the directory's lock. Raises CommandError."""
    try:
        secrets = load_secrets(directory)
        # A failed commit reaches the command itself as KeeperUnavailableError.
        keeper = await Keeper.start(
            directory.database,
            master=secrets.master,
            on_fatal=lambda _error: None,
            durability=durability,
        )
    except (SecretError, SchemaError) as error:
        raise CommandError(str(error)) from None
    except sqlite3.Error as error:
        raise CommandError(
            f"{directory.database} cannot be opened: {error}", "check disk space and permissions"
        ) from None
    try:
        yield Office(keeper, directory.database, secrets)
    finally:
        await keeper.close()
