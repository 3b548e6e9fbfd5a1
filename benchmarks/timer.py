"""A timer wheel with microsecond precision for the mock upstream.

uvloop's timers have a resolution of one millisecond, so streams would write in bursts of ten and
every relay would look as if its reads were batched. This keeps a heap of due times and arms one
kernel timer (`timerfd_create(2)`, through ctypes because Python has it only since 3.13).
"""

import asyncio
import ctypes
import heapq
import os
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE = 1
_SECOND = 1_000_000_000


class _Specification(ctypes.Structure):
    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class Timers:
    """Runs callbacks at absolute times of the monotonic clock, nanoseconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._settime = library.timerfd_settime
        self._descriptor = library.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._specification = _Specification(0, 0, 0, 0)
        self._reference = ctypes.byref(self._specification)
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._armed = 0
        self._sequence = 0
        loop.add_reader(self._descriptor, self._fire)

    def at(self, due: int, callback: Callable[[], None]) -> None:
        """Run `callback` at `due`; it cannot be taken back, so it must know when it is stale."""
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, callback))
        if not self._armed or due < self._armed:
            self._arm(due)

    def _arm(self, due: int) -> None:
        self._armed = due
        self._specification.seconds, self._specification.nanoseconds = divmod(due, _SECOND)
        self._settime(self._descriptor, _ABSOLUTE, self._reference, None)

    def _fire(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return
        heap = self._heap
        # Armed "far away" while callbacks push, so that one system call arms the next in the end.
        self._armed = 1
        while heap and heap[0][0] <= time.monotonic_ns():
            heapq.heappop(heap)[2]()
        self._armed = 0
        if heap:
            self._arm(heap[0][0])
