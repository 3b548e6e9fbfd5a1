"""Walks a file from header to header, passing over what lies between, in constant memory.

Rules: a subclass looks at the bytes where a header should be and says how far the next one is.
Where it looks does not depend on how the file was cut. This module must not know any format.
"""

from typing import Final

WAIT: Final = 0
"""What a look answers when it needs more bytes than are there."""
STOP: Final = -1
"""What a look answers when nothing more can be learnt."""


class Walker:
    """One file on its way; a `Sink` of core/multipart.py."""

    __slots__ = ("_rest", "_skip", "_stopped", "size")

    def __init__(self) -> None:
        self.size = 0
        """Bytes fed."""
        self._rest = b""
        self._skip = 0
        self._stopped = False

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the file."""
        self.size += len(piece)
        if self._stopped:
            return
        if self._skip >= len(piece):
            self._skip -= len(piece)
            return
        data = self._rest + piece[self._skip :]
        self._skip = 0
        position, end = 0, len(data)
        while position < end:
            step = self.look(data, position)
            if step == WAIT:
                break
            if step == STOP:
                self._stopped = True
                return
            position += step
        self._rest = data[position:]
        self._skip = max(0, position - end)

    def look(self, data: bytes, position: int) -> int:
        """Read the header at `position`; return where the next is from there, WAIT or STOP."""
        raise NotImplementedError

    def milliseconds(self) -> int | None:
        """Return the length of what was fed, rounded up; None when it cannot be told."""
        raise NotImplementedError


def ceil_milliseconds(units: int, rate: int) -> int:
    """Return how long `units` at `rate` a second last."""
    return -(-units * 1_000 // rate)
