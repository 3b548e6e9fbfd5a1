"""What a realtime session owes: the response that is open, the next, and what was written down.

Rules: each response is a call of the ledger that was held for before it could begin; who ends one
waits until it is in the ledger, and opens the next. This module must not know frames or sockets.
"""

from collections.abc import Callable

from proxy.core import pricing
from proxy.core.catalog import Catalog
from proxy.core.entities import Key, Model, UsageSource
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.realtime import RealtimeMeter, TurnBill
from proxy.edge import settlement
from proxy.edge.downstream import Downstream
from proxy.edge.open_call import Notice
from proxy.edge.realtime_turn import RealtimeOffer, Served, Turn, make_realtime_offer, opening_of
from proxy.edge.relay import reserve
from proxy.edge.settlement import Ended
from proxy.edge.world import World
from proxy.storage.ports import Durable


class RealtimeAccount:
    """See the module docstring. Made with the first response admitted."""

    def __init__(
        self,
        world: World,
        client: Downstream,
        catalog: Catalog,
        key: Key,
        model: Model,
        turn: Turn,
    ) -> None:
        self.meter = RealtimeMeter()
        self.turn = turn
        self.at_edge = False
        """Nothing more passes until the keeper has given more, or the session ends."""
        self._world = world
        self._client = client
        self._catalog = catalog
        self._key = key
        self._model = model

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

    async def next_response(self) -> None:
        """Hold for the response after this one. Raises RelayError."""
        self.meter.next()
        slice_tokens = self._world.bounds.slice_tokens
        offer = make_realtime_offer(
            self._catalog,
            self._key,
            self._model,
            self.meter.input_max,
            slice_tokens,
            self.turn.offer.cost_max,
        )
        self.turn = await self._admitted(offer)

    async def bill_transcription(self, size: int, served: Served | None) -> None:
        """Bill what was written down of a user's words, at its own model's price."""
        usage, self.meter.transcribed = self.meter.transcribed, None
        model = self._catalog.models.get(self.meter.transcriber)
        if usage is None or model is None or model.price is None:
            return
        group = self._catalog.groups[self._key.group]
        amount = pricing.charge(usage, model.price, group.multiplier)
        offer = RealtimeOffer(
            key=self._key,
            group=group,
            model=model,
            price=model.price,
            channels=(),
            hold=amount,
            ceiling=amount,
            tokens=usage.prompt_total + usage.completion_total,
        )
        turn = await self._admitted(offer)
        turn.delivered(size)
        made = TurnBill(usage, UsageSource.REPORTED)
        await self.durable(turn.settle(settlement.COMPLETE, made, served).committed)

    def unpriced(self) -> RelayError | None:
        """Tell of a model at work for this session whose price nobody knows."""
        name = self.meter.transcriber
        model = self._catalog.models.get(name)
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
        reference = self._client.reference or self._client.request_id
        opening = opening_of(world, offer, world.ids.next(world.now()), reference)
        return Turn(world, offer, opening, await reserve(world, offer, opening))
