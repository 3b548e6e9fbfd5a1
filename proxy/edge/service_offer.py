"""What a service call may cost before it starts: held whole, because nothing of it can be cut.

Rules: the hold is the price of the largest usage the request can have (core/services); a model
whose price says nothing of what the call makes is refused, never free. Nano-USD. This module must
not know wallets.
"""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from proxy.core import pricing
from proxy.core.catalog import Catalog
from proxy.core.entities import MULTIPLIER_ONE, Channel, Group, Key, Model, Price, Usage, Wire
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.money import format_usd
from proxy.core.services.service import ServiceRequest
from proxy.core.urls import CANONICAL, Endpoint
from proxy.edge.models import endpoints_of, model_named
from proxy.edge.offer import mismatch

_MADE: Final = frozenset({"images_generations", "images_edits", "images_variations", "speech"})
"""Endpoints whose worth is in what they make, whatever they read."""
_ONE_OF_EACH: Final = Usage(
    input_uncached=1, cache_read=1, output=1, audio_input=1, audio_output=1, image_input=1,
    image_output=1, images=1, characters=1, calls=1, audio_ms=3_600_000, searches=1,
)  # fmt: skip


class ServiceOffer(Struct, frozen=True, gc=False):
    """One service call, priced: hold and ceiling are the same."""

    key: Key
    group: Group
    model: Model
    price: Price
    request: ServiceRequest
    channels: tuple[Channel, ...]
    hold: int
    tokens: int
    cost_max: int | None = None

    @property
    def ceiling(self) -> int:
        """The most this call may cost."""
        return self.hold

    def remedy(self, available: int) -> str | None:  # noqa: ARG002 - as of any offer
        """What would make the call fit `available` nano-USD: nothing the relay could name."""
        return None


COUNTED_HERE: Final = {
    Endpoint.COUNT_TOKENS: Wire.MESSAGES,
    Endpoint.GEMINI_COUNT_TOKENS: Wire.GEMINI,
}
"""Where a count is made for callers of channels that make none, and in which form they ask."""


def callable_at(catalog: Catalog, key: Key, name: str, endpoint: Endpoint) -> Model:
    """Return the model asked for at `endpoint`. Raises RelayError when the key cannot call it."""
    model = model_named(catalog, key, name)
    allowed = model.endpoints is None or endpoint in model.endpoints
    served = catalog.channels_for_endpoint(key.group, name, endpoint) or (
        # A count is made here where no channel makes one.
        COUNTED_HERE.get(endpoint) is not None
        and catalog.channels_serving(key.group, name, COUNTED_HERE[endpoint])
    )
    if not allowed or not served:
        raise mismatch(name, endpoint, endpoints_of(catalog, key.group, model))
    if model.price is None:
        raise RelayError(
            ErrorCode.MODEL_NOT_PRICED,
            f"The model `{name}` has no price yet, so it cannot be called. Tell the operator.",
            param="model",
        )
    return model


def make_service_offer(
    catalog: Catalog, key: Key, model: Model, request: ServiceRequest, endpoint: Endpoint
) -> ServiceOffer:
    """Price a call of `model`. Raises RelayError MODEL_NOT_PRICED for what has no price."""
    group, price = catalog.groups[key.group], model.price
    if price is None:
        raise AssertionError("an unpriced model reached make_service_offer")
    if not is_priced(request, price):
        raise RelayError(
            ErrorCode.MODEL_NOT_PRICED,
            f"The model `{model.name}` has no price for {CANONICAL[endpoint]} yet, so it cannot "
            "be called there. Tell the operator.",
            param="model",
        )
    return ServiceOffer(
        key=key,
        group=group,
        model=model,
        price=price,
        request=request,
        channels=catalog.channels_for_endpoint(key.group, model.name, endpoint),
        hold=pricing.quote_usage(price, group.multiplier, request.usage_held(price)),
        tokens=request.tokens_max,
    )


def is_priced(request: ServiceRequest, price: Price) -> bool:
    """Whether `price` says something of what the request makes, or that all of it is free."""
    known = request.usage_known
    if known.calls == 0:
        return True  # An answer that costs nothing by its nature: a count of tokens.
    if request.endpoint in _MADE:
        known = replace(known, input_uncached=0)
    if known.images:
        known = replace(known, variant=pricing.image_variant(price, request.size, request.quality))
    if pricing.charge(known, price, MULTIPLIER_ONE):
        return True
    free = not any(price.image_variants.values())
    return free and not pricing.charge(_ONE_OF_EACH, price, MULTIPLIER_ONE)


def limit_service_cost(offer: ServiceOffer, cost_max: int) -> ServiceOffer:
    """Bind a call to what its caller will pay at most. Raises RelayError MAX_COST_EXCEEDED."""
    if offer.hold > cost_max:
        raise RelayError(
            ErrorCode.MAX_COST_EXCEEDED,
            f"This call may cost up to {format_usd(offer.hold)} USD, above the "
            f"{format_usd(cost_max)} USD of `x-max-cost`; nothing was charged. Raise the limit.",
            param="x-max-cost",
        )
    return replace(offer, cost_max=cost_max)
