"""Kept answers on the request path: who may have which, what it costs, and how it is given again.

Rules: nothing is looked up or kept unless the key or the request says so. A kept answer is given
among the calls of one key, unless the operator's group says of one user or of the group; and only
to the very same request: body, endpoint, form, and every header that would go upstream. It is a
call like any other: admitted, billed, committed before its last byte leaves; its price is the one
in force now for the usage it had then, at the group's `cache_multiplier`, so its charge recomputes
from its row, whose source is `cached`. This module must not know how answers are made.
"""

import asyncio
import dataclasses
from collections.abc import Iterable, Iterator
from time import perf_counter

from msgspec import Struct
from msgspec.structs import replace

from proxy.core import pricing
from proxy.core.asks import Asks, CacheMode
from proxy.core.cache import Entry, Limits, fingerprint
from proxy.core.entities import CacheScope, Group, Key, Price, Usage, UsageSource, Verdict, Wire
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.money import MILLION, ceil_div, format_usd
from proxy.core.telling import Cost, UsageEvents, tell_plain
from proxy.edge.downstream import Downstream
from proxy.edge.metrics import CallFigures
from proxy.edge.offer import Offer, limit_cost
from proxy.edge.telling import cost_rows
from proxy.edge.world import World
from proxy.storage.ports import Admission, Closing, Durable, Opening, Receipt


class Ticket(Struct, frozen=True):
    """One request's place in the cache: what was found there, and how long to keep what comes."""

    digest: bytes
    seconds: int
    entry: Entry | None


def limits(world: World) -> Limits:
    """How much this process keeps."""
    bounds = world.bounds
    return Limits(bounds.cache_bytes_max, bounds.cache_entry_bytes_max, bounds.cache_entries_max)


def look_up(
    world: World,
    client: Downstream,
    key: Key,
    group: Group,
    asks: Asks,
    body: Iterable[bytes],
) -> Ticket | None:
    """Return a request's place in the cache; None when it is to have none.

    `asks` has the key's own wish in it; `body` is what would go upstream, but for the model's name.
    """
    if asks.cache in {None, CacheMode.OFF} or not world.bounds.cache_bytes_max:
        return None
    if client.as_array:
        return None  # what is kept of a stream are its events
    digest = fingerprint(_parts(client, key, group, asks, body))
    entry = None
    if asks.cache is CacheMode.USE:
        entry = world.cache.get(digest, world.now())
    return Ticket(digest, asks.cache_seconds or world.bounds.cache_seconds, entry)


def _parts(
    client: Downstream, key: Key, group: Group, asks: Asks, body: Iterable[bytes]
) -> Iterator[bytes]:
    scope = group.cache_scope
    owner = {CacheScope.KEY: key.id, CacheScope.USER: key.user_id, CacheScope.GROUP: 0}[scope]
    yield f"{scope} {owner} {group.name}".encode()
    visit = client.visit
    yield f"{client.endpoint} {client.dialect} {visit.wire} {visit.deployment}".encode()
    yield visit.model.encode()
    yield b"usage" if asks.usage else b""
    for name, value in visit.forwarded:
        yield f"{name}: {value}".encode()
    yield from body


def as_priced(offer: Offer, asks: Asks, ticket: Ticket | None) -> Offer:
    """Return what a call may cost at most, given what its caller will pay and what is kept.

    Raises RelayError MAX_COST_EXCEEDED.
    """
    entry = None if ticket is None else ticket.entry
    if entry is None:
        return offer if asks.cost_max is None else limit_cost(offer, asks.cost_max)
    multiplier, cost = price_again(offer.group, offer.price, entry, asks.cost_max)
    return replace(
        offer,
        group=dataclasses.replace(offer.group, multiplier=multiplier),
        hold=cost,
        ceiling=cost,
        tokens=entry.usage.input_total + entry.usage.output,
        cost_max=asks.cost_max,
    )


def price_again(group: Group, price: Price, entry: Entry, cost_max: int | None) -> tuple[int, int]:
    """Return the multiplier of a call that a kept answer is given to, and its cost.

    Raises RelayError MAX_COST_EXCEEDED.
    """
    multiplier = ceil_div(group.multiplier * group.cache_multiplier, MILLION)
    cost = pricing.charge(entry.usage, price, multiplier)
    if cost_max is not None and cost > cost_max:
        raise RelayError(
            ErrorCode.MAX_COST_EXCEEDED,
            f"This answer costs {format_usd(cost)} USD, above the {format_usd(cost_max)} USD of "
            "`x-max-cost`. Raise the limit.",
            param="x-max-cost",
        )
    return multiplier, cost


async def give_again(
    world: World,
    client: Downstream,
    opening: Opening,
    admission: Admission,
    entry: Entry,
    wire: Wire | None,
) -> None:
    """Carry an admitted call to its end with a kept answer; `wire`: its usage tells the cost."""
    giving = _Giving(world, client, opening, entry)
    client.connection.listener = giving
    try:
        await giving.serve(admission, wire)
    finally:
        client.connection.listener = None
        giving.settle(Verdict.INTERNAL_ERROR)


class _Giving:
    """One kept answer on its way: who reserved settles, exactly once."""

    def __init__(self, world: World, client: Downstream, opening: Opening, entry: Entry) -> None:
        self._world = world
        self._client = client
        self._opening = opening
        self._entry = entry
        self._receipt: Receipt | None = None
        self._unsent = 0
        self._began = perf_counter()

    async def serve(self, admission: Admission, wire: Wire | None) -> None:
        """See `give_again`."""
        client, entry, cost = self._client, self._entry, self._opening.hold
        if not await self._durable(admission.committed):
            self.settle(Verdict.INTERNAL_ERROR)
            message = "The ledger is unavailable."
            client.fail(RelayError(ErrorCode.SERVICE_UNAVAILABLE, message, retry_after=2))
            return
        if client.gone:
            self.settle(Verdict.CLIENT_GONE)
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
            client.begin_plain(last, entry.content_type)
        if not await self._handed_over():
            self.settle(Verdict.CLIENT_GONE)
            client.abort()
            return
        receipt = self.settle(Verdict.COMPLETE)
        if not await self._durable(receipt.committed):
            self._withhold()
            return
        if events is not None and entry.stream:
            last = events.end(last, Cost(receipt.charged, receipt.balance_after, entry.usage))
        client.complete(last, stream=entry.stream)

    def settle(self, verdict: Verdict) -> Receipt:
        """Close the call; later calls change nothing and return the receipt."""
        if self._receipt is None:
            closing = self._closing(verdict)
            self._receipt = self._world.billing.settle(closing)
            self._world.metrics.observe_call(
                CallFigures(
                    endpoint=self._opening.endpoint,
                    model=self._opening.model,
                    code=closing.status,
                    error=closing.error_code,
                    duration=perf_counter() - self._began,
                )
            )
        return self._receipt

    def _closing(self, verdict: Verdict) -> Closing:
        """The bill: all of the answer, or nothing where nothing of it left."""
        entry, begun = self._entry, self._client.begun
        size = len(entry.body) + len(entry.last)
        failed = verdict is Verdict.INTERNAL_ERROR
        # What we broke off ourselves is nobody's to pay.
        left = self._unsent < len(entry.body) - (not entry.stream)
        delivered = begun and left and not failed
        return Closing(
            call_id=self._opening.call_id,
            verdict=verdict,
            usage=entry.usage if delivered else Usage(calls=0),
            source=UsageSource.CACHED if delivered else UsageSource.NONE,
            charge=self._opening.hold if delivered else 0,
            forgiven=0,
            delivered_bytes=size if delivered and self._opening.hold else 0,
            delivered_events=0,
            status=200 if begun else 499 if verdict is Verdict.CLIENT_GONE else 503,
            error_code=ErrorCode.SERVICE_UNAVAILABLE.code if failed else None,
            finish_reason=entry.finish_reason,
            channel_id=None,
            upstream_model=entry.upstream_model,
            attempts=(),
            ended_at=self._world.now(),
            ttft_ms=None,
        )

    async def _handed_over(self) -> bool:
        """Whether the kernel has all of the answer but its end."""
        connection = self._client.connection
        try:
            async with asyncio.timeout(self._world.bounds.write_stall_seconds_max):
                if not connection.is_drained():
                    await connection.drained()
        except TimeoutError:
            self._unsent = connection.unsent_bytes()
            return False
        return not connection.lost

    async def _durable(self, commit: Durable) -> bool:
        """Wait for a commit, at most `commit_wait_ms_max`; whether it happened."""
        if not commit.done():
            waiter = self._world.loop.create_future()
            commit.add_done_callback(lambda _: None if waiter.done() else waiter.set_result(None))
            try:
                async with asyncio.timeout(self._world.bounds.commit_wait_ms_max / 1000):
                    await waiter
            except TimeoutError:
                return False
        return commit.exception() is None

    def _withhold(self) -> None:
        """The charge could not be posted in time: the answer stays without its end."""
        if self._client.owes_last_byte:
            self._client.abort()
            return
        message = "The answer could not be billed in time; it is incomplete."
        self._client.fail(RelayError(ErrorCode.SETTLEMENT_UNAVAILABLE, message))

    # What the client's connection tells

    def client_paused(self) -> None:
        """Nothing to stop: all of it is written."""

    def client_resumed(self) -> None:
        """Nothing to go on with."""

    def client_lost(self, unsent_bytes: int) -> None:
        """Remember what had not left."""
        self._unsent = unsent_bytes
