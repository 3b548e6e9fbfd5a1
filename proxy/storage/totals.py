"""What a keeper has posted since it began, for the metrics page.

Rules: sums only grow; labels are bounded. Nano-USD. This module must not change what it reads.
"""

from proxy.core.entities import UsageSource, Verdict
from proxy.core.ledger import Ledger
from proxy.storage.ports import Closing, KeeperStatistics
from proxy.storage.writer import Writer

MODELS_COUNTED_MAX = 10_000
"""Models whose charges are counted apart; further ones count as `other`."""


class Totals:
    """See the module docstring."""

    __slots__ = ("_counted", "_models", "expense")

    def __init__(self) -> None:
        self._counted: dict[tuple[str, Verdict, UsageSource], list[int]] = {}
        """Settlements and what they took from wallets, by model, verdict and usage source: one
        row is looked up a call, and sums are made when somebody asks."""
        self._models: set[str] = set()
        self.expense = 0
        """Used but not charged: forgiven and overrun."""

    def count(self, closing: Closing, model: str, charged: int, overrun: int) -> None:
        """Add one settlement of a call of `model`."""
        said = (model, closing.verdict, closing.source)
        row = self._counted.get(said) or self._row(*said)
        row[0] += 1
        row[1] += charged
        if closing.forgiven or overrun:
            self.expense += closing.forgiven + overrun

    def _row(self, model: str, verdict: Verdict, source: UsageSource) -> list[int]:
        if model not in self._models and len(self._models) >= MODELS_COUNTED_MAX:
            model = "other"
        self._models.add(model)
        return self._counted.setdefault((model, verdict, source), [0, 0])

    @property
    def settlements(self) -> dict[tuple[str, str], int]:
        """How many there were, by (verdict, usage source)."""
        sums: dict[tuple[str, str], int] = {}
        for (_, verdict, source), (calls, _) in self._counted.items():
            ended = (verdict.value, source.value)
            sums[ended] = sums.get(ended, 0) + calls
        return sums

    @property
    def charged(self) -> dict[str, int]:
        """Taken from wallets, by model."""
        sums: dict[str, int] = {}
        for (model, _, _), (_, amount) in self._counted.items():
            sums[model] = sums.get(model, 0) + amount
        return sums

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
            settlements=self.settlements,
            charged=self.charged,
            expense=self.expense,
        )
