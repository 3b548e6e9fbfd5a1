"""The relay's gauges for the console's pages and reports, where one process is the whole relay.

Rules: asked of the keeper by its line, for a short while remembered, so that nobody can load the
relay by looking; a relay that does not answer is a figure and never a failure. With workers the
console's own process gathers more (app/console.py), and so does whoever asks once (`picture_of`).
This module must not know a page.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from proxy.app.console import Console
from proxy.app.directory import DataDirectory
from proxy.app.settings import Settings
from proxy.app.sizes import storage_figures
from proxy.edge.console.keeper_line import KeeperGoneError, KeeperLine, Refused
from proxy.edge.exposition import Picture
from proxy.edge.merging import Merged, nothing_counted
from proxy.storage.console_link import ConsoleLink
from proxy.storage.ports import KeeperStatistics

KEPT_SECONDS: Final = 1.0


class Figures:
    """Makes pictures; lives in one event loop."""

    def __init__(self, line: KeeperLine, database: Path) -> None:
        self._line = line
        self._database = database
        self._asking = asyncio.Lock()
        self._made: Picture | None = None
        self._made_at = 0.0

    async def picture(self) -> Picture:
        """Return how the relay does now, or did a moment ago; never raises."""
        clock = asyncio.get_running_loop().time
        async with self._asking:
            if self._made is None or clock() - self._made_at >= KEPT_SECONDS:
                self._made = await self._make()
                self._made_at = clock()
            return self._made

    async def _make(self) -> Picture:
        storage = storage_figures(self._database)
        merged = Merged(nothing_counted())
        try:
            found: Any = await self._line.do("relay figures", {})
        except (Refused, KeeperGoneError):
            return Picture(merged=merged, storage=storage)
        merged.streams = found["streams"]
        merged.breakers = dict(found["breakers"])
        merged.resting = dict(found["resting"])
        merged.workers = 1
        return Picture(
            merged=merged,
            statistics=_statistics(found),
            keeper_up=True,
            ready=found["unready"] is None,
            storage=storage,
        )


async def picture_of(directory: DataDirectory, settings: Settings) -> Picture:
    """Return how the relay that runs here does now, for the command line; never raises."""
    line = KeeperLine(directory.control)
    try:
        made = await Figures(line, directory.database).picture()
    finally:
        await line.close()
    if made.keeper_up:
        return made
    gathering = Console(
        partial(ConsoleLink.connect, directory.port), directory.database, settings.workers
    )
    try:
        return await gathering.picture()
    finally:
        await gathering.close()


def _statistics(found: Mapping[str, Any]) -> KeeperStatistics:
    """What is known of the keeper's own figures; the rest is on the page for Prometheus."""
    return KeeperStatistics(
        holds_open=found["holds_open"],
        hold_oldest_seconds=0.0,
        held=found["held_nano"],
        imbalance=found["imbalance_nano"],
        commits=0,
        commit_seconds=0.0,
        checkpoint_seconds=0.0,
        queue_depth=0,
    )
