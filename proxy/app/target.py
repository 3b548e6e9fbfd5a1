"""The relay a command is about, here or elsewhere, and how its result is shown.

Rules: the running relay is asked over its socket; while none runs the command takes the lock and
does the same by itself. A report is made here in either case, from the file. With `--url` it is a
relay elsewhere, which is asked over its admin API, and what reads files of its machine is refused.
This module must not know any command, beyond which may make a database.
"""

import asyncio
import contextlib
import functools
import os
import sqlite3
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import time
from typing import Any

import click

from proxy.app import show
from proxy.app.admin_client import AdminClient, read_token
from proxy.app.commands import runner
from proxy.app.control import CommandError, NotRunningError, ask
from proxy.app.directory import DataDirectory, LockedError
from proxy.app.in_force import Told, ask_running
from proxy.app.office import open_office
from proxy.app.settings import Settings, load
from proxy.core.actions.table import ACTIONS
from proxy.storage.redo import catch_up
from proxy.storage.sqlite import open_reader, pending

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

    @functools.cached_property
    def told(self) -> Told | None:
        """What the relay that runs here says it runs with; None if none does, or it cannot say.

        Raises CommandError.
        """
        return ask_running(self.directory)

    @property
    def settings(self) -> Settings:
        """The settings of the relay on this machine: as it runs, else by file. Raises CommandError.

        Its flags, and what it was reloaded with, are in no file that a command could read.
        """
        return self._settings if self.told is None else self.told.settings

    @property
    def directory(self) -> DataDirectory:
        """The data directory of the relay on this machine. Raises CommandError."""
        self._must_be_here()
        return self._directory

    def do(self, command: str, arguments: Mapping[str, object]) -> Any:
        """Do a command and return its result. Raises CommandError, DirectoryError."""
        if self.elsewhere is not None:
            return self.elsewhere.do(command, arguments)
        if command in ACTIONS and ACTIONS[command].report:
            return self._report(command, arguments)
        try:
            return ask(self.directory.control, command, arguments)
        except NotRunningError:
            pass
        if command not in CREATING:
            self._must_exist()
        with self.directory.locked():
            return asyncio.run(self._do_alone(command, arguments))

    def catch_up(self) -> bool:
        """Let the database have all that was promised so far, before anybody reads the file.

        A running relay is asked for it, a killed one's log is read; returns whether one runs.
        Raises SchemaError, sqlite3.Error.
        """
        with contextlib.suppress(NotRunningError, CommandError):
            ask(self.directory.control, "ledger flush", {})
            return True
        with contextlib.suppress(LockedError), self.directory.locked():
            catch_up(self.directory.database, time())
        return False

    def show(self, result: object) -> None:
        """Write a result to standard output."""
        (show.as_json if self.json else show.as_table)(result, sys.stdout)

    def show_changes(self, changes: object) -> None:
        """Write what an edit has changed; that it changed nothing is said."""
        self.show(changes if changes or self.json else show.UNCHANGED)

    def _must_be_here(self) -> None:
        if self.elsewhere is not None:
            raise CommandError(
                f"this reads files of the machine that {self.elsewhere.url} runs on",
                "run it there, without --url and SLUICE_URL",
            )

    def _must_exist(self) -> None:
        if not self.directory.database.exists():
            raise CommandError(
                f"there is no database in {self.directory.root}",
                "start `sluice serve` once, or name the directory with --data",
            )

    def _report(self, command: str, arguments: Mapping[str, object]) -> object:
        """Make a report in this process: a running relay has other things to do."""
        # What every other command does without.
        from proxy.app.commands.reporter import Reporter  # noqa: PLC0415 - loads the reports
        from proxy.app.console_figures import picture_of  # noqa: PLC0415 - loads an HTTP server

        self._must_exist()
        database = self.directory.database
        try:
            runs = self.catch_up()
            with contextlib.closing(open_reader(database)) as connection:
                if pending(connection):
                    raise CommandError(
                        "the database was written by an older release",
                        "start `sluice serve` once, which brings it up to date",
                    )
            picture = partial(picture_of, self.directory, self.settings) if runs else None
            return asyncio.run(Reporter(database, picture).make(command, arguments))
        except sqlite3.Error as error:
            raise CommandError(
                f"the database cannot be read: {error}", "see `sluice doctor`"
            ) from None

    async def _do_alone(self, command: str, arguments: Mapping[str, object]) -> object:
        async with open_office(self.directory, self._settings) as office:
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
