"""What a setting says of itself: the annotation of one line of a settings record.

Rules: a setting is `name: Annotated[type, About(...)] = default` in `Settings` or in a part of it,
and exists nowhere else. This module must not know any setting.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class About:
    """What the table says of a setting. `low`/`high` bound numbers, inclusive."""

    help: str
    unit: str = ""
    reloadable: bool = False
    low: float | None = None
    high: float | None = None
    check: str = ""
    """What a text value must parse as, or empty: `address` (host:port), `amount` (USD), `networks`;
    `address or none`, `origin` (scheme and host), `url` and `email` may be empty too."""


def size(help_: str, low: int, high: int, *, reloadable: bool = False) -> About:
    """A number of bytes."""
    return About(help_, "bytes", reloadable, low, high)


def seconds(help_: str, low: float, high: float, *, reloadable: bool = True) -> About:
    """A span in seconds, with decimals."""
    return About(help_, "s", reloadable, low, high)


def millis(help_: str, low: int, high: int) -> About:
    """A span in whole milliseconds."""
    return About(help_, "ms", reloadable=True, low=low, high=high)


def amount(help_: str, low: int, high: int, unit: str, *, reloadable: bool = True) -> About:
    """Any other whole number."""
    return About(help_, unit, reloadable, low, high)
