"""Builds one relay process from its settings, and takes it down in order.

Rules: the keeper first and last, listeners in between; nothing answers before the ledger has
recovered. Keeper and front meet here by direct calls; with several workers `processes.py` puts
the port between them. `serve.py` decides when; this module must not know signals or flags.
"""

import asyncio
from collections.abc import Callable

from proxy.app.directory import DataDirectory
from proxy.app.front import Front
from proxy.app.office import Gauges, Secrets, load_secrets
from proxy.app.settings import Settings, host_and_port
from proxy.app.sizes import storage_figures
from proxy.app.sockets import Listeners, bound_address
from proxy.core.money import parse_usd
from proxy.edge.metrics import Live, Metrics
from proxy.edge.open_call import Notice
from proxy.edge.operations import OneProcess, Operations
from proxy.edge.world import World
from proxy.storage.billing import Keeper
from proxy.storage.sqlite import Durability
from proxy.storage.upkeep import Care


class Relay:
    """One process: `start`, then `drain` and `stop`. `keeper` and `front` live in between."""

    keeper: Keeper
    front: Front

    def __init__(self) -> None:
        self._operations: Operations | None = None
        self._failure: asyncio.Future[BaseException] | None = None
        self._unready: str | None = "starting"
        self._address = ("", 0)

    async def start(self, settings: Settings, listeners: Listeners) -> None:
        """Recover the ledger, load the snapshot, accept. Raises OSError, StorageError, ..."""
        self._failure = asyncio.get_running_loop().create_future()
        directory = DataDirectory(settings.data_path)
        secrets = load_secrets(directory, settings)
        self.keeper = await open_keeper(directory, settings, secrets, self._fatal)
        metrics = Metrics()
        front = self.front = Front(settings, self.keeper, metrics, secrets.pepper)
        metrics.live = live_of(front, self.keeper)
        metrics.live.storage = lambda: storage_figures(directory.database)
        self._operations = Operations(OneProcess(metrics, self._why_unready))
        await front.start(listeners.clients)
        self._address = bound_address(listeners.clients[0])
        if listeners.operations:
            await self._operations.start_on(listeners.operations[0])
        else:
            await self._operations.start(*host_and_port(settings.operations_listen))
        self._unready = None

    @property
    def world(self) -> World:
        """What the requests of this process share."""
        return self.front.world

    def listen_address(self) -> tuple[str, int]:
        """Where clients call; the port that was bound when 0 was asked for."""
        return self._address

    def reload(self, settings: Settings) -> None:
        """Put the reloadable settings in force for calls that begin from now on."""
        self.front.reload(settings)

    async def failed(self) -> BaseException:
        """Wait until the ledger cannot be written any more; returns why."""
        if self._failure is None:
            raise AssertionError("not started")
        return await asyncio.shield(self._failure)

    async def drain(self) -> None:
        """Stop accepting, let open calls end; after `drain_seconds` cut them in-band."""
        self._unready = "draining"
        await self.front.drain()

    async def give_up(self) -> None:
        """The ledger cannot be written: tell whoever waits for an answer that it will not end."""
        await self.front.cut(Notice.UNBILLED)

    async def stop(self) -> None:
        """Close the listeners, then the ledger, which settles whatever is still queued."""
        self._unready = "stopped"
        await self.front.stop()
        if self._operations is not None:
            await self._operations.stop()
        await self.keeper.close()

    def gauges(self) -> Gauges:
        """How the calls of this process do now."""
        world = self.front.world
        breakers = tuple(world.health.breakers(world.catalog))
        resting = tuple(world.health.resting(world.catalog, world.loop.time()))
        return Gauges(len(world.open), breakers, resting, self._why_unready())

    def _why_unready(self) -> str | None:
        return self._unready or self.keeper.unready

    def _fatal(self, error: BaseException) -> None:
        self._unready = "the ledger cannot be written"
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)


def live_of(front: Front, keeper: Keeper | None = None) -> Live:
    """Where the gauges of a process with a front come from."""
    world = front.world
    live = Live(
        streams=lambda: len(world.open),
        breakers=lambda: world.health.breakers(world.catalog),
        resting=lambda: world.health.resting(world.catalog, world.loop.time()),
        cache=lambda: world.cache,
    )
    if keeper is not None:
        live.keeper = keeper.statistics
    return live


async def open_keeper(
    directory: DataDirectory,
    settings: Settings,
    secrets: Secrets,
    on_fatal: Callable[[BaseException], object],
    *,
    settle_open: bool = True,
) -> Keeper:
    """Open the ledger as the settings say. The caller holds the directory's lock.

    See `Keeper.start` for `on_fatal`, `settle_open` and what it raises.
    """
    return await Keeper.start(
        directory.database,
        master=secrets.master,
        pepper=secrets.pepper,
        on_fatal=on_fatal,
        durability=Durability(settings.durability),
        redo=True,
        expense_max=parse_usd(settings.operator_expense_day_max),
        settle_open=settle_open,
        care=Care(settings.detail_days, settings.disk_free_bytes_min, settings.default_plan),
    )
