"""What a realtime session owes: the response that is open, the next, and what was written down.

Rules: each response is a call of the ledger that was held for before it could begin; who ends one
waits until it is in the ledger, and opens the next. This module must not know frames or sockets.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from proxy.core import pricing
from proxy.core.entities import Model, Usage, UsageSource
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.realtime import RealtimeMeter, TurnBill
from proxy.core.urls import Endpoint
from proxy.edge import settlement
from proxy.edge.auth import recognise
from proxy.edge.downstream import Downstream
from proxy.edge.open_call import Notice
from proxy.edge.realtime_turn import RealtimeOffer, Served, Turn, make_realtime_offer, opening_of
from proxy.edge.relay import reserve
from proxy.edge.service_offer import callable_at
from proxy.edge.settlement import Ended
from proxy.edge.world import World
from proxy.storage.ports import Durable

OWED_MAX: Final = 64
"""Transcriptions that may wait for the response that is open."""
_LIMITS: Final = frozenset(
    {
        ErrorCode.RATE_LIMIT_EXCEEDED,
        ErrorCode.TOKEN_LIMIT_EXCEEDED,
        ErrorCode.CONCURRENCY_LIMIT_EXCEEDED,
    }
)


class _Owed(Struct, frozen=True):
    """A transcription: its usage, whose work it was, and the bytes that told of it."""

    usage: Usage
    model: Model
    size: int


class RealtimeAccount:
    """See the module docstring. Made with the first response admitted."""

    def __init__(self, world: World, client: Downstream, turn: Turn) -> None:
        self.meter = RealtimeMeter()
        self.turn = turn
        self.at_edge = False
        """Nothing more passes until the keeper has given more, or the session ends."""
        self._world = world
        self._client = client
        self._key = turn.offer.key
        self._model = turn.offer.model
        self._owed: deque[_Owed] = deque()
        """Transcriptions that went out and could not be billed beside an open response."""

    def made(self) -> TurnBill:
        """What the response at hand comes to by now."""
        return self.meter.bill(self._model.output_tokens_max, self._model.context_window)

    def settle(self, ended: Ended, served: Served | None) -> None:
        """Close the response at hand if it is open: the session has ended."""
        self.turn.settle(ended, self.made(), served, self.meter.status)

    async def end_response(self, size: int, served: Served | None) -> None:
        """Bill the response whose end has come in `size` bytes. Raises RelayError."""
        turn, meter = self.turn, self.meter
        if turn.bytes or meter.status == "completed":
            turn.delivered(size)
        receipt = turn.settle(settlement.COMPLETE, self.made(), served, meter.status)
        await self.durable(receipt.committed)

    async def next_response(self, served: Served | None) -> None:
        """Hold for the response after this one, as key and catalog are now. Raises RelayError."""
        world = self._world
        await self.pay(served)
        self.meter.next()
        catalog = world.catalog
        self._key = recognise(self._key.digest, catalog, world.now(), self._client)
        self._model = callable_at(catalog, self._key, self._model.name, Endpoint.REALTIME)
        offer = make_realtime_offer(
            catalog,
            self._key,
            self._model,
            self.meter.input_max,
            world.bounds.slice_tokens,
            self.turn.offer.cost_max,
        )
        self.turn = await self._admitted(offer)

    async def bill_transcription(self, size: int, served: Served | None) -> None:
        """Bill what was written down of a user's words, at its own model's price.

        Where a limit of the key forbids another call beside the response that is open, it is
        billed after that. Raises RelayError.
        """
        usage, self.meter.transcribed = self.meter.transcribed, None
        model = self._world.catalog.models.get(self.meter.transcriber)
        if usage is None or model is None:
            return
        self._owed.append(_Owed(usage, model, size))
        try:
            await self.pay(served)
        except RelayError as error:
            if error.code not in _LIMITS or len(self._owed) > OWED_MAX:
                raise

    async def pay(self, served: Served | None) -> None:
        """Bill every transcription that is owed. Raises RelayError."""
        group = self._world.catalog.groups[self._key.group]
        while self._owed:
            owed = self._owed[0]
            price = owed.model.price
            if price is not None:
                amount = pricing.charge(owed.usage, price, group.multiplier)
                offer = RealtimeOffer(
                    key=self._key,
                    group=group,
                    model=owed.model,
                    price=price,
                    channels=(),
                    hold=amount,
                    ceiling=amount,
                    tokens=owed.usage.prompt_total + owed.usage.completion_total,
                )
                turn = await self._admitted(offer)
                turn.delivered(owed.size)
                made = TurnBill(owed.usage, UsageSource.REPORTED)
                receipt = turn.settle(settlement.COMPLETE, made, served)
                self._owed.popleft()
                await self.durable(receipt.committed)
            else:
                self._owed.popleft()

    def unpriced(self) -> RelayError | None:
        """Tell of a model at work for this session whose price nobody knows."""
        name = self.meter.transcriber
        model = self._world.catalog.models.get(name)
        if not name or (model is not None and model.price is not None):
            return None
        return RelayError(
            ErrorCode.MODEL_NOT_PRICED,
            f"The model `{name}`, which this session transcribes with, has no price here. "
            "Use another for `audio.input.transcription`, or tell the operator.",
            param="session.audio.input.transcription.model",
        )

    def watch_hold(self, decided: Callable[[], None]) -> bool:
        """Ask for more in time; `decided` when the keeper has answered. False: no more is to be
        had, and what the hold covers has been delivered.
        """
        meter, turn = self.meter, self.turn
        allowed = turn.tokens_allowed(meter.input_max)
        if allowed - meter.output_max > self._world.bounds.slice_tokens // 2:
            self.at_edge = False
            return True
        turn.extend(meter.input_max, meter.output_max, decided)
        self.at_edge = meter.output_max >= turn.tokens_allowed(meter.input_max)
        return not self.at_edge or turn.extending

    @property
    def shortage(self) -> Notice:
        """Why there was no more to be had."""
        return Notice.MAX_COST if self.turn.limited else Notice.BALANCE

    async def durable(self, commit: Durable) -> None:
        """Wait for a commit. Raises RelayError when it fails or takes too long."""
        world = self._world
        if not commit.done():
            waiter = world.loop.create_future()

            def done(_: object) -> None:
                if not waiter.done():
                    waiter.set_result(None)

            commit.add_done_callback(done)
            handle = world.loop.call_later(world.bounds.commit_wait_ms_max / 1000, done, None)
            try:
                await waiter
            finally:
                handle.cancel()
        if not commit.done() or commit.exception() is not None:
            raise RelayError(
                ErrorCode.SETTLEMENT_UNAVAILABLE, "A response could not be billed in time."
            )

    async def _admitted(self, offer: RealtimeOffer) -> Turn:
        world = self._world
        reference = self._client.visit.reference or self._client.request_id
        opening = opening_of(world, offer, world.ids.next(world.now()), reference)
        return Turn(world, offer, opening, await reserve(world, offer, opening))
