"""Against the real package: facts that hold of any sound release of it, not today's figures."""

from collections import Counter
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from proxy.app import price_list
from proxy.app.price_list import Listed, listed, look_up
from proxy.storage.price_tables import read_price

NOW = datetime(2026, 11, 21, tzinfo=UTC).timestamp()


def read(model: ModelInfo, name: str = "") -> Listed:
    return price_list._read(Provider("p", "P", "x", models=[model]), model, name or model.id, NOW)


def model(**prices: Decimal | TieredPrices) -> ModelInfo:
    return ModelInfo("m", ClauseEquals("m"), prices=ModelPrice(**prices))


def test_every_model_of_the_list_is_taken_over_exactly_or_named() -> None:
    found = listed((), (), NOW)
    assert len(found) > 1000
    for each in found:
        assert (each.price is None) == bool(each.problem), each
        if each.price is not None:
            price = read_price(each.name, each.name, each.price)
            assert price.input or price.output or "0" in each.price["input"], each
    reasons = Counter(each.problem.split(" ")[0] for each in found if each.problem)
    assert {"another", "its"} <= reasons.keys(), "tiers and times of day are there and named"


def test_figures_are_those_of_the_package() -> None:
    providers = {provider.id: provider for provider in get_snapshot().providers}
    for provider_id, name in (("openai", "gpt-4o-mini"), ("anthropic", "claude-3-5-haiku-latest")):
        (theirs,) = (each for each in providers[provider_id].models if each.id == name)
        prices = theirs.get_prices(datetime.fromtimestamp(NOW, UTC))
        (ours,) = listed((provider_id,), (name,), NOW)
        assert ours.price is not None
        for key, kind in price_list.KINDS.items():
            value = getattr(prices, key)
            if value is not None:
                assert Decimal(ours.price[kind]) == value
        assert ours.context_window == theirs.context_window


def test_names_are_found_where_the_channels_are() -> None:
    openai, anthropic = "https://api.openai.com/v1", "https://api.anthropic.com/v1"
    (one,) = look_up("fast", [(openai, "gpt-4o-mini")], NOW)
    assert (one.provider, one.name) == ("openai", "fast")
    assert "listed as gpt-4o-mini" in one.notes
    (dated,) = look_up("x", [(anthropic, "claude-3-5-haiku-20241022")], NOW)
    assert dated.provider == "anthropic"
    assert len(look_up("gpt-4o-mini", [("http://127.0.0.1:1/v1", "local")], NOW)) > 1
    assert look_up("x", [(openai, "no-such-model-of-theirs")], NOW) == []


def test_models_are_chosen_by_provider_and_pattern() -> None:
    names = [each.name for each in listed(("openai",), ("gpt-4o*", "o1"), NOW)]
    assert "gpt-4o" in names
    assert all(name.startswith("gpt-4o") or name == "o1" for name in names)
    with pytest.raises(ValueError, match="no provider 'nobody'; name one of anthropic"):
        listed(("nobody",), (), NOW)


def test_what_a_price_of_ours_cannot_say_is_named() -> None:
    tiers = TieredPrices(Decimal(1), [Tier(200_000, Decimal(2)), Tier(500_000, Decimal(3))])
    tiered = read(model(input_mtok=tiers, output_mtok=Decimal(4)))
    assert tiered.price is None
    assert tiered.problem == "another price above 200,000, 500,000 input tokens (input)"
    foreign = read(model(input_mtok=Decimal(1), input_image_mtok=Decimal(2)))
    assert foreign.problem == "priced by input image"
    noisy = read(model(input_mtok=Decimal("0.18000000000000002")))
    assert noisy.problem == "finer than 9 decimals (input 0.18000000000000002)"
    assert read(model(output_mtok=Decimal(1))).problem == "no price per input token"
    by_time = [
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(1))),
        ConditionalPrice(
            TimeOfDateConstraint(time(1), time(2)), prices=ModelPrice(input_mtok=Decimal(2))
        ),
    ]
    assert "time of day" in read(ModelInfo("m", ClauseEquals("m"), prices=by_time)).problem


def test_the_price_of_today_counts() -> None:
    later = [
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(1))),
        ConditionalPrice(
            StartDateConstraint(date(2026, 11, 21)), prices=ModelPrice(input_mtok=Decimal(2))
        ),
        ConditionalPrice(
            StartDateConstraint(date(2026, 11, 22)), prices=ModelPrice(input_mtok=Decimal(3))
        ),
    ]
    assert read(ModelInfo("m", ClauseEquals("m"), prices=later)).price == {"input": "2"}


def test_charges_beside_the_tokens_are_notes() -> None:
    price = ModelPrice(
        input_mtok=Decimal("1E+1"), cache_write_mtok=Decimal("12.5"),
        web_searches_kcount=Decimal(10), requests_kcount=Decimal(5),
    )  # fmt: skip
    variant = PriceVariant({"service_tier": "flex"}, ModelPrice(input_mtok=Decimal(1)))
    rich = ModelInfo(
        "m", ClauseEquals("m"), prices=price, price_variants=[variant], deprecated=True
    )
    found = read(rich, "alias")
    assert found.price == {
        "input": "10", "cache_write_5m": "12.5", "cache_write_1h": "12.5", "call": "0.005",
    }  # fmt: skip
    assert found.notes == (
        "listed as m",
        "beside it $10 per 1,000 web searches",
        "other prices with service_tier=flex",
        "deprecated by its provider",
    )
