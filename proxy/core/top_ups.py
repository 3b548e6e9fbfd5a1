"""What a payment in another currency is worth: amounts in its smallest unit, and rates.

Rules: exact until the one rounding, which is down, so that no credit is above what was paid; a
currency whose smallest unit is not a hundredth, or the whole, is refused rather than guessed. This
module must not know any provider.

Source: Stripe's documentation "Supported currencies" (zero-decimal currencies, special cases).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy.core.money import MILLION, NANO, parse_multiplier, parse_usd
from proxy.core.sentences import Sentence

WHOLE: Final = frozenset(
    [
        "bif",
        "clp",
        "djf",
        "gnf",
        "jpy",
        "kmf",
        "krw",
        "mga",
        "pyg",
        "rwf",
        "vnd",
        "vuv",
        "xaf",
        "xof",
        "xpf",
    ]
)
"""Without a smaller unit."""
UNUSUAL: Final = frozenset(["bhd", "iqd", "isk", "jod", "kwd", "lyd", "omr", "tnd", "ugx"])
"""In thousandths, or written otherwise than counted."""
CURRENCIES_MAX: Final = 30
_CODE_CHARS: Final = 3


@dataclass(frozen=True, slots=True)
class Currency:
    """A currency that is taken. `rate`: USD for one of it, millionths; `text`: as written."""

    code: str
    rate: int
    text: str

    @property
    def units(self) -> int:
        """Of its smallest unit in one."""
        return 1 if self.code in WHOLE else 100

    def minor(self, typed: str) -> int:
        """Read an amount somebody typed, in the smallest unit. Raises ValueError."""
        nano = parse_usd(typed)
        minor, rest = divmod(nano * self.units, NANO)
        if rest:
            code = self.code.upper()
            raise ValueError(
                Sentence("an amount of {code} has no decimals", code=code)
                if self.units == 1
                else Sentence("an amount of {code} has at most two decimals", code=code)
            )
        return minor

    def worth(self, minor: int) -> int:
        """Nano-USD that an amount in the smallest unit is worth, rounded down."""
        return minor * self.rate * (NANO // MILLION) // self.units

    def shown(self, minor: int) -> str:
        """An amount in the smallest unit as people write it: `12.50`."""
        if self.units == 1:
            return str(minor)
        whole, rest = divmod(minor, self.units)
        return f"{whole}.{rest:02}"


def read_rates(text: str) -> Mapping[str, Currency]:
    """Read `usd=1, eur=1.08`, by code. Raises ValueError."""
    found: dict[str, Currency] = {}
    for part in text.split(",") if text.strip() else ():
        name, separator, value = (each.strip() for each in part.partition("="))
        code = name.lower()
        if not separator or len(code) != _CODE_CHARS or not (code.isascii() and code.isalpha()):
            raise ValueError(
                Sentence("a rate is written as eur=1.08, not {part!r}", part=part.strip())
            )
        if code in UNUSUAL:
            raise ValueError(Sentence("{code} has unusual units and is not supported", code=code))
        if code in found:
            raise ValueError(Sentence("{code} has two rates", code=code))
        rate = parse_multiplier(value)
        if rate == 0:
            raise ValueError(Sentence("the rate of {code} must be above 0", code=code))
        found[code] = Currency(code, rate, value)
    if len(found) > CURRENCIES_MAX:
        raise ValueError(Sentence("at most {most} currencies can be taken", most=CURRENCIES_MAX))
    return found
