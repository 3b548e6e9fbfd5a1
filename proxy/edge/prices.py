"""What a key pays, as decimals of USD: the model's price times the group's multiplier.

Rules: written exactly, never rounded; what costs nothing is left out, and so is a kind of token
that costs what the one beside it does (core/pricing.py). This module must not know who asks.
"""

from proxy.core.entities import Formula, Price, Tier
from proxy.core.pricing import BESIDE

_PLACES = 15
"""Nano-USD times a multiplier in millionths."""
_MINUTES = 60


def shown_price(price: Price, multiplier: int) -> dict[str, object]:
    """Return a price as JSON holds it: per 1M tokens or characters, and for one of all else.

    Texts, but for `image_variants` (a text each) and `tiers` (what a call with a prompt of more
    than `over` tokens pays instead). `multiplier` in millionths.
    """
    shown: dict[str, object] = {"currency": "USD"}
    if price.formula is Formula.RATIO:
        # A ratio of 1 is $2 per 1M tokens; three factors in millionths make 18 places.
        ratio = 2 * price.model_ratio * multiplier
        shown["input"] = _usd(ratio, 12)
        shown["output"] = _usd(ratio * price.completion_ratio, 18)
        shown["cache_read"] = _usd(ratio * price.cache_ratio, 18)
    else:
        shown |= _tokens(price, multiplier)
    # An image is kept per 1,000,000, as tokens are.
    for name, amount, places in (
        ("character", price.character, _PLACES),
        ("image", price.image, _PLACES + 6),
        ("search", price.search, _PLACES),
        ("call", price.call, _PLACES),
    ):
        if amount:
            shown[name] = _usd(amount * multiplier, places)
    if price.audio_hour:
        whole = price.audio_hour * multiplier
        if whole % _MINUTES:
            shown["audio_hour"] = _usd(whole, _PLACES)
        else:
            shown["audio_minute"] = _usd(whole // _MINUTES, _PLACES)
    if price.image_variants:
        shown["image_variants"] = {
            name: _usd(amount * multiplier, _PLACES)
            for name, amount in price.image_variants.items()
        }
    if price.tiers:
        shown["tiers"] = [{"over": tier.over, **_tokens(tier, multiplier)} for tier in price.tiers]
    return shown


def _tokens(price: Price | Tier, multiplier: int) -> dict[str, str]:
    shown = ["input", "output"]
    shown += [
        name for name, other in BESIDE.items() if getattr(price, name) != getattr(price, other)
    ]
    return {name: _usd(getattr(price, name) * multiplier, _PLACES) for name in shown}


def _usd(units: int, places: int) -> str:
    """Write `units` x 10^-places exactly, with at least two decimals."""
    digits = str(units).rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:].rstrip('0').ljust(2, '0')}"
