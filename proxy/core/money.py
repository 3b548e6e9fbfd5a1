"""Money as integers: nano-USD (10^-9 USD), and the only place where an amount is rounded.

Rules: no float ever holds an amount; rounding is up, once per call, by `ceil_div`; text is read
and written exactly or refused. This module must not know what is priced or who pays.
"""

import re
from decimal import Decimal

from proxy.core.sentences import Sentence

NANO = 1_000_000_000
"""Nano-USD in one USD."""
MILLION = 1_000_000
"""Tokens per unit of price, and the one of a multiplier or ratio."""
USD_MAX = 1_000_000_000
"""The largest amount that text may name, in USD: keeps sums far inside 64 bits."""
MULTIPLIER_MAX = 1_000_000
"""The largest multiplier or ratio that text may name."""

_TEXT_CHARS_MAX = 40
_DECIMAL = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)


def ceil_div(numerator: int, denominator: int) -> int:
    """`numerator / denominator` rounded up to a whole unit. Raises ZeroDivisionError on 0."""
    if numerator < 0:
        raise AssertionError("usage, prices and multipliers are never negative")
    return (numerator + denominator - 1) // denominator  # two negations cost large numbers more


def parse_usd(amount: str | int | Decimal) -> int:
    """Read an amount of USD, such as `"12.50"`, as nano-USD.

    Plain decimal notation only. Raises ValueError for anything negative, not a number, finer than
    9 decimals or above `USD_MAX`, with a message that says which.
    """
    return _parse(amount, scale=NANO, most=USD_MAX, what=Sentence("an amount in USD"))


def parse_signed_usd(amount: str) -> int:
    """Read an amount of USD that may begin with a minus. Raises ValueError, as `parse_usd`."""
    text = amount.strip()
    if text.startswith("-") and text[1:2].isdigit():
        return -parse_usd(text[1:])
    return parse_usd(text)


def format_usd(nano: int) -> str:
    """Write nano-USD as USD, exactly, with at least two decimals: `"12.50"`, `"-0.0000375"`."""
    return _format(nano, scale=NANO, least=2)


def parse_multiplier(multiplier: str | int | Decimal) -> int:
    """Read a multiplier or ratio, such as `"1.25"`, as millionths. Raises ValueError.

    The rules of `parse_usd`, with 6 decimals and `MULTIPLIER_MAX`.
    """
    return _parse(multiplier, scale=MILLION, most=MULTIPLIER_MAX, what=Sentence("a multiplier"))


def format_multiplier(millionths: int) -> str:
    """Write millionths as a decimal, exactly, with at least one place: `"1.0"`, `"0.25"`."""
    return _format(millionths, scale=MILLION, least=1)


def _parse(value: str | int | Decimal, *, scale: int, most: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        # A float is refused although it could be converted: 0.1 is not a tenth.
        kind = type(value).__name__
        raise ValueError(
            Sentence("{what} must be text or a whole number, not {kind}", what=what, kind=kind)
        )
    if isinstance(value, int) and not 0 <= value <= most:
        raise ValueError(Sentence("{what} must be between 0 and {most:,}", what=what, most=most))
    text = str(value).strip()
    if isinstance(value, Decimal) and abs(value.adjusted()) <= _TEXT_CHARS_MAX:
        text = format(value, "f")  # beyond the bound this could be a gigabyte of zeros
    shown = repr(text[:_TEXT_CHARS_MAX])
    if text.startswith("-"):
        raise ValueError(
            Sentence("{what} must not be negative, but is {shown}", what=what, shown=shown)
        )
    match = _DECIMAL.fullmatch(text) if len(text) <= _TEXT_CHARS_MAX else None
    if match is None:
        raise ValueError(
            Sentence(
                "{what} must be a plain decimal number such as 12.50, not {shown}",
                what=what,
                shown=shown,
            )
        )
    places = _places(scale)
    whole, fraction = match[1], (match[2] or "").rstrip("0")
    if len(fraction) > places:
        raise ValueError(
            Sentence(
                "{what} has at most {places} decimals, but is {shown}",
                what=what,
                places=places,
                shown=shown,
            )
        )
    units = int(whole) * scale + int(fraction.ljust(places, "0"))
    if units > most * scale:
        raise ValueError(
            Sentence(
                "{what} must be between 0 and {most:,}, but is {shown}",
                what=what,
                most=most,
                shown=shown,
            )
        )
    return units


def _format(units: int, *, scale: int, least: int) -> str:
    whole, rest = divmod(abs(units), scale)
    fraction = f"{rest:0{_places(scale)}}".rstrip("0").ljust(least, "0")
    return f"{'-' if units < 0 else ''}{whole}.{fraction}"


def _places(scale: int) -> int:
    """Decimals of a power of ten."""
    return len(str(scale)) - 1
