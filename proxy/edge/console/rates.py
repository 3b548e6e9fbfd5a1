"""How often somebody may ask within a minute: counts that are bounded and forgotten.

Rules: a name counts within the minute it began in; names beyond what is remembered share one count,
so that nobody escapes by being many. This module must not know who the names are of.
"""

from typing import Final

NAMES_MAX: Final = 10_000
SECONDS: Final = 60.0
_OTHERS: Final = ""


class Rates:
    """Allows `most` a minute to each name; `take` counts."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[str, tuple[float, int]] = {}

    def take(self, name: str, now: float) -> float | None:
        """Count one; None if it is allowed, else the seconds until one is again."""
        slot = self._slot(name, now)
        since, count = self._counts.get(slot, (now, 0))
        if not 0 <= now - since < SECONDS:
            since, count = now, 0
        self._counts[slot] = (since, count + 1)
        return None if count < self._most else max(1.0, since + SECONDS - now)

    def _slot(self, name: str, now: float) -> str:
        if name in self._counts or len(self._counts) < NAMES_MAX:
            return name
        self._counts = {
            one: kept for one, kept in self._counts.items() if 0 <= now - kept[0] < SECONDS
        }
        return name if len(self._counts) < NAMES_MAX else _OTHERS
