"""What one event of a stream means to the exchange that carries it.

Rules: a record of facts, read by a module for each wire form and acted on by core/exchange.py.
This module must not know any form.
"""

from typing import Final

from msgspec import Struct

from proxy.core.deltas import RunKey


class Sight(Struct, frozen=True, gc=False):
    """One event. All of its texts are in `runs`; an event without any is metered by its size."""

    runs: tuple[tuple[RunKey, str], ...] = ()
    """Countable texts, each with the run it is tokenised in."""
    usage: object = None
    """The usage report as parsed; None where there is none."""
    only_usage: bool = False
    """Nothing but the report: left out for a caller who did not ask for it."""
    finished: tuple[tuple[int, str], ...] = ()
    """Choices that end here, with the reason."""
    content: bool = False
    """Worth showing, though it may have no text."""
    failed: bool = False
    """The provider's error: its bytes never pass."""
    terminal: bool = False
    """The last event, which waits for the bill."""
    garbage: bool = False
    """No event of this form."""
    answer_id: str = ""
    """Under which name the provider keeps the answer, where it says."""


GARBAGE: Final = Sight(garbage=True)
FAILED: Final = Sight(failed=True)
