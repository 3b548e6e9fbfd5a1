"""A change of the catalog waits here until every worker serves by it.

Rules: waits are bounded, because a worker that hangs must not keep the operator from disabling
a key elsewhere; who was not waited for is said in the log. This module must not know workers'
connections: it asks who is behind, and is told when that may have changed.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

CATALOG_SECONDS_MAX = 1.0
"""How long a change of the catalog waits until every worker has it in force."""

log = logging.getLogger("sluice.port")


class Spreading:
    """`behind` returns the numbers of the workers that may serve by less than a version."""

    def __init__(self, behind: Callable[[int], Sequence[int]]) -> None:
        self._behind = behind
        self._waits: dict[asyncio.Event, int] = {}

    async def wait(self, version: int) -> None:
        """Return when no worker is behind this version, or after `CATALOG_SECONDS_MAX`."""
        if not self._behind(version):
            return
        everywhere = asyncio.Event()
        self._waits[everywhere] = version
        try:
            async with asyncio.timeout(CATALOG_SECONDS_MAX):
                await everywhere.wait()
        except TimeoutError:
            late = ", ".join(map(str, self._behind(version)))
            log.warning(
                "version %d of the catalog is not yet in force in workers %s", version, late
            )
        finally:
            del self._waits[everywhere]

    def check(self) -> None:
        """Somebody has caught up, or is gone: let go of the waits that were for them."""
        for everywhere, version in self._waits.items():
            if not self._behind(version):
                everywhere.set()
