"""`sluice serve`: one relay process from its lock to its last call, or the supervisor of several.

Rules: the lock comes first and goes last; seeds and the catalog file are applied before anybody
can call; the banner is printed once. SIGTERM and SIGINT drain (a second one stops at once),
SIGHUP reloads; a reload that fails keeps everything as it was and says why. This module must not
know how calls are served.
"""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

import proxy
from proxy.app import processes, seed, upgrade
from proxy.app.addresses import Bound, shown_address
from proxy.app.check import check_files
from proxy.app.commands import runner
from proxy.app.console_beside import ConsoleBeside
from proxy.app.control import CommandError, ControlServer
from proxy.app.demo import start_demo
from proxy.app.directory import DataDirectory
from proxy.app.in_force import InForce
from proxy.app.notify import READY, STOPPING, extend_timeout, notify, reloading, status
from proxy.app.office import Office, load_console_secret, load_secrets, open_office
from proxy.app.provision import apply_file, provision
from proxy.app.seed import Seeded, Upstream
from proxy.app.settings import Settings, SettingsError, host_and_port, load
from proxy.app.sockets import Listeners, bound_address, more, open_listeners, take_console
from proxy.app.supervisor import Supervisor
from proxy.app.upgrade import Inherited
from proxy.app.watchdog import watchdog
from proxy.app.wiring import Relay
from proxy.edge import log
from proxy.storage.opening import remedy_for

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


def run(options: Options) -> int:
    """Run until told to stop, in one process or many; returns the exit status.

    Raises SettingsError, DirectoryError, CommandError, OSError (an address in use), ...
    """
    inherited = upgrade.take_over(os.environ)
    settings = load(options.config, options.flags)
    log.configure(settings.log_level, settings.log_format)
    if os.environ.pop(upgrade.PREFLIGHT, ""):
        check_files(settings)
        return 0
    if inherited is None and settings.workers == 1:
        return _run_one(settings, options)
    return _run_many(settings, options, inherited)


def _run_one(settings: Settings, options: Options) -> int:
    """Keeper and worker in this process."""
    with DataDirectory(settings.data_path).locked():
        # Bound before the ledger recovers: who calls meanwhile waits instead of being refused.
        listeners = open_listeners(settings)
        try:
            return uvloop.run(_serve(settings, options, listeners))
        finally:
            listeners.close()


def _run_many(settings: Settings, options: Options, inherited: Inherited | None) -> int:
    """Be the supervisor of a keeper, workers and a console; in each child, be that child."""
    if inherited is None:
        listeners = open_listeners(settings, demo=options.demo)
    else:
        listeners = inherited.listeners
        listeners.clients += more(listeners.clients, settings.workers)
        _take_new_console(listeners, settings)

    def announce(said: Mapping[str, Any]) -> None:
        _announce(listeners, settings, Seeded.read(said.get("seeded")))

    supervisor = Supervisor(
        settings, lambda: load(options.config, options.flags), listeners, announce, inherited
    )
    outcome = supervisor.run()
    if isinstance(outcome, int):
        listeners.close()
        return outcome
    status = processes.run(
        outcome, supervisor.settings, listeners, options.upstreams, options.models
    )
    # Everything is settled, closed and said. Taking the interpreter apart, and the token tables
    # with it, would cost a third of a second of CPU, which whoever takes over needs.
    os._exit(status)


def _take_new_console(listeners: Listeners, settings: Settings) -> None:
    """Listen for a console that the program before this one did not have; calls go on without."""
    if listeners.console and settings.console_listen and not listeners.passed:
        port = host_and_port(settings.console_listen)[1]
        if port not in {0, bound_address(listeners.console[0])[1]}:
            log.get().warning("setting needs a restart to change", setting="console_listen")
    try:
        take_console(listeners, settings)
    except CommandError as error:
        log.get().error("there is no console", reason=error.message, remedy=error.remedy)


async def _serve(settings: Settings, options: Options, listeners: Listeners) -> int:
    directory = DataDirectory(settings.data_path)
    if settings.console_listen:
        load_console_secret(directory, settings)  # a bad one refuses the start, as others do
    demo = await start_demo() if options.demo else None
    try:
        upstreams = [*options.upstreams]
        if demo is not None:
            upstreams.extend(seed.demo_upstreams(demo.base_url))
        seeded = None
        if upstreams or settings.catalog_file:
            async with open_office(directory, settings) as office:
                seeded = await provision(office, settings, upstreams, options.models)
        return await _relay(settings, options, listeners, seeded)
    finally:
        if demo is not None:
            await demo.stop()


async def _relay(
    settings: Settings, options: Options, listeners: Listeners, seeded: Seeded | None
) -> int:
    directory = DataDirectory(settings.data_path)
    signals = Signals()
    relay = Relay()
    await relay.start(settings, listeners)
    try:
        office = Office(
            relay.keeper,
            directory.database,
            load_secrets(directory, settings),
            catalog_file=settings.catalog_file,
            keys_per_person_max=settings.keys_per_person_max,
            gauges=relay.gauges,
            in_force=InForce(settings, Bound.of(listeners)),
        )
        control = ControlServer(directory.control, partial(runner.run, office))
        console = ConsoleBeside(listeners, settings)
        await control.start()
        try:
            address = _announce(listeners, settings, seeded)
            console.start()
            reloader = Reloader(relay, office, options, settings, console)
            dog = watchdog(relay.keeper.beat)
            beating = None if dog is None else asyncio.ensure_future(dog.run())
            notify(READY, status(f"serving on {address}"))
            try:
                return await until_stopped(relay, reloader, signals)
            finally:
                if beating is not None:
                    beating.cancel()
        finally:
            await console.stop()
            await control.stop()
    finally:
        await relay.stop()
        signals.close()


def _announce(listeners: Listeners, settings: Settings, seeded: Seeded | None) -> str:
    """Print the banner, once in the life of a relay; returns the address in it."""
    bound = Bound.of(listeners)
    console = bound.completing(settings).console_url if listeners.console else ""
    sys.stdout.write(banner(bound.clients, settings, seeded, console) + "\n")
    sys.stdout.flush()
    log.get().info("serving", address=bound.clients, console=console, version=proxy.__version__)
    return bound.clients


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
        self._loop.add_signal_handler(signal.SIGUSR2, _no_upgrade)

    def close(self) -> None:
        """Give the signals their default meaning again."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
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
            error = failed.result()
            log.get().error(
                "the ledger cannot be written; stopping",
                reason=str(error),
                remedy=remedy_for(error, reloader.settings.data_path),
            )
            await relay.give_up()
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
    console: ConsoleBeside | None = None

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
        self.office.keeper.renewals.fallback = wanted.default_plan
        if self.console is not None:
            self.console.reload(wanted)
        self.settings = wanted
        if self.office.in_force is not None:
            self.office.in_force.settings = wanted
        for name in kept:
            log.get().warning("setting needs a restart to change", setting=name)
        log.get().info("reloaded")


def _no_upgrade() -> None:
    log.get().error(
        "upgrade refused",
        reason="one process cannot replace itself",
        remedy="set workers = 2 or more, or restart",
    )


def _refused(reason: str, remedy: str, line: int | None) -> None:
    log.get().error("reload refused, old settings stay", line=line, reason=reason, remedy=remedy)


def banner(address: str, settings: Settings, seeded: Seeded | None, console: str = "") -> str:
    """What a person wants to read when the relay has started; `console` is its URL, if any."""
    url = f"http://{address}"
    operations = shown_address(*host_and_port(settings.operations_listen))
    where = f"operations http://{operations}, data {settings.data_path}"
    if console:
        where = f"console {console}, {where}"
    lines = [f"Sluice {proxy.__version__} on {url}  ({where})"]
    if seeded is None:
        return lines[0]
    if seeded.key is not None:
        lines += [
            "",
            f"  API key, shown only now:  {seeded.key}",
            f"  It belongs to user {seeded.user!r}, who has ${seed.FIRST_CREDIT} of credit.",
        ]
    else:
        another = _command(f"key add NAME --user {shlex.quote(seeded.user)}", settings)
        lines += ["", f"  Keys and data are as before. Another key:  {another}"]
    if console:
        lines += ["", f"  Console, in your browser:  {console}"]
    if console and seeded.key is None and seeded.user == seed.FIRST_PERSON:
        link = _command(f"person link {seed.FIRST_PERSON}", settings)
        lines.append(f"  A link to set its administrator's password again:  {link}")
    if console and seeded.sign_in is not None:
        lines += [
            f"  Sign in there as {seed.FIRST_PERSON}, the administrator; the password is yours to",
            f"  set by this link, shown only now:  {console}{seeded.sign_in}",
        ]
    if any(name not in seed.DEMO for name in seeded.models):
        begins = f"${seed.PRICE['input']} in and ${seed.PRICE['output']} out per 1M tokens"
        lines += [
            "",
            f"  Models nobody has priced begin at {begins}, whatever their provider takes.",
            f"  Published prices:  {_command('models import', settings)}",
        ]
    model = seeded.models[0] if seeded.models else "MODEL"
    return "\n".join(
        [*lines, "", "  Try it:", "", *curl(url, seeded.key or "$SLUICE_API_KEY", model)]
    )


def _command(words: str, settings: Settings) -> str:
    """A command of this program on the data that is served, as it can be typed here."""
    program = sys.argv[0] if Path(sys.argv[0]).name == "sluice" else "sluice"
    data = str(settings.data_path)
    at = "" if data == Settings().data_dir else f" --data {shlex.quote(data)}"
    return f"{shlex.quote(program)} {words}{at}"


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
