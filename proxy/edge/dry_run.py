"""`x-dry-run`: what a call would hold and cost at most, who would serve it, what would refuse it.

Rules: the keeper is asked the questions an admission asks, and changes nothing; no upstream hears
of it; limits are announced as they stand. What refuses a call before the keeper is asked is
answered as it always is. Amounts are nano-USD, and USD as text. This module must not know how
calls are priced or admitted.
"""

from collections.abc import Callable

import orjson

from proxy.core.entities import Channel
from proxy.core.errors import ErrorCode, RelayError, error_body
from proxy.core.limits import rate_limit_headers
from proxy.core.money import format_usd
from proxy.core.routing import plan
from proxy.edge.downstream import Downstream
from proxy.edge.metrics import CallFigures
from proxy.edge.offer import Priced
from proxy.edge.prices import shown_price
from proxy.edge.world import World
from proxy.storage.ports import KeeperUnavailableError, Opening, Refusal


async def dry_run(
    world: World,
    client: Downstream,
    offer: Priced,
    opening: Opening,
    explain: Callable[[Refusal], RelayError],
    *,
    native: Callable[[Channel], bool] = lambda _: True,
    more: dict[str, object] | None = None,
) -> None:
    """Answer with everything that is known of a call before it is made. Raises RelayError 503.

    `explain` says a refusal in the caller's terms, `native` whether a channel takes the request
    as it is. `more` goes into the answer.
    """
    try:
        weighed = await world.billing.weigh(opening)
    except KeeperUnavailableError:
        raise RelayError(
            ErrorCode.SERVICE_UNAVAILABLE, "The service is starting; try again.", retry_after=2
        ) from None
    client.add_headers(rate_limit_headers(weighed.limits, world.now()))
    client.add_headers([("x-sluice-dry-run", "true")])
    refusal: dict[str, object] | None = None
    if weighed.refusal is not None:
        error = explain(weighed.refusal)
        body = error_body(error, client.dialect, client.request_id)
        refusal = {"status": error.status, "body": orjson.Fragment(body)}
    told = {
        "object": "dry_run",
        "model": opening.model,
        "group": opening.group,
        "admitted": refusal is None,
        "refusal": refusal,
        "hold_nano_usd": weighed.held,
        "hold_usd": format_usd(weighed.held),
        "ceiling_nano_usd": opening.ceiling,
        "ceiling_usd": format_usd(opening.ceiling),
        "balance_nano_usd": weighed.balance,
        "input_tokens_estimate": opening.input_estimate,
        **(more or {}),
        "price_version": opening.price_version,
        "multiplier_millionths": opening.multiplier,
        "price": shown_price(offer.price, opening.multiplier),
        "channels": _channels(world, offer, native),
    }
    world.metrics.observe_call(CallFigures(endpoint=client.endpoint, model=opening.model))
    client.answer(200, orjson.dumps(told))


def _channels(
    world: World, offer: Priced, native: Callable[[Channel], bool]
) -> list[dict[str, object]]:
    """Who would be tried, in one order as it is drawn for a call; who rests comes last."""
    now, health = world.loop.time(), world.health
    usable = plan(offer.channels, lambda one: health.usable(one, now), world.rng.random)
    resting = [one for one in offer.channels if one not in usable]
    return [
        {
            "name": channel.name,
            "upstream_model": channel.models[offer.model.name],
            "priority": channel.priority,
            "weight": channel.weight,
            "usable": channel in usable,
            "translated": not native(channel),
        }
        for channel in (*usable, *resting)
    ]
