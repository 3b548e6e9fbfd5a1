"""Answers that a provider keeps (Responses): fetched, cancelled, deleted, gone on from.

Rules: only what the same user's calls made, and only where it was made: the channel and the key
are those that the ledger has with the call, and nothing is tried elsewhere. To fetch is free, so
nothing is held, but it is a request, and counts towards the limits of requests. What is fetched
passes as it came. This module must not know SQL.

Sources: OpenAI's `GET`, `DELETE /responses/{id}`, `POST /responses/{id}/cancel` and
`GET /responses/{id}/input_items`; WIRE.md section 3.
"""

import asyncio
from typing import Final
from urllib.parse import parse_qsl, urlencode

from proxy.core.catalog import Catalog
from proxy.core.entities import Channel, ChannelKey, Key, Wire
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.exchange import Exchange, Phase
from proxy.core.plain_exchange import PlainExchange
from proxy.core.requests import CallRequest
from proxy.core.routing import ANONYMOUS_KEY
from proxy.core.urls import Endpoint, answer_id
from proxy.edge import refusals
from proxy.edge.attempt import Attempt, AttemptEnd, PlainAttempt
from proxy.edge.downstream import Downstream
from proxy.edge.engines import PLAIN
from proxy.edge.heads import item_head
from proxy.edge.metrics import CallFigures
from proxy.edge.upstream import ConnectError, Origin
from proxy.edge.world import World
from proxy.storage.ports import KeeperUnavailableError, KeptAnswer

PASSED_QUERY: Final = frozenset({"include", "include[]", "after", "before", "limit", "order"})
"""What of a query goes on; a stream cannot be taken up again, because none goes on unbilled."""
BODY_BYTES_MAX: Final = 65_536
"""Of a request to cancel, whose body says nothing."""


async def trace(
    world: World, catalog: Catalog, key: Key, request: CallRequest
) -> KeptAnswer | None:
    """Find where the answer is kept that a call goes on from; None if it goes on from none.

    Where only a translation serves the model it is refused later, as everything that cannot be
    carried over. Raises RelayError 400, 503.
    """
    name = None if request.kept is None else request.kept.previous
    if name is None or not catalog.channels_for(key.group, request.model, Wire.RESPONSES):
        return None
    found = await _find(world, key, name)
    if found is None:
        raise RelayError(
            ErrorCode.PREVIOUS_RESPONSE_NOT_FOUND,
            "No response of yours has this id, or it is no longer known here; "
            "send the whole conversation as `input`.",
            param="previous_response_id",
        )
    return found


async def count(world: World, key: Key) -> None:
    """Charge the key's limits with a request about a kept answer. Raises RelayError 429, 503."""
    try:
        refusal = await world.billing.count(key.id)
    except KeeperUnavailableError:
        raise _no_ledger() from None
    if refusal is not None:
        raise refusals.limited(refusal)


async def pass_on(world: World, client: Downstream, key: Key) -> None:
    """Answer a request about one kept answer. Raises RelayError."""
    endpoint = client.visit.endpoint
    if endpoint is None:
        raise AssertionError("a path without an endpoint")
    name = answer_id(client.head.path)
    await client.read_body(BODY_BYTES_MAX, world.bounds.body_seconds_max)
    query = _query(client.head.query_string)
    found = await _find(world, key, name)
    channel = None if found is None else world.catalog.channels.get(found.channel_id)
    if found is None or channel is None or not channel.enabled:
        raise RelayError(
            ErrorCode.RESPONSE_NOT_FOUND,
            "No response of yours has this id, or its provider does not keep it any more. Kept are "
            "answers of channels that serve /v1/responses themselves, unless `store` is false.",
        )
    secret = _key_of(channel, found.channel_key_id)
    model = channel.models.get(found.model, found.model)
    origin, head = item_head(
        world, channel, secret, endpoint, model, client.head.method, name, query
    )
    exchange = await _ask(world, channel, origin, head)
    client.name_upstream(channel.name, model)
    world.metrics.observe_call(CallFigures(endpoint=client.endpoint))
    client.answer(200, exchange.body)


class _Owner:
    """Nothing is held for what is fetched, so that nothing runs out."""

    def credit_needed(self, *, at_edge: bool) -> None:
        raise AssertionError(f"credit for what is free: {at_edge}")


async def _find(world: World, key: Key, name: str) -> KeptAnswer | None:
    try:
        return await world.records.find_answer(key.user_id, name)
    except KeeperUnavailableError:
        raise _no_ledger() from None


def _no_ledger() -> RelayError:
    return RelayError(ErrorCode.SERVICE_UNAVAILABLE, "The ledger is unavailable.", retry_after=1)


def _query(text: str) -> str:
    """What of the caller's query goes on. Raises RelayError 400."""
    fields = parse_qsl(text, keep_blank_values=True)
    if ("stream", "true") in fields:
        raise RelayError(
            ErrorCode.INVALID_REQUEST,
            "`stream` is not supported here: a stream that broke off is not taken up again. "
            "Fetch the response without it.",
            param="stream",
        )
    return urlencode([(name, value) for name, value in fields if name in PASSED_QUERY])


def _key_of(channel: Channel, key_id: int) -> ChannelKey:
    """The key that made the answer; another of the same channel where that one was replaced."""
    keys = channel.keys or (ANONYMOUS_KEY,)
    return next((key for key in keys if key.id == key_id), keys[0])


async def _ask(world: World, channel: Channel, origin: Origin, head: bytes) -> Exchange:
    """Send one request, once more where a kept connection was stale; the whole good answer.

    Raises RelayError.
    """
    transport = world.pool.take(origin, world.loop.time())
    while True:
        reused = transport is not None
        exchange = PlainExchange(PLAIN[Wire.RESPONSES])
        attempt = PlainAttempt(world.loop, _Owner(), exchange, low_water=0)
        try:
            if transport is None:
                transport = await world.pool.connect(origin, channel.connect_seconds_max)
            async with asyncio.timeout(channel.first_byte_seconds_max):
                attempt.send(transport, head)
                while (change := attempt.changed()) is not None:
                    await change
        except ConnectError:
            raise refusals.unavailable() from None
        except TimeoutError:
            attempt.stop(AttemptEnd.FIRST_BYTE_TIMEOUT)
        finally:
            attempt.release(world.pool, origin, world.loop.time())
        if reused and attempt.silent and attempt.end is AttemptEnd.LOST:
            transport = None
            continue
        return _answered(world, channel, attempt)


def _answered(world: World, channel: Channel, attempt: Attempt[Exchange]) -> Exchange:
    exchange = attempt.exchange
    if exchange.phase is Phase.TERMINAL:
        return exchange
    if exchange.failure is not None:
        raise refusals.failed(exchange.failure, channel, channel.dialect, world.now())
    if attempt.end is None:
        raise AssertionError("an attempt ended without an end")
    raise refusals.ended(attempt.end)


KEPT_ENDPOINTS: Final = (
    Endpoint.RESPONSE,
    Endpoint.RESPONSE_CANCEL,
    Endpoint.RESPONSE_INPUT_ITEMS,
)
"""What is asked of an answer that is kept."""
