"""Kept answers on the request path: who may have which, and what it costs.

Rules: nothing is looked up or kept unless the key or the request says so. A kept answer is given
among the calls of one key, unless the operator's group says of one user or of the group; and only
to the very same request: body, endpoint, form, and every header that would go upstream. Its price
is the one in force now for the usage it had then, at the group's `cache_multiplier`. This module
must not know how answers are made, nor how one is given again (edge/replay.py).
"""

import dataclasses
from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from proxy.core import pricing
from proxy.core.asks import Asks, CacheMode
from proxy.core.cache import Entry, Limits, fingerprint
from proxy.core.entities import CacheScope, Group, Key, Price
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.money import MILLION, ceil_div, format_usd
from proxy.edge.downstream import Downstream
from proxy.edge.offer import Offer, limit_cost
from proxy.edge.world import World


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
        rates=None,
        line=None,
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
