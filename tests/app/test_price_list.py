"""Against the real package: facts that hold of any sound release of it, not today's figures."""

from collections import Counter
from datetime import UTC, date, datetime, time
from decimal import Decimal
from math import ceil

import pytest
from genai_prices import Usage as Tokens
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
from proxy.app.models_import import Listed
from proxy.app.price_list import listed, look_up
from proxy.core.entities import MULTIPLIER_ONE, Price, Usage
from proxy.core.pricing import charge
from proxy.storage.price_tables import read_price

NOW = datetime(2026, 11, 21, tzinfo=UTC).timestamp()


def read(model: ModelInfo, name: str = "") -> Listed:
    return price_list._read(Provider("p", "P", "x", models=[model]), model, name or model.id, NOW)


def model(**prices: Decimal | TieredPrices) -> ModelInfo:
    return ModelInfo("m", ClauseEquals("m"), prices=ModelPrice(**prices))


def test_every_model_of_the_list_is_taken_over_exactly_or_named() -> None:
    found = listed((), (), NOW)
    kinds: Counter[str] = Counter()
    refused: set[str] = set()
    assert len(found) > 1000
    for each in found:
        assert (each.price is None) == bool(each.problem), each
        if each.price is not None:
            try:
                price = read_price(each.name, each.name, each.price)
            except ValueError as error:
                refused.add(str(error).partition("is ")[2])
                continue
            kinds["tiers"] += bool(price.tiers)
            kinds["audio"] += bool(price.audio_hour)
            kinds["search"] += bool(price.search)
            assert price != Price(each.name, 0) or "0" in each.price.values(), each
    reasons = Counter(each.problem.split(" ")[0] for each in found if each.problem)
    assert {"its", "priced"} <= reasons.keys(), "times of day and pages are there and named"
    assert min(kinds.values()) > 3, kinds
    assert refused <= {"below what a shorter prompt pays"}


def test_a_charge_of_ours_is_what_the_package_itself_asks() -> None:
    checked = 0
    now = datetime.fromtimestamp(NOW, UTC)
    for provider in get_snapshot().providers:
        for theirs in provider.models:
            ours = price_list._read(provider, theirs, theirs.id, NOW)
            if ours.price is None or "input" not in ours.price:
                continue
            try:
                price = read_price("", theirs.id, ours.price)
            except ValueError:
                continue
            for prompt in (1_000, 250_000, 900_000):
                asked = theirs.get_prices(now).calc_price(
                    Tokens(input_tokens=prompt, output_tokens=777)
                )
                used = Usage(input_uncached=prompt, output=777)
                exact = ceil(asked["total_price"] * 10**9)
                assert charge(used, price, MULTIPLIER_ONE) == exact, (provider.id, theirs.id)
                checked += 1
    assert checked > 3000


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
    foreign = read(model(input_mtok=Decimal(1), input_video_mtok=Decimal(2)))
    assert foreign.problem == "priced by input video"
    noisy = read(model(input_mtok=Decimal("0.18000000000000002")))
    assert noisy.problem == "finer than 9 decimals (input 0.18000000000000002)"
    assert read(model(output_mtok=Decimal(1))).problem == "no price per input token"
    fine = read(model(input_mtok=Decimal(1), web_searches_kcount=Decimal("0.0000001")))
    assert fine.problem == "finer than 9 decimals (web searches 1E-7)"
    by_length = TieredPrices(Decimal(1), [Tier(5, Decimal(2))])
    assert read(model(requests_kcount=by_length)).problem == "by the length of the prompt: requests"
    hours = read(model(audio_hours=Decimal(1), input_audio_hours=Decimal(2)))
    assert hours.problem == "an hour of audio has two prices"
    by_time = [
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(1))),
        ConditionalPrice(
            TimeOfDateConstraint(time(1), time(2)), prices=ModelPrice(input_mtok=Decimal(2))
        ),
    ]
    assert "time of day" in read(ModelInfo("m", ClauseEquals("m"), prices=by_time)).problem


def test_tiers_are_taken_over_with_every_price_in_each() -> None:
    tiers = TieredPrices(Decimal(1), [Tier(200_000, Decimal(2)), Tier(500_000, Decimal(3))])
    later = TieredPrices(Decimal(4), [Tier(500_000, Decimal("4.5"))])
    found = read(model(input_mtok=tiers, output_mtok=later, cache_write_mtok=Decimal(5)))
    writes = {"cache_write_5m": "5", "cache_write_1h": "5"}
    assert found.price == {
        "input": "1", "output": "4", **writes,
        "tiers": [
            {"over": 200_000, "input": "2", "output": "4", **writes},
            {"over": 500_000, "input": "3", "output": "4.5", **writes},
        ],
    }  # fmt: skip


def test_audio_characters_and_images_are_taken_over() -> None:
    hour = Decimal("0.111")
    assert read(model(audio_hours=hour, input_audio_hours=hour)).price == {"audio_hour": "0.111"}
    assert read(model(input_mchars=Decimal(15))).price == {"character": "15"}
    image = model(
        input_mtok=Decimal(5), output_mtok=Decimal(40), input_image_mtok=Decimal(10),
        cache_image_read_mtok=Decimal("2.5"), cache_audio_read_mtok=Decimal(1),
    )  # fmt: skip
    assert read(image).price == {
        "input": "5", "output": "40", "image_input": "10", "cache_read_image": "2.5",
        "cache_read_audio": "1",
    }  # fmt: skip


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
        storage_searches_kcount=Decimal("2.5"),
    )  # fmt: skip
    variant = PriceVariant({"service_tier": "flex"}, ModelPrice(input_mtok=Decimal(1)))
    rich = ModelInfo(
        "m", ClauseEquals("m"), prices=price, price_variants=[variant], deprecated=True
    )
    found = read(rich, "alias")
    assert found.price == {
        "input": "10", "cache_write_5m": "12.5", "cache_write_1h": "12.5", "call": "0.005",
        "search": "0.01",
    }  # fmt: skip
    assert found.notes == (
        "listed as m",
        "beside it $2.5 per 1,000 storage searches",
        "other prices with service_tier=flex",
        "deprecated by its provider",
    )
