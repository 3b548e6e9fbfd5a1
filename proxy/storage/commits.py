"""The commit to come that all rows of one batch share.

Rules: it happens or fails once, which is announced on the event loop; nobody who waits can cancel
it for the others. This module must not know what is committed.
"""

import asyncio
from collections.abc import Callable, Generator

from proxy.storage.ports import KeeperUnavailableError


class Commit:
    """A commit to come, shared by all rows of one batch; satisfies `ports.Durable`.

    Not a future: nobody who stops waiting can cancel it for the others, and it costs nothing
    when nobody waits.
    """

    __slots__ = ("_callbacks", "_done", "_exception", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._callbacks: list[Callable[[Commit], object]] = []
        self._done = False
        self._exception: KeeperUnavailableError | None = None

    def done(self) -> bool:
        """Whether the commit has happened or failed."""
        return self._done

    def exception(self) -> KeeperUnavailableError | None:
        """Why the commit failed; None if it has not."""
        return self._exception

    def add_done_callback(self, callback: "Callable[[Commit], object]", /) -> None:
        """Call `callback` on the event loop once done; soon, if it is done already."""
        if self._done:
            self._loop.call_soon(callback, self)
        else:
            self._callbacks.append(callback)

    def __await__(self) -> Generator[object, None, None]:
        """Wait for the commit. Raises KeeperUnavailableError if it failed."""
        if not self._done:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._callbacks.append(lambda _: None if waiter.done() else waiter.set_result(None))
            yield from waiter
        if self._exception is not None:
            raise self._exception

    def finish(self, exception: KeeperUnavailableError | None = None) -> None:
        """Announce the outcome; called once, by the writer, on the loop."""
        self._done = True
        self._exception = exception
        self._announce()

    def _announce(self) -> None:
        callbacks = self._callbacks
        try:
            while callbacks:
                callbacks.pop()(self)
        finally:
            if callbacks:  # one raised, into the loop's handler; the others still hear of it
                self._loop.call_soon(self._announce)
