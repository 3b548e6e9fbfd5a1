"""A kept answer on its way to one more caller.

Rules: it is a call like any other: admitted, billed, committed before its last byte leaves, waited
for by whoever drains, and cut when its key or this process goes. Its charge recomputes from its
row, whose source is `cached`. What we break off ourselves is not charged. This module must not
know who may have which answer, nor what it costs (edge/cache.py).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

from proxy.core.cache import Entry
from proxy.core.entities import Usage, UsageSource, Verdict, Wire
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.response_events import ANSWER_ID_CHARS_MAX, response_event
from proxy.core.sse import EventSplitter, fields
from proxy.core.telling import Cost, UsageEvents, tell_plain
from proxy.edge import settlement
from proxy.edge.dispatch import cut_for
from proxy.edge.downstream import Downstream
from proxy.edge.metrics import CallFigures
from proxy.edge.open_call import Notice
from proxy.edge.settlement import Ended
from proxy.edge.telling import cost_rows
from proxy.edge.translation import failed_natively
from proxy.edge.world import World
from proxy.storage.ports import Admission, Closing, Durable, Opening, Receipt


async def give_again(
    world: World,
    client: Downstream,
    opening: Opening,
    admission: Admission,
    entry: Entry,
    wire: Wire | None,
) -> None:
    """Carry an admitted call to its end with a kept answer; `wire`: its usage tells the cost."""
    replay = Replay(world, client, opening, entry)
    client.connection.listener = replay
    world.replays.add(replay)
    try:
        await replay.serve(admission, wire)
    finally:
        client.connection.listener = None
        world.replays.discard(replay)
        replay.settle(settlement.INTERNAL_ERROR)


class Replay:
    """One kept answer on its way: who reserved settles, exactly once.

    Until it is settled it can be cut, as any call: by its key's end, or this process's.
    """

    def __init__(self, world: World, client: Downstream, opening: Opening, entry: Entry) -> None:
        self.client = client
        self.opening = opening
        self._world = world
        self._entry = entry
        self._receipt: Receipt | None = None
        self._notice: Notice | None = None
        self._patience: asyncio.Timeout | None = None
        """Of what is waited for now."""
        self._unsent = 0
        self._began = perf_counter()

    async def serve(self, admission: Admission, wire: Wire | None) -> None:
        """See `give_again`."""
        client, entry, cost = self.client, self._entry, self.opening.hold
        durable = await self._durable(admission.committed)
        if self._broken_off():
            return
        if not durable:
            message = "The ledger is unavailable."
            error = RelayError(ErrorCode.SERVICE_UNAVAILABLE, message, retry_after=2)
            self.settle(Ended(Verdict.INTERNAL_ERROR, error))
            client.fail(error)
            return
        if client.gone:
            self.settle(settlement.CLIENT_GONE)
            return
        age = max(0, int(self._world.now() - entry.stored_at))
        client.add_headers([("x-sluice-cache", "hit"), ("age", str(age)), *entry.headers])
        client.name_upstream(entry.channel, entry.upstream_model)
        events = None if wire is None else UsageEvents(wire)
        told = Cost(cost, max(0, admission.balance - cost), entry.usage)
        last = entry.last
        if entry.stream:
            client.begin(entry.body if events is None else events.feed(entry.body))
        else:
            client.add_headers(cost_rows(Verdict.COMPLETE, cost, told.balance))
            last = entry.body if wire is None else tell_plain(entry.body, wire, told)
            client.begin_plain(last, entry.content_type, self._world.charges_at_once)
        taken = await self._handed_over()
        if self._broken_off():
            return
        if not taken:
            self.settle(settlement.CLIENT_GONE)
            client.abort()
            return
        receipt = self.settle(settlement.COMPLETE)
        if not await self._durable(receipt.committed):
            self._withhold()
            return
        if events is not None and entry.stream:
            last = events.end(last, Cost(receipt.charged, receipt.balance_after, entry.usage))
        if entry.stream:
            client.finish(last)
        else:
            client.complete()

    def cut(self, notice: Notice) -> None:
        """End it early for a reason of ours; what is settled goes to its end."""
        if self._receipt is not None or self._notice is not None:
            return
        self._notice = notice
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(self._world.loop.time())

    def settle(self, ended: Ended) -> Receipt:
        """Close the call; later calls change nothing and return the receipt."""
        if self._receipt is None:
            closing = self._closing(ended)
            self._receipt = self._world.billing.settle(closing)
            self._world.metrics.observe_call(
                CallFigures(
                    endpoint=self.opening.endpoint,
                    model=self.opening.model,
                    code=closing.status,
                    error=closing.error_code,
                    duration=perf_counter() - self._began,
                )
            )
        return self._receipt

    def _closing(self, ended: Ended) -> Closing:
        """The bill: all of the answer, or nothing where nothing of it left."""
        entry, begun, verdict = self._entry, self.client.begun, ended.verdict
        size = len(entry.body) + len(entry.last)
        # What we broke off ourselves is nobody's to pay.
        ours = verdict not in {Verdict.COMPLETE, Verdict.CLIENT_GONE}
        left = self._unsent < len(entry.body) - (not entry.stream)
        delivered = begun and left and not ours
        gone, error = verdict is Verdict.CLIENT_GONE, ended.error
        status = settlement.CLIENT_GONE_STATUS if gone else 500 if error is None else error.status
        return Closing(
            call_id=self.opening.call_id,
            verdict=verdict,
            usage=entry.usage if delivered else Usage(calls=0),
            source=UsageSource.CACHED if delivered else UsageSource.NONE,
            charge=self.opening.hold if delivered else 0,
            forgiven=0,
            delivered_bytes=size if delivered and self.opening.hold else 0,
            delivered_events=0,
            status=200 if begun else status,
            error_code=None if error is None else error.code.code,
            finish_reason=entry.finish_reason,
            channel_id=None,
            upstream_model=entry.upstream_model,
            attempts=(),
            ended_at=self._world.now(),
            ttft_ms=None,
        )

    def _broken_off(self) -> bool:
        """Whether we cut it short; then it is settled and its caller told."""
        if self._notice is None:
            return False
        client, ended = self.client, cut_for(self._notice)
        receipt = self.settle(ended)
        if ended.error is None or client.gone or client.owes_last_byte:
            client.abort()
            return True
        if not client.begun:
            client.add_headers(cost_rows(ended.verdict, receipt.charged))
        client.fail(ended.error, self._in_band(ended.error))
        return True

    def _in_band(self, error: RelayError) -> bytes | None:
        """Return the last event of a stream that fails, where its wire form has one of its own."""
        if self.client.visit.wire is not Wire.RESPONSES or not self.client.begun:
            return None
        shown = shown_events(self._entry.body)
        return failed_natively(error, self.opening.model, int(self._world.now()), shown)

    async def _handed_over(self) -> bool:
        """Whether the kernel has all of the answer but its end."""
        connection = self.client.connection
        if not connection.is_drained():
            try:
                async with self._at_most(self._world.bounds.write_stall_seconds_max):
                    await connection.drained()
            except TimeoutError:
                self._unsent = connection.unsent_bytes()
                return False
        return not connection.lost

    async def _durable(self, commit: Durable) -> bool:
        """Wait for a commit, at most `commit_wait_ms_max`; whether it happened."""
        if not commit.done():
            self.client.push()
            waiter = self._world.loop.create_future()
            commit.add_done_callback(lambda _: None if waiter.done() else waiter.set_result(None))
            try:
                async with self._at_most(self._world.bounds.commit_wait_ms_max / 1000):
                    await waiter
            except TimeoutError:
                return False
        return commit.exception() is None

    @asynccontextmanager
    async def _at_most(self, seconds: float) -> AsyncIterator[None]:
        """Raise TimeoutError after `seconds`, or once it is cut."""
        try:
            async with asyncio.timeout(seconds) as self._patience:
                yield
        finally:
            self._patience = None

    def _withhold(self) -> None:
        """The charge could not be posted in time: the answer stays without its end."""
        if self.client.owes_last_byte:
            self.client.abort()
            return
        message = "The answer could not be billed in time; it is incomplete."
        error = RelayError(ErrorCode.SETTLEMENT_UNAVAILABLE, message)
        self.client.fail(error, self._in_band(error))

    # What the client's connection tells

    def client_paused(self) -> None:
        """Nothing to stop: all of it is written."""

    def client_resumed(self) -> None:
        """Nothing to go on with."""

    def client_lost(self, unsent_bytes: int) -> None:
        """Remember what had not left."""
        self._unsent = unsent_bytes


def shown_events(body: bytes) -> tuple[str, int]:
    """Return the id of a kept Responses stream, "" where it has none, and how many events it is."""
    events = EventSplitter(len(body)).receive(body)
    event = None
    if events and (data := fields(events[0][0])[1]) is not None:
        event = response_event(data)
    named = None if event is None else event.response
    return "" if named is None else named.id[:ANSWER_ID_CHARS_MAX], len(events)
