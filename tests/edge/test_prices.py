import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.entities import Formula, Price
from proxy.core.money import format_usd
from proxy.edge.prices import shown_price
from proxy.storage.price_tables import read_price
from tests.storage.test_price_tables import prices

ONE = 10**6


def shown(table: dict[str, object], multiplier: int = ONE) -> dict[str, object]:
    return shown_price(read_price("", "m", table), multiplier)


def test_what_equals_the_price_beside_it_or_is_nothing_is_left_out() -> None:
    assert shown({"input": "1", "output": "2"}) == {
        "currency": "USD",
        "input": "1.00",
        "output": "2.00",
    }
    assert shown({"input": "1", "cache_read": "0"})["cache_read"] == "0.00"


def test_every_kind_is_shown_exactly_for_the_group() -> None:
    table: dict[str, object] = {
        "input": "0.0375", "cache_write_5m": "1", "cache_write_1h": "2", "output": "1",
        "audio_input": "3", "audio_output": "4", "cache_read_audio": "0.3", "image_input": "10",
        "image_output": "30", "cache_read_image": "2.5", "character": "15", "call": "0.001",
        "search": "0.01", "image": "0.01", "audio_minute": "0.006",
        "image_variants": {"1024x1024:hd": "0.08"},
    }  # fmt: skip
    assert shown(table, 1_500_000) == {
        "currency": "USD",
        "input": "0.05625",
        "output": "1.50",
        "cache_write_5m": "1.50",
        "cache_write_1h": "3.00",
        "audio_input": "4.50",
        "audio_output": "6.00",
        "image_input": "15.00",
        "image_output": "45.00",
        "cache_read_audio": "0.45",
        "cache_read_image": "3.75",
        "character": "22.50",
        "image": "0.015",
        "search": "0.015",
        "call": "0.0015",
        "audio_minute": "0.009",
        "image_variants": {"1024x1024:hd": "0.12"},
    }


def test_tiers_are_shown_as_they_are_charged() -> None:
    tier = {"over": 200_000, "input": "2.50", "output": "15"}
    assert shown({"input": "1.25", "output": "10", "tiers": [tier]}, 2 * ONE)["tiers"] == [
        {"over": 200_000, "input": "5.00", "output": "30.00"}
    ]


def test_a_ratio_is_shown_as_what_it_comes_to() -> None:
    ratio: dict[str, object] = {
        "model_ratio": "1.25", "completion_ratio": "4", "cache_ratio": "0.333333", "call": "1",
    }  # fmt: skip
    assert shown(ratio, 1_500_000) == {
        "currency": "USD",
        "input": "3.75",
        "output": "15.00",
        "cache_read": "1.24999875",
        "call": "1.50",
    }


def test_an_hour_is_shown_where_a_minute_would_not_be_exact() -> None:
    assert shown({"audio_hour": "0.111"})["audio_minute"] == "0.00185"
    assert shown({"audio_hour": "0.000000001"}, 1)["audio_hour"] == "0.000000000000001"
    assert "audio_minute" not in shown({"audio_hour": "0.000000001"}, 1)


@pytest.mark.parametrize(
    ("multiplier", "name", "text"),
    [(10**12, "input", "1000000000000000.00"), (1, "output", "0.000000000000001")],
)
def test_no_figure_is_too_large_or_too_fine(multiplier: int, name: str, text: str) -> None:
    assert shown_price(Price("x", 1, input=10**18, output=1), multiplier)[name] == text


@given(prices(), st.just(ONE))
def test_a_group_at_one_is_shown_what_a_document_would_say(price: Price, multiplier: int) -> None:
    table = shown_price(price, multiplier)
    assert table.pop("currency") == "USD"
    if price.tiers or price.formula is Formula.RATIO:
        return
    table.setdefault("image", "0")
    if price.audio_hour % 60:  # a minute of it is exact, but finer than a document may say
        table.pop("audio_minute", None)
        table["audio_hour"] = format_usd(price.audio_hour)
    assert read_price("", "m", table) == price
