"""An attempt of a service call: a body that may be large goes out in pieces, an answer comes in.

Rules: no more of the body is read back than the network takes; an answer that comes early ends
the sending, and a connection whose request was not sent whole is never used again. This module
must not know money, limits or routing.
"""

import asyncio
from typing import Final

from proxy.core.outcomes import Failure, FailureKind
from proxy.core.services.delivery import Delivery
from proxy.edge.attempt import Attempt, AttemptOwner
from proxy.edge.upload import Source
from proxy.edge.upstream import Origin, UpstreamPool

UPLOAD_BUFFER_BYTES_MAX: Final = 262_144
"""Of a body, what may wait in this process for the network."""


class ServiceAttempt(Attempt[Delivery]):
    """See the module docstring."""

    __slots__ = ("_blocked", "_left", "_reading", "_source")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, owner: AttemptOwner, delivery: Delivery
    ) -> None:
        super().__init__(loop, owner, delivery, low_water=0)
        self._source: Source | None = None
        self._left = 0
        """Bytes of the body that were not handed over yet."""
        self._blocked = False
        self._reading = False

    def upload(self, transport: asyncio.Transport, head: bytes, source: Source) -> None:
        """Take over `transport`, write the head and as much of the body as it takes."""
        self._source = source
        self._left = source.size
        transport.set_write_buffer_limits(high=UPLOAD_BUFFER_BYTES_MAX)
        first = source.take() if source.in_memory else b""
        self.send(transport, head + first)
        self._sent(first)
        self._pump()

    def pause_writing(self) -> None:
        """The network takes no more for now."""
        self._blocked = True

    def resume_writing(self) -> None:
        """The network has room again."""
        self._blocked = False
        self._pump()

    def release(self, pool: UpstreamPool, origin: Origin, now: float) -> None:
        """Give the connection back, unless a part of the request is still to be sent."""
        transport = self.transport
        if transport is not None and (self._left or transport.get_write_buffer_size()):
            self.transport = None
            transport.abort()
        super().release(pool, origin, now)

    def _pump(self) -> None:
        """Send until the body has ended, the network is full, or the answer is there."""
        while not (self._blocked or self._reading):
            source = self._source
            if source is None or self.transport is None or self.lost or self.over:
                return
            if not source.in_memory:
                self._reading = True
                source.upload.in_thread(source.take).add_done_callback(self._read)
                return
            self._put(source.take())

    def _read(self, future: asyncio.Future[bytes]) -> None:
        self._reading = False
        if future.cancelled() or future.exception() is not None:
            if not self.over:
                problem = "the request body could not be read again"
                self.exchange.reject(Failure(FailureKind.UNEXPECTED_ANSWER, problem))
                self.nudge()
            return
        self._put(future.result())
        self._pump()

    def _put(self, piece: bytes) -> None:
        if self.transport is not None and not self.lost and not self.over:
            self.transport.write(piece)
            self._sent(piece)

    def _sent(self, piece: bytes) -> None:
        self.exchange.uploaded += len(piece)
        self._left -= len(piece)
        if not self._left:
            self._source = None
