"""What the console's process tells machines: health, readiness and the metrics of all processes.

Rules: it asks the keeper for everything that changes and reads the rest over a connection that
cannot write; it has neither master key nor pepper. A keeper that is gone or slow is a figure on
the page, never a failure to answer: what was told before still counts. Questions that come close
together share one answer, so that nobody can load the keeper by asking. This module must not know
how the port works, nor the pages beside it (console_site.py), nor decide anything about calls.
"""

import asyncio
import logging
import socket
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import time
from typing import Protocol

from proxy.app.sizes import storage_figures
from proxy.edge.exposition import Picture
from proxy.edge.merging import Remembered, merge
from proxy.edge.metrics import Live, Metrics
from proxy.edge.operations import Operations
from proxy.edge.state import OpenHolds
from proxy.storage.ports import KeeperStatistics, KeeperUnavailableError
from proxy.storage.reader import Reader

SCRAPE_SECONDS_MAX = 5.0
"""How long the keeper may take to answer; half of Prometheus' default for a scrape."""
ANSWER_SECONDS_KEPT = 0.5
"""An answer this young is given again."""
READ_SECONDS_MAX = 2.0

log = logging.getLogger("sluice.console")


class Scrape(Protocol):
    """One answer of the keeper. `states`: edge/state.py, of running workers and one fold."""

    @property
    def states(self) -> Sequence[bytes]:
        """What each worker that answered has counted, and the sum of those that ended."""
        ...

    @property
    def statistics(self) -> KeeperStatistics:
        """The keeper's own figures."""
        ...

    @property
    def unready(self) -> str | None:
        """Why no call is admitted, or None."""
        ...


class Link(Protocol):
    """A connection to the keeper."""

    async def scrape(self) -> Scrape:
        """Ask for all figures. Raises OSError or KeeperUnavailableError when it is gone."""
        ...

    async def close(self) -> None:
        """End the connection; never raises."""
        ...


Connect = Callable[[], Awaitable[Link]]
"""Makes a link; raises OSError or KeeperUnavailableError."""


class Console:
    """Where the pages' contents come from (`operations.Source`), from making to `close`."""

    def __init__(self, connect: Connect, database: Path, workers_wanted: int) -> None:
        self._connect = connect
        self._database = database
        self._workers_wanted = workers_wanted
        self._metrics = Metrics(Live(), role="console")
        self._remembered = Remembered()
        self._asking = asyncio.Lock()
        self._link: Link | None = None
        self._reader: Reader | None = None
        self._scrape: Scrape | None = None
        self._told_at = -ANSWER_SECONDS_KEPT
        self._gone_said = False

    async def picture(self) -> Picture:
        """Return what is known of every process now; never raises."""
        scrape = await self._ask()
        merged = merge([*self._remembered.states(), self._metrics.snapshot()])
        return Picture(
            merged=merged,
            statistics=None if scrape is None else scrape.statistics,
            holds=await self._holds() if scrape is None else None,
            keeper_up=scrape is not None,
            ready=self._why_not(scrape) is None,
            workers_wanted=self._workers_wanted,
            storage=storage_figures(self._database),
        )

    async def unready(self) -> str | None:
        """Return why no call would be served now, or None."""
        return self._why_not(await self._ask())

    async def close(self) -> None:
        """End both connections."""
        await self._drop_link()
        await self._drop_reader()

    def _why_not(self, scrape: Scrape | None) -> str | None:
        if scrape is None:
            return "the keeper does not answer"
        if scrape.unready is not None:
            return scrape.unready
        return None if merge(self._remembered.states()).workers else "no worker answers"

    async def _ask(self) -> Scrape | None:
        """Return the keeper's answer, a fresh or a very young one; None when it has none."""
        clock = asyncio.get_running_loop().time
        async with self._asking:
            if clock() - self._told_at < ANSWER_SECONDS_KEPT:
                return self._scrape
            try:
                async with asyncio.timeout(SCRAPE_SECONDS_MAX):
                    if self._link is None:
                        self._link = await self._connect()
                    self._scrape = await self._link.scrape()
            except (OSError, KeeperUnavailableError, TimeoutError) as error:
                self._lost(error)
                await self._drop_link()
            else:
                self._gone_said = False
                self._remembered.update(self._scrape.states)
            self._told_at = clock()
            return self._scrape

    def _lost(self, error: Exception) -> None:
        self._scrape = None
        self._remembered.nobody_answers()
        if not self._gone_said:
            self._gone_said = True
            log.warning("the keeper does not answer: %s", str(error) or type(error).__name__)

    async def _holds(self) -> OpenHolds | None:
        """What the file says of open calls, which is what a keeper's death leaves behind."""
        try:
            async with asyncio.timeout(READ_SECONDS_MAX):
                if self._reader is None:
                    self._reader = await Reader.open(self._database)
                found = await self._reader.open_calls()
        except (sqlite3.Error, TimeoutError) as error:
            log.warning("the database cannot be read: %s", str(error) or type(error).__name__)
            await self._drop_reader()
            return None
        age = 0.0 if found.oldest is None else max(0.0, time() - found.oldest)
        return OpenHolds(found.calls, found.held, age)

    async def _drop_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _drop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()


async def run_console(
    console: Console,
    listener: socket.socket,
    stopping: asyncio.Event,
    ready: Callable[[], object] = lambda: None,
) -> None:
    """Answer on `listener` until `stopping` is set; `ready` is called once answering.

    The caller keeps the socket open; a duplicate is used. The console is closed at the end. Raises
    OSError.
    """
    operations = Operations(console)
    try:
        await operations.start_on(listener)
        ready()
        await stopping.wait()
    finally:
        await operations.stop()
        await console.close()
