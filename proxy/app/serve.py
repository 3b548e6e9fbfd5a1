"""`sluice serve`: one relay process from its lock to its last call.

Rules: the lock comes first and goes last; seeds and the catalog file are applied before anybody
can call. SIGTERM and SIGINT drain (a second one stops at once), SIGHUP reloads; a reload that
fails keeps everything as it was and says why. This module must not know how calls are served.
"""

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvloop

import proxy
from proxy.app import commands, seed
from proxy.app.check import read_catalog
from proxy.app.control import CommandError, ControlServer
from proxy.app.demo import start_demo
from proxy.app.directory import DataDirectory
from proxy.app.notify import READY, STOPPING, extend_timeout, notify, reloading, status
from proxy.app.office import Office, load_secrets, open_office
from proxy.app.seed import Seeded, Upstream
from proxy.app.settings import Settings, SettingsError, host_and_port, load
from proxy.app.watchdog import watchdog
from proxy.app.wiring import Relay
from proxy.edge import log

QUESTION = "Hello! Who are you?"
STOP_SECONDS_MAX = 15.0
"""What may follow the drain: cut calls tell their clients, the ledger writes its last batch."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for. `models` are for upstreams that do not list theirs."""

    config: Path | None = None
    flags: Mapping[str, object] = field(default_factory=dict)
    demo: bool = False
    upstreams: Sequence[Upstream] = ()
    models: tuple[str, ...] = ()


async def serve(options: Options) -> int:
    """Run until told to stop; returns the exit status.

    Raises SettingsError, DirectoryError, CommandError, OSError (an address in use).
    """
    settings = load(options.config, options.flags)
    log.configure(settings.log_level, settings.log_format)
    directory = DataDirectory(settings.data_path)
    with directory.locked():
        demo = await start_demo() if options.demo else None
        try:
            upstreams = [*options.upstreams]
            if demo is not None:
                upstreams.extend(seed.demo_upstreams(demo.base_url))
            seeded = await _prepare(directory, settings, upstreams, options.models)
            return await _run(directory, settings, options, seeded)
        finally:
            if demo is not None:
                await demo.stop()


async def _prepare(
    directory: DataDirectory,
    settings: Settings,
    upstreams: Sequence[Upstream],
    models: tuple[str, ...],
) -> Seeded | None:
    """Apply the catalog file and the seeds while nobody can call yet."""
    if not upstreams and not settings.catalog_file:
        return None
    async with open_office(directory, settings) as office:
        if settings.catalog_file:
            await apply_file(office, Path(settings.catalog_file))
        if not upstreams:
            return None
        named = [
            replace(each, models=each.models or models or await seed.list_models(each))
            for each in upstreams
        ]
        return await seed.seed(office, named)


async def _run(
    directory: DataDirectory, settings: Settings, options: Options, seeded: Seeded | None
) -> int:
    signals = Signals()
    relay = Relay()
    await relay.start(settings)
    try:
        office = Office(relay.keeper, directory.database, load_secrets(directory, settings))
        control = ControlServer(
            directory.control, lambda command, args: commands.run(office, command, args)
        )
        await control.start()
        try:
            address = shown_address(*relay.listen_address())
            sys.stdout.write(banner(address, settings, seeded) + "\n")
            sys.stdout.flush()
            log.get().info("serving", address=address, version=proxy.__version__)
            reloader = Reloader(relay, office, options, settings)
            dog = watchdog(relay.keeper.beat)
            beating = None if dog is None else asyncio.ensure_future(dog.run())
            notify(READY, status(f"serving on {address}"))
            try:
                return await until_stopped(relay, reloader, signals)
            finally:
                if beating is not None:
                    beating.cancel()
        finally:
            await control.stop()
    finally:
        await relay.stop()
        signals.close()


class Signals:
    """What the process was told from outside; listens from its making to `close`."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.stop_now = asyncio.Event()
        self.hang_up = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stopping)
        self._loop.add_signal_handler(signal.SIGHUP, self.hang_up.set)

    def close(self) -> None:
        """Give the signals their default meaning again."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._loop.remove_signal_handler(number)

    def _stopping(self) -> None:
        (self.stop_now if self.stop.is_set() else self.stop).set()


async def until_stopped(relay: Relay, reloader: "Reloader", signals: Signals) -> int:
    """Serve until a signal or a failed ledger; returns the exit status."""
    reloading = asyncio.ensure_future(reloader.run(signals.hang_up))
    failed = asyncio.ensure_future(relay.failed())
    stopped = asyncio.ensure_future(signals.stop.wait())
    try:
        first: set[asyncio.Future[Any]] = {stopped, failed}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            log.get().error("the ledger cannot be written; stopping", reason=str(failed.result()))
            return 1
        seconds = reloader.settings.drain_seconds
        log.get().info("draining", seconds=seconds)
        notify(STOPPING, status("draining"), extend_timeout(seconds + STOP_SECONDS_MAX))
        draining = asyncio.ensure_future(relay.drain())
        at_once = asyncio.ensure_future(signals.stop_now.wait())
        ends: set[asyncio.Future[Any]] = {draining, at_once, failed}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        at_once.cancel()
        return 0
    finally:
        tasks: list[asyncio.Future[Any]] = [reloading, failed, stopped]
        for task in tasks:
            task.cancel()


@dataclass(slots=True)
class Reloader:
    """Reads the files again when told; `settings` are those in force."""

    relay: Relay
    office: Office
    options: Options
    settings: Settings

    async def run(self, told: asyncio.Event) -> None:
        """Reload each time `told` is set, until cancelled."""
        while True:
            await told.wait()
            told.clear()
            await self.reload()

    async def reload(self) -> None:
        """Put new files in force, or none of them if any is bad; the log says which."""
        notify(reloading())
        try:
            await self._reload()
        finally:
            notify(READY)

    async def _reload(self) -> None:
        try:
            wanted, kept = self.settings.rejoin(load(self.options.config, self.options.flags))
            if self.settings.catalog_file:
                await apply_file(self.office, Path(self.settings.catalog_file))
        except SettingsError as error:
            for problem in error.problems:
                _refused(problem.reason, problem.remedy, problem.line)
            return
        except CommandError as error:
            _refused(error.message, error.remedy, None)
            return
        log.configure(wanted.log_level, wanted.log_format)
        self.relay.reload(wanted)
        self.settings = wanted
        for name in kept:
            log.get().warning("setting needs a restart to change", setting=name)
        log.get().info("reloaded")


def _refused(reason: str, remedy: str, line: int | None) -> None:
    log.get().error("reload refused, old settings stay", line=line, reason=reason, remedy=remedy)


async def apply_file(office: Office, path: Path) -> None:
    """Make the catalog equal to a file, which is the truth. Raises SettingsError, CommandError."""
    _, document = read_catalog(path)
    await commands.run(office, "catalog apply", {"document": document, "force": True})


def banner(address: str, settings: Settings, seeded: Seeded | None) -> str:
    """What a person wants to read when the relay has started."""
    url = f"http://{address}"
    operations = shown_address(*host_and_port(settings.operations_listen))
    where = f"operations http://{operations}, data {settings.data_path}"
    lines = [f"Sluice {proxy.__version__} on {url}  ({where})"]
    if seeded is None:
        return lines[0]
    if seeded.key is not None:
        lines += [
            "",
            f"  API key, shown only now:  {seeded.key}",
            f"  It belongs to user {seed.FIRST_USER!r}, who has ${seed.FIRST_CREDIT} of credit.",
        ]
    else:
        lines += ["", "  Keys and data are as before; `sluice key add` makes another key."]
    model = seeded.models[0] if seeded.models else "MODEL"
    return "\n".join([*lines, "", "  Try it:", "", *curl(url, seeded.key or "$SLUICE_KEY", model)])


def curl(url: str, key: str, model: str) -> list[str]:
    """A command that streams an answer."""
    body = (
        f'{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"{QUESTION}"}}]}}'
    )
    return [
        f"  curl -N {url}/v1/chat/completions \\",
        f'    -H "Authorization: Bearer {key}" \\',
        '    -H "Content-Type: application/json" \\',
        f"    -d '{body}'",
        "",
    ]


def run(options: Options) -> int:
    """Run `serve` on uvloop, from synchronous code."""
    return uvloop.run(serve(options))


def shown_address(host: str, port: int) -> str:
    """`host:port` as a client on this machine may use it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - shown, not bound
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
