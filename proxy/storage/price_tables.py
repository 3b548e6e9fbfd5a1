"""A price as a table of a document: decimal USD as text, and back again.

Rules: what a table leaves out is never nothing where something would be billed to us: it equals
the price beside it; reading what `write_price` wrote gives the same price. This module must not
know where a table came from, nor what usage is.
"""

from dataclasses import replace
from typing import Any, Final

from proxy.core.entities import MULTIPLIER_ONE, Formula, Price, Tier
from proxy.core.money import MILLION, format_multiplier, format_usd
from proxy.core.pricing import BESIDE
from proxy.core.sentences import Sentence
from proxy.storage.fields import PRICE_MAX, Fields

AMOUNT_MAX = (1 << 63) - 1
TIERS_MAX = 8
IMAGE_VARIANTS_MAX = 256
VARIANT_CHARS_MAX = 64

RATIOS: Final = ("model_ratio", "completion_ratio", "cache_ratio")
_TOKENS: Final = ("input", "output", *BESIDE)
_EACH: Final = ("character", "call", "search")
_DURATIONS: Final = {"audio_second": 3_600, "audio_minute": 60, "audio_hour": 1}
"""How often each is in the hour that is stored."""


def read_price(where: str, model: str, table: object) -> Price:
    """Read a price table in USD (or ratios) as nano-USD. Raises ValueError."""
    fields = Fields(where, table)
    amounts: dict[str, Any] = {}
    if isinstance(table, dict) and not table.keys().isdisjoint(RATIOS):
        formula = Formula.RATIO
        amounts["model_ratio"] = fields.ratio("model_ratio", None)
        for name in RATIOS[1:]:
            amounts[name] = fields.ratio(name, MULTIPLIER_ONE)
    else:
        formula = Formula.TOKENS
        amounts = _tokens(fields)
    amounts |= {name: fields.amount(name, 0) for name in _EACH}
    amounts["audio_hour"] = _audio(fields)
    amounts["image_variants"] = variants = _variants(fields)
    # Written as USD each, kept per 1,000,000 like the tokens. An image of no variant that is
    # named costs no less than the dearest of them.
    amounts["image"] = fields.amount("image", max(variants.values(), default=0)) * MILLION
    if amounts["image"] > AMOUNT_MAX:
        raise fields.fault("image", "is too large")
    price = Price(model, 0, formula, **amounts)
    if formula is Formula.TOKENS:
        price = replace(price, tiers=_tiers(fields, price))
    fields.done()
    return price


def write_price(price: Price) -> dict[str, Any]:
    """The table `read_price` reads back to the same price, defaults left out."""
    table: dict[str, Any]
    if price.formula is Formula.RATIO:
        table = {name: format_multiplier(getattr(price, name)) for name in RATIOS}
    else:
        table = {"input": format_usd(price.input), "output": format_usd(price.output)}
        for name in _apart(price):
            table[name] = format_usd(getattr(price, name))
    for name in _EACH:
        if getattr(price, name):
            table[name] = format_usd(getattr(price, name))
    if price.audio_hour:
        unit = "audio_hour" if price.audio_hour % 60 else "audio_minute"
        table[unit] = format_usd(price.audio_hour // _DURATIONS[unit])
    if price.image != max(price.image_variants.values(), default=0) * MILLION:
        table["image"] = format_usd(price.image // MILLION)
    if price.image_variants:
        table["image_variants"] = {
            name: format_usd(amount) for name, amount in price.image_variants.items()
        }
    if price.tiers:
        table["tiers"] = [_write_tier(price, tier) for tier in price.tiers]
    return table


def _tokens(fields: Fields) -> dict[str, Any]:
    amounts = {name: fields.amount(name, 0) for name in ("input", "output")}
    for name, other in BESIDE.items():
        amounts[name] = fields.amount(name, amounts[other])
    return amounts


def _apart(price: Price | Tier) -> list[str]:
    """The prices of tokens that do not equal the one beside them."""
    return [name for name, other in BESIDE.items() if getattr(price, name) != getattr(price, other)]


def _audio(fields: Fields) -> int:
    said = [unit for unit in _DURATIONS if fields.has(unit)]
    if not said:
        return 0
    if len(said) > 1:
        raise fields.fault(
            said[0], Sentence("and {said} say the same: leave one out", said=said[1])
        )
    amount = fields.amount(said[0], 0) * _DURATIONS[said[0]]
    if amount > PRICE_MAX:
        raise fields.fault(said[0], "is too large")
    return amount


def _variants(fields: Fields) -> dict[str, int]:
    table = fields.take("image_variants", {})
    prices = Fields(Sentence("{where} image_variants", where=fields.where), table)
    if len(table) > IMAGE_VARIANTS_MAX:
        raise fields.fault(
            "image_variants", Sentence("has more than {most} entries", most=IMAGE_VARIANTS_MAX)
        )
    variants = {}
    for name in table:
        if not (0 < len(name) <= VARIANT_CHARS_MAX and name.isprintable() and " " not in name):
            raise prices.fault(
                repr(name), "is not a size, a quality, or both, such as 1024x1024:hd"
            )
        variants[name] = prices.amount(name, 0)
    return variants


def _tiers(fields: Fields, price: Price) -> tuple[Tier, ...]:
    """Read tiers, lowest first, each dearer than the one below in whatever it says."""
    apart = _apart(price)
    tiers: list[Tier] = []
    below: Price | Tier = price
    for each in fields.tables("tiers", TIERS_MAX):
        needed = [name for name in ("input", "output") if getattr(price, name)]
        for name in (*needed, *apart):
            if not each.has(name):
                raise each.fault(name, "is left out: the price says it, so each tier has to")
        tier = Tier(each.integer("over"), **_tokens(each))
        each.done()
        if tiers and tier.over <= tiers[-1].over:
            raise each.fault("over", "must be above that of the tier before: sort them")
        for name in _TOKENS:
            if getattr(tier, name) < getattr(below, name):
                raise each.fault(name, "is below what a shorter prompt pays")
        tiers.append(tier)
        below = tier
    return tuple(tiers)


def _write_tier(price: Price, tier: Tier) -> dict[str, Any]:
    table: dict[str, Any] = {
        "over": tier.over,
        "input": format_usd(tier.input),
        "output": format_usd(tier.output),
    }
    said = {*_apart(price), *_apart(tier)}
    return table | {name: format_usd(getattr(tier, name)) for name in BESIDE if name in said}
