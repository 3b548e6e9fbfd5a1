"""What a worker is: accepts clients on its slot's sockets and carries their calls.

Rules: nothing is accepted before everything that answers is there. It accepts on duplicates and
closes only those: the sockets stay open elsewhere, and what they have queued waits for who comes
next. Who retires serves what is connected, and says `connection: close` on each last answer;
who drains has no successor and closes what rests. Calls still open at the end are cut in-band.
This module must not know whether the keeper is in its process, nor who tells it to leave.
"""

import asyncio
import gc
import random
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from proxy.app.directory import DataDirectory
from proxy.app.settings import Settings
from proxy.app.sockets import BACKLOG
from proxy.core import tokenizers
from proxy.core.catalog import Catalog
from proxy.core.entities import Tokenizer
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.ids import IdSource
from proxy.edge import log
from proxy.edge.cache import limits
from proxy.edge.client import ClientServer
from proxy.edge.families import OTHER
from proxy.edge.health import ChannelHealth
from proxy.edge.lag import LagWatch
from proxy.edge.metrics import CallFigures, Metrics
from proxy.edge.open_call import Notice
from proxy.edge.server import Server
from proxy.edge.sweep import TICK_SECONDS, Sweep
from proxy.edge.upstream import UpstreamPool
from proxy.edge.world import Bounds, CatalogSource, World
from proxy.storage.ports import Billing
from proxy.storage.records import LedgerRecords

GC_THRESHOLD = 50_000
"""Allocations between collections: a stream allocates little that needs one (PERFORMANCE.md)."""
DRAIN_POLL_SECONDS = 0.05
CUT_SECONDS_MAX = 1.0
"""How long calls that were cut may take to tell their clients."""


class KeeperPort(Billing, CatalogSource, Protocol):
    """The keeper as a worker needs it: `Keeper`, or `RemoteKeeper` behind the port."""

    @property
    def last_id(self) -> int:
        """The greatest id in use when the keeper was reached."""
        ...

    def subscribe(self, callback: Callable[[Catalog], object], /) -> Callable[[], None]:
        """Call `callback` with every new catalog."""
        ...


class Front:
    """One worker's data plane: `start`, then `retire` or `drain` or `cut`, and `stop`."""

    def __init__(
        self,
        settings: Settings,
        keeper: KeeperPort,
        metrics: Metrics,
        pepper: bytes,
        *,
        worker: int = 0,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._drain_seconds = settings.drain_seconds
        self._listeners: list[asyncio.Server] = []
        self._records = LedgerRecords(DataDirectory(settings.data_path).database, keeper.catch_up)
        self.world = World(
            loop=loop,
            billing=keeper,
            records=self._records,
            source=keeper,
            pool=UpstreamPool(
                loop,
                idle_seconds_max=settings.upstream_idle_seconds_max,
                tls=ssl.create_default_context(),
            ),
            health=ChannelHealth(),
            metrics=metrics,
            sweep=Sweep(loop),
            ids=IdSource(worker=worker, after=keeper.last_id),
            pepper=pepper,
            bounds=bounds_of(settings),
            rng=random.Random(),  # noqa: S311 - picks channels, guards nothing
        )
        self._lag = LagWatch(metrics.observe_loop_lag)
        self._server = ClientServer(
            Server(self.world).handle,
            # The setting bounds the relay; each worker may have its share of it.
            connections_max=max(1, settings.connections_max // settings.workers),
            send_buffer_bytes=settings.send_buffer_bytes,
        )
        self._server.on_refused = self._count_refused
        self.use_catalog(keeper.catalog)
        self._unsubscribe = keeper.subscribe(self.use_catalog)

    async def start(self, listeners: Sequence[socket.socket]) -> None:
        """Accept clients. Raises OSError."""
        loop = self.world.loop
        tokenizers.preload(*used_tokenizers(self.world.catalog))
        for each in listeners:
            # uvloop closes what it is given: never with a shutdown, which the others would feel.
            self._listeners.append(
                await loop.create_server(self._server.on(each), sock=each.dup(), backlog=BACKLOG)
            )
        self.world.sweep.add(_Housekeeping(self.world, self._server))
        self.world.sweep.start()
        self._lag.start(loop)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 20)

    def reload(self, settings: Settings) -> None:
        """Put the reloadable settings in force for calls that begin from now on."""
        self.world.bounds = bounds_of(settings)
        self.world.cache.trim(limits(self.world))
        self._drain_seconds = settings.drain_seconds

    async def retire(self) -> None:
        """Leave to a successor: accept nothing, serve whoever is connected once more."""
        self._stop_accepting()
        self._server.retire()
        deadline = self.world.loop.time() + self._drain_seconds
        # Polled: an event set by every last call would cost each call for a moment at the end.
        while not self._server.is_empty():
            if self.world.loop.time() >= deadline:
                break
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        await self.cut()

    async def drain(self) -> None:
        """Stop accepting, let open calls end; after `drain_seconds` cut them in-band."""
        self._stop_accepting()
        self.world.draining = True
        self._server.close_idle()
        await self._until_idle(self.world.loop.time() + self._drain_seconds)
        await self.cut()

    async def cut(self, notice: Notice = Notice.SHUTDOWN) -> None:
        """End open calls now, in-band, and give that a moment to arrive."""
        self._stop_accepting()
        self.world.draining = True
        self._server.close_idle()
        for call in self.world.open:
            call.cut(notice)
        await self._until_idle(self.world.loop.time() + CUT_SECONDS_MAX)

    async def stop(self) -> None:
        """Close every connection; whatever was open is settled when this returns."""
        self._stop_accepting()
        for call in self.world.open:
            call.cut(Notice.SHUTDOWN)
        await self._server.shutdown(CUT_SECONDS_MAX)
        self._unsubscribe()
        self._lag.stop()
        self.world.sweep.stop()
        self.world.pool.close()
        await self._records.close()

    async def _until_idle(self, deadline: float) -> None:
        """Wait until no call is open, or until `deadline` (loop time)."""
        while self.world.open and self.world.loop.time() < deadline:  # noqa: ASYNC110 - as above
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    def _stop_accepting(self) -> None:
        listeners, self._listeners = self._listeners, []
        for each in listeners:
            each.close()

    def _count_refused(self, error: RelayError) -> None:
        """Count what was answered and was no request: nobody else hears of it."""
        figures = CallFigures(endpoint=OTHER, code=error.status, error=error.code.code)
        self.world.metrics.observe_call(figures)

    def use_catalog(self, catalog: Catalog) -> None:
        """Adopt a new snapshot: labels, key pools; streams of a revoked key are cut."""
        world = self.world
        world.metrics.use_catalog(
            catalog.models, {one.id: one.name for one in catalog.channels.values()}
        )
        world.health.adopt(catalog)
        for call in world.open:
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
    """Rides on the sweep: idle upstream connections, clients without a request head."""

    def __init__(self, world: World, server: ClientServer) -> None:
        self._world = world
        self._server = server
        self._ticks = 0
        self.quiet_until = 0.0

    def tick(self, now: float) -> None:
        """Run what is due."""
        self._ticks += 1
        if self._ticks % int(1 / TICK_SECONDS) == 0:
            self._world.pool.sweep(now)
            self._server.sweep(now, self._world.bounds.header_seconds_max)


def bounds_of(settings: Settings) -> Bounds:
    """The settings of the request path as the edge knows them."""
    bounds = Bounds(**{name: getattr(settings, name) for name in Bounds.__dataclass_fields__})
    return replace(
        bounds,
        spool_dir=settings.spool_dir or str(settings.data_path),
        # Each worker has a cache of its own, and its share of the memory for it.
        cache_bytes_max=settings.cache_bytes_max // settings.workers,
    )


def used_tokenizers(catalog: Catalog) -> tuple[Tokenizer, ...]:
    """The token tables the catalog's models need, to be read before the first call."""
    return tuple(sorted({model.tokenizer for model in catalog.models.values()}))
