"""Published prices of many providers, from the data inside the genai-prices package.

Rules: only the bundled data is read, nothing is fetched; a price is taken over exactly or not at
all. What a price of ours cannot say (by the time of day, by the page, kinds of token we do not bill
apart) makes a model unexpressible and is named, never flattened; extra charges that are not taken
over are named as notes. This module must not know the catalog.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from proxy.app.models_import import Listed
from proxy.core.sentences import Sentence

KINDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "input_image_mtok": "image_input",
    "output_image_mtok": "image_output",
    "cache_audio_read_mtok": "cache_read_audio",
    "cache_image_read_mtok": "cache_read_image",
}
"""Theirs, USD per 1M tokens, and the price of a catalog document that says the same."""
CHARACTERS = "input_mchars"
AUDIO = ("audio_hours", "input_audio_hours")
"""Both say the length of what is listened to; the second where only that is billed."""
THOUSANDS = {"requests_kcount": "call", "web_searches_kcount": "search"}
"""Theirs, USD per 1,000, and ours for one."""
OTHERS = frozenset({CHARACTERS, *AUDIO, *THOUSANDS})
DECIMALS_MAX = 9
"""What a price of ours has: nano-USD."""
EXTRAS = frozenset({"storage_searches_kcount"})
"""Charged beside the tokens for something a request may or may not do, and not by us."""


def providers() -> list[tuple[str, str]]:
    """Ids and names of all providers, by name."""
    found = [(provider.id, provider.name) for provider in get_snapshot().providers]
    return sorted(found, key=lambda each: each[1].lower())


def listed(provider_ids: Sequence[str], patterns: Sequence[str], now: float) -> list[Listed]:
    """Models of these providers (all, if none is named) whose name fits one of the patterns.

    Patterns are those of a shell; none means every name. Raises ValueError for an unknown
    provider.
    """
    return [
        _read(provider, model, model.id, now)
        for provider in _chosen(provider_ids)
        for model in provider.models
        if not patterns or any(fnmatchcase(model.id, pattern) for pattern in patterns)
    ]


def look_up(name: str, places: Sequence[tuple[str, str]], now: float) -> list[Listed]:
    """What is listed for a model of the catalog, where its channels are.

    `places` are base URL and upstream name of each; without one of a listed provider every
    provider is asked for `name`. Dated and aliased names count as the model they stand for, as
    the list itself says.
    """
    providers = get_snapshot().providers
    asked = [
        (provider, upstream)
        for url, upstream in places
        for provider in providers
        if re.match(provider.api_pattern, url)
    ]
    found = {}
    for provider, upstream in asked or [(provider, name) for provider in providers]:
        exact = [model for model in provider.models if model.id == upstream]
        model = exact[0] if exact else provider.find_model(upstream)
        if model is not None:
            found[provider.id, model.id] = _read(provider, model, name, now)
    return list(found.values())


def _chosen(provider_ids: Sequence[str]) -> list[Provider]:
    known = {provider.id: provider for provider in get_snapshot().providers}
    for wanted in provider_ids:
        if wanted not in known:
            raise ValueError(
                Sentence(
                    "there is no provider {wanted!r}; name one of {known}",
                    wanted=wanted,
                    known=", ".join(known),
                )
            )
    return [known[wanted] for wanted in provider_ids] if provider_ids else list(known.values())


def _read(provider: Provider, model: ModelInfo, name: str, now: float) -> Listed:
    price = model.get_prices(datetime.fromtimestamp(now, UTC))
    amounts = {key: value for key, value in vars(price).items() if value is not None}
    problems = [*_by_time(model.prices), *_unexpressible(amounts)]
    notes = [*_extras(amounts), *_variants(model)]
    if name != model.id:
        notes.insert(0, f"listed as {model.id}")
    if model.deprecated:
        notes.append("deprecated by its provider")
    return Listed(
        provider.id,
        name,
        model.context_window,
        None if problems else _table(amounts),
        "; ".join(problems),
        tuple(notes),
    )


def _by_time(prices: ModelPrice | list[ConditionalPrice]) -> Iterator[str]:
    if isinstance(prices, list) and any(
        isinstance(each.constraint, TimeOfDateConstraint) for each in prices
    ):
        yield "its price depends on the time of day"


def _unexpressible(amounts: dict[str, Decimal | TieredPrices]) -> Iterator[str]:
    foreign = sorted(amounts.keys() - KINDS.keys() - EXTRAS - OTHERS)
    if foreign:
        yield f"priced by {', '.join(map(_words, foreign))}"
    tiered = [key for key in amounts.keys() - KINDS.keys() if not isinstance(amounts[key], Decimal)]
    if tiered:
        yield f"by the length of the prompt: {', '.join(map(_words, sorted(tiered)))}"
    fine = [
        f"{_words(key)} {figure}"
        for key, value in sorted(amounts.items())
        for figure in _figures(value)
        if figure != round(figure, DECIMALS_MAX - 3 if key in THOUSANDS else DECIMALS_MAX)
    ]
    if fine:
        yield f"finer than {DECIMALS_MAX} decimals ({', '.join(fine)})"
    if len({str(amounts[key]) for key in AUDIO if key in amounts}) > 1:
        yield "an hour of audio has two prices"
    if "input_mtok" not in amounts and not foreign and amounts.keys() <= KINDS.keys() | EXTRAS:
        yield "no price per input token"


def _figures(price: Decimal | TieredPrices) -> Iterable[Decimal]:
    """Every figure of a price, whatever its length of prompt."""
    if isinstance(price, TieredPrices):
        return [price.base, *(tier.price for tier in price.tiers)]
    return [price]


def _table(amounts: dict[str, Decimal | TieredPrices]) -> dict[str, Any]:
    table: dict[str, Any] = _tokens(amounts, 0)
    hour = next((amounts[key] for key in AUDIO if key in amounts), None)
    for name, value in (
        ("character", amounts.get(CHARACTERS)),
        ("audio_hour", hour),
        *((ours, amounts.get(theirs)) for theirs, ours in THOUSANDS.items()),
    ):
        if isinstance(value, Decimal):
            table[name] = f"{value / 1000 if name in THOUSANDS.values() else value:f}"
    starts = {tier.start for price in amounts.values() for tier in _tiers(price)}
    if starts:
        table["tiers"] = [
            {"over": start, **_tokens(amounts, start + 1)} for start in sorted(starts)
        ]
    return table


def _tokens(amounts: dict[str, Decimal | TieredPrices], prompt: int) -> dict[str, str]:
    """Prices of tokens in a call whose prompt is so long."""
    table: dict[str, str] = {}
    for theirs, ours in KINDS.items():
        price = amounts.get(theirs)
        if price is not None:
            figure = price.base if isinstance(price, TieredPrices) else price
            for tier in _tiers(price):
                figure = tier.price if prompt > tier.start else figure
            table[ours] = f"{figure:f}"
    if "cache_write_5m" in table:
        # Without a price of its own a longer write costs what a write costs, not what input does.
        table.setdefault("cache_write_1h", table["cache_write_5m"])
    return table


def _tiers(price: Decimal | TieredPrices) -> Iterable[Tier]:
    """Its tiers, lowest first."""
    return price.tiers if isinstance(price, TieredPrices) else ()


def _extras(amounts: dict[str, Decimal | TieredPrices]) -> Iterator[str]:
    for key in sorted(EXTRAS & amounts.keys()):
        yield f"beside it ${amounts[key]} per 1,000 {_words(key)}"


def _variants(model: ModelInfo) -> Iterator[str]:
    conditions = {
        f"{name}={value}"
        for each in model.price_variants or ()
        for name, value in each.when.items()
    }
    if conditions:
        yield f"other prices with {', '.join(sorted(conditions))}"


def _words(key: str) -> str:
    return key.removesuffix("_mtok").removesuffix("_kcount").replace("_", " ")
