"""What a keeper has posted since it began, for the metrics page.

Rules: sums only grow; labels are bounded. Nano-USD. This module must not change what it reads.
"""

from proxy.core.ledger import Ledger
from proxy.storage.ports import Closing, KeeperStatistics
from proxy.storage.writer import Writer

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

    def statistics(self, ledger: Ledger, writer: Writer, now: float) -> KeeperStatistics:
        """Return everything the metrics page shows of a keeper; `now` is Unix time."""
        holds = ledger.holds
        oldest = next(iter(holds.values()), None)
        age = 0.0 if oldest is None else max(0.0, now - oldest.opened_at)
        return KeeperStatistics(
            holds_open=len(holds),
            hold_oldest_seconds=age,
            held=sum(hold.amount for hold in holds.values()),
            imbalance=writer.imbalance,
            commits=writer.commits,
            commit_seconds=writer.commit_seconds,
            checkpoint_seconds=writer.checkpoint_seconds,
            queue_depth=writer.depth,
            settlements=dict(self.settlements),
            charged=dict(self.charged),
            expense=self.expense,
        )
