"""An open data directory, as commands work on it: keeper, secrets, read-only connections.

Rules: the running relay makes an `Office` around its own keeper; a command for a stopped relay
opens one by itself, under the directory's lock, and closes it before it prints. This module must
not know any command.
"""

import asyncio
import hmac
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Final, TypeVar

from proxy.app.control import CommandError
from proxy.app.directory import DataDirectory
from proxy.app.in_force import InForce
from proxy.app.settings import Settings
from proxy.core.attempts import Attempts, Rule
from proxy.edge.console.rates import Rates
from proxy.storage.billing import Keeper
from proxy.storage.ports import KeeperUnavailableError
from proxy.storage.secret_files import HOW_TO_MAKE, UnfitSecretError, create_secret, read_secret
from proxy.storage.secrets import SecretError
from proxy.storage.sqlite import Durability, StorageError, open_reader
from proxy.storage.till import Aside, Event, Moved

GUESSES = Rule(free=10, first_seconds=2.0, seconds_max=900.0)
"""Of one person: nobody guesses 100 bits, and nobody needs to be let try."""

CHANGES_MAX = 60
"""Changes of keys, teams and plans that one person may make within a minute."""

RESTORE: Final = "restore it from the backup"
LOST: Final[Mapping[str, str]] = {
    "pepper": f"if it is lost for good, make another ({HOW_TO_MAKE}), then `sluice pepper accept` "
    "takes it, and every client key must be made anew",
    "master": "another one would open none of the upstream keys in the database",
}
"""What an unfit secret of a database in use means, beyond the backup."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the data directory's secret files hold: for client keys, and for upstream keys."""

    pepper: bytes = field(repr=False)
    master: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Gauges:
    """`breakers`, `resting`: channel names, states and keys (edge/health.py).

    `unready`: why no call is served, None if they are.
    """

    streams: int
    breakers: tuple[tuple[str, int], ...]
    resting: tuple[tuple[str, int], ...]
    unready: str | None


@dataclass(frozen=True, slots=True)
class Office:
    """What commands work on."""

    keeper: Keeper
    database: Path
    secrets: Secrets
    clock: Callable[[], float] = time
    spread: Callable[[int], Awaitable[object]] | None = None
    """Waits until the workers beside the keeper serve by this version of the catalog."""
    guesses: Attempts = field(default_factory=lambda: Attempts(GUESSES))
    """Who tried redeem codes that were none."""
    changes: Rates = field(default_factory=lambda: Rates(CHANGES_MAX))
    """How often people without a role changed the catalog lately."""
    catalog_file: str = ""
    """The file the catalog comes from (setting `catalog_file`); no command edits it then."""
    keys_per_person_max: int = 100
    """See the setting of that name."""
    gauges: Callable[[], Gauges] | None = None
    """How the calls of this process do; None where it serves none."""
    in_force: InForce | None = None
    """What the relay runs with; None for a command by itself."""

    async def change(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """Change the catalog; it holds for every request made after this. See `Keeper.change`."""
        result = await self.keeper.change(function)
        if self.spread is not None:
            await self.spread(self.keeper.catalog.version)
        return result

    async def move(
        self,
        function: Callable[[sqlite3.Connection, Event], Moved[Result]],
        *,
        aside: Aside | None = None,
    ) -> Result:
        """Change the catalog and move money, both or neither. See `Till.move`."""
        result = await self.keeper.till.move(function, aside=aside, catalog=True)
        if self.spread is not None:
            await self.spread(self.keeper.catalog.version)
        return result

    async def read(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a reading function on a read-only connection of its own, off the loop."""
        # A ledger that cannot be written can still be read.
        with suppress(KeeperUnavailableError):
            await self.keeper.catch_up()
        return await asyncio.to_thread(self._read, function)

    def _read(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        connection = open_reader(self.database)
        try:
            return function(connection)
        finally:
            connection.close()


def load_secrets(
    directory: DataDirectory,
    settings: Settings | None = None,
    environ: Mapping[str, str] | None = None,
) -> Secrets:
    """Read both secrets, each from the first place that has it. Raises SecretError.

    A credential of systemd (`pepper`, `master` in $CREDENTIALS_DIRECTORY), the file a setting
    names, the data directory. In the last they are made, together with a new database only: an
    old one without its secrets must not get others unnoticed.
    """
    settings = Settings() if settings is None else settings
    places = _Places(directory, os.environ if environ is None else environ)
    secrets = Secrets(
        _load_secret(places, "pepper", settings.pepper_file),
        _load_secret(places, "master", settings.master_file),
    )
    if hmac.compare_digest(secrets.pepper, secrets.master):
        raise SecretError(
            "pepper and master key are the same secret",
            "restore the one that is wrong; for a new relay make one of them anew",
        )
    console = None
    with suppress(SecretError):  # that is the console's to say: the ledger does without it
        console = places.find("console", "console_secret_file", settings.console_secret_file)
    if console in {secrets.pepper, secrets.master}:
        raise SecretError(
            "the console's secret is the pepper or the master key, which it must not have",
            f"make it anew with: {HOW_TO_MAKE}; people only have to sign in again",
        )
    return secrets


def load_console_secret(
    directory: DataDirectory, settings: Settings, environ: Mapping[str, str] | None = None
) -> bytes:
    """Read what the console signs sessions with, as `load_secrets` does. Raises SecretError.

    A new one is made whenever there is none: nothing in the database depends on it, and people
    only have to sign in again.
    """
    places = _Places(directory, os.environ if environ is None else environ)
    named = settings.console_secret_file
    return places.find("console", "console_secret_file", named) or _create(places.path("console"))


@dataclass(frozen=True, slots=True)
class _Places:
    """Where secrets may be."""

    directory: DataDirectory
    environ: Mapping[str, str]

    def path(self, name: str) -> Path:
        return self.directory.secrets / name

    def find(self, name: str, setting: str, named: str) -> bytes | None:
        """The secret, from the first place that has it; None if it would have to be made."""
        credentials = self.environ.get("CREDENTIALS_DIRECTORY", "")
        if credentials:
            with suppress(FileNotFoundError):
                return read_secret(Path(credentials, name), credential=True)
        if named:
            try:
                return read_secret(Path(named))
            except FileNotFoundError:
                raise UnfitSecretError(
                    f"{named}, which the setting {setting} names, does not exist",
                    f"make it with: (umask 077; {HOW_TO_MAKE} > {named})",
                ) from None
        with suppress(FileNotFoundError):
            return read_secret(self.path(name))
        return None


def _load_secret(places: _Places, name: str, named: str) -> bytes:
    setting = f"{name}_file"
    path, database = places.path(name), places.directory.database
    try:
        found = places.find(name, setting, named)
    except UnfitSecretError as error:
        # With a database another one is no way out: what the old one made would be lost.
        if not database.exists():
            raise
        raise SecretError(error.message, f"{RESTORE}; {LOST[name]}") from None
    if found is not None:
        return found
    if database.exists():
        raise SecretError(
            f"{path} is missing, but {database} was made with one",
            f"{RESTORE}, or name its file by the credential {name!r} or the setting {setting}",
        )
    return _create(path)


def _create(path: Path) -> bytes:
    try:
        return create_secret(path)
    except OSError as error:
        raise SecretError(
            f"{path} cannot be made: {error.strerror}", "check permissions and free space"
        ) from None


@asynccontextmanager
async def open_office(
    directory: DataDirectory, settings: Settings | None = None
) -> AsyncIterator[Office]:
    """Open the database to write; the caller holds the directory's lock. Raises CommandError."""
    settings = Settings() if settings is None else settings
    try:
        secrets = load_secrets(directory, settings)
        # A failed commit reaches the command itself as KeeperUnavailableError.
        keeper = await Keeper.start(
            directory.database,
            master=secrets.master,
            pepper=secrets.pepper,
            on_fatal=lambda _error: None,
            durability=Durability(settings.durability),
        )
    except SecretError as error:
        raise CommandError(error.message, error.remedy) from None
    except StorageError as error:
        raise CommandError(error.message, error.remedy) from None
    try:
        yield Office(
            keeper,
            directory.database,
            secrets,
            catalog_file=settings.catalog_file,
            keys_per_person_max=settings.keys_per_person_max,
        )
    finally:
        await keeper.close()
