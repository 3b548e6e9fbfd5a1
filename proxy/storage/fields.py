"""One table of a document, taken apart key by key, so that what nobody asked for is refused.

Rules: a wrong type, a figure out of bounds or a float where money belongs is a ValueError that
names the entry and the key. This module must not know which documents there are.
"""

from enum import StrEnum
from typing import Any, TypeVar

from proxy.core.money import MILLION, NANO, parse_multiplier, parse_usd
from proxy.core.sentences import Sentence, sentence, text_of

SECONDS_MAX = 86_400.0
INTEGER_MAX = 1 << 53
PRICE_MAX = 100_000 * NANO
RATIO_MAX = 1_000 * MILLION
"""With `PRICE_MAX`: ten million tokens at both still cost less than a 64-bit amount."""

Choice = TypeVar("Choice", bound=StrEnum)


class Fields:
    """One table of a document, taken apart key by key; `done` refuses what is left."""

    def __init__(self, where: str, table: object) -> None:
        if not isinstance(table, dict):
            raise ValueError(Sentence("{where} must be a table", where=where))
        self.where = where
        self._left: dict[str, Any] = dict(table)

    def take(self, name: str, default: object = None) -> Any:
        """Take a key of any type out of the table."""
        return self._left.pop(name, default)

    def has(self, name: str) -> bool:
        """Whether the key is there and not yet taken."""
        return name in self._left

    def text(self, name: str, default: str | None = None) -> str:
        """Take a non-empty string."""
        value = self.take(name, default)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self.fault(name, "must be text")
        return value

    def integer(self, name: str, default: int | None = None, least: int = 1) -> int:
        """Take a whole number."""
        value = self.take(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fault(name, "must be a whole number")
        if not least <= value <= INTEGER_MAX:
            raise self.fault(
                name, Sentence("must be at least {least} and at most 2^53", least=least)
            )
        return value

    def optional(self, name: str) -> int | None:
        """Take a whole number above zero, or None where the key is absent."""
        return self.integer(name) if name in self._left else None

    def seconds(self, name: str, default: float) -> float:
        """Take a duration in seconds, above zero and at most a day."""
        value = self.take(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.fault(name, "must be a number of seconds")
        if not 0 < value <= SECONDS_MAX:
            raise self.fault(
                name, Sentence("must be above 0 and at most {most:.0f} seconds", most=SECONDS_MAX)
            )
        return float(value)

    def flag(self, name: str, *, default: bool) -> bool:
        """Take true or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise self.fault(name, "must be true or false")
        return value

    def choice(self, name: str, kind: type[Choice], default: Choice | None = None) -> Choice:
        """Take one of a few words."""
        value = self.take(name, default)
        words = ", ".join(kind)
        if not isinstance(value, str) or value not in set(kind):
            raise self.fault(name, Sentence("must be one of {words}", words=words))
        return kind(value)

    def tables(self, name: str, most: int) -> "list[Fields]":
        """Take a list of tables, each to be taken apart in turn."""
        value = self.take(name, [])
        if not isinstance(value, list) or len(value) > most:
            raise self.fault(name, Sentence("must be a list of at most {most:,} tables", most=most))
        return [
            Fields(Sentence("{where} {name} {at}", where=self.where, name=name, at=at), each)
            for at, each in enumerate(value, 1)
        ]

    def names(self, name: str) -> tuple[str, ...]:
        """Take a list of distinct strings."""
        value = self.take(name, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.fault(name, "must be a list of texts")
        if len(set(value)) != len(value):
            raise self.fault(name, "names something twice")
        return tuple(value)

    def amount(self, name: str, default: int) -> int:
        """Take a price in USD, as nano-USD."""
        value = self.take(name)
        if value is None:
            return default
        try:
            amount = parse_usd(value)
        except ValueError as error:
            raise self.fault(
                name, Sentence("is not a price: {error}", error=text_of(error))
            ) from None
        if amount > PRICE_MAX:
            raise self.fault(
                name, Sentence("is not a price: at most {most:,} USD", most=PRICE_MAX // NANO)
            )
        return amount

    def ratio(self, name: str, default: int | None) -> int:
        """Take a ratio or multiplier, as millionths."""
        value = self.take(name)
        if value is None and default is not None:
            return default
        try:
            ratio = parse_multiplier(value)
        except ValueError as error:
            raise self.fault(
                name, Sentence("is not a ratio: {error}", error=text_of(error))
            ) from None
        if ratio > RATIO_MAX:
            raise self.fault(
                name, Sentence("is not a ratio: at most {most:,}", most=RATIO_MAX // MILLION)
            )
        return ratio

    def done(self) -> None:
        """Refuse keys nobody asked for."""
        if self._left:
            raise ValueError(
                Sentence(
                    "{where}: unknown key {key!r}; remove or correct it",
                    where=self.where,
                    key=min(self._left),
                )
            )

    def fault(self, name: str, what: str) -> ValueError:
        """The error for one key."""
        return ValueError(
            Sentence("{where}: {name} {what}", where=self.where, name=name, what=sentence(what))
        )
