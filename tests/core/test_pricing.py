from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.core.entities import MULTIPLIER_ONE, Formula, Price, Usage
from proxy.core.pricing import OUTPUT_AFFORDABLE_MAX, charge, output_affordable, quote

TOKENS = st.integers(0, 10**7)
PRICES = st.integers(0, 10**15)
RATIOS = st.integers(0, 10**9)
MULTIPLIERS = st.integers(0, 10**8)
KINDS = tuple(name for name in Usage.__struct_fields__ if name != "reasoning")
USAGES = st.builds(
    Usage,
    **{name: TOKENS for name in KINDS if name != "calls"},
    reasoning=TOKENS,
    calls=st.integers(0, 3),
)
BY_TOKENS = st.builds(
    Price,
    model=st.just("m"),
    version=st.just(1),
    input=PRICES,
    cache_read=PRICES,
    cache_write_5m=PRICES,
    cache_write_1h=PRICES,
    output=PRICES,
    audio_input=PRICES,
    audio_output=PRICES,
    image=PRICES,
    character=PRICES,
    call=PRICES,
)
BY_RATIO = st.builds(
    Price,
    model=st.just("m"),
    version=st.just(1),
    formula=st.just(Formula.RATIO),
    image=PRICES,
    character=PRICES,
    call=PRICES,
    model_ratio=RATIOS,
    completion_ratio=RATIOS,
    cache_ratio=RATIOS,
)
ANY_PRICE = BY_TOKENS | BY_RATIO


def exact(usage: Usage, price: Price, multiplier: int) -> Fraction:
    """The formulas as DESIGN.md words them, in nano-USD, without any rounding."""
    per_unit = {
        "input_uncached": price.input,
        "cache_read": price.cache_read,
        "cache_write_5m": price.cache_write_5m,
        "cache_write_1h": price.cache_write_1h,
        "output": price.output,
        "audio_input": price.audio_input,
        "audio_output": price.audio_output,
    }
    group = Fraction(multiplier, 10**6)
    other = (
        Fraction(price.image * usage.images, 10**6)
        + Fraction(price.character * usage.characters, 10**6)
        + price.call * usage.calls
    )
    if price.formula is Formula.TOKENS:
        tokens = sum(
            (Fraction(getattr(usage, kind) * each, 10**6) for kind, each in per_unit.items()),
            Fraction(0),
        )
        return group * (tokens + other)
    prompt = (
        usage.input_uncached
        + usage.cache_write_5m
        + usage.cache_write_1h
        + usage.audio_input
        + usage.cache_read * Fraction(price.cache_ratio, 10**6)
    )
    completion = (usage.output + usage.audio_output) * Fraction(price.completion_ratio, 10**6)
    two_dollars = Fraction(2 * 10**9, 10**6)
    model = Fraction(price.model_ratio, 10**6)
    return group * (model * (prompt + completion) * two_dollars + other)


@given(USAGES, ANY_PRICE, MULTIPLIERS)
def test_charge_is_the_exact_formula_rounded_up_once(
    usage: Usage, price: Price, multiplier: int
) -> None:
    assert charge(usage, price, multiplier) == ceil(exact(usage, price, multiplier))


@given(USAGES, ANY_PRICE, MULTIPLIERS, st.sampled_from(KINDS), st.integers(0, 10**6))
def test_more_usage_never_costs_less(
    usage: Usage, price: Price, multiplier: int, kind: str, more: int
) -> None:
    grown = replace(usage, **{kind: getattr(usage, kind) + more})
    assert charge(grown, price, multiplier) >= charge(usage, price, multiplier)


@given(USAGES, ANY_PRICE, MULTIPLIERS, st.integers(0, 10**6))
def test_reasoning_is_inside_output(
    usage: Usage, price: Price, multiplier: int, reasoning: int
) -> None:
    other = replace(usage, reasoning=reasoning)
    assert charge(other, price, multiplier) == charge(usage, price, multiplier)


@given(USAGES, ANY_PRICE, MULTIPLIERS)
def test_a_quote_covers_every_call_within_its_bounds(
    usage: Usage, price: Price, multiplier: int
) -> None:
    call = replace(usage, images=0, characters=0, calls=1)
    held = quote(
        price, multiplier, call.input_total + call.audio_input, call.output + call.audio_output
    )
    assert held >= charge(call, price, multiplier)


@given(TOKENS, TOKENS, BY_TOKENS, MULTIPLIERS)
def test_a_quote_without_cheaper_kinds_is_the_charge(
    given_in: int, given_out: int, price: Price, multiplier: int
) -> None:
    plain = Price("m", 1, input=price.input, output=price.output, call=price.call)
    usage = Usage(input_uncached=given_in, output=given_out)
    assert quote(plain, multiplier, given_in, given_out) == charge(usage, plain, multiplier)


@given(ANY_PRICE, MULTIPLIERS, TOKENS, st.integers(0, 10**18))
def test_affordable_output_is_the_largest_that_fits(
    price: Price, multiplier: int, input_tokens: int, amount: int
) -> None:
    most = output_affordable(price, multiplier, input_tokens, amount)
    assert 0 <= most <= OUTPUT_AFFORDABLE_MAX
    if quote(price, multiplier, input_tokens, 0) > amount:
        assert most == 0
        return
    assert quote(price, multiplier, input_tokens, most) <= amount
    if most < OUTPUT_AFFORDABLE_MAX:
        assert quote(price, multiplier, input_tokens, most + 1) > amount


def test_affordable_output_at_its_edges() -> None:
    price = Price("m", 1, input=10**12, output=10**12)
    assert output_affordable(price, MULTIPLIER_ONE, 1, 10**6 - 1) == 0
    assert output_affordable(price, MULTIPLIER_ONE, 1, 10**6) == 0
    assert output_affordable(price, MULTIPLIER_ONE, 1, 3 * 10**6) == 2
    assert output_affordable(price, 0, 1, 0) == OUTPUT_AFFORDABLE_MAX
    assert output_affordable(price, MULTIPLIER_ONE, 0, 10**30) == OUTPUT_AFFORDABLE_MAX


@pytest.mark.parametrize(
    ("usage", "price", "multiplier", "nano"),
    [
        # 1,000,000 input at $2.50 and 1,000,000 output at $10: $12.50.
        (
            Usage(input_uncached=10**6, output=10**6),
            Price("m", 1, input=2_500_000_000, output=10_000_000_000),
            MULTIPLIER_ONE,
            12_500_000_000,
        ),
        # One cached token at $0.0375 per 1M is 37.5 nano-USD: up to 38.
        (Usage(cache_read=1), Price("m", 1, cache_read=37_500_000), MULTIPLIER_ONE, 38),
        # Ratio 1.25, completion 4: (1000 + 100 x 4) x 1.25 x $2 / 1M = $0.0035.
        (
            Usage(input_uncached=1000, output=100),
            Price(
                "m",
                1,
                formula=Formula.RATIO,
                model_ratio=1_250_000,
                completion_ratio=4_000_000,
            ),
            MULTIPLIER_ONE,
            3_500_000,
        ),
        # A price per call of $0.01 in a group of 0.5.
        (Usage(), Price("m", 1, call=10_000_000), 500_000, 5_000_000),
        (Usage(), Price("m", 1, formula=Formula.RATIO, call=10_000_000), 500_000, 5_000_000),
        (Usage(), Price("m", 1), MULTIPLIER_ONE, 0),
    ],
)
def test_known_charges(usage: Usage, price: Price, multiplier: int, nano: int) -> None:
    assert charge(usage, price, multiplier) == nano


def test_a_negative_charge_is_a_broken_assumption() -> None:
    with pytest.raises(AssertionError, match="never negative"):
        charge(Usage(output=-1), Price("m", 1, output=10**9), MULTIPLIER_ONE)
