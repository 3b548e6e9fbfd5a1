"""Writes of a busy moment, made together: many short ones wake who reads them once, not each time.

To wake a process that sleeps is the dearest part of a small write. Between two calls lie tens of
microseconds of ours, in which the upstream has answered the one and gone to sleep before it is sent
the other; made one behind the other, the next finds it awake (ARCHITECTURE.md has what that is
worth). This module must not know what is written.
"""

import asyncio
from typing import Final

CALLS_MIN: Final = 8
"""Calls in flight from which on it is worth while; with fewer each would only be later."""


class Burst:
    """What was written in one turn of the loop, and leaves at the beginning of the next.

    Whoever writes to a transport by other ways calls `hurry` before, or is another turn away:
    what the loop was asked to call after a `write` is called after what was written has left.
    """

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: dict[asyncio.Transport, bytes] = {}
        """What has not left yet, for others to look at."""

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write `data` soon, behind what was written before."""
        waiting = self.waiting
        if not waiting:
            asyncio.get_running_loop().call_soon(self._leave)
        waiting[transport] = waiting[transport] + data if transport in waiting else data

    def hurry(self, transport: asyncio.Transport) -> None:
        """Let what waits for `transport` leave now: something follows that must not be first."""
        data = self.waiting.pop(transport, None)
        if data is not None:
            _write({transport: data})

    def _leave(self) -> None:
        waiting, self.waiting = self.waiting, {}
        _write(waiting)


def _write(waiting: dict[asyncio.Transport, bytes]) -> None:
    """Write to those not closed meanwhile; whatever is wrong with one must not stop the rest."""
    for transport, data in waiting.items():
        if transport.is_closing():
            continue
        try:
            transport.write(data)
        except RuntimeError:  # its end was written already
            transport.abort()
