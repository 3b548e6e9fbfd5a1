"""What a catalog says that is well-formed and yet cannot work, or would be served for nothing.

Rules: judges only what an operator said: a model that names no endpoints is for whatever its
channels serve, and a price that is zero throughout is a gift. A channel that is switched off still
counts: it may come back. This module must not know files, nor who is told.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from proxy.core.catalog import Catalog, build_catalog
from proxy.core.entities import WIRE_ENDPOINTS, Channel, Formula, Group, Model, Price, Wire

_READ: Final = frozenset({"input", "model_ratio"})
_SPOKEN: Final = frozenset({"input", "output", "model_ratio"})
_CHARGED_BY: Final[dict[str, frozenset[str]]] = {
    "images_generations": frozenset({"image", "image_variants", "output", "image_output"}),
    "images_edits": frozenset({"image", "image_variants", "output", "image_output"}),
    "images_variations": frozenset({"image", "image_variants", "output", "image_output"}),
    "speech": frozenset({"character", "audio_hour", "output", "audio_output"}),
    "transcriptions": frozenset({"audio_hour", "input", "audio_input"}),
    "translations": frozenset({"audio_hour", "input", "audio_input"}),
    "realtime": frozenset({"audio_hour", "audio_input", "audio_output"}) | _SPOKEN,
    "rerank": frozenset({"search"}) | _READ,
    "embeddings": _READ,
    "moderations": _READ,
    **dict.fromkeys(("completions", *WIRE_ENDPOINTS.values(), "gemini_stream"), _SPOKEN),
}
"""What a call of each endpoint uses; any of these, or `call`, makes it cost something."""
_ONLY_BY: Final = {
    "image": "images_generations, images_edits or images_variations",
    "image_variants": "images_generations, images_edits or images_variations",
    "character": "speech",
    "audio_hour": "speech, transcriptions, translations or realtime",
}
"""Prices that no other endpoint charges."""
_WIRES: Final[dict[str, Wire]] = {name: wire for wire, name in WIRE_ENDPOINTS.items()}


class Fault(NamedTuple):
    """One finding about a model."""

    model: str
    reason: str
    remedy: str


def faults(models: Iterable[Model], channels: Iterable[Channel]) -> Iterator[Fault]:
    """What is wrong with `models`, by name, where these are the channels."""
    everybody = "everybody"
    of_all = [
        replace(channel, id=at, groups=frozenset({everybody}), enabled=True)
        for at, channel in enumerate(channels)
    ]
    catalog = build_catalog(0, groups=[Group(everybody)], models=models, channels=of_all)
    for _, model in sorted(catalog.models.items()):
        yield from _unserved(catalog, everybody, model)
        if model.price is not None:
            yield from _for_nothing(model, model.price)
            yield from _unreached(model, model.price)


def _unserved(catalog: Catalog, group: str, model: Model) -> Iterator[Fault]:
    channels = catalog.channels_by_model.get((group, model.name), ())
    for endpoint in sorted(model.endpoints or ()) if channels else ():
        wire = Wire.GEMINI if endpoint == "gemini_stream" else _WIRES.get(endpoint)
        if not (
            catalog.channels_serving(group, model.name, wire)
            if wire is not None
            else catalog.channels_for_endpoint(group, model.name, endpoint)
        ):
            names = ", ".join(channel.name for channel in channels)
            yield Fault(
                model.name,
                f"model {model.name!r} is for {endpoint}, which no channel of it serves ({names})",
                f"name {endpoint} in a channel's endpoints, or take it from the model's",
            )


def _for_nothing(model: Model, price: Price) -> Iterator[Fault]:
    priced = _priced(price)
    if not priced:
        return
    for endpoint in sorted(model.endpoints or ()):
        units = _CHARGED_BY.get(endpoint, priced)
        if priced.isdisjoint(units | {"call"}):
            yield Fault(
                model.name,
                f"model {model.name!r} is for {endpoint}, and its price has nothing that such a "
                "call uses: it would be free",
                f"price {' or '.join(sorted(_words(units)))}, or call",
            )
    for name, endpoints in _ONLY_BY.items():
        if (
            name in priced
            and model.endpoints
            and not any(name in _CHARGED_BY.get(each, ()) for each in model.endpoints)
        ):
            yield Fault(
                model.name,
                f"model {model.name!r} has a price of {_word(name)}, and none of its endpoints "
                "charges that",
                f"add {endpoints} to its endpoints, or take out the price",
            )


def _unreached(model: Model, price: Price) -> Iterator[Fault]:
    for tier in price.tiers:
        if tier.over >= model.context_window:
            yield Fault(
                model.name,
                f"model {model.name!r} has a price above {tier.over:,} tokens, and its "
                f"context_window of {model.context_window:,} is never above that",
                "raise context_window, or take out the tier",
            )


def _priced(price: Price) -> frozenset[str]:
    """The kinds of a price that cost something."""
    kinds = {*_ONLY_BY, "search", "call"}
    if price.formula is Formula.RATIO:
        kinds |= {"model_ratio"}
    else:
        kinds |= {"input", "output", "audio_input", "audio_output", "image_output"}
    return frozenset(kind for kind in kinds if getattr(price, kind))


def _words(kinds: frozenset[str]) -> set[str]:
    return {_word(kind) for kind in kinds}


def _word(kind: str) -> str:
    """What a document calls a kind of price."""
    return "audio_minute" if kind == "audio_hour" else kind
