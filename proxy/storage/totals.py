"""What a keeper has posted since it began, for the metrics page.

Rules: sums only grow; labels are bounded. Nano-USD. This module must not know the ledger.
"""

from proxy.storage.ports import Closing

MODELS_COUNTED_MAX = 10_000
"""Models whose charges are counted apart; further ones count as `other`."""


class Totals:
    """See the module docstring. `settlements` is by (verdict, usage source)."""

    __slots__ = ("charged", "expense", "settlements")

    def __init__(self) -> None:
        self.settlements: dict[tuple[str, str], int] = {}
        self.charged: dict[str, int] = {}
        """Taken from wallets, by model."""
        self.expense = 0
        """Used but not charged: forgiven and overrun."""

    def count(self, closing: Closing, model: str, charged: int, overrun: int) -> None:
        """Add one settlement of a call of `model`."""
        settlements = self.settlements
        ended = (closing.verdict._value_, closing.source._value_)
        settlements[ended] = settlements.get(ended, 0) + 1
        counts = self.charged
        if model not in counts and len(counts) >= MODELS_COUNTED_MAX:
            model = "other"
        counts[model] = counts.get(model, 0) + charged
        self.expense += closing.forgiven + overrun
