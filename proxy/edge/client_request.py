"""One request of a client's connection, as handlers see it: its head at once, its body by pieces.

The connection (edge/client.py) feeds it; who handles it takes what has come. This module must not
know what is being asked.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from proxy.core.errors import RelayError
from proxy.core.http1_request import ChunkedBody, RequestHead

if TYPE_CHECKING:
    from proxy.edge.client import ClientConnection

BODY_PAUSE_BYTES: Final = 1 << 18
"""Body bytes nobody has taken yet above which reading pauses; so much may each upload take."""


class Request:
    """One request as handlers see it: the head at once, the body by `read`."""

    __slots__ = (
        "_chunked", "_length", "_pieces", "_remaining", "_waiter", "complete", "error", "head",
        "protocol",
    )  # fmt: skip

    def __init__(
        self, protocol: "ClientConnection", head: RequestHead, length: int, body: bytes | None
    ) -> None:
        self.protocol = protocol
        self.head = head
        self.error: RelayError | None = None
        """What is wrong with the body's framing, once it is."""
        self._pieces = [body] if body else []
        self._length = length
        self._remaining = length
        self._chunked = ChunkedBody() if length < 0 else None
        self._waiter: asyncio.Future[None] | None = None
        self.complete = body is not None
        """Whether the whole body has arrived; else `feed` has still to take all of it."""

    @property
    def content_length(self) -> int | None:
        """The length the head announces; None when chunked."""
        return None if self._chunked is not None else self._length

    @property
    def wants_more(self) -> bool:
        """Whether what comes next on the wire is this request's body."""
        return self.error is None and not self.complete

    def feed(self, data: bytes) -> bytes:
        """Take bytes off the wire; return those that belong to the next request."""
        if self._chunked is not None:
            try:
                rest = self._chunked.receive(data)
            except RelayError as error:
                self.error = error
                rest = b""
            self._pieces.extend(self._chunked.pieces)
            self._chunked.pieces.clear()
            self.complete = self._chunked.complete
        else:
            taken = data[: self._remaining]
            rest = data[self._remaining :]
            self._remaining -= len(taken)
            self.complete = not self._remaining
            if taken:
                self._pieces.append(taken)
        self.wake()
        return rest

    def take(self) -> bytes:
        """Return the body bytes that have arrived and were not taken."""
        pieces = self._pieces
        if len(pieces) == 1:
            return pieces.pop()
        body = b"".join(pieces)
        pieces.clear()
        return body

    def is_overfull(self) -> bool:
        """Whether reading should pause: never once the body is complete."""
        return not self.complete and sum([len(piece) for piece in self._pieces]) > BODY_PAUSE_BYTES

    async def arrive(self) -> None:
        """Wait for more of the body, its end, its error, or the client's leaving."""
        self.protocol.resume_reading()
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def wake(self) -> None:
        """Wake whoever waits in `arrive`."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
