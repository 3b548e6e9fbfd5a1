"""What a marketplace says of a model: for each group its price, ways to call it, and its health.

Rules: prices are what a caller pays, the group's multiplier in them, written exactly; an endpoint
is listed where callers of the group really are served, and it is said whether as it is or
translated. This module must not know requests or storage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from proxy.core.catalog import Catalog
from proxy.core.entities import WIRE_ENDPOINTS, Dialect, Group, Model, Wire
from proxy.core.money import format_multiplier
from proxy.core.urls import CANONICAL, Endpoint
from proxy.edge.models import endpoints_of
from proxy.edge.prices import shown_price
from proxy.storage.reports.market import Health, Measured

WORDS_MAX: Final = 10
"""Words of a search that are looked at."""
_WIRES: Final[Mapping[str, Wire]] = {
    **{endpoint: wire for wire, endpoint in WIRE_ENDPOINTS.items()},
    Endpoint.GEMINI_STREAM: Wire.GEMINI,
}
_ANTHROPIC: Final = frozenset({Endpoint.MESSAGES, Endpoint.COUNT_TOKENS})
_GEMINI: Final = frozenset(
    {Endpoint.GEMINI_GENERATE, Endpoint.GEMINI_STREAM, Endpoint.GEMINI_COUNT_TOKENS}
)
DIALECT_NAMES: Final[Mapping[Dialect, str]] = {
    Dialect.OPENAI: "OpenAI",
    Dialect.ANTHROPIC: "Anthropic",
    Dialect.GEMINI: "Gemini",
}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to call a model. `translated`: no channel speaks it, so it is carried over."""

    endpoint: Endpoint
    path: str
    dialect: Dialect
    translated: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """A model in a group. `price` is as `edge/prices.py:shown_price` has it; None: refused."""

    model: Model
    group: Group
    multiplier: str
    price: Mapping[str, object] | None
    ways: tuple[Way, ...]
    hour: Health | None
    day: Health | None

    @property
    def lately(self) -> Health | None:
        """How it did in the last hour, or else in the last day."""
        return self.hour or self.day

    @property
    def dialects(self) -> list[str]:
        """Names of the dialects it can be called in."""
        spoken = {way.dialect for way in self.ways}
        return [name for dialect, name in DIALECT_NAMES.items() if dialect in spoken]

    def amount(self, kind: str) -> str | None:
        """The price of one kind as text, if it is said."""
        return None if self.price is None else cast("str | None", self.price.get(kind))


def offers(
    catalog: Catalog,
    hour: Measured,
    day: Measured,
    *,
    words: str = "",
    group: str = "",
    endpoint: str = "",
) -> list[Offer]:
    """Every model of every group that is meant, by model and then by group.

    `words`: all of them are in the model's name.
    """
    wanted = words.lower().split()[:WORDS_MAX]
    found = [
        offer(catalog, hour, day, model, catalog.groups[name])
        for name in sorted(catalog.groups)
        if group in {"", name}
        for model in catalog.models_for(name)
        if all(word in model.name.lower() for word in wanted)
    ]
    if endpoint:
        found = [one for one in found if any(way.endpoint == endpoint for way in one.ways)]
    return sorted(found, key=lambda one: (one.model.name, one.group.name))


def offer(catalog: Catalog, hour: Measured, day: Measured, model: Model, group: Group) -> Offer:
    """Say what a group has of a model."""
    at = (group.name, model.name)
    price = None if model.price is None else shown_price(model.price, group.multiplier)
    ways = [
        Way(endpoint, CANONICAL[endpoint], _dialect(endpoint), _translated(catalog, at, endpoint))
        for endpoint in endpoints_of(catalog, group.name, model)
    ]
    return Offer(
        model=model,
        group=group,
        multiplier=format_multiplier(group.multiplier),
        price=price,
        ways=tuple(ways),
        hour=hour.by_offer.get(at),
        day=day.by_offer.get(at),
    )


def _dialect(endpoint: Endpoint) -> Dialect:
    if endpoint in _ANTHROPIC:
        return Dialect.ANTHROPIC
    return Dialect.GEMINI if endpoint in _GEMINI else Dialect.OPENAI


def _translated(catalog: Catalog, at: tuple[str, str], endpoint: Endpoint) -> bool:
    wire = _WIRES.get(endpoint)
    return wire is not None and not catalog.channels_for(*at, wire)
