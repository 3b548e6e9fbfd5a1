"""The relay a command is about, here or elsewhere, and how its result is shown.

Rules: the running relay is asked over its socket; while none runs the command takes the lock and
does the same by itself. With `--url` it is one elsewhere, which is asked over its admin API, and
what reads files of its machine is refused. This module must not know any command, beyond which may
make a database.
"""

import asyncio
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import time
from typing import Any

import click

from proxy.app import show
from proxy.app.admin_client import AdminClient, read_token
from proxy.app.commands import runner
from proxy.app.control import CommandError, NotRunningError, ask
from proxy.app.directory import DataDirectory, LockedError
from proxy.app.office import open_office
from proxy.app.settings import Settings, load
from proxy.storage.redo import catch_up

CREATING = frozenset({"catalog apply", "user add", "channel add"})
"""Commands that may make a new database; the others would only hide a mistyped path."""

TOKEN_VARIABLE = "SLUICE_TOKEN"  # noqa: S105 - a variable's name

CONFIG_OPTION = click.option(
    "--config", type=click.Path(path_type=Path), envvar="SLUICE_CONFIG", help="Settings file."
)
DATA_OPTION = click.option("--data", envvar="SLUICE_DATA", help="Data directory.")
URL_OPTION = click.option(
    "--url", envvar="SLUICE_URL", help="Console of a relay elsewhere, asked with a token."
)
TOKEN_OPTION = click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    envvar="SLUICE_TOKEN_FILE",
    help=f"File with that token; or set {TOKEN_VARIABLE}.",
)


class Target:
    """Which relay, and how to show results. `elsewhere`: where it is, if not on this machine."""

    def __init__(
        self,
        config: Path | None,
        data: str | None,
        *,
        json: bool,
        elsewhere: AdminClient | None = None,
    ) -> None:
        self.elsewhere = elsewhere
        self.json = json
        if elsewhere is None:
            flags = {} if data is None else {"data_dir": data}
            self._settings: Settings = load(config, flags)
            self._directory = DataDirectory(self._settings.data_path)

    @property
    def settings(self) -> Settings:
        """The settings of the relay on this machine. Raises CommandError."""
        self._must_be_here()
        return self._settings

    @property
    def directory(self) -> DataDirectory:
        """The data directory of the relay on this machine. Raises CommandError."""
        self._must_be_here()
        return self._directory

    def do(self, command: str, arguments: Mapping[str, object]) -> Any:
        """Do a command and return its result. Raises CommandError, DirectoryError."""
        if self.elsewhere is not None:
            return self.elsewhere.do(command, arguments)
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

    def _must_be_here(self) -> None:
        if self.elsewhere is not None:
            raise CommandError(
                f"this reads files of the machine that {self.elsewhere.url} runs on",
                "run it there, without --url and SLUICE_URL",
            )

    async def _do_alone(self, command: str, arguments: Mapping[str, object]) -> object:
        async with open_office(self.directory, self.settings) as office:
            return await runner.run(office, command, arguments)


def targeted(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a Target, and that as first argument."""

    @functools.wraps(command)
    def wrapped(
        *,
        config: Path | None,
        data: str | None,
        json: bool,
        url: str | None,
        token_file: Path | None,
        **rest: object,
    ) -> None:
        there = None
        if url:
            there = AdminClient(url, read_token(token_file, os.environ.get(TOKEN_VARIABLE)))
        command(Target(config, data, json=json, elsewhere=there), **rest)

    for option in (
        click.option("--json", is_flag=True, help="Write the result as JSON."),
        TOKEN_OPTION,
        URL_OPTION,
        DATA_OPTION,
        CONFIG_OPTION,
    ):
        wrapped = option(wrapped)
    return wrapped
