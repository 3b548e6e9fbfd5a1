"""One admitted call while it is open: its hold, its attempt in flight, its client, its bill.

Rules: who reserved settles, exactly once, by one synchronous call (`settle`). The call hears of
its client (paused, resumed, lost), of its hold running out and of time passing, and acts on the
attempt in flight; it never chooses a channel (edge/dispatch.py) nor frames bytes. Time is loop
time. This module must not know SQL or HTTP heads.
"""

import asyncio
from collections.abc import Coroutine
from enum import Enum, auto
from time import perf_counter
from typing import Self

from proxy.core.answers import PlainReading
from proxy.core.bill import Delivered
from proxy.core.entities import Attempt as AttemptRecord
from proxy.core.entities import (
    Channel,
    ChannelKey,
    DisconnectMode,
    Verdict,
)
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.exchange import UNLIMITED, Exchange, Phase
from proxy.edge import settlement
from proxy.edge.attempt import Attempt, AttemptEnd
from proxy.edge.downstream import Downstream
from proxy.edge.engines import plain_exchange, request_body, stream_exchange
from proxy.edge.offer import Offer
from proxy.edge.settlement import Ended
from proxy.edge.translation import Translation, native
from proxy.edge.world import World
from proxy.storage.ports import Admission, Durable, Opening, Progress, Receipt

MARK_SECONDS = 1.0
LOW_WATER_DIVISOR = 2
"""The next slice is asked for when half of one is left."""


class Notice(Enum):
    """Why we cut a call short."""

    REVOKED = auto()
    SHUTDOWN = auto()
    UNBILLED = auto()
    BALANCE = auto()


class Call:
    """See the module docstring."""

    def __init__(
        self,
        world: World,
        client: Downstream,
        offer: Offer,
        opening: Opening,
        admission: Admission,
        body: bytes,
    ) -> None:
        now = world.loop.time()
        self.world = world
        self.client = client
        self.offer = offer
        self.opening = opening
        self.admission = admission
        self.attempt: Attempt | None = None
        self.channel: Channel | None = None
        self.notice: Notice | None = None
        self.gone = False
        self.shown = False
        self.heartbeat_due = False
        self.retry_refused = False
        self.receipt: Receipt | None = None
        self.body = body
        self._held = admission.held
        self.records: list[AttemptRecord] = []
        self._connecting: asyncio.Task[asyncio.Transport] | None = None
        self.delivered: Delivered | None = None
        self.reading: PlainReading | None = None
        self.prompt_tokens: int | None = None
        self._extending = False
        self.started = now
        self.first_byte_at: float | None = None
        self.upstream_seconds = 0.0
        self._progress = -1
        self._progress_at = now
        self._marked = 0
        self._marked_at = now
        self._paused_at: float | None = None
        self._drain_until: float | None = None
        self._heartbeat_at = now + world.bounds.heartbeat_first_ms / 1000
        self._commit_waiter: asyncio.Future[None] | None = None
        self._commit_since = 0.0

    def __enter__(self) -> Self:
        """Be known to the client's connection, the sweep and the world while the call is open."""
        world, connection = self.world, self.client.connection
        world.calls.add(self)
        world.sweep.add(self)
        connection.listener = self
        if connection.lost:
            self.gone = True
        return self

    def __exit__(self, *_: object) -> None:
        """The call has ended: nobody tells it anything any more."""
        self.client.connection.listener = None
        self.world.sweep.remove(self)
        self.world.calls.discard(self)
        # Call and attempt know each other: without this only the collector would free them.
        self.attempt = None

    @property
    def abandoned(self) -> bool:
        """Whether the client has left or we cut the call short: no use in trying on."""
        return self.gone or self.notice is not None

    # The attempt in flight

    def begin_attempt(self, channel: Channel, *, omit_usage: bool) -> Attempt:
        """Make the attempt for `channel`; the caller connects it."""
        world, request = self.world, self.offer.request
        translation = None
        if not native(request, channel):
            translation = Translation(self.offer, channel, int(world.now()))
        if request.stream:
            exchange = stream_exchange(
                self.offer,
                channel,
                world.calibration,
                held=self._held,
                omit_usage=omit_usage,
                verbatim=self.client.chunked,
                event_bytes_max=world.bounds.event_bytes_max,
                unsent=self.unsent_bytes,
            )
        else:
            exchange = plain_exchange(channel.dialect)
        low_water = world.bounds.slice_tokens // LOW_WATER_DIVISOR
        self.attempt = Attempt(
            world.loop, self, exchange, low_water=low_water, translation=translation
        )
        self.channel = channel
        self._progress = -1
        self._progress_at = world.loop.time()
        return self.attempt

    def upstream_body(self, channel: Channel, *, omit_usage: bool) -> bytes:
        """Return what the attempt in flight sends. Raises RelayError 400."""
        translation = None if self.attempt is None else self.attempt.translation
        return request_body(self.offer, self.body, channel, translation, omit_usage=omit_usage)

    def unsent_bytes(self) -> int:
        """How many of the upstream's bytes have not left for the client yet."""
        return self.upstream_bytes(self.client.connection.unsent_bytes())

    def upstream_bytes(self, client_bytes: int) -> int:
        """How many of the upstream's bytes the newest `client_bytes` stand for."""
        translation = None if self.attempt is None else self.attempt.translation
        return client_bytes if translation is None else translation.unsent(client_bytes)

    async def connecting(
        self, connect: Coroutine[None, None, asyncio.Transport]
    ) -> asyncio.Transport | None:
        """Await a connection, giving up at once when the client leaves (None)."""
        task = self._connecting = asyncio.ensure_future(connect)
        try:
            return await task
        except asyncio.CancelledError:
            if self.gone or self.notice is not None:
                return None
            raise
        finally:
            task.cancel()  # whatever ended the waiting, no connection is made for nobody
            self._connecting = None

    def show(self) -> None:
        """The content point: send what is there and let the rest flow by itself."""
        attempt, client = self.attempt, self.client
        if attempt is None or self.gone:
            return
        first = attempt.take_pending()
        self.shown = True
        self.first_byte_at = self.world.loop.time()
        if client.begun:
            client.write(first)
        else:
            self._name_channel()
            client.begin(first)
        transport = client.connection.transport
        if transport is not None and not self.gone:
            attempt.flow(transport.write, chunked=client.chunked)

    def _name_channel(self) -> None:
        """Say which upstream and which of its models answers: never a silent substitution."""
        channel = self.channel
        if channel is not None:
            self.client.name_upstream(channel.name, channel.models[self.offer.model.name])
            if self.attempt is not None and self.attempt.translation is not None:
                self.client.add_headers(self.attempt.translation.header())

    def end_attempt(self, key: ChannelKey, outcome: str, began: float) -> None:
        """Record the attempt in flight, served or failed: what an invoice is reconciled with."""
        attempt = self.attempt
        if attempt is None:
            raise AssertionError("no attempt to end")
        if attempt.first_byte_at is not None:
            self.upstream_seconds += attempt.first_byte_at - began
        self.records.append(settlement.record(self, attempt.exchange, key, outcome, began))

    # What the client's connection tells

    def client_paused(self) -> None:
        """Stop reading the upstream until the client has read."""
        self._paused_at = self.world.loop.time()
        if self.attempt is not None:
            self.attempt.pause("client")

    def client_resumed(self) -> None:
        """Read the upstream again."""
        self._paused_at = None
        self._progress_at = self.world.loop.time()
        if self.attempt is not None:
            self.attempt.resume("client")

    def client_lost(self, unsent_bytes: int) -> None:
        """Apply the disconnect contract at once: count what left, then cancel or read on."""
        self.gone = True
        self._paused_at = None
        if self._connecting is not None:
            self._connecting.cancel()
        attempt = self.attempt
        if attempt is None:
            return
        if self.delivered is None:
            self.delivered = settlement.measure(self, attempt.exchange, unsent_bytes)
        seconds = 0.0 if attempt.over else self._drain_seconds(attempt.exchange)
        if seconds <= 0:
            attempt.stop(AttemptEnd.CLIENT_GONE)
            return
        self._drain_until = self.world.loop.time() + seconds
        attempt.detach()
        attempt.allow(UNLIMITED)

    def _drain_seconds(self, exchange: Exchange) -> float:
        """How long to read on for the provider's figure (DESIGN.md section 3)."""
        group = self.offer.group
        strict = self.offer.strict or self.admission.ceiling_held
        if group.disconnect is DisconnectMode.DRAIN or strict:
            return group.drain_seconds_max
        return self.world.bounds.usage_wait_ms / 1000 if exchange.finishing else 0.0

    # The hold

    def credit_needed(self, *, at_edge: bool) -> None:
        """Ask the keeper for the next slice, one at a time; refused at the edge, cut."""
        attempt = self.attempt
        if self._extending or self.gone or attempt is None:
            return
        exchange = attempt.exchange
        input_tokens = self._input_tokens(exchange)
        target = max(exchange.tokens_allowed, exchange.upper) + self.world.bounds.slice_tokens
        ceiling = self.offer.quote(input_tokens, self.offer.output_tokens_max)
        amount = min(self.offer.quote(input_tokens, target), ceiling) - self._held
        self._extending = True

        def covered() -> int:
            # No call is charged above its ceiling, however much of it waits unsent.
            if self._held >= ceiling:
                return UNLIMITED
            return self.offer.tokens_affordable(input_tokens, self._held)

        def answer(granted: int) -> None:
            self._extending = False
            self._held += granted
            if granted:
                attempt.allow(covered())
            elif (at_edge or attempt.exchange.at_edge) and not attempt.over:
                # Asked in time and refused late: the edge was reached while the keeper decided.
                self.cut(Notice.BALANCE)

        if amount > 0:
            self.world.billing.extend(self.opening.call_id, amount, answer)
            return
        # The input turned out smaller than its estimate: the hold covers the next slice as it is.
        self._extending = False
        attempt.allow(covered())

    def _input_tokens(self, exchange: Exchange) -> int:
        tally = exchange.tally
        known = tally.usage().input_total if tally.seen else 0
        return known or self.offer.request.input_tokens_estimate

    # Time

    def tick(self, now: float) -> None:
        """Look at every deadline of this call, and mark its progress once a second."""
        if self._client_stalled(now):
            self.client.abort()
            return
        if self._commit_waiter is not None:
            self._tick_commit(now)
            return
        attempt = self.attempt
        if attempt is None or attempt.transport is None or attempt.over:
            return
        if self._drain_until is not None:
            if now >= self._drain_until:
                attempt.stop(AttemptEnd.CLIENT_GONE)
            return
        exchange = attempt.exchange
        progress = exchange.progress
        if progress != self._progress:
            self._progress = progress
            self._progress_at = now
        if self._paused_at is not None:
            return
        self._check_silence(attempt, now)
        if now - self._marked_at >= MARK_SECONDS and progress != self._marked:
            self._marked_at, self._marked = now, progress
            self._mark(exchange)

    def _client_stalled(self, now: float) -> bool:
        since = self._paused_at
        return since is not None and now - since >= self.world.bounds.write_stall_seconds_max

    def _check_silence(self, attempt: Attempt, now: float) -> None:
        channel, bounds, client = self.channel, self.world.bounds, self.client
        if channel is None:
            raise AssertionError("an attempt without a channel")
        silent = now - self._progress_at
        recent = silent * 1000 < bounds.heartbeat_ms and silent < channel.idle_seconds_max
        if attempt.flowing and recent:
            return  # nearly always; every stream is asked four times a second
        if attempt.exchange.phase is Phase.HEAD:
            if silent >= channel.first_byte_seconds_max:
                attempt.stop(AttemptEnd.FIRST_BYTE_TIMEOUT)
                return
        elif silent >= channel.idle_seconds_max:
            attempt.stop(AttemptEnd.IDLE_TIMEOUT)
            return
        if not self._heartbeat_safe:
            return
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + bounds.heartbeat_ms / 1000
            if client.begun:
                client.write(client.heartbeat())
            else:
                self.heartbeat_due = True
                attempt.nudge()

    @property
    def _heartbeat_safe(self) -> bool:
        """Whether a heartbeat may stand between the events of the attempt in flight.

        After an `id:` line a comment makes openai-python raise (WIRE.md section 2); inside an
        event passed on in parts it would become part of that event; and a plain answer that waits
        with its last byte has no place for one.
        """
        if self.attempt is None or not self.offer.request.stream:
            return False
        exchange = self.attempt.exchange
        return not (exchange.has_id or exchange.in_event)

    def _mark(self, exchange: Exchange) -> None:
        """Tell the keeper what this call costs if every process dies now."""
        if not self.shown or exchange.over:
            return
        delivered = settlement.measure(self, exchange, None)
        made = settlement.statement(self, delivered, exchange, complete=False)
        self.world.billing.mark(
            Progress(
                self.opening.call_id,
                made.usage,
                made.source,
                made.charge,
                exchange.wire_bytes,
                None if self.channel is None else self.channel.id,
            )
        )

    # The end

    def cut(self, notice: Notice) -> None:
        """End the call early for a reason of ours; the caller is told in-band."""
        if self.notice is None:
            self.notice = notice
        if self._connecting is not None:
            self._connecting.cancel()
        if self.attempt is not None:
            self.attempt.stop(AttemptEnd.CUT)

    async def reserved(self) -> None:
        """Wait until the open call is durable: before it not one byte goes to the client.

        Raises RelayError 503 when the ledger cannot be written, or not in time.
        """
        committed = self.admission.committed
        if not committed.done():
            await self._wait(committed)
        if not committed.done() or committed.exception() is not None:
            raise RelayError(
                ErrorCode.SERVICE_UNAVAILABLE, "The ledger is unavailable.", retry_after=2
            )

    async def handed_over(self, ended: Ended) -> Ended:
        """Give the kernel all of the answer but its end; `ended`, unless the client left.

        What is still in this process when it is killed never arrives, so it is not billed
        before. A plain answer waits with its last byte, a stream with its terminal event.
        """
        client, attempt = self.client, self.attempt
        if attempt is not None and attempt.translation is not None:
            try:
                client.write(attempt.translation.conclude(attempt.exchange))
            except RelayError as error:
                return Ended(Verdict.UPSTREAM_ERROR, error)
        if not self.offer.request.stream:
            await self.reserved()
            if self.gone:
                return settlement.CLIENT_GONE
            self._name_channel()
            client.begin_plain(self.last())
        if not client.connection.is_drained():
            await client.connection.drained()
        return settlement.CLIENT_GONE if self.gone else ended

    def settle(self, ended: Ended) -> Receipt:
        """Close the call, exactly once; later calls change nothing and return the receipt."""
        if self.receipt is None:
            closing = settlement.closing(self, ended)
            self.receipt = self.world.billing.settle(closing)
            self.world.metrics.observe_call(settlement.figures(self, closing))
        return self.receipt

    async def committed(self, ended: Ended) -> Ended:
        """Wait until the charge is in the ledger; `ended`, or an error if that takes too long.

        Only the waiting is awaited: cancelling it changes nothing of the settlement.
        """
        receipt = self.receipt
        if receipt is None:
            raise AssertionError("committed before settle")
        if receipt.committed.done():
            self.world.metrics.observe_commit_wait(0.0)
        else:
            began = perf_counter()
            try:
                await self._wait(receipt.committed)
            finally:
                # The loop's clock ticks in milliseconds; this wait is tens of microseconds.
                self.world.metrics.observe_commit_wait(perf_counter() - began)
        if receipt.committed.done() and receipt.committed.exception() is None:
            return ended
        error = RelayError(
            ErrorCode.SETTLEMENT_UNAVAILABLE,
            "The answer could not be billed in time; it is incomplete.",
        )
        return Ended(Verdict.INTERNAL_ERROR, error)

    async def _wait(self, commit: Durable) -> None:
        """Wait for a commit, at most `commit_wait_ms_max`, which `tick` looks after."""
        waiter = self._commit_waiter = self.world.loop.create_future()
        self._commit_since = self.world.loop.time()
        commit.add_done_callback(lambda _: None if waiter.done() else waiter.set_result(None))
        try:
            await waiter
        finally:
            self._commit_waiter = None

    def _tick_commit(self, now: float) -> None:
        waiter, bounds = self._commit_waiter, self.world.bounds
        if waiter is None or waiter.done():
            return
        if (now - self._commit_since) * 1000 >= bounds.commit_wait_ms_max:
            waiter.set_result(None)
        elif now >= self._heartbeat_at and self.client.begun and self._heartbeat_safe:
            self._heartbeat_at = now + bounds.heartbeat_ms / 1000
            self.client.write(self.client.heartbeat())

    def last(self) -> bytes:
        """Return what was held for the commit: the terminal frame, or the whole plain body."""
        attempt = self.attempt
        if attempt is None:
            raise AssertionError("nothing was held")
        if attempt.translation is None:
            stream = self.offer.request.stream
            return attempt.exchange.terminal if stream else attempt.exchange.body
        return attempt.translation.last
