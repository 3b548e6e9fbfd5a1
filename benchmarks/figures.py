"""Medians, percentiles, ratios of paired rounds and their bootstrap interval.

Rules: pure; the random generator is seeded, so a table can be recomputed from the JSON. No round
is ever dropped.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

RESAMPLES = 4000
_SEED = 20


@dataclass(frozen=True, slots=True)
class Interval:
    """A median with its 95 % bootstrap interval and the range of the rounds."""

    median: float
    low: float
    high: float
    least: float
    most: float
    rounds: int

    def __str__(self) -> str:
        """As it stands in a table."""
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def percentiles(nanoseconds: Sequence[int]) -> dict[str, float]:
    """p50, p90, p99, p99.9 and max in microseconds; empty when there is nothing."""
    if not nanoseconds:
        return {}
    ordered = sorted(nanoseconds)
    count = len(ordered)
    shares = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999))
    found = {name: ordered[min(count - 1, int(share * count))] / 1000 for name, share in shares}
    found["max"] = ordered[-1] / 1000
    found["count"] = count
    return found


def interval(values: Sequence[float]) -> Interval:
    """Median of the values and where 95 % of resampled medians lie."""
    if not values:
        raise ValueError("no rounds to summarise")
    source = random.Random(_SEED)
    medians = sorted(median(source.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return Interval(
        median=median(values),
        low=medians[int(0.025 * RESAMPLES)],
        high=medians[int(0.975 * RESAMPLES)],
        least=min(values),
        most=max(values),
        rounds=len(values),
    )


def ratios(values: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Round by round ratio; rounds are pairs because they ran next to each other."""
    return interval([a / b for a, b in zip(values, denominators, strict=True)])
