"""Builds one relay process from its settings, and takes it down in order.

Rules: the keeper first and last, listeners in between; nothing answers before the ledger has
recovered. This is the only module that knows every class of the layers below. `serve.py` decides
when; this module must not know signals or flags.
"""

import asyncio
import gc
import random
import socket
import ssl

from proxy.app.directory import DataDirectory
from proxy.app.office import load_secrets
from proxy.app.settings import Settings, host_and_port
from proxy.core import tokenizers
from proxy.core.catalog import Catalog
from proxy.core.entities import Tokenizer
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.ids import IdSource
from proxy.core.money import parse_usd
from proxy.edge import log
from proxy.edge.call import Notice
from proxy.edge.client import ClientServer
from proxy.edge.families import OTHER
from proxy.edge.health import ChannelHealth
from proxy.edge.lag import LagWatch
from proxy.edge.metrics import CallFigures, Live, Metrics
from proxy.edge.operations import OneProcess, Operations
from proxy.edge.server import Server
from proxy.edge.sweep import TICK_SECONDS, Sweep
from proxy.edge.upstream import UpstreamPool
from proxy.edge.world import Bounds, World
from proxy.storage.billing import Keeper
from proxy.storage.sqlite import Durability

BACKLOG = 4096
GC_THRESHOLD = 50_000
"""Allocations between collections: a stream allocates little that needs one (PERFORMANCE.md)."""
DRAIN_POLL_SECONDS = 0.05
CUT_SECONDS_MAX = 1.0
"""How long calls that were cut may take to tell their clients."""


class Relay:
    """One process: `start`, then `drain` and `stop`. `keeper` and `world` live in between."""

    keeper: Keeper
    world: World

    def __init__(self) -> None:
        self._server: ClientServer | None = None
        self._listener: asyncio.Server | None = None
        self._operations: Operations | None = None
        self._lag: LagWatch | None = None
        self._failure: asyncio.Future[BaseException] | None = None
        self._unready: str | None = "starting"
        self._drain_seconds = 0.0

    async def start(self, settings: Settings) -> None:
        """Recover the ledger, load the snapshot, listen. Raises OSError, sqlite3.Error, ..."""
        loop = asyncio.get_running_loop()
        self._failure = loop.create_future()
        self._drain_seconds = settings.drain_seconds
        directory = DataDirectory(settings.data_path)
        secrets = load_secrets(directory, settings)
        self.keeper = await Keeper.start(
            directory.database,
            master=secrets.master,
            pepper=secrets.pepper,
            on_fatal=self._fatal,
            durability=Durability(settings.durability),
            expense_max=parse_usd(settings.operator_expense_day_max),
        )
        metrics = Metrics()
        health = ChannelHealth()
        self.world = World(
            loop=loop,
            billing=self.keeper,
            source=self.keeper,
            pool=UpstreamPool(
                loop,
                idle_seconds_max=settings.upstream_idle_seconds_max,
                tls=ssl.create_default_context(),
            ),
            health=health,
            metrics=metrics,
            sweep=Sweep(loop),
            ids=IdSource(worker=0, after=self.keeper.last_id),
            pepper=secrets.pepper,
            bounds=bounds_of(settings),
            rng=random.Random(),  # noqa: S311 - picks channels, guards nothing
        )
        metrics.live = Live(
            streams=lambda: len(self.world.calls),
            keeper=self.keeper.statistics,
            breakers=lambda: health.breakers(self.keeper.catalog),
        )
        self._use_catalog(self.keeper.catalog)
        self.keeper.subscribe(self._use_catalog)
        tokenizers.preload(*used_tokenizers(self.keeper.catalog))
        await self._listen(settings)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 20)
        self._unready = None

    async def _listen(self, settings: Settings) -> None:
        loop = self.world.loop
        self._server = ClientServer(
            Server(self.world).handle,
            connections_max=settings.connections_max,
            send_buffer_bytes=settings.send_buffer_bytes,
        )
        self._server.on_refused = self._count_refused
        host, port = host_and_port(settings.listen)
        self._listener = await loop.create_server(
            self._server, host, port, backlog=BACKLOG, reuse_address=True
        )
        self._operations = Operations(OneProcess(self.world.metrics, lambda: self._unready))
        await self._operations.start(*host_and_port(settings.operations_listen))
        self.world.sweep.add(_Housekeeping(self.world, self._server))
        self.world.sweep.start()
        self._lag = LagWatch(self.world.metrics.observe_loop_lag)
        self._lag.start(loop)

    def listen_address(self) -> tuple[str, int]:
        """Where clients call; the port that was bound when 0 was asked for."""
        if self._listener is None:
            raise AssertionError("not listening")
        bound: socket.socket = self._listener.sockets[0]
        host, port = bound.getsockname()[:2]
        return str(host), int(port)

    def reload(self, settings: Settings) -> None:
        """Put the reloadable settings in force for calls that begin from now on."""
        self.world.bounds = bounds_of(settings)
        self._drain_seconds = settings.drain_seconds

    async def failed(self) -> BaseException:
        """Wait until the ledger cannot be written any more; returns why."""
        if self._failure is None:
            raise AssertionError("not started")
        return await asyncio.shield(self._failure)

    async def drain(self) -> None:
        """Stop accepting, let open calls end; after `drain_seconds` cut them in-band."""
        self._unready = "draining"
        self.world.draining = True
        if self._listener is not None:
            self._listener.close()
        if self._server is not None:
            self._server.close_idle()
        deadline = self.world.loop.time() + self._drain_seconds
        await self._until_idle(deadline)
        for call in tuple(self.world.calls):
            call.cut(Notice.SHUTDOWN)
        await self._until_idle(self.world.loop.time() + CUT_SECONDS_MAX)

    async def _until_idle(self, deadline: float) -> None:
        """Wait until no call is open, or until `deadline` (loop time)."""
        # Polled: an event set by every last call would cost each call for a moment at the end.
        while self.world.calls and self.world.loop.time() < deadline:  # noqa: ASYNC110 - see above
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    async def stop(self) -> None:
        """Close the listeners, then the ledger, which settles whatever is still queued."""
        self._unready = "stopped"
        if self._listener is not None:
            self._listener.close()
        for call in tuple(self.world.calls):
            call.cut(Notice.SHUTDOWN)
        if self._server is not None:
            await self._server.shutdown(1.0)
        if self._operations is not None:
            await self._operations.stop()
        if self._lag is not None:
            self._lag.stop()
        self.world.sweep.stop()
        self.world.pool.close()
        await self.keeper.close()

    def _count_refused(self, error: RelayError) -> None:
        """Count what was answered and was no request: nobody else hears of it."""
        figures = CallFigures(endpoint=OTHER, code=error.status, error=error.code.code)
        self.world.metrics.observe_call(figures)

    def _fatal(self, error: BaseException) -> None:
        self._unready = "the ledger cannot be written"
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)

    def _use_catalog(self, catalog: Catalog) -> None:
        """Adopt a new snapshot: labels, key pools; streams of a revoked key are cut."""
        world = self.world
        world.metrics.use_catalog(
            catalog.models, {one.id: one.name for one in catalog.channels.values()}
        )
        world.health.adopt(catalog)
        for call in tuple(world.calls):
            key = catalog.keys_by_id.get(call.opening.key_id)
            user = catalog.users.get(call.opening.user_id)
            if key is None or user is None or not (key.enabled and user.enabled):
                log.get().info(
                    "stream cut: key disabled",
                    request_id=call.client.request_id,
                    code=ErrorCode.KEY_DISABLED.code,
                )
                call.cut(Notice.REVOKED)


class _Housekeeping:
    """Rides on the sweep: idle upstream connections, clients without a request head, loop lag."""

    def __init__(self, world: World, server: ClientServer) -> None:
        self._world = world
        self._server = server
        self._ticks = 0

    def tick(self, now: float) -> None:
        """Run what is due."""
        self._ticks += 1
        if self._ticks % int(1 / TICK_SECONDS) == 0:
            self._world.pool.sweep(now)
            self._server.sweep(now, self._world.bounds.header_seconds_max)


def bounds_of(settings: Settings) -> Bounds:
    """The settings of the request path as the edge knows them."""
    return Bounds(**{name: getattr(settings, name) for name in Bounds.__dataclass_fields__})


def used_tokenizers(catalog: Catalog) -> tuple[Tokenizer, ...]:
    """The token tables the catalog's models need, to be read before the first call."""
    return tuple(sorted({model.tokenizer for model in catalog.models.values()}))
