"""How much of an answer may pass before its text is counted exactly again.

Rules: nothing passes uncounted that the hold might not cover. A token is at least one byte of text
in every published table, and an estimate says by its weights how dense it can be (`Meter.density`),
so bytes bound tokens for the price of a sum (`Meter.room`). This module must not know money, nor
what an event looks like.
"""

from collections.abc import Callable
from typing import Final

from proxy.core.metering import PENDING_BYTES_MAX, Meter

COUNTED_BYTES_MIN: Final = 256
"""At the edge of the hold every event is looked at closely instead, and counted once."""


class Allowance:
    """What `meter` may take on trust, with a hold of so many output tokens.

    `unsent` tells how many bytes of what was written have not left this machine.
    """

    __slots__ = ("_counted", "_meter", "_text_bytes_max", "_unsent", "_written_max")

    def __init__(self, meter: Meter, tokens: int, unsent: Callable[[], int]) -> None:
        self._meter = meter
        self._unsent = unsent
        self._counted = 0
        self._written_max = PENDING_BYTES_MAX
        self._text_bytes_max = meter.room(tokens)

    @property
    def room(self) -> int:
        """How many more bytes of text may pass uncounted; negative: none, and some are over."""
        return self._text_bytes_max - self._meter.text_bytes

    @property
    def stale(self) -> bool:
        """Whether enough has passed since the last count for another one to pay."""
        return self._meter.text_bytes - self._counted >= COUNTED_BYTES_MIN

    def covers(self, size: int, text_bytes: int) -> bool:
        """Whether events of `size` bytes fit the hold and the meter's window for certain.

        `text_bytes`: the most their texts can be.
        """
        meter = self._meter
        return (
            meter.written + size <= self._written_max
            and meter.text_bytes + text_bytes <= self._text_bytes_max
        )

    def count(self, tokens: int) -> int:
        """Count what was written, and how much more the hold of `tokens` lets pass on trust.

        Returns the output tokens of all that was written, sent or not.
        """
        meter, unsent = self._meter, self._unsent()
        sent = meter.advance(unsent)
        upper = meter.projected() if unsent else sent
        self._written_max = meter.written + PENDING_BYTES_MAX
        self._counted = meter.text_bytes
        self._text_bytes_max = self._counted + meter.room(tokens - upper)
        return upper
