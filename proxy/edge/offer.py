"""What a call may cost before it starts: the price in force and the two amounts to hold.

Rules: a stream holds its prompt and a first slice of output; a plain call, and one whose output
is billed without being seen or whose provider may search, holds its ceiling (DESIGN.md section 3),
searches included. Nano-USD, tokens of all choices together. This module must not know wallets.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from proxy.core import pricing
from proxy.core.bill import Terms
from proxy.core.catalog import Catalog, Route
from proxy.core.entities import WIRE_ENDPOINTS, Channel, Group, Key, Model, Price
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.money import format_usd
from proxy.core.requests import CallRequest
from proxy.core.searches import SEARCHES_HELD, SEARCHES_MAX, searches_max
from proxy.core.translation.conversation import Wire
from proxy.core.urls import CANONICAL, Endpoint
from proxy.edge.models import endpoints_of, model_named
from proxy.storage.ports import KeptAnswer


class Priced(Protocol):
    """What an offer says of any call. Amounts are nano-USD."""

    @property
    def key(self) -> Key:
        """Who asks."""

    @property
    def group(self) -> Group:
        """Under which contract."""

    @property
    def model(self) -> Model:
        """For which model."""

    @property
    def price(self) -> Price:
        """At which price."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Who may serve it, in order."""

    @property
    def hold(self) -> int:
        """What is held before it starts."""

    @property
    def ceiling(self) -> int:
        """The most it may cost."""

    @property
    def tokens(self) -> int:
        """What the limit per minute is charged until it has ended."""

    @property
    def cost_max(self) -> int | None:
        """What the caller will pay at most."""

    def remedy(self, available: int) -> str | None:
        """What would make the call fit `available`; None if nothing in it would."""


class Offer(Struct, frozen=True, gc=False):
    """One call, priced. `output_limit`: a lowered limit to write into the request, or None."""

    key: Key
    group: Group
    model: Model
    price: Price
    request: CallRequest
    channels: tuple[Channel, ...]
    output_tokens_max: int
    output_limit: int | None
    hold: int
    ceiling: int
    tokens: int
    strict: bool
    """Output is billed that deltas do not show: hold the ceiling, always drain."""
    searches: int = 0
    """Searches of the provider's that are held for, where they have a price."""
    searches_max: int = SEARCHES_MAX
    """The most that are charged."""
    cost_max: int | None = None
    """What the caller will pay at most (`x-max-cost`); a stream is cut there."""
    previous: KeptAnswer | None = None
    """The kept answer that the call goes on from, where it must go."""
    native: bool = False
    """Whether every channel is known to serve the caller's own form; else each is looked at."""
    rates: pricing.Rates | None = None
    """What charges a prompt and a completion at this price and multiplier, where two rates do."""
    line: pricing.Line | None = None
    """What quotes at this price and multiplier, where that needs no tiers."""

    @property
    def input_tokens_max(self) -> int | None:
        """What the prompt can have come to; None where nothing bounds it.

        Providers add to one (templates, files and pages behind an id or URL), but not beyond the
        window, unless their own tools read on in several turns.
        """
        return None if self.strict else self.model.context_window

    @property
    def terms(self) -> Terms:
        """What prices the call at its end."""
        return Terms(
            self.price,
            self.group.multiplier,
            self.output_tokens_max,
            self.input_tokens_max,
            self.searches_max,
        )

    def tokens_affordable(self, input_tokens: int, held: int) -> int:
        """How many output tokens a hold of `held` covers."""
        if self.line is not None and not self.searches:
            return pricing.line_affordable(self.line, input_tokens, held)
        return pricing.output_affordable(
            self.price, self.group.multiplier, input_tokens, held, self.searches
        )

    def quote(self, input_tokens: int, output_tokens: int) -> int:
        """The most so many tokens may cost."""
        return pricing.quote(
            self.price, self.group.multiplier, input_tokens, output_tokens, self.searches
        )

    def remedy(self, available: int) -> str | None:
        """What would make the call fit `available` nano-USD; None if nothing in it would."""
        request = self.request
        fit = self.tokens_affordable(request.input_tokens_estimate, available) // request.choices
        if fit <= 0 or (request.stream and not self.strict):
            return None
        fit = min(fit, self.output_tokens_max)
        return f"It would fit with `{limit_field(request)}` of at most {fit}."


def route_of(catalog: Catalog, key: Key, request: CallRequest) -> Route:
    """Return the way to the model asked for. Raises RelayError when the key cannot call it so."""
    name = request.model
    route = catalog.routes.get((key.group, name, request.wire))
    if route is not None and (key.models is None or name in key.models):
        return route
    model = catalog.models.get(name)
    served = catalog.channels_serving(key.group, name, request.wire)
    if model is None or (key.models is not None and name not in key.models) or not served:
        model = model_named(catalog, key, name)
    if not served or (model.endpoints is not None and not _is_for(model, request.wire)):
        endpoint = Endpoint(WIRE_ENDPOINTS[request.wire])
        raise mismatch(name, endpoint, endpoints_of(catalog, key.group, model))
    if model.price is None:
        raise RelayError(
            ErrorCode.MODEL_NOT_PRICED,
            f"The model `{name}` has no price yet, so it cannot be called. Tell the operator.",
            param="model",
        )
    return catalog.remember_route(catalog.groups[key.group], model, model.price, request.wire)


def mismatch(name: str, endpoint: Endpoint, usable: Sequence[Endpoint]) -> RelayError:
    """Say where a model works that does not at `endpoint`."""
    works = " or ".join(f"POST {CANONICAL[one]}" for one in usable)
    return RelayError(
        ErrorCode.MODEL_ENDPOINT_MISMATCH,
        f"The model `{name}` does not work with {CANONICAL[endpoint]}. "
        + (f"Use {works}, or another model." if works else "Use another model."),
        param="model",
    )


def _is_for(model: Model, wire: Wire) -> bool:
    """Whether its operator lets callers use a model in the form `wire`."""
    if model.endpoints is None:
        return True
    streamed = wire is Wire.GEMINI and Endpoint.GEMINI_STREAM in model.endpoints
    return streamed or WIRE_ENDPOINTS[wire] in model.endpoints


def make_offer(
    key: Key,
    route: Route,
    request: CallRequest,
    slice_tokens: int,
    previous: KeptAnswer | None = None,
) -> Offer:
    """Price a call on the way that `route_of` found for it.

    `previous`: the kept answer that it goes on from. Raises RelayError 400 for one that the model
    cannot go on from.
    """
    group, model, price, channels = route.group, route.model, route.price, route.channels
    estimate = request.input_tokens_estimate
    each = request.output_tokens_max or model.output_tokens_max
    limit: int | None = None
    if group.output_tokens_max is not None and each > group.output_tokens_max:
        each = limit = group.output_tokens_max
    most = each * request.choices
    searches, most_searches = (0, SEARCHES_MAX) if not price.search else _searches(request)
    if previous is not None:
        channels = _keeping(channels, previous, model)
        estimate += previous.tokens  # the provider reads them all again
        request = replace(request, input_tokens_estimate=estimate)
    strict = model.hidden_output or request.hidden_output or searches > 0
    if request.kept is not None:
        strict |= request.kept.server_tools and _is_native(request, channels)
    first = most if strict or not request.stream else min(most, slice_tokens)
    if route.line is not None and not searches:  # nearly always
        base, per_input, per_output, divisor = route.line
        base += per_input * estimate
        ceiling = hold = (base + per_output * most) // divisor
        if first != most:
            hold = (base + per_output * first) // divisor
    else:
        ceiling = pricing.quote(price, group.multiplier, estimate, most, searches)
        hold = pricing.quote(price, group.multiplier, estimate, first, searches)
    return Offer(  # by position: see relay.open_call
        key, group, model, price, request, channels, most, limit, hold, ceiling,
        estimate + first, strict, searches, most_searches, None, previous, route.native,
        route.rates, route.line,
    )  # fmt: skip


def _keeping(
    channels: tuple[Channel, ...], previous: KeptAnswer, model: Model
) -> tuple[Channel, ...]:
    found = tuple([channel for channel in channels if channel.id == previous.channel_id])
    if not found:
        raise RelayError(
            ErrorCode.PREVIOUS_RESPONSE_NOT_FOUND,
            f"The provider that keeps this response does not serve `{model.name}` to you now; "
            "send the whole conversation as `input`.",
            param="previous_response_id",
        )
    return found


def _is_native(request: CallRequest, channels: tuple[Channel, ...]) -> bool:
    """Whether the provider is asked what the caller asked: a translation leaves its tools out."""
    endpoint = WIRE_ENDPOINTS[request.wire]
    return any(endpoint in channel.endpoints for channel in channels[:1])


def _searches(request: CallRequest) -> tuple[int, int]:
    """How many searches to hold for, and how many to charge at most."""
    allowed = searches_max(request.layout.members)
    if not allowed:
        # Some models search unasked, and say so; nobody could have held for that.
        return 0 if allowed == 0 else SEARCHES_HELD, SEARCHES_MAX
    return allowed, allowed


def limit_field(request: CallRequest) -> str:
    """The member of a body that bounds its output: what it has, else what its form calls it."""
    responses = request.wire is Wire.RESPONSES
    return request.output_limit_field or ("max_output_tokens" if responses else "max_tokens")


def limit_cost(offer: Offer, cost_max: int) -> Offer:
    """Bind a call to what its caller will pay at most. Raises RelayError MAX_COST_EXCEEDED.

    What is seen as it streams may be cut when the limit is reached; everything else must fit
    whole, and so must the prompt with one token of output.
    """
    request = offer.request
    cuttable = request.stream and not offer.strict
    estimate = request.input_tokens_estimate
    least = offer.quote(estimate, request.choices) if cuttable else offer.ceiling
    if least > cost_max:
        fit = offer.tokens_affordable(estimate, cost_max) // request.choices
        remedy = "Raise the limit."
        if fit:
            remedy = f"Send `{limit_field(request)}` of at most {fit}, or raise the limit."
        raise RelayError(
            ErrorCode.MAX_COST_EXCEEDED,
            f"This call may cost up to {format_usd(least)} USD, above the "
            f"{format_usd(cost_max)} USD of `x-max-cost`; nothing was charged. {remedy}",
            param="x-max-cost",
        )
    return replace(
        offer,
        hold=min(offer.hold, cost_max),
        ceiling=min(offer.ceiling, cost_max),
        cost_max=cost_max,
    )
