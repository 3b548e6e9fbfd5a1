"""How a charge is computed, line by line, and a program that does it again from a receipt.

Rules: the lines are fractions, exact to the end; they add up, times the multiplier, rounded up
once, to what `pricing.charge` says. The program knows nothing but the receipt (the JSON of
`GET /v1/generation`) and Python's standard library, so that nobody has to believe us. This module
must not know how a receipt is shown.
"""

from fractions import Fraction
from typing import Final, NamedTuple

from proxy.core.entities import Formula, Price, Tier, Usage
from proxy.core.money import MILLION, NANO

HOUR_MS: Final = 3_600_000
PLACES_MAX: Final = 18
"""Decimals of USD that are written of a fraction."""
_TOKEN_KINDS: Final = (
    ("input_uncached", "input"),
    ("cache_read", "cache_read"),
    ("cache_write_5m", "cache_write_5m"),
    ("cache_write_1h", "cache_write_1h"),
    ("audio_input", "audio_input"),
    ("image_input", "image_input"),
    ("cache_read_audio", "cache_read_audio"),
    ("cache_read_image", "cache_read_image"),
    ("output", "output"),
    ("audio_output", "audio_output"),
    ("image_output", "image_output"),
)
"""Fields of a usage vector, and of the price of each."""
_CACHED: Final = frozenset({"cache_read", "cache_read_audio", "cache_read_image"})
_WRITTEN: Final = frozenset({"output", "audio_output", "image_output"})


class Line(NamedTuple):
    """One kind of usage: `units` at `price` nano-USD for each `per` of them."""

    kind: str
    units: int
    price: Fraction
    per: int

    @property
    def amount(self) -> Fraction:
        """Nano-USD, before the multiplier."""
        return self.units * self.price / self.per


class Account(NamedTuple):
    """A charge and what it is made of. Nano-USD; `multiplier` millionths.

    `over`: the length of prompt above which the tier begins whose prices these are, or None.
    """

    lines: tuple[Line, ...]
    over: int | None
    multiplier: int

    @property
    def sum(self) -> Fraction:
        """What the lines come to, before the multiplier."""
        return sum((line.amount for line in self.lines), Fraction(0))

    @property
    def exact(self) -> Fraction:
        """With the multiplier, before it is rounded up."""
        return self.sum * self.multiplier / MILLION

    @property
    def charge(self) -> int:
        """What the call costs."""
        return -(-self.exact.numerator // self.exact.denominator)


def account(usage: Usage, price: Price, multiplier: int) -> Account:
    """Break a charge down: a line for each kind of usage there was."""
    over, each = None, _prices(price, price)
    for tier in () if price.formula is Formula.RATIO else price.tiers:
        if usage.prompt_total > tier.over:
            over, each = tier.over, _prices(price, tier)
    lines = [
        Line(kind, units, each[kind], MILLION)
        for kind, _ in _TOKEN_KINDS
        if (units := getattr(usage, kind))
    ]
    image = Fraction(price.image, MILLION)
    if usage.variant in price.image_variants:
        image = Fraction(price.image_variants[usage.variant])
    lines += [
        line
        for line in (
            Line("characters", usage.characters, Fraction(price.character), MILLION),
            Line("images", usage.images, image, 1),
            Line("audio_ms", usage.audio_ms, Fraction(price.audio_hour), HOUR_MS),
            Line("searches", usage.searches, Fraction(price.search), 1),
            Line("calls", usage.calls if price.call else 0, Fraction(price.call), 1),
        )
        if line.units
    ]
    return Account(tuple(lines), over, multiplier)


def usd_text(nano: Fraction | int) -> str:
    """Write nano-USD as USD: exactly, or cut after `PLACES_MAX` decimals and marked with `…`."""
    scaled = Fraction(nano) * 10**PLACES_MAX / NANO
    units = scaled.numerator // scaled.denominator
    digits = str(units).rjust(PLACES_MAX + 1, "0")
    whole, places = digits[:-PLACES_MAX], digits[-PLACES_MAX:]
    if scaled.denominator != 1:
        return f"{whole}.{places}…"
    return f"{whole}.{places.rstrip('0').ljust(2, '0')}"


def _prices(price: Price, each: Price | Tier) -> dict[str, Fraction]:
    """What tokens of each kind cost, nano-USD per million."""
    if price.formula is not Formula.RATIO:
        return {kind: Fraction(getattr(each, name)) for kind, name in _TOKEN_KINDS}
    one = Fraction(2 * NANO * price.model_ratio, MILLION)
    weights = dict.fromkeys([kind for kind, _ in _TOKEN_KINDS], MILLION)
    weights |= dict.fromkeys(_CACHED, price.cache_ratio)
    weights |= dict.fromkeys(_WRITTEN, price.completion_ratio)
    return {kind: one * weight / MILLION for kind, weight in weights.items()}


SCRIPT: Final = '''\
"""Recompute what a call cost: python3 recompute.py receipt.json"""
import json, math, sys
from fractions import Fraction

receipt = json.load(open(sys.argv[1], encoding="utf-8"))["data"]
used, price = receipt["used"], receipt["price_nano_usd"]
CACHED = "cache_read", "cache_read_audio", "cache_read_image"
READ = *CACHED, "input_uncached", "cache_write_5m", "cache_write_1h", "audio_input", "image_input"
WRITTEN = "output", "audio_output", "image_output"
prompt = sum(used.get(kind, 0) for kind in READ)
each = price  # nano-USD per million tokens; above a tier's length of prompt, that tier's
for tier in price.get("tiers", ()):
    each = tier if prompt > tier["over"] else each
cost = Fraction(0)  # nano-USD
for kind in READ + WRITTEN:
    per_million = each.get("input" if kind == "input_uncached" else kind, 0)
    if price["formula"] == "ratio":  # a ratio of 1 is 2 USD per million tokens
        ratio = "cache_ratio" if kind in CACHED else "completion_ratio" if kind in WRITTEN else ""
        weight = Fraction(price.get(ratio, 10**6), 10**6)
        per_million = 2000 * price.get("model_ratio", 0) * weight
    cost += Fraction(per_million) * used.get(kind, 0) / 10**6
image = Fraction(price.get("image", 0), 10**6)
image = price.get("image_variants", {}).get(used.get("variant"), image)
cost += used.get("images", 0) * image
cost += Fraction(used.get("characters", 0) * price.get("character", 0), 10**6)
cost += Fraction(used.get("audio_ms", 0) * price.get("audio_hour", 0), 3_600_000)
cost += used.get("searches", 0) * price.get("search", 0) + used["calls"] * price.get("call", 0)
due = math.ceil(cost * receipt["multiplier_millionths"] / 10**6)
told = sum(receipt[part + "_nano_usd"] for part in ("charge", "overrun", "forgiven"))
verdict = "equal" if due == told else "DIFFERENT"
print(f"recomputed {due} nano-USD, the receipt says {told}: {verdict}")
sys.exit(due != told)
'''
"""About thirty lines of Python without a line of the relay; exits with 1 if the figures differ."""
