"""Proof of life for the service manager: a commit in the ledger file, and nothing less.

Rules: `WATCHDOG=1` is sent only after the keeper has written a row and its commit has come back,
three times in the manager's period. So a blocked event loop, a dead writer thread, a commit that
hangs and a disk that does not sync all fall silent the same way, and the manager starts the relay
anew from the file. A sync is no beat's business while it is quick; one that takes longer than
the time between two beats is. This module must not know what is written.

Source: sd_watchdog_enabled(3), systemd.service(5) `WatchdogSec=`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from proxy.app import notify
from proxy.edge import log
from proxy.storage.ports import KeeperUnavailableError

BEATS_PER_PERIOD = 3
"""One late beat is no death: the manual advises half the period, a third leaves room for one."""


class Watchdog:
    """Beats until cancelled, or until the ledger has failed: who failed must not seem alive."""

    def __init__(
        self,
        beat: Callable[[], Awaitable[float]],
        tell: Callable[[], object],
        period_seconds: float,
    ) -> None:
        self.pause_seconds = period_seconds / BEATS_PER_PERIOD
        self._beat = beat
        self._tell = tell

    async def run(self) -> None:
        """Beat again and again; see the class."""
        while True:
            try:
                sync_seconds = await self._beat()
            except KeeperUnavailableError:
                return
            if sync_seconds <= self.pause_seconds:
                self._tell()
            else:
                log.get().warning("the disk does not sync", seconds=round(sync_seconds, 3))
            await asyncio.sleep(self.pause_seconds)


def watchdog(
    beat: Callable[[], Awaitable[float]],
    *,
    environ: Mapping[str, str] | None = None,
    pid: int = 0,
) -> Watchdog | None:
    """Make the watchdog the manager asked for; None where it did not, as without systemd.

    `beat` is `Keeper.beat`. `pid`: the process the manager knows, the supervisor's for its child.
    """
    period = notify.watchdog_seconds(environ, pid)
    if period is None:
        return None
    return Watchdog(beat, partial(notify.notify, notify.WATCHDOG, environ=environ), period)
