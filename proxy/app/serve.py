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
from proxy.app.office import Office, load_secrets, open_office
from proxy.app.seed import Seeded, Upstream
from proxy.app.settings import Settings, SettingsError, host_and_port, load
from proxy.app.wiring import Relay
from proxy.edge import log
from proxy.storage.sqlite import Durability

QUESTION = "Hello! Who are you?"


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
    async with open_office(directory, Durability(settings.durability)) as office:
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
    relay = Relay()
    await relay.start(settings)
    try:
        office = Office(relay.keeper, directory.database, load_secrets(directory))
        control = ControlServer(
            directory.control, lambda command, args: commands.run(office, command, args)
        )
        await control.start()
        try:
            address = shown_address(*relay.listen_address())
            sys.stdout.write(banner(address, settings, seeded) + "\n")
            sys.stdout.flush()
            log.get().info("serving", address=address, version=proxy.__version__)
            return await _until_stopped(relay, office, settings, options)
        finally:
            await control.stop()
    finally:
        await relay.stop()


async def _until_stopped(relay: Relay, office: Office, settings: Settings, options: Options) -> int:
    loop = asyncio.get_running_loop()
    stop, stop_now, hang_up = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def stopping() -> None:
        (stop_now if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping)
    loop.add_signal_handler(signal.SIGHUP, hang_up.set)
    reloading = asyncio.ensure_future(_reload_when_told(hang_up, relay, office, settings, options))
    failed = asyncio.ensure_future(relay.failed())
    stopped = asyncio.ensure_future(stop.wait())
    try:
        first: set[asyncio.Future[Any]] = {stopped, failed}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            log.get().error("the ledger cannot be written; stopping", reason=str(failed.result()))
            return 1
        log.get().info("draining", seconds=settings.drain_seconds)
        draining = asyncio.ensure_future(relay.drain())
        at_once = asyncio.ensure_future(stop_now.wait())
        ends: set[asyncio.Future[Any]] = {draining, at_once, failed}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        at_once.cancel()
        return 0
    finally:
        tasks: list[asyncio.Future[Any]] = [reloading, failed, stopped]
        for task in tasks:
            task.cancel()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def _reload_when_told(
    told: asyncio.Event, relay: Relay, office: Office, settings: Settings, options: Options
) -> None:
    while True:
        await told.wait()
        told.clear()
        settings = await reload(relay, office, settings, options)


async def reload(relay: Relay, office: Office, running: Settings, options: Options) -> Settings:
    """Read the files again; returns the settings now in force, the old ones if any is bad."""
    try:
        wanted, kept = running.rejoin(load(options.config, options.flags))
        if running.catalog_file:
            await apply_file(office, Path(running.catalog_file))
    except SettingsError as error:
        for problem in error.problems:
            log.get().error(
                "reload refused, old settings stay",
                line=problem.line,
                reason=problem.reason,
                remedy=problem.remedy,
            )
        return running
    except CommandError as error:
        log.get().error(
            "reload refused, old settings stay", reason=error.message, remedy=error.remedy
        )
        return running
    log.configure(wanted.log_level, wanted.log_format)
    relay.reload(wanted)
    for name in kept:
        log.get().warning("setting needs a restart to change", setting=name)
    log.get().info("reloaded")
    return wanted


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
