"""One response of a realtime session as a call of the ledger.

Rules: it is admitted, and money held, before it can begin; the hold grows with what is delivered;
it is settled exactly once, by what its end reports, or by what was delivered where that never
comes. What the client did not get any of is not charged. Nano-USD. This module must not know
frames or sockets.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from proxy.core import pricing
from proxy.core.catalog import Catalog
from proxy.core.entities import (
    MULTIPLIER_ONE,
    Attempt,
    Channel,
    ChannelKey,
    Dialect,
    Group,
    Key,
    Model,
    Price,
    Usage,
    UsageSource,
    Verdict,
)
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.exchange import UNLIMITED
from proxy.core.money import format_usd
from proxy.core.realtime import CONTEXT_TOKENS, TurnBill
from proxy.core.urls import Endpoint
from proxy.edge.metrics import CallFigures
from proxy.edge.settlement import CLIENT_GONE_STATUS, Ended
from proxy.edge.world import World
from proxy.storage.ports import Admission, Closing, Opening, Progress, Receipt

SWITCHING_PROTOCOLS: Final = 101
MARK_SECONDS: Final = 1.0


class RealtimeOffer(Struct, frozen=True, gc=False):
    """One response, priced before it begins."""

    key: Key
    group: Group
    model: Model
    price: Price
    channels: tuple[Channel, ...]
    hold: int
    ceiling: int
    tokens: int
    cost_max: int | None = None

    def remedy(self, available: int) -> str | None:  # noqa: ARG002 - as of any offer
        """What would make it fit `available` nano-USD: nothing the relay could name."""
        return None


def make_realtime_offer(
    catalog: Catalog,
    key: Key,
    model: Model,
    input_tokens: int,
    slice_tokens: int,
    cost_max: int | None = None,
) -> RealtimeOffer:
    """Price a response that reads `input_tokens`; hold for them and a first slice of output.

    `cost_max`: what the caller will pay for it at most. Raises RelayError MAX_COST_EXCEEDED when
    that is less than what it reads and one token cost.
    """
    group, price = catalog.groups[key.group], model.price
    if price is None:
        raise AssertionError("an unpriced model reached make_realtime_offer")
    input_tokens = min(input_tokens, model.context_window)
    # Of output that no message shows, the most is held from the beginning.
    first = model.output_tokens_max
    if not model.hidden_output:
        first = min(slice_tokens, first)
    hold = pricing.quote(price, group.multiplier, input_tokens, first)
    most = pricing.quote(price, group.multiplier, model.context_window, model.output_tokens_max)
    ceiling = max(hold, most)
    if cost_max is not None:
        least = pricing.quote(price, group.multiplier, input_tokens, 1)
        if least > cost_max:
            raise RelayError(
                ErrorCode.MAX_COST_EXCEEDED,
                f"A response may cost at least {format_usd(least)} USD, above the "
                f"{format_usd(cost_max)} USD of `x-max-cost`. Raise the limit.",
                param="x-max-cost",
            )
        hold, ceiling = min(hold, cost_max), min(ceiling, cost_max)
    return RealtimeOffer(
        key=key,
        group=group,
        model=model,
        price=price,
        channels=catalog.channels_for_endpoint(key.group, model.name, Endpoint.REALTIME),
        hold=hold,
        ceiling=ceiling,
        tokens=input_tokens + first,
        cost_max=cost_max,
    )


class Served(Struct, frozen=True):
    """Who serves a session."""

    channel: Channel
    key: ChannelKey


class Turn:
    """One admitted response, from before it begins to its receipt."""

    __slots__ = (
        "_extending", "_held", "_marked_at", "admission", "bytes", "earlier", "events",
        "first_byte_at", "offer", "opening", "receipt", "started", "world",
    )  # fmt: skip

    def __init__(
        self, world: World, offer: RealtimeOffer, opening: Opening, admission: Admission
    ) -> None:
        self.world = world
        self.offer = offer
        self.opening = opening
        self.admission = admission
        self.receipt: Receipt | None = None
        self.started = self._marked_at = world.loop.time()
        self.first_byte_at: float | None = None
        self.bytes = self.events = 0
        """Delivered of it."""
        self.earlier: tuple[Attempt, ...] = ()
        """Attempts at other channels before this session had one."""
        self._held = admission.held
        self._extending = False

    def delivered(self, size: int) -> None:
        """Take note of an event of this response that went to the client."""
        if self.first_byte_at is None:
            self.first_byte_at = self.world.loop.time()
        self.events += 1
        self.bytes += size

    def tokens_allowed(self, input_tokens: int) -> int:
        """How many output tokens the hold covers after so much input."""
        offer = self.offer
        full = self.admission.ceiling_held or self._held >= offer.ceiling
        if full and offer.cost_max is None:
            return UNLIMITED
        input_tokens = min(input_tokens, offer.model.context_window)
        tokens = pricing.output_affordable(
            offer.price, offer.group.multiplier, input_tokens, self._held
        )
        # No response is longer than that, however long its delivery looks: the estimate leans up.
        return tokens if tokens < offer.model.output_tokens_max else UNLIMITED

    def extend(self, input_tokens: int, output_tokens: int, answer: Callable[[], None]) -> None:
        """Ask for the next slice beyond `output_tokens`, one at a time; `answer` when decided."""
        if self._extending or self.receipt is not None:
            return
        offer, slice_tokens = self.offer, self.world.bounds.slice_tokens
        wanted = pricing.quote(
            offer.price,
            offer.group.multiplier,
            min(input_tokens, offer.model.context_window),
            min(output_tokens + slice_tokens, offer.model.output_tokens_max),
        )
        amount = min(wanted, offer.ceiling) - self._held
        if amount <= 0:
            return
        self._extending = True

        def granted(more: int) -> None:
            self._extending = False
            self._held += more
            answer()

        self.world.billing.extend(self.opening.call_id, amount, granted)

    @property
    def limited(self) -> bool:
        """Whether all is held that the caller will pay: more is not to be asked for."""
        return self.offer.cost_max is not None and self._held >= self.offer.cost_max

    @property
    def extending(self) -> bool:
        """Whether the keeper is being asked."""
        return self._extending

    def mark(self, made: TurnBill, served: Served | None, now: float) -> None:
        """Tell the keeper once a second what this response costs if every process dies now."""
        if now - self._marked_at < MARK_SECONDS or self.receipt is not None or not self.bytes:
            return
        self._marked_at = now
        channel_id = None if served is None else served.channel.id
        self.world.billing.mark(
            Progress(
                self.opening.call_id,
                made.usage,
                made.source,
                self._price(made.usage),
                self.bytes,
                channel_id,
            )
        )

    def settle(
        self, ended: Ended, made: TurnBill, served: Served | None, finish_reason: str = ""
    ) -> Receipt:
        """Close the call, exactly once; later calls change nothing and return the receipt."""
        if self.receipt is None:
            closing = self._closing(ended, made, served, finish_reason)
            self.receipt = self.world.billing.settle(closing)
            self._observe(closing)
        return self.receipt

    def _price(self, usage: Usage) -> int:
        return pricing.charge(usage, self.offer.price, self.offer.group.multiplier)

    def _closing(
        self, ended: Ended, made: TurnBill, served: Served | None, finish_reason: str
    ) -> Closing:
        amount = self._price(made.usage) if made.source is not UsageSource.NONE else 0
        paid = self.bytes > 0 and ended.verdict is not Verdict.INTERNAL_ERROR
        model = self.offer.model.name
        ttft = None if self.first_byte_at is None else (self.first_byte_at - self.started) * 1000
        attempts = self.earlier
        if served is not None:
            attempts = (*attempts, self._attempt(ended, made, served))
        return Closing(
            call_id=self.opening.call_id,
            verdict=ended.verdict,
            usage=made.usage,
            source=made.source,
            charge=amount if paid else 0,
            forgiven=0 if paid else amount,
            delivered_bytes=self.bytes if paid and amount else 0,
            delivered_events=self.events,
            status=self._status(ended, served),
            error_code=None if ended.error is None else ended.error.code.code,
            finish_reason=finish_reason or None,
            channel_id=None if served is None else served.channel.id,
            upstream_model=None if served is None else served.channel.models.get(model, model),
            attempts=attempts,
            ended_at=self.world.now(),
            ttft_ms=ttft,
            anomalies=made.anomalies,
        )

    @staticmethod
    def _status(ended: Ended, served: Served | None) -> int:
        """Return the HTTP status the client saw: of its handshake."""
        if served is not None:
            return SWITCHING_PROTOCOLS
        return CLIENT_GONE_STATUS if ended.error is None else ended.error.status

    def _attempt(self, ended: Ended, made: TurnBill, served: Served) -> Attempt:
        model = self.offer.model.name
        basis = served.channel.costs.get(model)
        cost = 0 if basis is None else pricing.charge(made.usage, basis, MULTIPLIER_ONE)
        seconds = self.world.loop.time() - self.started
        return Attempt(
            channel_id=served.channel.id,
            channel_key_id=served.key.id,
            started_at=self.world.now() - seconds,
            status=SWITCHING_PROTOCOLS,
            outcome="served" if ended.error is None else ended.error.code.code,
            upstream_request_id=None,
            upstream_model=served.channel.models.get(model, model),
            usage=made.usage,
            cost=cost,
            duration_ms=seconds * 1000,
        )

    def _observe(self, closing: Closing) -> None:
        first = None if self.first_byte_at is None else self.first_byte_at - self.started
        self.world.metrics.observe_call(
            CallFigures(
                endpoint=Endpoint.REALTIME,
                model=self.offer.model.name,
                channel_id=closing.channel_id,
                code=closing.status,
                error=closing.error_code,
                duration=self.world.loop.time() - self.started,
                first_byte=first,
                usage=closing.usage,
                attempts=closing.attempts,
                anomalies=closing.anomalies,
            )
        )


def opening_of(world: World, offer: RealtimeOffer, call_id: int, reference: str | None) -> Opening:
    """Make the record that asks the keeper to admit a response."""
    return Opening(
        call_id=call_id,
        key_id=offer.key.id,
        user_id=offer.key.user_id,
        endpoint=Endpoint.REALTIME,
        dialect=Dialect.OPENAI,
        model=offer.model.name,
        group=offer.group.name,
        stream=True,
        price_version=offer.price.version,
        multiplier=offer.group.multiplier,
        hold=offer.hold,
        ceiling=offer.ceiling,
        tokens=offer.tokens,
        input_estimate=max(CONTEXT_TOKENS, offer.tokens),
        started_at=world.now(),
        client_reference=reference,
        charge_max=offer.cost_max,
    )
