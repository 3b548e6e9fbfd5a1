"""From a usage vector to nano-USD, by either formula, and back to what an amount would buy.

Rules: a price is read as one linear form over the usage kinds, evaluated in integers and rounded
up once, at the end; the prompt's length picks the tier and with it the form, for the whole call;
the same stored usage, price version and multiplier give the same charge for ever; a quote is never
below the `charge` of any usage within its bounds. This module must not know whose money it is, nor
where usage comes from.

Source of the ratio formula: group x model x (prompt + completion x completion ratio), ratio 1
being $2 per 1M tokens (DESIGN.md section 3).
"""

from math import gcd
from typing import Final, TypeAlias

from proxy.core.entities import Formula, Price, Tier, Usage
from proxy.core.money import MILLION, NANO, ceil_div

OUTPUT_AFFORDABLE_MAX = 1_000_000_000
"""What `output_affordable` answers where output costs nothing: more than any model can write."""

INPUT_KINDS = (
    "input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image_input",
    "cache_read_audio", "cache_read_image",
)  # fmt: skip
OUTPUT_KINDS = ("output", "audio_output", "image_output")
"""Every price of a token that is read, and of one that is written."""
BESIDE = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "input",
    "audio_input": "input",
    "audio_output": "output",
    "image_input": "input",
    "image_output": "output",
    "cache_read_audio": "audio_input",
    "cache_read_image": "image_input",
}
"""Prices of tokens that equal another where nobody says them: never nothing."""

PRICES_MAX = 4_096
"""Price versions whose ceilings are remembered."""
Line: TypeAlias = tuple[int, int, int, int]
"""Base, input token, output token, divisor: see `quote_line`."""
Rates: TypeAlias = tuple[int, int, int]
"""Input token, output token, and of what part of a nano-USD: see `rates_of`."""
_Ceiling: TypeAlias = tuple[int, int, int, int]
_CEILINGS: Final[dict[int, tuple[Price, list[_Ceiling]]]] = {}
"""By the identity of a price, which is in it so that no other can have the same meanwhile."""
_RATIO = Formula.RATIO  # read at every call: a member of an enum costs 10 times it
_RATIO_ONE = 2 * NANO
"""Nano-USD per 1M tokens at a ratio of 1."""
_TOKENS_SCALE = MILLION * MILLION
"""Denominator of the tokens formula: per 1M units, multiplier in millionths."""
_RATIO_SCALE = _TOKENS_SCALE * MILLION * MILLION
"""The same with model ratio and weight in millionths on top."""
_AUDIO_DENOMINATOR = 18
_AUDIO_NUMERATOR = 5
"""1,000,000 ms are 5/18 of an hour: the fraction audio adds to either form."""


def charge(usage: Usage, price: Price, multiplier: int) -> int:
    """What `usage` costs, nano-USD, rounded up once.

    `multiplier` is the group's, in millionths. `reasoning` is not added: it is inside `output`.
    """
    if price.formula is _RATIO:
        weight = (
            MILLION
            * (
                usage.input_uncached
                + usage.cache_write_5m
                + usage.cache_write_1h
                + usage.audio_input
                + usage.image_input
            )
            + price.cache_ratio
            * (usage.cache_read + usage.cache_read_audio + usage.cache_read_image)
            + price.completion_ratio * usage.completion_total
        )
        units = _RATIO_ONE * price.model_ratio * weight + _TOKENS_SCALE * _other_units(usage, price)
        return _rounded(usage, price, multiplier, units, _RATIO_SCALE)
    each: Price | Tier = price
    if price.tiers:
        each = _tier(price, usage.prompt_total)
    units = each.input * usage.input_uncached + each.output * usage.output
    if usage.cache_read or usage.cache_write_5m or usage.cache_write_1h:
        units += (
            each.cache_read * usage.cache_read
            + each.cache_write_5m * usage.cache_write_5m
            + each.cache_write_1h * usage.cache_write_1h
        )
    if usage.audio_input or usage.audio_output or usage.cache_read_audio:
        units += (
            each.audio_input * usage.audio_input
            + each.audio_output * usage.audio_output
            + each.cache_read_audio * usage.cache_read_audio
        )
    if usage.image_input or usage.image_output or usage.cache_read_image:
        units += (
            each.image_input * usage.image_input
            + each.image_output * usage.image_output
            + each.cache_read_image * usage.cache_read_image
        )
    if price.call or usage.images or usage.characters or usage.searches:
        units += _other_units(usage, price)
    if usage.audio_ms:
        return _rounded(usage, price, multiplier, units, _TOKENS_SCALE)
    return ceil_div(multiplier * units, _TOKENS_SCALE)


def charge_bare(usage: Usage, price: Price, multiplier: int) -> int:
    """What `charge` says of one call of which only `input_uncached` and `output` are not 0."""
    if price.formula is _RATIO or price.call or price.tiers:
        return charge(usage, price, multiplier)
    units = price.input * usage.input_uncached + price.output * usage.output
    if multiplier == MILLION:  # as of most groups; the smaller numbers divide for a fifth
        return ceil_div(units, MILLION)
    return ceil_div(multiplier * units, _TOKENS_SCALE)


def rates_of(price: Price, multiplier: int) -> Rates | None:
    """What says `charge_bare` of any usage; None where more than two rates are in it.

    For who charges one price again and again: in numbers as small as they go, since long ones
    divide for five times as much.
    """
    if price.formula is _RATIO or price.call or price.tiers:
        return None
    given, made = multiplier * price.input, multiplier * price.output
    shared = gcd(_TOKENS_SCALE, given, made)
    return given // shared, made // shared, _TOKENS_SCALE // shared


def quote(
    price: Price, multiplier: int, input_tokens: int, output_tokens: int, searches: int = 0
) -> int:
    """The most one call may cost, nano-USD: a ceiling to hold before it starts.

    Holds for one call of at most `input_tokens` of any kinds of input, `output_tokens` of any
    kinds of output and `searches`, without images, characters or audio by time.
    """
    reach = _reach(price, input_tokens) if price.tiers else 0
    fixed, per_input, per_output, scale = _ceiling(price, reach)
    units = fixed + per_input * input_tokens + per_output * output_tokens
    if searches:
        units += price.search * searches * (scale // MILLION)
    return ceil_div(multiplier * units, scale)


def quote_line(price: Price, multiplier: int) -> Line | None:
    """What says `quote` of a call without searches, as (base + input + output) // divisor.

    For who quotes one price again and again: of numbers as small as they go, so that nothing has
    to be looked up, and none is longer than the amount itself. None for a price with tiers.
    """
    if price.tiers:
        return None
    fixed, per_input, per_output, scale = _ceiling(price, 0)
    each = [multiplier * one for one in (fixed, per_input, per_output)]
    shared = gcd(scale, *each)
    scale //= shared
    fixed, per_input, per_output = [one // shared for one in each]
    return fixed + scale - 1, per_input, per_output, scale  # rounded up, as `ceil_div` does


def quote_usage(price: Price, multiplier: int, usage_max: Usage) -> int:
    """The most a call may cost that uses no more than `usage_max`, nano-USD.

    Kinds of input, and kinds of output, may stand for each other; images may be of any variant
    where `usage_max` names none, else they are of that one.
    """
    given = usage_max.prompt_total
    reach = _reach(price, given) if price.tiers else 0
    _, per_input, per_output, scale = _ceiling(price, reach)
    units = per_input * given + per_output * usage_max.completion_total
    other = _other_units(usage_max, price)
    if usage_max.images and not usage_max.variant:
        dearest = max(price.image_variants.values(), default=0) * MILLION
        other += max(0, dearest - price.image) * usage_max.images
    units += (scale // _TOKENS_SCALE) * other
    return _rounded(usage_max, price, multiplier, units, scale)


def output_affordable(
    price: Price, multiplier: int, input_tokens: int, amount: int, searches: int = 0
) -> int:
    """The largest `output_tokens` whose `quote` is within `amount` nano-USD.

    0 when not even the input fits; at most `OUTPUT_AFFORDABLE_MAX`.
    """
    reach = _reach(price, input_tokens) if price.tiers else 0
    fixed, per_input, per_output, scale = _ceiling(price, reach)
    if searches:
        fixed += price.search * searches * (scale // MILLION)
    left = amount * scale - multiplier * (fixed + per_input * input_tokens)
    step = multiplier * per_output
    if left < 0:
        return 0
    if step == 0:
        return OUTPUT_AFFORDABLE_MAX
    return min(left // step, OUTPUT_AFFORDABLE_MAX)


def line_affordable(line: Line, input_tokens: int, amount: int) -> int:
    """What `output_affordable` says of the price and multiplier of a `quote_line`."""
    base, per_input, per_output, divisor = line
    left = (amount + 1) * divisor - 1 - base - per_input * input_tokens
    if left < 0:
        return 0
    if not per_output:
        return OUTPUT_AFFORDABLE_MAX
    return min(left // per_output, OUTPUT_AFFORDABLE_MAX)


def image_variant(price: Price, size: str, quality: str) -> str:
    """Which variant of `price` an image of `size` and `quality` is, for `Usage.variant`.

    The one named `size:quality`, else `size`, else `quality`; else none, which is empty, and the
    image costs `Price.image`. Either may be empty: unknown.
    """
    for name in (f"{size}:{quality}", size, quality):
        if name in price.image_variants:
            return name
    return ""


def _tier(price: Price, input_tokens: int) -> Price | Tier:
    """What the tokens of a call with so long a prompt cost."""
    reach = _reach(price, input_tokens)
    return price.tiers[reach - 1] if reach else price


def _reach(price: Price, input_tokens: int) -> int:
    """How many tiers a prompt of so many tokens has gone above."""
    reach = 0
    for tier in price.tiers:
        if input_tokens <= tier.over:
            break
        reach += 1
    return reach


def _ceiling(price: Price, reach: int) -> _Ceiling:
    """One call, one input token, one output token at their dearest, and the denominator.

    `reach`: how many tiers the longest prompt goes above; it may turn out shorter, so each counts.
    """
    known = _CEILINGS.get(id(price))  # its hash and `==` cost three times as much
    if known is None or known[0] is not price:
        if len(_CEILINGS) >= PRICES_MAX:
            _CEILINGS.clear()
        found = [_ceiling_of(price, tiers) for tiers in range(len(price.tiers) + 1)]
        known = _CEILINGS[id(price)] = (price, found)
    return known[1][reach]


def _ceiling_of(price: Price, reach: int) -> _Ceiling:
    if price.formula is _RATIO:
        ratio = _RATIO_ONE * price.model_ratio
        return (
            price.call * MILLION * _TOKENS_SCALE,
            ratio * max(MILLION, price.cache_ratio),
            ratio * price.completion_ratio,
            _RATIO_SCALE,
        )
    open_to_it: tuple[Price | Tier, ...] = (price, *price.tiers[:reach])
    return (
        price.call * MILLION,
        max(getattr(each, kind) for each in open_to_it for kind in INPUT_KINDS),
        max(getattr(each, kind) for each in open_to_it for kind in OUTPUT_KINDS),
        _TOKENS_SCALE,
    )


def _other_units(usage: Usage, price: Price) -> int:
    """What is not tokens: images, characters, searches and the call itself, in millionths."""
    image = price.image
    if usage.variant:
        named = price.image_variants.get(usage.variant)
        image = image if named is None else named * MILLION
    return (
        image * usage.images
        + price.character * usage.characters
        + (price.call * usage.calls + price.search * usage.searches) * MILLION
    )


def _rounded(usage: Usage, price: Price, multiplier: int, units: int, scale: int) -> int:
    """Round up once, with audio by time added to `units` of 1 / `scale`."""
    if usage.audio_ms:
        audio = price.audio_hour * usage.audio_ms * (scale // _TOKENS_SCALE)
        units = _AUDIO_DENOMINATOR * units + _AUDIO_NUMERATOR * audio
        scale *= _AUDIO_DENOMINATOR
    return ceil_div(multiplier * units, scale)
