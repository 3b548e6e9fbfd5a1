"""One admitted call while it is open, whatever it asks for: its client, its deadlines, its end.

Rules: who reserved settles, exactly once, by one synchronous call (`settle`). The call hears of
its client (paused, resumed, lost) and of time passing, and acts on the attempt in flight; it never
chooses a channel (edge/dispatch.py) nor frames bytes. What a conversation has beyond that is in
edge/call.py. Time is loop time. This module must not know SQL, HTTP heads or what is metered.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from enum import Enum, auto
from time import perf_counter
from typing import Generic

from proxy.core.bill import Delivered
from proxy.core.entities import Attempt as AttemptRecord
from proxy.core.entities import Channel, ChannelKey, Usage, Verdict
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.exchange import UNLIMITED, Phase
from proxy.edge import settlement
from proxy.edge.attempt import Attempt, AttemptEnd, Engine, EngineT_co
from proxy.edge.downstream import Downstream
from proxy.edge.offer import Priced
from proxy.edge.settlement import Ended
from proxy.edge.upstream import Origin
from proxy.edge.world import World
from proxy.storage.ports import Admission, Closing, Durable, Opening, Receipt

MARK_SECONDS = 1.0
_CONTENT = Phase.CONTENT  # a member of an enum costs ten globals on Python 3.11
QUIET_SILENCE_MS = 4_000
"""Where a shorter silence means something, a second without a look would be too long."""


class Notice(Enum):
    """Why we cut a call short."""

    REVOKED = auto()
    SHUTDOWN = auto()
    UNBILLED = auto()
    BALANCE = auto()
    MAX_COST = auto()


class OpenCall(ABC, Generic[EngineT_co]):
    """See the module docstring. `flows`: the answer is passed on as it comes."""

    # More than the thirty names that instances of a class can share a dictionary's keys for.
    __slots__ = (
        "_commit_since", "_commit_waiter", "_connecting", "_drain_until", "_heartbeat_at",
        "_marked", "_marked_at", "_paused_at", "_progress", "_progress_at",
        "admission", "attempt", "channel", "client", "delivered", "first_byte_at", "flows", "gone",
        "heartbeat_due", "notice", "offer", "omits_usage", "opening", "pinned", "quiet_until",
        "receipt", "records", "retry_refused", "shown", "started", "upstream_model",
        "upstream_seconds", "world",
    )  # fmt: skip

    def __init__(
        self,
        world: World,
        client: Downstream,
        offer: Priced,
        opening: Opening,
        admission: Admission,
        flows: bool,  # noqa: FBT001 - by position, as all arguments of every call's objects
    ) -> None:
        now = world.loop.time()
        self.world = world
        self.client = client
        self.offer: Priced = offer
        self.opening = opening
        self.admission = admission
        self.flows = flows
        self.omits_usage = False
        """Whether the channel in use is not to be asked for a stream's usage."""
        self.pinned: int | None = None
        """The one key of its channel that can serve the call; None: any."""
        self.attempt: Attempt[EngineT_co] | None = None
        self.channel: Channel | None = None
        self.upstream_model: str | None = None
        """The name by which the channel knows the model."""
        self.notice: Notice | None = None
        self.gone = False
        self.shown = False
        self.heartbeat_due = False
        self.retry_refused = False
        self.receipt: Receipt | None = None
        self.records: list[AttemptRecord] = []
        self.delivered: Delivered | None = None
        self.started = now
        self.first_byte_at: float | None = None
        self.upstream_seconds = 0.0
        self._connecting: asyncio.Task[asyncio.Transport] | None = None
        self._progress = -1
        self._progress_at = now
        self.quiet_until = 0.0
        """A stream that flows is not looked at before this; 0.0: it was not seen to flow since
        something happened that may have given the call another deadline."""
        self._marked = 0
        self._marked_at = now
        self._paused_at: float | None = None
        self._drain_until: float | None = None
        self._heartbeat_at = now + world.bounds.heartbeat_first_ms / 1000
        self._commit_waiter: asyncio.Future[None] | None = None
        self._commit_since = 0.0

    def enter(self) -> None:
        """Be known to the client's connection, the sweep and the world until `leave`."""
        world, connection = self.world, self.client.connection
        world.calls.add(self)
        world.sweep.add(self)
        connection.listener = self
        if connection.lost:
            self.gone = True

    def leave(self) -> None:
        """The call has ended: it is settled, if it was not, and nobody tells it anything more."""
        try:
            if self.receipt is None:
                # Plain and total: nothing to cancel, nothing to raise.
                self.settle(settlement.INTERNAL_ERROR)
        finally:
            self.client.connection.listener = None
            self.world.sweep.remove(self)
            self.world.calls.discard(self)
            # Call and attempt know each other: without this only the collector would free them.
            self.attempt = None

    @property
    def abandoned(self) -> bool:
        """Whether the client has left or we cut the call short: no use in trying on."""
        return self.gone or self.notice is not None

    # What differs from one kind of call to the other

    @abstractmethod
    def begin_attempt(self, channel: Channel, now: float) -> Attempt[EngineT_co]:
        """Make the attempt for `channel`; the caller connects it."""

    @abstractmethod
    def upstream_request(self, channel: Channel, key: ChannelKey) -> tuple[Origin, bytes]:
        """Return where the attempt in flight goes and what it sends. Raises RelayError 400.

        Of a call that uploads only the head, but for its length: `upload` sends it.
        """

    uploads = False
    """Whether the body may be too large for one write."""

    def upload(self, transport: asyncio.Transport, head: bytes) -> None:  # noqa: ARG002 - for those that do
        """Send the request with a body that may be too large for one write."""
        raise AssertionError("the body was sent with its head")

    def prepare(self) -> None:
        """Do what can be done while the answer is waited for, which has been asked for."""

    def refuses(self) -> bool:
        """Whether an answer that is whole is of no use after all; it is a failure then."""
        return False

    @abstractmethod
    def show(self) -> None:
        """The content point: send what is there and let the rest flow by itself."""

    @abstractmethod
    def last(self) -> bytes:
        """Return what was held for the commit."""

    def in_band(self, error: RelayError) -> bytes | None:  # noqa: ARG002 - for those that have one
        """Return the last event of an answer that fails, where its form has one of its own."""
        return None

    @abstractmethod
    def _reported(self) -> Usage:
        """Return what the provider reported in an attempt."""

    @abstractmethod
    def _measured(self, unsent_bytes: int) -> Delivered:
        """Count what left this machine, but for the newest `unsent_bytes`."""

    @abstractmethod
    def _drain_seconds(self) -> float:
        """How long to read on for the provider's figure once nobody listens."""

    @abstractmethod
    def _mark(self) -> None:
        """Tell the keeper what this call costs if every process dies now."""

    @abstractmethod
    def _closing(self, ended: Ended) -> Closing:
        """Return everything the ledger records of this call, which has just ended."""

    @property
    def _heartbeat_safe(self) -> bool:
        """Whether a heartbeat may stand where the answer is."""
        return False

    # The attempt in flight

    def _begun(
        self, attempt: Attempt[EngineT_co], channel: Channel, now: float
    ) -> Attempt[EngineT_co]:
        """Take `attempt` for the one in flight."""
        self.attempt = attempt
        self.channel = channel
        self.upstream_model = channel.models[self.offer.model.name]
        self._progress = -1
        self._progress_at = now
        self.quiet_until = 0.0
        return attempt

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

    def name_channel(self) -> None:
        """Say which upstream and which of its models answers: never a silent substitution.

        And what of the request a translation could not say.
        """
        channel, model, attempt = self.channel, self.upstream_model, self.attempt
        if channel is None or model is None or attempt is None:
            raise AssertionError("an answer without an attempt")
        self.client.name_upstream(channel.name, model)
        if attempt.translation is not None:
            self.client.add_headers(attempt.translation.header())

    def end_attempt(self, key: ChannelKey, outcome: str, began: float, ended: float) -> None:
        """Record the attempt in flight, served or failed: what an invoice is reconciled with."""
        attempt, seconds = self.attempt, ended - began
        if attempt is None:
            raise AssertionError("no attempt to end")
        if attempt.first_byte_at is not None:
            self.upstream_seconds += attempt.first_byte_at - began
        self.records.append(
            settlement.record(self, attempt.exchange, self._reported(), key, outcome, seconds)
        )

    def client_paused(self) -> None:
        """Stop reading the upstream until the client has read."""
        self._paused_at = self.world.loop.time()
        self.quiet_until = 0.0
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
            self.delivered = self._measured(unsent_bytes)
        seconds = 0.0 if attempt.over else self._drain_seconds()
        if seconds <= 0:
            attempt.stop(AttemptEnd.CLIENT_GONE)
            return
        self._drain_until = self.world.loop.time() + seconds
        self.quiet_until = 0.0
        attempt.detach()
        attempt.allow(UNLIMITED)

    # Time

    def tick(self, now: float) -> bool:
        """Look at every deadline of this call, and mark its progress once a second.

        A stream that flows has neither before its next mark, so it is not looked at till then;
        whatever gives it another deadline ends that (`quiet_until`). True: it was marked.
        """
        if self.quiet_until and self._flows_on(now):
            return True
        self.quiet_until = 0.0
        return self._look(now)

    def _flows_on(self, now: float) -> bool:
        """Mark a stream that was seen to flow, if it still does; False, and nothing, if not.

        As at nearly every mark: nothing has happened since that gives the call a deadline, so that
        a silence and an end are all there is to look for.
        """
        attempt = self.attempt
        if attempt is None or attempt.transport is None or attempt.end is not None:
            return False
        exchange = attempt.exchange
        progress = exchange.progress()
        if progress == self._progress or exchange.phase is not _CONTENT:
            return False
        self._progress = self._marked = progress
        self._progress_at = self._marked_at = now
        self._mark()
        # The bounds may be others since a reload; the channel is still the attempt's.
        heard = self.world.bounds.heartbeat_ms >= QUIET_SILENCE_MS
        self.quiet_until = now + MARK_SECONDS if heard else 0.0
        return True

    def _look(self, now: float) -> bool:
        """Look at every deadline, whatever the call is doing; say whether it was marked."""
        if self._paused_at is not None and self._client_stalled(self._paused_at, now):
            self.client.abort()
            return False
        if self._commit_waiter is not None:
            self._tick_commit(now)
            return False
        attempt = self.attempt
        if attempt is None or attempt.transport is None or attempt.over:
            return False
        if self._drain_until is not None:
            if now >= self._drain_until:
                attempt.stop(AttemptEnd.CLIENT_GONE)
            return False
        progress = attempt.exchange.progress()
        moved = progress != self._progress
        if moved:
            self._progress = progress
            self._progress_at = now
        if self._paused_at is not None:
            return False
        flows = moved and attempt.flowing
        if not flows:
            attempt.look(now)
            self._check_silence(attempt, now)
        marks = now - self._marked_at >= MARK_SECONDS and progress != self._marked
        if marks:
            self._marked_at, self._marked = now, progress
            self._mark()
        if flows:
            self._be_quiet()
        return marks

    def _be_quiet(self) -> None:
        """Wait for the next mark, unless a silence that begins now would be noticed late."""
        if self.channel is None:
            raise AssertionError("an attempt without a channel")
        if (
            self.world.bounds.heartbeat_ms >= QUIET_SILENCE_MS
            and self.channel.idle_seconds_max * 1000 >= QUIET_SILENCE_MS
        ):
            self.quiet_until = self._marked_at + MARK_SECONDS

    def _client_stalled(self, since: float, now: float) -> bool:
        return now - since >= self.world.bounds.write_stall_seconds_max

    def _check_silence(self, attempt: Attempt[EngineT_co], now: float) -> None:
        channel, bounds, client = self.channel, self.world.bounds, self.client
        if channel is None:
            raise AssertionError("an attempt without a channel")
        silent = now - self._progress_at
        recent = silent * 1000 < bounds.heartbeat_ms and silent < channel.idle_seconds_max
        if attempt.flowing and recent:
            return
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

    def cut(self, notice: Notice) -> None:
        """End the call early for a reason of ours; the caller is told in-band."""
        if self.notice is None:
            self.notice = notice
        if self._connecting is not None:
            self._connecting.cancel()
        if self.attempt is not None:
            self.attempt.stop(AttemptEnd.CUT)

    def is_reserved(self) -> bool:
        """Whether the open call is durable already; if not, `reserved` waits for it."""
        committed = self.admission.committed
        return committed is self.world.durable or self._is_durable(committed)

    async def reserved(self) -> None:
        """Wait until the open call is durable: before it not one byte goes to the client.

        Raises RelayError 503 when the ledger cannot be written, or not in time.
        """
        committed = self.admission.committed
        if not committed.done():
            await self._wait(committed)
        if not self.is_reserved():
            raise RelayError(
                ErrorCode.SERVICE_UNAVAILABLE, "The ledger is unavailable.", retry_after=2
            )

    def hand_over(self, ended: Ended) -> Ended:
        """Write all of the answer but its end; `ended`, or the end that this comes to.

        The open call is durable. What is still in this process when it is killed never arrives,
        so it is not billed before the kernel has it.
        """
        return settlement.CLIENT_GONE if self.gone else ended

    def settle(self, ended: Ended) -> Receipt:
        """Close the call, exactly once; later calls change nothing and return the receipt."""
        if self.receipt is None:
            closing = self._closing(ended)
            self.receipt = self.world.billing.settle(closing)
            settlement.observe(self, closing)
        return self.receipt

    def is_committed(self) -> bool:
        """Whether the charge is in the ledger already; if not, `committed` waits for it."""
        if self.receipt is None:
            raise AssertionError("committed before settle")
        commit, world = self.receipt.committed, self.world
        if commit is not world.durable and not self._is_durable(commit):
            return False
        world.charges_at_once = True
        world.metrics.commits_at_once += 1
        return True

    def _is_durable(self, commit: Durable) -> bool:
        """Whether a commit has happened: for good, and a redo log gives all calls the same."""
        durable = commit.done() and commit.exception() is None
        if durable:
            self.world.durable = commit
        return durable

    async def committed(self, ended: Ended) -> Ended:
        """Wait until the charge is in the ledger; `ended`, or an error if that takes too long.

        Only the waiting is awaited: cancelling it changes nothing of the settlement.
        """
        receipt = self.receipt
        if receipt is None:
            raise AssertionError("committed before settle")
        began = perf_counter()
        try:
            if not receipt.committed.done():
                self.world.charges_at_once = False
                self.client.push()
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
        self.quiet_until = 0.0
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


AnyCall = OpenCall[Engine]
