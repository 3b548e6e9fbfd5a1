"""What an action says of arguments that cannot be, each by its name.

Rules: a message is for whoever filled in the field; several fields are told at once. This module
must not know pages, nor the wire.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

from proxy.core.sentences import text_of

Given = TypeVar("Given")
Value = TypeVar("Value")


class UnfitError(ValueError):
    """Arguments that cannot be. `fields`: what is wrong, by the argument's name."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("; ".join(fields.values()))
        self.fields = dict(fields)


class Findings:
    """Collects what is wrong with several arguments; `tell` raises it."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}

    def judge(self, field: str, check: Callable[[Given], Value], given: Given) -> Value | None:
        """Return what `check` makes of `given`; None, its message kept, if it raises ValueError."""
        try:
            return check(given)
        except ValueError as error:
            self.fields.setdefault(field, text_of(error))
            return None

    def tell(self) -> None:
        """Raise UnfitError if anything is wrong."""
        if self.fields:
            raise UnfitError(self.fields)
