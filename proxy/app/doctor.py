"""`sluice doctor`: everything an operator would be asked about, looked at once, with remedies.

Rules: nothing is changed, made or sent to an upstream; it runs beside the relay or without it.
Each check is bounded, stands for itself and has one line: how it went, what was seen, what to do. A
check that cannot be made says why. This module must not know how a line is shown, nor the machine
around the data directory (`surroundings.py`).
"""

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, time

from proxy.app import surroundings
from proxy.app.check import check_files
from proxy.app.control import CommandError, NotRunningError, ask
from proxy.app.directory import DataDirectory, holder
from proxy.app.in_force import ask_running
from proxy.app.office import Secrets, load_secrets
from proxy.app.selftest import Check, Finding, Outcome
from proxy.app.settings import Settings, SettingsError, load, table
from proxy.core.catalog import Catalog
from proxy.core.catalog_faults import faults
from proxy.core.ids import EPOCH_MS
from proxy.storage import space
from proxy.storage.backup import check_in_place, database_bytes
from proxy.storage.fingerprints import fingerprint_of
from proxy.storage.opening import COPIES, remedy_for
from proxy.storage.recovery import last_id
from proxy.storage.secrets import SecretError
from proxy.storage.snapshots import load_catalog
from proxy.storage.sqlite import StorageError, open_reader, pending, schema_version
from proxy.storage.verify import verify

WAL_BYTES_MUCH = 128 << 20
"""The writer keeps it at a few MB; more means that somebody holds a snapshot open."""
CLOCK_AHEAD_SECONDS_MAX = 60.0
NAMES_SHOWN_MAX = 5
_DEFAULTS = (
    "defaults, no settings file; for a relay that does not run with these, name its file by "
    "--config: what is said below of addresses, console and accounts holds for these"
)

Step = Callable[[], Awaitable[Finding]]


@dataclass(slots=True)
class Doctor:
    """One examination; what an early check finds, later ones use. `offline`: connect nowhere."""

    config: Path | None
    data: str | None
    offline: bool = False
    settings: Settings = field(default_factory=Settings)
    directory: DataDirectory = field(default_factory=lambda: DataDirectory(Settings().data_path))
    running: int | None = None
    """The process that holds the lock."""
    secrets: Secrets | None = None
    catalog: Catalog | None = None

    async def run(self) -> AsyncIterator[Check]:
        """Make every check; one that fails does not stop those after it."""
        for name, step in self._steps():
            began = perf_counter()
            try:
                found = await step()
            except StorageError as error:
                found = Finding(Outcome.FAILURE, error.message, error.remedy)
            except sqlite3.Error as error:
                remedy = remedy_for(error, self.directory.root)
                found = Finding(Outcome.FAILURE, str(error), remedy)
            except OSError as error:
                seen = f"{error.filename or ''} {error.strerror or error}".strip()
                found = Finding(Outcome.FAILURE, seen, "check path and permissions")
            seconds = round(perf_counter() - began, 3)
            yield Check(name, found.outcome, found.seen, found.remedy, seconds)

    def _steps(self) -> list[tuple[str, Step]]:
        return [
            ("settings", self._settings),
            ("data directory", self._directory),
            ("relay", self._relay),
            ("secrets", self._secrets),
            ("database", self._database),
            ("ledger", self._ledger),
            ("write-ahead log", self._wal),
            ("catalog", self._catalog),
            ("disk space", self._space),
            ("clock", self._clock),
            ("sqlite", surroundings.sqlite),
            ("open files", lambda: surroundings.open_files(self.settings, self.running)),
            ("addresses", lambda: surroundings.addresses(self.settings, offline=self.offline)),
            ("console", lambda: surroundings.console(self.settings)),
            ("accounts", lambda: surroundings.accounts(self.settings, self.catalog)),
            ("upstreams", lambda: surroundings.upstreams(self.catalog, offline=self.offline)),
            ("memory allocator", lambda: surroundings.allocator(self.catalog, self.running)),
            ("nginx", lambda: surroundings.nginx(self.settings)),
            ("systemd", surroundings.systemd),
        ]

    async def _settings(self) -> Finding:
        flags = {} if self.data is None else {"data_dir": self.data}
        where = _DEFAULTS if self.config is None else str(self.config)
        try:
            self.settings = load(self.config, flags)
            self.directory = DataDirectory(self.settings.data_path)
            await asyncio.to_thread(check_files, self.settings)
        except SettingsError as error:
            if self.data is not None:
                self.directory = DataDirectory(Path(self.data))
            first = error.problems[0]
            line = "" if first.line is None else f" line {first.line}"
            more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
            return Finding(
                Outcome.FAILURE, f"{error.source}{line}: {first.reason}{more}", first.remedy
            )
        told = await asyncio.to_thread(ask_running, self.directory)
        if told is not None:
            # Its flags are in no file: what is judged below is what is served.
            by_file, self.settings = self.settings, told.settings
            where = "as the running relay has them"
            if self.config is not None:
                where = _compared(str(self.config), by_file, self.settings)
        return Finding(Outcome.OK, f"{where}; workers = {self.settings.workers}")

    async def _directory(self) -> Finding:
        root = self.directory.root
        if not root.is_dir():
            return Finding(
                Outcome.FAILURE,
                f"there is no directory {root}",
                "name it with --data or --config, or start `sluice serve` once",
            )
        check_in_place(self.directory.database)
        found = root.stat()
        if stat.S_IMODE(found.st_mode) & 0o077:
            return Finding(Outcome.FAILURE, f"others may look into {root}", f"chmod 700 {root}")
        foreign = [file.name for file in root.iterdir() if file.lstat().st_uid != found.st_uid]
        if foreign:
            return Finding(
                Outcome.FAILURE,
                f"owned by somebody else than {root} itself: {_some(foreign)}",
                f"chown --reference={root} on them; run commands as the relay's user",
            )
        if os.geteuid() not in {0, found.st_uid}:
            return Finding(
                Outcome.WARNING,
                f"{root} belongs to user {found.st_uid}, this is user {os.geteuid()}",
                "run this command as that user",
            )
        if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
            return Finding(
                Outcome.FAILURE,
                f"{root} cannot be written",
                f"chmod 700 {root}, or make its file system writable",
            )
        return Finding(Outcome.OK, f"{root}, for its owner only")

    async def _relay(self) -> Finding:
        self.running = holder(self.directory)
        if self.running is None:
            return Finding(Outcome.OK, "not running")
        try:
            await asyncio.to_thread(ask, self.directory.control, "ledger flush", {})
        except NotRunningError:
            return Finding(
                Outcome.WARNING,
                f"process {self.running} holds the lock, but answers no commands",
                "it is starting, stopping, or another command; look at its log",
            )
        except CommandError as error:
            return Finding(Outcome.FAILURE, error.message, error.remedy or "look at its log")
        return Finding(Outcome.OK, f"process {self.running} runs and its ledger takes writes")

    async def _secrets(self) -> Finding:
        if not self.directory.database.exists():
            return Finding(Outcome.SKIPPED, "no database yet: they are made together with it")
        try:
            self.secrets = load_secrets(self.directory, self.settings)
        except SecretError as error:
            return Finding(Outcome.FAILURE, error.message, error.remedy)
        return Finding(Outcome.OK, "pepper and master key are there, private and random")

    async def _database(self) -> Finding:
        path = self.directory.database
        if not path.exists():
            return Finding(Outcome.SKIPPED, "there is none yet")
        connection = open_reader(path)
        try:
            missing = pending(connection)
            version = schema_version(connection)
            if missing:
                names = ", ".join(migration.name for migration in missing)
                needed = space.megabytes(COPIES * database_bytes(path))
                return Finding(
                    Outcome.WARNING,
                    f"schema {version} lacks {names}",
                    f"the next start migrates it and needs {needed} free; take a backup first",
                )
            fingerprint = connection.execute("SELECT fingerprint FROM pepper_fingerprint")
            wrong = self._wrong_secrets(connection, fingerprint.fetchone())
        finally:
            connection.close()
        if wrong is not None:
            return wrong
        size = space.megabytes(path.stat().st_size)
        return Finding(Outcome.OK, f"schema {version}, {size}; opens with these secrets")

    def _wrong_secrets(
        self, connection: sqlite3.Connection, fingerprint: tuple[bytes] | None
    ) -> Finding | None:
        if self.secrets is None:
            return Finding(Outcome.SKIPPED, "its secrets are missing, see above")
        if fingerprint is not None and fingerprint[0] != fingerprint_of(self.secrets.pepper):
            return Finding(
                Outcome.FAILURE,
                "the client keys were made with another pepper",
                "restore the pepper from where it is kept",
            )
        try:
            self.catalog = load_catalog(connection, self.secrets.master)
        except SecretError as error:
            return Finding(Outcome.FAILURE, error.message, error.remedy)
        return None

    async def _ledger(self) -> Finding:
        path = self.directory.database
        if not path.exists():
            return Finding(Outcome.SKIPPED, "there is none yet")
        connection = open_reader(path)
        try:
            if pending(connection):
                return Finding(Outcome.SKIPPED, "the schema is an older one, see above")
        finally:
            connection.close()
        report = await asyncio.to_thread(verify, path)
        if not report.clean:
            return Finding(
                Outcome.FAILURE,
                f"{len(report.problems)} problems, the first: {report.problems[0]}",
                "run `sluice ledger verify`; README.md, Runbook, says what to do",
            )
        calls = f"{report.calls:,} calls with detail, {report.rolled_up:,} rolled up"
        return Finding(Outcome.OK, f"clean: {calls}, {report.open_calls:,} open")

    async def _wal(self) -> Finding:
        size = _bytes(Path(f"{self.directory.database}-wal"))
        if size > WAL_BYTES_MUCH:
            return Finding(
                Outcome.WARNING,
                f"{space.megabytes(size)}: it cannot be taken into the database",
                "end whatever reads the database for so long (fuser names it)",
            )
        return Finding(Outcome.OK, space.megabytes(size))

    async def _catalog(self) -> Finding:
        catalog = self.catalog
        if catalog is None:
            return Finding(Outcome.SKIPPED, "no catalog could be read")
        channels = [each for each in catalog.channels.values() if each.enabled]
        served = {model for each in channels if each.keys for model in each.models}
        unpriced = sorted(name for name, model in catalog.models.items() if model.price is None)
        if unpriced:
            return Finding(
                Outcome.WARNING,
                f"without a price, so refused: {_some(unpriced)}",
                "give them one: `sluice models import`, or `sluice catalog apply`",
            )
        unserved = sorted(catalog.models.keys() - served)
        if unserved:
            return Finding(
                Outcome.WARNING,
                f"no enabled channel with a key serves {_some(unserved)}",
                "`sluice channel add`, or remove the models",
            )
        if not served:
            return Finding(
                Outcome.WARNING, "no model is served yet", "`sluice channel add` names an upstream"
            )
        fault = next(faults(catalog.models.values(), catalog.channels.values()), None)
        if fault is not None:
            return Finding(Outcome.WARNING, fault.reason, fault.remedy)
        counts = f"{len(served)} models, {len(channels)} channels, {len(catalog.users)} users"
        return Finding(Outcome.OK, f"{counts}, {len(catalog.keys_by_id)} keys; all models priced")

    async def _space(self) -> Finding:
        free, least = space.free_bytes(self.directory.root), self.settings.disk_free_bytes_min
        seen = f"{space.megabytes(free)} free, disk_free_bytes_min is {space.megabytes(least)}"
        if free < least:
            return Finding(
                Outcome.FAILURE,
                f"{seen}: nothing is admitted",
                "free some, grow the disk, or set `detail_days` and roll up",
            )
        path = self.directory.database
        needed = least + (COPIES * database_bytes(path) if path.exists() else 0)
        if free < needed:
            return Finding(
                Outcome.WARNING,
                f"{seen}: not enough to migrate or back up beside it",
                f"keep {space.megabytes(needed)} free, or back up to another disk",
            )
        return Finding(Outcome.OK, seen)

    async def _clock(self) -> Finding:
        path = self.directory.database
        newest = 0.0
        if path.exists():
            connection = open_reader(path)
            try:
                newest = ((last_id(connection) >> 22) + EPOCH_MS) / 1000
            finally:
                connection.close()
        if newest > time() + CLOCK_AHEAD_SECONDS_MAX:
            return Finding(
                Outcome.FAILURE,
                f"the clock is {newest - time():,.0f} s behind the newest entry of the ledger",
                "set the clock (NTP); budgets and limits go by it",
            )
        return surroundings.clock_synchronised()


def _compared(file: str, by_file: Settings, running: Settings) -> str:
    """How a file does beside a relay that runs; paths may be told in two ways."""
    other = [
        row.name
        for row in table()
        if row.about.unit != "path" and getattr(by_file, row.name) != getattr(running, row.name)
    ]
    if not other:
        return f"{file}, as the running relay has them"
    return f"{file}, but the running relay goes by others, judged below: {_some(other)}"


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:NAMES_SHOWN_MAX])
    more = len(names) - NAMES_SHOWN_MAX
    return shown if more <= 0 else f"{shown} and {more} more"
