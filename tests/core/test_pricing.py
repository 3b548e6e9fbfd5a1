from dataclasses import replace as replace_fields
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.core import pricing
from proxy.core.entities import MULTIPLIER_ONE, Formula, Price, Tier, Usage
from proxy.core.pricing import (
    INPUT_KINDS,
    OUTPUT_AFFORDABLE_MAX,
    OUTPUT_KINDS,
    charge,
    charge_bare,
    image_variant,
    line_affordable,
    output_affordable,
    quote,
    quote_line,
    quote_usage,
    rates_of,
)

TOKENS = st.integers(0, 10**7)
PRICES = st.integers(0, 10**15)
RATIOS = st.integers(0, 10**9)
MULTIPLIERS = st.integers(0, 10**8)
KINDS = tuple(
    name for name in Usage.__struct_fields__ if name not in {"reasoning", "variant", "calls"}
)
TOKEN_PRICES = (*INPUT_KINDS, *OUTPUT_KINDS)
READ = ("input_uncached", *INPUT_KINDS[1:])
NAMES = ("", "512x512", "512x512:hd", "hd")
USAGES = st.builds(
    Usage,
    **dict.fromkeys(KINDS, TOKENS),
    reasoning=TOKENS,
    calls=st.integers(0, 3),
    variant=st.sampled_from((*NAMES, "1x1")),
)
VARIANTS = st.dictionaries(st.sampled_from(NAMES[1:]), PRICES)
OTHER_PRICES = {
    "image": PRICES,
    "character": PRICES,
    "call": PRICES,
    "audio_hour": PRICES,
    "search": PRICES,
    "image_variants": VARIANTS,
}


@st.composite
def tiered(draw: st.DrawFn) -> Price:
    """A price whose tiers rise in every figure, as a catalog has them."""
    amounts: dict[str, Any] = {name: draw(PRICES) for name in TOKEN_PRICES}
    other: dict[str, Any] = {name: draw(prices) for name, prices in OTHER_PRICES.items()}
    price, over, tiers = Price("m", 1, **amounts, **other), 0, []
    for _ in range(draw(st.integers(0, 3))):
        over += draw(st.integers(1, 10**7))
        amounts = {name: amount + draw(PRICES) for name, amount in amounts.items()}
        tiers.append(Tier(over, **amounts))
    return replace_fields(price, tiers=tuple(tiers))


BY_TOKENS = st.builds(
    Price,
    model=st.just("m"),
    version=st.just(1),
    **dict.fromkeys(TOKEN_PRICES, PRICES),
    **OTHER_PRICES,
)
BY_RATIO = st.builds(
    Price,
    model=st.just("m"),
    version=st.just(1),
    formula=st.just(Formula.RATIO),
    **OTHER_PRICES,
    model_ratio=RATIOS,
    completion_ratio=RATIOS,
    cache_ratio=RATIOS,
)
ANY_PRICE = BY_TOKENS | BY_RATIO | tiered()


def exact(usage: Usage, price: Price, multiplier: int) -> Fraction:
    """The formulas as DESIGN.md words them, in nano-USD, without any rounding."""
    prompt_tokens = sum(getattr(usage, kind) for kind in READ)
    above = [tier for tier in price.tiers if prompt_tokens > tier.over]
    each: Price | Tier = above[-1] if above else price
    per_unit = {
        "input_uncached": each.input,
        "cache_read": each.cache_read,
        "cache_write_5m": each.cache_write_5m,
        "cache_write_1h": each.cache_write_1h,
        "output": each.output,
        "audio_input": each.audio_input,
        "audio_output": each.audio_output,
        "image_input": each.image_input,
        "image_output": each.image_output,
        "cache_read_audio": each.cache_read_audio,
        "cache_read_image": each.cache_read_image,
    }
    group = Fraction(multiplier, 10**6)
    image = Fraction(price.image, 10**6)
    if usage.variant in price.image_variants:
        image = Fraction(price.image_variants[usage.variant])
    other = (
        image * usage.images
        + Fraction(price.character * usage.characters, 10**6)
        + Fraction(price.audio_hour * usage.audio_ms, 3_600_000)
        + price.call * usage.calls
        + price.search * usage.searches
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
        + usage.image_input
        + (usage.cache_read + usage.cache_read_audio + usage.cache_read_image)
        * Fraction(price.cache_ratio, 10**6)
    )
    completion = (usage.output + usage.audio_output + usage.image_output) * Fraction(
        price.completion_ratio, 10**6
    )
    two_dollars = Fraction(2 * 10**9, 10**6)
    model = Fraction(price.model_ratio, 10**6)
    return group * (model * (prompt + completion) * two_dollars + other)


@given(USAGES, ANY_PRICE, MULTIPLIERS)
def test_charge_is_the_exact_formula_rounded_up_once(
    usage: Usage, price: Price, multiplier: int
) -> None:
    assert charge(usage, price, multiplier) == ceil(exact(usage, price, multiplier))


@given(USAGES, ANY_PRICE, MULTIPLIERS, st.sampled_from((*KINDS, "calls")), st.integers(0, 10**6))
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
    call = replace(usage, images=0, characters=0, audio_ms=0, calls=1)
    given_in, given_out = call.prompt_total, call.completion_total
    held = quote(price, multiplier, given_in, given_out, call.searches)
    assert held >= charge(call, price, multiplier)


@given(USAGES, ANY_PRICE, MULTIPLIERS, st.data())
def test_a_quote_of_a_usage_covers_all_that_is_no_more(
    usage_max: Usage, price: Price, multiplier: int, data: st.DataObject
) -> None:
    held = quote_usage(price, multiplier, usage_max)
    assert held >= charge(usage_max, price, multiplier)
    less = {kind: data.draw(st.integers(0, getattr(usage_max, kind))) for kind in (*KINDS, "calls")}
    used = replace(usage_max, **less)
    if not usage_max.variant:
        used = replace(used, variant=data.draw(st.sampled_from(NAMES)))
    assert held >= charge(used, price, multiplier)
    moved = replace(used, input_uncached=0, cache_read=used.input_uncached + used.cache_read)
    assert held >= charge(moved, price, multiplier)


@given(USAGES, MULTIPLIERS)
def test_a_quote_of_a_usage_without_cheaper_kinds_is_its_charge(
    usage: Usage, multiplier: int
) -> None:
    price = Price("m", 1, audio_hour=7, character=11, image=13, call=17, search=19)
    assert quote_usage(price, multiplier, usage) == charge(usage, price, multiplier)


@given(TOKENS, TOKENS, BY_TOKENS, MULTIPLIERS)
def test_a_quote_without_cheaper_kinds_is_the_charge(
    given_in: int, given_out: int, price: Price, multiplier: int
) -> None:
    plain = Price("m", 1, input=price.input, output=price.output, call=price.call)
    usage = Usage(input_uncached=given_in, output=given_out)
    assert quote(plain, multiplier, given_in, given_out) == charge(usage, plain, multiplier)


@given(ANY_PRICE, MULTIPLIERS, TOKENS, st.integers(0, 10**18), st.integers(0, 9))
def test_affordable_output_is_the_largest_that_fits(
    price: Price, multiplier: int, input_tokens: int, amount: int, searches: int
) -> None:
    most = output_affordable(price, multiplier, input_tokens, amount, searches)
    assert 0 <= most <= OUTPUT_AFFORDABLE_MAX
    if quote(price, multiplier, input_tokens, 0, searches) > amount:
        assert most == 0
        return
    assert quote(price, multiplier, input_tokens, most, searches) <= amount
    if most < OUTPUT_AFFORDABLE_MAX:
        assert quote(price, multiplier, input_tokens, most + 1, searches) > amount


@given(ANY_PRICE, MULTIPLIERS, TOKENS, TOKENS)
def test_the_line_of_a_price_says_its_quotes(
    price: Price, multiplier: int, given_tokens: int, made: int
) -> None:
    line = quote_line(price, multiplier)
    assert (line is None) == bool(price.tiers)
    if line is not None:
        base, per_input, per_output, divisor = line
        said = (base + per_input * given_tokens + per_output * made) // divisor
        assert said == quote(price, multiplier, given_tokens, made)


@given(BY_TOKENS | BY_RATIO, MULTIPLIERS, TOKENS, st.integers(0, 10**18))
def test_the_line_of_a_price_says_what_is_affordable(
    price: Price, multiplier: int, given_tokens: int, amount: int
) -> None:
    line = quote_line(price, multiplier)
    assert line is not None
    said = line_affordable(line, given_tokens, amount)
    assert said == output_affordable(price, multiplier, given_tokens, amount)


def test_what_a_line_affords_at_its_edges() -> None:
    line = (9, 1, 10, 10)
    assert [line_affordable(line, 30, amount) for amount in (0, 2, 3, 4)] == [0, 0, 0, 1]
    assert line_affordable((0, 1, 0, 1), 5, 5) == OUTPUT_AFFORDABLE_MAX
    assert line_affordable((0, 1, 1, 1), 0, 10**18) == OUTPUT_AFFORDABLE_MAX
    assert line_affordable((0, 1, 0, 1), 5, 4) == 0


def test_the_line_of_an_ordinary_price_is_of_small_numbers() -> None:
    price = Price("m", 1, input=2_500_000_000, output=10_000_000_000)
    assert quote_line(price, MULTIPLIER_ONE) == (0, 2_500, 10_000, 1)
    assert quote_line(replace_fields(price, input=150), 0) == (0, 0, 0, 1)


def test_a_quote_below_a_tier_does_not_hold_for_it() -> None:
    price = Price("m", 1, input=10**9, tiers=(Tier(200_000, input=2 * 10**9),))
    assert quote(price, MULTIPLIER_ONE, 200_000, 0) == 200_000_000
    assert quote(price, MULTIPLIER_ONE, 200_001, 0) == 400_002_000


def test_a_quote_covers_shorter_prompts_that_are_dearer() -> None:
    odd = Price("m", 1, output=10**12, tiers=(Tier(10, output=1),))
    assert quote(odd, MULTIPLIER_ONE, 11, 5) == charge(Usage(output=5), odd, MULTIPLIER_ONE)


def test_an_image_is_the_variant_that_says_most_of_it() -> None:
    price = Price("m", 1, image_variants={"1x1:hd": 4, "1x1": 3, "hd": 2})
    assert image_variant(price, "1x1", "hd") == "1x1:hd"
    assert image_variant(price, "1x1", "low") == "1x1"
    assert image_variant(price, "2x2", "hd") == "hd"
    assert image_variant(price, "2x2", "") == ""
    assert image_variant(Price("m", 1), "", "") == ""


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
        # 90 seconds at $0.006 a minute, and 1 ms of it, up to a nano-USD.
        (Usage(audio_ms=90_000), Price("m", 1, audio_hour=360_000_000), MULTIPLIER_ONE, 9_000_000),
        (Usage(audio_ms=1), Price("m", 1, audio_hour=258_000_000), MULTIPLIER_ONE, 72),
        # Two images of a variant at $0.08, one of none at $0.04.
        (
            Usage(images=2, variant="1024x1024:hd"),
            Price("m", 1, image=40 * 10**12, image_variants={"1024x1024:hd": 80_000_000}),
            MULTIPLIER_ONE,
            160_000_000,
        ),
        (
            Usage(images=1, variant="1x1"),
            Price("m", 1, image=40 * 10**12, image_variants={"1024x1024:hd": 80_000_000}),
            MULTIPLIER_ONE,
            40_000_000,
        ),
        # Three searches at $10 per 1,000 beside 100 tokens at $1.
        (
            Usage(input_uncached=100, searches=3),
            Price("m", 1, input=10**9, search=10_000_000),
            MULTIPLIER_ONE,
            30_100_000,
        ),
        # Cached and audio tokens count to the 200,000, then every token is at the higher price.
        (
            Usage(input_uncached=1, cache_read=199_999, audio_input=1, output=10),
            Price(
                "m",
                1,
                input=10**9,
                output=10**9,
                tiers=(Tier(200_000, input=2 * 10**9, output=3 * 10**9),),
            ),
            MULTIPLIER_ONE,
            2_000 + 30_000,
        ),
    ],
)
def test_known_charges(usage: Usage, price: Price, multiplier: int, nano: int) -> None:
    assert charge(usage, price, multiplier) == nano


def test_a_negative_charge_is_a_broken_assumption() -> None:
    with pytest.raises(AssertionError, match="never negative"):
        charge(Usage(output=-1), Price("m", 1, output=10**9), MULTIPLIER_ONE)


@given(ANY_PRICE, TOKENS, TOKENS, MULTIPLIERS)
def test_a_bare_usage_is_charged_the_same_by_itself(
    price: Price, read: int, written: int, multiplier: int
) -> None:
    usage = Usage(input_uncached=read, output=written)
    assert charge_bare(usage, price, multiplier) == charge(usage, price, multiplier)
    rates = rates_of(price, multiplier)
    assert (rates is None) is (price.formula is Formula.RATIO or bool(price.call or price.tiers))


@given(st.integers(0, 10**12), TOKENS, TOKENS, st.sampled_from([0, 1, MULTIPLIER_ONE, 1_500_000]))
def test_a_bare_usage_of_a_plain_price_is_charged_the_same_at_any_multiplier(
    nano: int, read: int, written: int, multiplier: int
) -> None:
    price = Price("m", 1, input=nano, output=nano // 3)
    usage = Usage(input_uncached=read, output=written)
    assert charge_bare(usage, price, multiplier) == charge(usage, price, multiplier)
    rates = rates_of(price, multiplier)
    assert rates is not None
    units = rates[0] * read + rates[1] * written
    assert -(-units // rates[2]) == charge(usage, price, multiplier)
    assert rates_of(Price("m", 1, input=2_500_000_000, output=10**10), MULTIPLIER_ONE) == (
        2_500, 10_000, 1
    )  # fmt: skip


def test_what_is_remembered_of_a_price_is_of_that_object_and_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pricing, "PRICES_MAX", 2)
    monkeypatch.setattr(pricing, "_CEILINGS", {})
    price = Price("m", 0)
    for amount in (3, 7, 3, 9):  # of one name and version: channels' costs have no versions
        price = Price("m", 0, output=amount * MULTIPLIER_ONE)
        assert quote(price, MULTIPLIER_ONE, 0, 1) == amount
        assert quote(price, MULTIPLIER_ONE, 0, 1) == amount
        assert len(pricing._CEILINGS) <= 2
    other, gone = Price("m", 0, output=4 * MULTIPLIER_ONE), Price("m", 0)
    pricing._CEILINGS[id(other)] = (gone, [(0, 0, 0, 1)])  # as if it had taken another's place
    assert quote(other, MULTIPLIER_ONE, 0, 1) == 4
