"""Codes that are worth money: how they are written, and how a mistyped one is told.

Rules: a code is 100 random bits and 20 bits of checksum, as six groups of four digits of
Crockford's base 32, which has no letter that looks like a digit; whoever types may use any case,
spaces, dashes or none, and the letters it lacks. A mistyped code is told before anybody looks
for it. This module must not know what a code is worth or where codes are kept.
"""

import hashlib
import unicodedata
from enum import Enum
from typing import Final

from proxy.core.sentences import Sentence

RANDOM_BITS: Final = 100
RANDOM_BYTES: Final = 13
"""Random bytes to hand to `new_code`: the whole bytes around 100 bits."""
_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ_AS: Final = str.maketrans("OIL", "011")
_BODY: Final = RANDOM_BITS // 5
_CHECK: Final = 4
_GROUP: Final = 4
_LENGTH: Final = _BODY + _CHECK
_TEXT_CHARS_MAX: Final = 100
_BETWEEN: Final = frozenset("-‐‑‒–—_. ")


class Mistake(Enum):
    """Why a text is no code; the value says it to whoever typed."""

    LENGTH = Sentence("a code has {n} letters and digits", n=_LENGTH)
    DIGIT = Sentence("a code has only letters and digits, and no U")
    CHECKSUM = Sentence(
        "this code has a typing error in it: compare it with where you have it from"
    )


def new_code(random_bytes: bytes) -> str:
    """Make a code of `RANDOM_BYTES` random bytes, as it is shown: `7K2M-…`."""
    if len(random_bytes) != RANDOM_BYTES:
        raise AssertionError(f"a code takes {RANDOM_BYTES} random bytes")
    number = int.from_bytes(random_bytes, "big") & ((1 << RANDOM_BITS) - 1)
    body = _text(number, _BODY)
    return shown(body + _checksum(body))


def read_code(typed: str) -> str | Mistake:
    """Return a code's digits without its dashes, as they were made, or what is wrong with it."""
    if len(typed) > _TEXT_CHARS_MAX:
        return Mistake.LENGTH
    plain = unicodedata.normalize("NFKC", typed).upper()
    digits = "".join(each for each in plain if each not in _BETWEEN and not each.isspace())
    digits = digits.translate(_READ_AS)
    if any(digit not in _DIGITS for digit in digits):
        return Mistake.DIGIT
    if len(digits) != _LENGTH:
        return Mistake.LENGTH
    if digits[_BODY:] != _checksum(digits[:_BODY]):
        return Mistake.CHECKSUM
    return digits


def shown(digits: str) -> str:
    """Write a code's digits in groups."""
    return "-".join(digits[at : at + _GROUP] for at in range(0, len(digits), _GROUP))


def last_group(code: str) -> str:
    """What may be shown of a code to tell it from others: its checksum."""
    return code[-_CHECK:]


def _checksum(body: str) -> str:
    digest = hashlib.sha256(body.encode()).digest()
    return _text(int.from_bytes(digest[:3], "big") >> 4, _CHECK)


def _text(number: int, digits: int) -> str:
    return "".join(_DIGITS[number >> 5 * at & 31] for at in reversed(range(digits)))
