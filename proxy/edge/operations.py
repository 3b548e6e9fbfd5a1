"""The operations listener: /healthz, /readyz and /metrics, apart from where clients call.

Rules: /healthz says the process lives and asks nobody; /readyz says whether a new call would be
served, with the reason when not; /metrics yields to the loop between slices. No key is needed,
so it listens on loopback unless told otherwise. This module must not know what readiness is
made of, nor whose figures are shown.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol, cast

import orjson
from aiohttp import web

from proxy.edge.exposition import CONTENT_TYPE, Exposition, Picture
from proxy.edge.merging import only
from proxy.edge.metrics import Metrics

SCRAPES_MAX = 4
"""Pages rendered at once; one more is told to come back."""


class Source(Protocol):
    """Where the pages' contents come from."""

    async def picture(self) -> Picture:
        """Return what /metrics shows now; never raises."""
        ...

    async def unready(self) -> str | None:
        """Return why no call would be served now, or None when ready; never raises."""
        ...


class OneProcess:
    """The source where keeper and worker are this process."""

    def __init__(self, metrics: Metrics, unready: Callable[[], str | None]) -> None:
        self._metrics = metrics
        self._unready = unready

    async def picture(self) -> Picture:
        """Return this process's figures; its counters are read while the page is rendered."""
        live = self._metrics.live
        statistics = live.keeper()
        return Picture(
            merged=only(self._metrics.snapshot()),
            statistics=statistics,
            keeper_up=statistics is not None,
            ready=self._unready() is None,
            storage=live.storage(),
        )

    async def unready(self) -> str | None:
        """Return why not, or None when ready."""
        return self._unready()


class Operations:
    """Serves the three pages until `stop`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._exposition = Exposition()
        self._runner: web.AppRunner | None = None
        self._scrapes = 0

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the bound address (port 0 picks one). Raises OSError."""
        return await self._listen(lambda runner: web.TCPSite(runner, host, port))

    async def start_on(self, listener: socket.socket) -> tuple[str, int]:
        """Accept on a duplicate of a listening socket that others keep open. Raises OSError."""
        return await self._listen(lambda runner: web.SockSite(runner, listener.dup()))

    async def _listen(self, site: Callable[[web.AppRunner], web.BaseSite]) -> tuple[str, int]:
        app = web.Application(client_max_size=1024)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._page)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await site(runner).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        return cast("tuple[str, int]", runner.addresses[0][:2])

    async def stop(self) -> None:
        """Stop listening; safe to call twice."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _health(self, _request: web.Request) -> web.Response:
        return _json({"status": "ok"}, 200)

    async def _ready(self, _request: web.Request) -> web.Response:
        reason = await self._source.unready()
        if reason is None:
            return _json({"status": "ready"}, 200)
        return _json({"status": "not ready", "reason": reason}, 503)

    async def _page(self, _request: web.Request) -> web.Response:
        if self._scrapes >= SCRAPES_MAX:
            return _json({"status": "busy", "reason": "too many scrapes at once"}, 503)
        self._scrapes += 1
        try:
            parts = []
            for part in self._exposition.slices(await self._source.picture()):
                parts.append(part)
                await asyncio.sleep(0)
        finally:
            self._scrapes -= 1
        return web.Response(body=b"".join(parts), headers={"content-type": CONTENT_TYPE})


def _json(payload: dict[str, str], status: int) -> web.Response:
    body = orjson.dumps(payload) + b"\n"
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return web.Response(body=body, status=status, headers=headers)
