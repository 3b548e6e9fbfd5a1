"""The data directory a command is about, and how its result is shown.

Rules: the running relay is asked over its socket; while none runs the command takes the lock and
does the same by itself. This module must not know any command, beyond which may make a database.
"""

import asyncio
import contextlib
import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import time
from typing import Any

import click

from proxy.app import show
from proxy.app.commands import runner
from proxy.app.control import CommandError, NotRunningError, ask
from proxy.app.directory import DataDirectory, LockedError
from proxy.app.office import open_office
from proxy.app.settings import Settings, load
from proxy.storage.redo import catch_up

CREATING = frozenset({"catalog apply", "user add", "channel add"})
"""Commands that may make a new database; the others would only hide a mistyped path."""

CONFIG_OPTION = click.option(
    "--config", type=click.Path(path_type=Path), envvar="SLUICE_CONFIG", help="Settings file."
)
DATA_OPTION = click.option("--data", envvar="SLUICE_DATA", help="Data directory.")


class Target:
    """Which data directory, and how to show results."""

    def __init__(self, config: Path | None, data: str | None, *, json: bool) -> None:
        flags = {} if data is None else {"data_dir": data}
        self.settings: Settings = load(config, flags)
        self.directory = DataDirectory(self.settings.data_path)
        self.json = json

    def do(self, command: str, arguments: Mapping[str, object]) -> Any:
        """Do a command and return its result. Raises CommandError, DirectoryError."""
        try:
            return ask(self.directory.control, command, arguments)
        except NotRunningError:
            pass
        if command not in CREATING and not self.directory.database.exists():
            raise CommandError(
                f"there is no database in {self.directory.root}",
                "start `sluice serve` once, or name the directory with --data",
            )
        with self.directory.locked():
            return asyncio.run(self._do_alone(command, arguments))

    def catch_up(self) -> None:
        """Let the database have all that was promised so far, before anybody reads the file.

        A running relay is asked for it, a killed one's log is read. Raises SchemaError,
        sqlite3.Error.
        """
        with contextlib.suppress(NotRunningError, CommandError):
            ask(self.directory.control, "ledger flush", {})
            return
        with contextlib.suppress(LockedError), self.directory.locked():
            catch_up(self.directory.database, time())

    def show(self, result: object) -> None:
        """Write a result to standard output."""
        (show.as_json if self.json else show.as_table)(result, sys.stdout)

    async def _do_alone(self, command: str, arguments: Mapping[str, object]) -> object:
        async with open_office(self.directory, self.settings) as office:
            return await runner.run(office, command, arguments)


def targeted(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --config, --data and --json, and a Target as first argument."""

    @functools.wraps(command)
    def wrapped(*, config: Path | None, data: str | None, json: bool, **rest: object) -> None:
        command(Target(config, data, json=json), **rest)

    for option in (
        click.option("--json", is_flag=True, help="Write the result as JSON."),
        DATA_OPTION,
        CONFIG_OPTION,
    ):
        wrapped = option(wrapped)
    return wrapped
