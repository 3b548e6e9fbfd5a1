"""What a worker remembers of the calls its keeper has not finished with.

Rules: records only, each whole enough to say everything of its call again to another keeper. This
module must not know the wire.
"""

import asyncio
from collections.abc import Callable, Generator

from msgspec import Struct

from proxy.storage.commits import Commit
from proxy.storage.ports import Admission, Closing, Opening, Progress, Receipt, Refusal


class Row(Commit):
    """The commit of an open row; waiting for a lazy one hurries it."""

    __slots__ = ("_hurry",)

    def __init__(self, loop: asyncio.AbstractEventLoop, hurry: Callable[[], object] | None) -> None:
        super().__init__(loop)
        self._hurry = hurry

    def add_done_callback(self, callback: Callable[[Commit], object], /) -> None:
        """See `ports.Durable`."""
        self._wanted()
        super().add_done_callback(callback)

    def __await__(self) -> Generator[object, None, None]:
        """See `ports.Durable`."""
        self._wanted()
        return super().__await__()

    def _wanted(self) -> None:
        hurry, self._hurry = self._hurry, None
        if hurry is not None and not self.done():
            hurry()


class Open(Struct):
    """A call under way. `held` is nano-USD, `progress` its last mark."""

    opening: Opening
    held: int
    row: Row
    progress: Progress | None = None


class Settling(Struct):
    """A call that has ended, until the keeper has it in the file."""

    opening: Opening
    held: int
    closing: Closing
    receipt: Receipt
    commit: Commit


class Asked(Struct):
    """An admission nobody has answered yet, asked `at` (loop time)."""

    opening: Opening
    answer: "asyncio.Future[Admission | Refusal]"
    at: float
