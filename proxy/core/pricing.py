"""From a usage vector to nano-USD, by either formula, and back to what an amount would buy.

Rules: a price is read as one linear form over the usage kinds, evaluated in integers and rounded
up once, at the end; the same stored usage, price version and multiplier give the same charge for
ever; `quote` is never below the `charge` of any usage within its bounds. This module must not know
whose money it is, nor where usage comes from.

Source of the ratio formula: group x model x (prompt + completion x completion ratio), ratio 1
being $2 per 1M tokens (DESIGN.md section 3).
"""

from functools import lru_cache

from proxy.core.entities import Formula, Price, Usage
from proxy.core.money import MILLION, NANO, ceil_div

OUTPUT_AFFORDABLE_MAX = 1_000_000_000
"""What `output_affordable` answers where output costs nothing: more than any model can write."""

PRICES_MAX = 4_096
"""Price versions whose ceilings are remembered."""
_RATIO = Formula.RATIO  # read at every call: a member of an enum costs 10 times it
_RATIO_ONE = 2 * NANO
"""Nano-USD per 1M tokens at a ratio of 1."""
_TOKENS_SCALE = MILLION * MILLION
"""Denominator of the tokens formula: per 1M units, multiplier in millionths."""
_RATIO_SCALE = _TOKENS_SCALE * MILLION * MILLION
"""The same with model ratio and weight in millionths on top."""


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
            )
            + price.cache_ratio * usage.cache_read
            + price.completion_ratio * (usage.output + usage.audio_output)
        )
        units = _RATIO_ONE * price.model_ratio * weight + _TOKENS_SCALE * _other_units(usage, price)
        return ceil_div(multiplier * units, _RATIO_SCALE)
    units = price.input * usage.input_uncached + price.output * usage.output
    if usage.cache_read or usage.cache_write_5m or usage.cache_write_1h:
        units += (
            price.cache_read * usage.cache_read
            + price.cache_write_5m * usage.cache_write_5m
            + price.cache_write_1h * usage.cache_write_1h
        )
    if usage.audio_input or usage.audio_output:
        units += price.audio_input * usage.audio_input + price.audio_output * usage.audio_output
    if price.call or usage.images or usage.characters:
        units += _other_units(usage, price)
    return ceil_div(multiplier * units, _TOKENS_SCALE)


def quote(price: Price, multiplier: int, input_tokens: int, output_tokens: int) -> int:
    """The most one call may cost, nano-USD: a ceiling to hold before it starts.

    Holds for one call of at most `input_tokens` of any kinds of input and `output_tokens` of any
    kinds of output, without images or characters.
    """
    fixed, per_input, per_output, scale = _ceiling(price)
    units = fixed + per_input * input_tokens + per_output * output_tokens
    return ceil_div(multiplier * units, scale)


def output_affordable(price: Price, multiplier: int, input_tokens: int, amount: int) -> int:
    """The largest `output_tokens` whose `quote` is within `amount` nano-USD.

    0 when not even the input fits; at most `OUTPUT_AFFORDABLE_MAX`.
    """
    fixed, per_input, per_output, scale = _ceiling(price)
    left = amount * scale - multiplier * (fixed + per_input * input_tokens)
    step = multiplier * per_output
    if left < 0:
        return 0
    if step == 0:
        return OUTPUT_AFFORDABLE_MAX
    return min(left // step, OUTPUT_AFFORDABLE_MAX)


@lru_cache(maxsize=PRICES_MAX)
def _ceiling(price: Price) -> tuple[int, int, int, int]:
    """One call, one input token, one output token at their dearest, and the denominator."""
    if price.formula is _RATIO:
        ratio = _RATIO_ONE * price.model_ratio
        return (
            price.call * MILLION * _TOKENS_SCALE,
            ratio * max(MILLION, price.cache_ratio),
            ratio * price.completion_ratio,
            _RATIO_SCALE,
        )
    return (
        price.call * MILLION,
        max(
            price.input,
            price.cache_read,
            price.cache_write_5m,
            price.cache_write_1h,
            price.audio_input,
        ),
        max(price.output, price.audio_output),
        _TOKENS_SCALE,
    )


def _other_units(usage: Usage, price: Price) -> int:
    """What is not tokens: images, characters and the call itself, in millionths."""
    return (
        price.image * usage.images
        + price.character * usage.characters
        + price.call * usage.calls * MILLION
    )
