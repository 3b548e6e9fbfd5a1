"""How late the event loop's timers fire: the one figure that shows a blocked loop.

Rules: a timer that always runs, four times a second; nothing else is done in it. This module must
not know what blocks the loop.
"""

import asyncio
from collections.abc import Callable

LAG_PERIOD_SECONDS = 0.25


class LagWatch:
    """Tells `observe` (seconds late, never negative) of each timer from `start` to `stop`."""

    def __init__(self, observe: Callable[[float], object]) -> None:
        self._observe = observe
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; once."""
        due = loop.time() + LAG_PERIOD_SECONDS

        def fired() -> None:
            self._observe(max(0.0, loop.time() - due))
            self.start(loop)

        self._timer = loop.call_at(due, fired)

    def stop(self) -> None:
        """End; safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
