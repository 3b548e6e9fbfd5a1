import tomllib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.app import toml
from proxy.core.entities import Formula, Price, Tier
from proxy.core.pricing import BESIDE
from proxy.storage.price_tables import (
    IMAGE_VARIANTS_MAX,
    TIERS_MAX,
    read_price,
    write_price,
)

AMOUNTS = st.integers(0, 10**14)
TOKENS = ("input", "output", *BESIDE)
NAMES = st.sampled_from(("1024x1024", "1024x1024:hd", "low"))


@st.composite
def others(draw: st.DrawFn) -> dict[str, Any]:
    variants = draw(st.dictionaries(NAMES, st.integers(0, 10**12)))
    image = draw(st.integers(0, 10**12)) * 10**6
    each = {name: draw(AMOUNTS) for name in ("character", "call", "search", "audio_hour")}
    return {"image": image, "image_variants": variants, **each}


@st.composite
def prices(draw: st.DrawFn) -> Price:
    if draw(st.booleans()):
        ratio = st.integers(0, 10**9)
        ratios: dict[str, Any] = {
            name: draw(ratio) for name in ("model_ratio", "completion_ratio", "cache_ratio")
        }
        return Price("m", 0, Formula.RATIO, **draw(others()), **ratios)
    amounts: dict[str, Any] = {name: draw(st.integers(0, 10**12)) for name in TOKENS}
    price, over, tiers = Price("m", 0, **amounts, **draw(others())), 0, []
    for _ in range(draw(st.integers(0, TIERS_MAX))):
        over += draw(st.integers(1, 10**6))
        amounts = {name: amount + draw(st.integers(0, 10**12)) for name, amount in amounts.items()}
        tiers.append(Tier(over, **amounts))
    return replace(price, tiers=tuple(tiers))


def read(table: object) -> Price:
    return read_price("price", "m", table)


@given(prices())
def test_every_price_survives_its_own_text(price: Price) -> None:
    text = toml.dump({"model": [{"price": write_price(price)}]})
    assert read(tomllib.loads(text)["model"][0]["price"]) == price


def test_what_is_left_out_equals_what_is_beside_it() -> None:
    price = read({"input": "2.50", "output": "10"})
    assert price.cache_read == price.cache_write_5m == price.cache_write_1h == price.input
    assert price.audio_input == price.input, "never free where it is billed to us"
    assert price.audio_output == price.image_output == price.output
    assert price.image_input == price.cache_read_image == price.input
    assert read({"input": "1", "audio_input": "4"}).cache_read_audio == 4 * 10**9
    assert (price.image, price.search, price.audio_hour, price.tiers) == (0, 0, 0, ())
    image = read({"image_variants": {"1024x1024": "0.04", "1024x1024:hd": "0.08"}})
    assert image.image == 80_000_000 * 10**6, "an image of no variant is not free"
    assert read({"image": "0.02", "image_variants": {"hd": "0.08"}}).image == 20_000_000 * 10**6


@pytest.mark.parametrize(
    ("unit", "amount", "hour"),
    [
        ("audio_second", "0.0001", 360_000_000),
        ("audio_minute", "0.006", 360_000_000),
        ("audio_minute", "0.0043", 258_000_000),
        ("audio_hour", "0.111", 111_000_000),
    ],
)
def test_audio_is_priced_by_any_unit_of_time(unit: str, amount: str, hour: int) -> None:
    price = read({unit: amount})
    assert price.audio_hour == hour
    assert read(write_price(price)) == price


def test_audio_is_written_by_the_minute_where_that_is_exact() -> None:
    assert write_price(read({"audio_second": "0.0001"}))["audio_minute"] == "0.006"
    assert write_price(read({"audio_hour": "0.000000001"}))["audio_hour"] == "0.000000001"


def test_a_tier_follows_the_rules_of_the_price_it_is_in() -> None:
    price = read(
        {
            "input": "1.25", "cache_read": "0.31", "output": "10",
            "tiers": [{"over": 200_000, "input": "2.50", "cache_read": "0.625", "output": "15"}],
        }
    )  # fmt: skip
    (tier,) = price.tiers
    assert (tier.over, tier.input, tier.output) == (200_000, 2_500_000_000, 15 * 10**9)
    assert tier.cache_write_1h == tier.audio_input == tier.input
    assert (tier.cache_read, tier.audio_output) == (625_000_000, tier.output)
    assert read(write_price(price)) == price


TIER = {"over": 10, "input": "2", "output": "4"}
PRICE = {"input": "1", "output": "2"}
BAD: list[tuple[str, object]] = [
    ("must be a table", "2.50"),
    ("input is not a price", {"input": 2.5}),
    ("not a price", {"input": "-1"}),
    ("not a price", {"output": "1e9"}),
    ("not a price", {"search": 1.5}),
    ("image is too large", {"image": "50000"}),
    ("image is too large", {"image_variants": {"hd": "50000"}}),
    ("at most 100,000 USD", {"input": "100000.01"}),
    ("unknown key 'inputs'", {"inputs": "1"}),
    ("unknown key 'input'", {"model_ratio": "1", "input": "1"}),
    ("unknown key 'tiers'", {"model_ratio": "1", "tiers": [TIER]}),
    ("not a ratio", {"completion_ratio": "1"}),
    ("audio_second and audio_minute say the same", {"audio_minute": "1", "audio_second": "1"}),
    ("audio_second is too large", {"audio_second": "100"}),
    ("image_variants must be a table", {"image_variants": ["hd"]}),
    ("image_variants: '' is not a size", {"image_variants": {"": "1"}}),
    ("image_variants: '1024 x 1024' is not", {"image_variants": {"1024 x 1024": "1"}}),
    ("image_variants: hd is not a price", {"image_variants": {"hd": 1.5}}),
    ("more than 256", {"image_variants": dict.fromkeys(map(str, range(257)), "1")}),
    ("tiers must be a list of at most 8", PRICE | {"tiers": [TIER] * 9}),
    ("tiers must be a list", PRICE | {"tiers": TIER}),
    ("price tiers 1 must be a table", PRICE | {"tiers": ["x"]}),
    ("price tiers 1: over must be", PRICE | {"tiers": [{"input": "1", "output": "2"}]}),
    ("price tiers 1: unknown key 'call'", PRICE | {"tiers": [TIER | {"call": "1"}]}),
    ("price tiers 1: output is left out", PRICE | {"tiers": [{"over": 1, "input": "1"}]}),
    ("tiers 1: cache_read is left out", PRICE | {"cache_read": "0.1", "tiers": [TIER]}),
    ("tiers 2: over must be above", PRICE | {"tiers": [TIER, TIER]}),
    ("tiers 1: input is below", PRICE | {"tiers": [TIER | {"input": "0.5"}]}),
    ("tiers 2: output is below", PRICE | {"tiers": [TIER, TIER | {"over": 11, "output": "3"}]}),
]


@pytest.mark.parametrize(("message", "table"), BAD)
def test_a_fault_names_its_place(message: str, table: object) -> None:
    with pytest.raises(ValueError, match=message):
        read(table)


def test_the_most_that_is_taken() -> None:
    names = dict.fromkeys(map(str, range(IMAGE_VARIANTS_MAX)), "1")
    assert len(read({"image_variants": names}).image_variants) == IMAGE_VARIANTS_MAX
    tiers = [TIER | {"over": at} for at in range(1, TIERS_MAX + 1)]
    assert len(read(PRICE | {"tiers": tiers}).tiers) == TIERS_MAX
