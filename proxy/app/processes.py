"""What each child of the supervisor does: keeper, worker, console, demo upstream.

Rules: a child says `ready` when it serves, obeys its orders, and settles before it leaves. A
worker outlives its keeper and a keeper its workers' last settlements; both leave when the
supervisor is gone, the keeper after the workers. What cannot start raises what `sluice serve`
shows. This module must not know who starts whom.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from proxy.app import seed
from proxy.app.addresses import Bound
from proxy.app.children import Assignment, Order, Role
from proxy.app.commands import runner
from proxy.app.console import Console, run_console
from proxy.app.control import CommandError, ControlServer
from proxy.app.demo import start_demo
from proxy.app.directory import DataDirectory
from proxy.app.front import Front, used_tokenizers
from proxy.app.in_force import InForce
from proxy.app.office import Office, load_secrets
from proxy.app.orders import Orders
from proxy.app.provision import apply_file, provision
from proxy.app.seed import Seeded, Upstream
from proxy.app.settings import Settings, SettingsError
from proxy.app.sockets import Listeners
from proxy.app.watchdog import watchdog
from proxy.app.wiring import live_of, open_keeper
from proxy.edge import log
from proxy.edge.merging import fold
from proxy.edge.metrics import Metrics
from proxy.storage.console_link import ConsoleLink
from proxy.storage.port_server import PortServer
from proxy.storage.remote import RemoteKeeper

LOCK_SECONDS_MAX = 5.0
"""How long the keeper before this one may take to let go of the data directory."""
DESERTED_SECONDS_MAX = 2.0
"""How long a worker whose supervisor is gone may take to settle and leave."""
LAST_SECONDS_MAX = 3.0
"""How long a keeper whose supervisor is gone waits for its workers' settlements."""
SETTLED_SECONDS_MAX = 15.0
"""How long a worker waits for the last of its settlements to be acknowledged."""
POLL_SECONDS = 0.02


def run(
    assignment: Assignment,
    settings: Settings,
    listeners: Listeners,
    upstreams: Sequence[Upstream],
    models: tuple[str, ...],
) -> int:
    """Be the child `assignment` says, until it is told to leave; returns its exit status."""
    role = assignment.role
    if role is Role.KEEPER:
        demo = [bound[1] for each in listeners.demo if (bound := each.getsockname())]
        in_force = InForce(settings, Bound.of(listeners))
        listeners.close()
        named = [*upstreams]
        for port in demo:
            named.extend(seed.demo_upstreams(f"http://127.0.0.1:{port}"))
        with DataDirectory(settings.data_path).locked(LOCK_SECONDS_MAX):
            return uvloop.run(_keep(assignment, in_force, named, models))
    work: dict[Role, Callable[[], Coroutine[Any, Any, int]]] = {
        Role.WORKER: partial(_work, assignment, settings, listeners),
        Role.CONSOLE: partial(_show, assignment, settings, listeners),
        Role.DEMO: partial(_pretend, assignment, listeners),
    }
    return uvloop.run(work[role]())


async def _work(assignment: Assignment, settings: Settings, listeners: Listeners) -> int:
    orders = await Orders.listen(assignment.link)
    own = listeners.of_slot(assignment.slot, settings.workers)
    for each in listeners.all():
        if each not in own:
            each.close()
    directory = DataDirectory(settings.data_path)
    secrets = load_secrets(directory, settings)
    metrics = Metrics(role="worker")
    keeper = await RemoteKeeper.connect(
        directory.port,
        directory.database,
        worker=assignment.number,
        master=secrets.master,
        metrics_state=metrics.state,
    )
    front = Front(settings, keeper, metrics, secrets.pepper, worker=assignment.number)
    metrics.live = live_of(front)
    await front.start(own)
    for each in own:
        each.close()  # the front accepts on duplicates, and can close those

    def reload(wanted: Settings) -> None:
        log.configure(wanted.log_level, wanted.log_format)
        front.reload(wanted)

    orders.on_reload = reload
    orders.tell(ready=True)
    order = await orders.leave()
    leaving = {Order.RETIRE: front.retire, Order.DRAIN: front.drain, Order.STOP: front.cut}
    await _unless(orders.at_once(), leaving[order]())
    await front.cut()
    await front.stop()
    await keeper.close(DESERTED_SECONDS_MAX if orders.deserted else SETTLED_SECONDS_MAX)
    orders.close()
    return 0


async def _keep(
    assignment: Assignment,
    in_force: InForce,
    upstreams: Sequence[Upstream],
    models: tuple[str, ...],
) -> int:
    settings = in_force.settings
    orders = await Orders.listen(assignment.link)
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[BaseException] = loop.create_future()
    directory = DataDirectory(settings.data_path)
    secrets = load_secrets(directory, settings)

    def fatal(error: BaseException) -> None:
        if not failed.done():
            failed.set_result(error)

    keeper = await open_keeper(directory, settings, secrets, fatal, settle_open=False)
    office = Office(
        keeper,
        directory.database,
        secrets,
        catalog_file=settings.catalog_file,
        keys_per_person_max=settings.keys_per_person_max,
        in_force=in_force,
    )
    seeded = await _provision(office, settings, upstreams, models, first=assignment.first)
    metrics = Metrics(role="keeper")
    port = PortServer(keeper, directory.port, fold=fold, own_state=metrics.state)
    office = replace(office, spread=port.spread)
    await orders.follow_alive(port.alive)
    await port.start()
    control = ControlServer(directory.control, partial(runner.run, office))
    await control.start()
    reloads: set[asyncio.Task[None]] = set()

    def reload(wanted: Settings) -> None:
        task = loop.create_task(_reload(office, wanted, orders))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    orders.on_reload = reload
    dog = watchdog(keeper.beat, pid=os.getppid())
    beating = None if dog is None else loop.create_task(dog.run())
    orders.tell(
        ready=True,
        tokenizers=[one.value for one in used_tokenizers(keeper.catalog)],
        seeded=None if seeded is None else seeded.told(),
    )
    await _unless(failed, orders.leave())
    if orders.deserted:
        await _until_left(port)
    if beating is not None:
        beating.cancel()
    await control.stop()
    await port.stop()
    await keeper.close()
    orders.close()
    if failed.done():
        reason = str(failed.result())
        log.get().error("the ledger cannot be written; starting anew", reason=reason)
        return 1
    return 0


async def _provision(
    office: Office,
    settings: Settings,
    upstreams: Sequence[Upstream],
    models: tuple[str, ...],
    *,
    first: bool,
) -> Seeded | None:
    """Provision the database; a file that went bad meanwhile does not stop one that served."""
    if first:
        return await provision(office, settings, upstreams, models)
    try:
        await provision(office, settings, (), models)
    except (SettingsError, CommandError) as error:
        log.get().error("catalog file refused, the old catalog stays", reason=str(error))
    return None


async def _reload(office: Office, settings: Settings, orders: Orders) -> None:
    """Apply the catalog file again; the supervisor is told whether it was good."""
    log.configure(settings.log_level, settings.log_format)
    office.keeper.renewals.fallback = settings.default_plan
    try:
        if settings.catalog_file:
            await apply_file(office, Path(settings.catalog_file))
    except SettingsError as error:
        log.get().error("reload refused, old settings stay", reason=str(error))
        orders.tell(reloaded=False)
    except CommandError as error:
        log.get().error(
            "reload refused, old settings stay", reason=error.message, remedy=error.remedy
        )
        orders.tell(reloaded=False)
    else:
        if office.in_force is not None:
            office.in_force.settings = settings
        orders.tell(reloaded=True)


async def _show(assignment: Assignment, settings: Settings, listeners: Listeners) -> int:
    from proxy.app.console_site import ConsoleSite, give_way  # noqa: PLC0415 - pages, for it alone

    give_way()
    bound = Bound.of(listeners)
    directory = DataDirectory(settings.data_path)
    connect = partial(ConsoleLink.connect, directory.port)
    console = Console(connect, directory.database, settings.workers)
    site = None
    if listeners.console:
        site = ConsoleSite(bound.completing(settings), console.picture)
    orders = await Orders.listen(assignment.link)
    listener = listeners.operations[0].dup()
    if site is not None:
        await site.start(listeners.console)
    listeners.close()
    stopping = asyncio.Event()

    def reload(wanted: Settings) -> None:
        log.configure(wanted.log_level, wanted.log_format)
        if site is not None:
            site.reload(bound.completing(wanted))

    orders.on_reload = reload
    showing = asyncio.ensure_future(
        run_console(console, listener, stopping, lambda: orders.tell(ready=True))
    )
    await _unless(showing, orders.leave())
    stopping.set()
    await showing
    if site is not None:
        await site.stop()
    listener.close()
    orders.close()
    return 0


async def _pretend(assignment: Assignment, listeners: Listeners) -> int:
    orders = await Orders.listen(assignment.link)
    demo = await start_demo(listener=listeners.demo[0].dup())
    listeners.close()
    orders.tell(ready=True)
    await orders.leave()
    await demo.stop()
    orders.close()
    return 0


async def _unless(ended: Awaitable[object], work: Awaitable[object]) -> None:
    """Wait for `work`, or for `ended` if that comes first: `work` is cancelled then."""
    mine = asyncio.ensure_future(work)
    other = asyncio.ensure_future(ended)
    await asyncio.wait([mine, other], return_when=asyncio.FIRST_COMPLETED)
    if mine.done():
        mine.result()
    mine.cancel()
    if other is not ended:
        other.cancel()


async def _until_left(port: PortServer) -> None:
    """Give workers whose supervisor is gone the time to settle."""
    loop = asyncio.get_running_loop()
    until = loop.time() + LAST_SECONDS_MAX
    while port.has_workers() and loop.time() < until:  # noqa: ASYNC110 - a last moment, once
        await asyncio.sleep(POLL_SECONDS)
