"""The life of one call, top to bottom: who asks, what it may cost, who answers, what it cost.

Rules: one direction, each step returns a value to this file; an expected refusal is a
`RelayError`, told to the caller in one place. Who reserves settles: `serve` holds the call from
its admission to its receipt, whatever happens in between. This module must not know how bytes
are framed (core/exchange.py), how channels are chosen (edge/dispatch.py), nor SQL.
"""

from typing import Final

from proxy.core.asks import NOTHING
from proxy.core.catalog import Catalog
from proxy.core.deployments import with_model
from proxy.core.entities import Key, Verdict
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.limits import rate_limit_headers
from proxy.core.requests import parse_call
from proxy.core.telling import TELLABLE
from proxy.edge import settlement
from proxy.edge.array_call import ArrayCall
from proxy.edge.auth import identify, recognise
from proxy.edge.bursts import CALLS_MIN
from proxy.edge.cache import Ticket, as_priced, look_up
from proxy.edge.call import Call
from proxy.edge.dispatch import conclude, dispatch
from proxy.edge.downstream import Downstream
from proxy.edge.dry_run import dry_run
from proxy.edge.kept import trace
from proxy.edge.offer import Offer, Priced, make_offer, route_of
from proxy.edge.open_call import AnyCall
from proxy.edge.refusals import refused
from proxy.edge.replay import give_again
from proxy.edge.settlement import Ended
from proxy.edge.telling import as_asked, asked, cost_rows
from proxy.edge.told_call import ToldCall
from proxy.edge.translation import check, native
from proxy.edge.world import World
from proxy.storage.ports import Admission, KeeperUnavailableError, Opening

_COMPLETE: Final = Verdict.COMPLETE


async def relay(world: World, client: Downstream, call_id: int, now: float) -> None:
    """Answer one POST that is a call, come at `now` (Unix seconds).

    Raises nothing a caller could cause.
    """
    key: Key | None = None
    try:
        catalog = world.source.catalog
        visit, bounds = client.visit, world.bounds
        key = catalog.unbound.get(visit.digest) or authenticate(world, client, catalog)
        body = client.whole_body(bounds.body_bytes_max)
        if body is None:
            body = await client.read_body(bounds.body_bytes_max, bounds.body_seconds_max)
            now = world.now()
        if visit.deployment:
            body = with_model(body, visit.deployment)
        request = parse_call(body, client.dialect, visit.wire, visit.model, visit.streams)
        asks, ticket = NOTHING, None
        if visit.asking or key.cache_seconds is not None or "usage" in request.layout.members:
            asks = asked(client, key, request)
            if asks is not NOTHING:
                body, request = as_asked(body, request, asks)
        route = route_of(catalog, key, request)
        previous = None
        if request.kept is not None:
            previous = await trace(world, catalog, key, request)
            now = world.now()
        offer = make_offer(key, route, request, bounds.slice_tokens, previous)
        if asks is not NOTHING:
            ticket = look_up(world, client, key, offer.group, asks, (body,))
            offer = as_priced(offer, asks, ticket)
        if not offer.native:
            check(offer, body)
        opening = open_call(
            client, offer, call_id, request.stream, request.input_tokens_estimate, now
        )
        if asks.dry_run:
            await rehearse(world, client, offer, opening, ticket)
            return
        admission = decided(world, offer, opening)
        if admission is None:
            admission = await reserve(world, offer, opening)
    except RelayError as error:
        await refuse(world, client, key, error)
        return
    limits = admission.limits
    if limits.requests_limit is not None or limits.tokens_limit is not None:
        client.add_headers(rate_limit_headers(limits, world.now()))
    if offer.output_limit is not None:
        client.add_headers([("x-sluice-max-tokens", str(offer.output_limit))])
    told = asks.usage and request.wire in TELLABLE
    if visit.streams and client.as_array:
        await serve(ArrayCall(world, client, offer, opening, admission, body))
    elif ticket is None and not told:
        await serve(Call(world, client, offer, opening, admission, body))
    else:
        await serve_asked(
            ToldCall(world, client, offer, opening, admission, body, told=told, ticket=ticket)
        )


def authenticate(world: World, client: Downstream, catalog: Catalog) -> Key:
    """Say whose call this is. Raises RelayError 401, 403."""
    visit = client.visit
    if not visit.digest:
        visit.digest = identify(client.credentials, world.pepper)
    return recognise(visit.digest, catalog, world.now(), client)


def open_call(
    client: Downstream,
    offer: Priced,
    call_id: int,
    stream: bool,  # noqa: FBT001 - by position, as all arguments of what each call asks
    input_estimate: int,
    now: float,
) -> Opening:
    """Make the record that asks the keeper for admission, at `now` (Unix seconds)."""
    key, group = offer.key, offer.group
    # By position, as all long records of a call: names would cost five times as much.
    return Opening(
        call_id, key.id, key.user_id, client.endpoint, client.dialect, offer.model.name,
        group.name, stream, offer.price.version, group.multiplier, offer.hold, offer.ceiling,
        offer.tokens, input_estimate, now, client.visit.reference, offer.cost_max,
    )  # fmt: skip


async def rehearse(
    world: World, client: Downstream, offer: Offer, opening: Opening, ticket: Ticket | None
) -> None:
    """Say what the call would come to, and make none. Raises RelayError 503."""
    kept = None if ticket is None else "miss" if ticket.entry is None else "hit"
    await dry_run(
        world,
        client,
        offer,
        opening,
        lambda refusal: refused(refusal, offer, world.bounds.insufficient_quota_status),
        native=lambda channel: native(offer.request, channel),
        more={
            "output_tokens_max": offer.output_tokens_max,
            "max_tokens_lowered": offer.output_limit,
            "cache": kept,
        },
    )


def decided(world: World, offer: Priced, opening: Opening) -> Admission | None:
    """Charge the limits and hold the money, where nobody has to be waited for; else None.

    Raises RelayError 402, 429, 503.
    """
    if world.draining:
        raise RelayError(
            ErrorCode.SERVER_RESTARTING, "The server is restarting; try again.", retry_after=1
        )
    try:
        decision = world.billing.decide(opening)
    except KeeperUnavailableError:
        raise _starting() from None
    # Asked so because what a class is itself is seen at once; what it is not costs a search.
    if decision is None or isinstance(decision, Admission):
        return decision
    raise refused(decision, offer, world.bounds.insufficient_quota_status)


async def reserve(world: World, offer: Priced, opening: Opening) -> Admission:
    """Charge the limits and hold the money. Raises RelayError 402, 429, 503."""
    admission = decided(world, offer, opening)
    if admission is not None:
        return admission
    try:
        decision = await world.billing.admit(opening)
    except KeeperUnavailableError:
        raise _starting() from None
    if isinstance(decision, Admission):
        return decision
    raise refused(decision, offer, world.bounds.insufficient_quota_status)


def _starting() -> RelayError:
    message = "The service is starting; try again."
    return RelayError(ErrorCode.SERVICE_UNAVAILABLE, message, retry_after=2)


async def serve_asked(call: ToldCall) -> None:
    """Carry a call that was asked for more to its end: kept before, served, or kept after."""
    if call.kept is not None:
        wire = call.offer.request.wire if call.told else None
        await give_again(call.world, call.client, call.opening, call.admission, call.kept, wire)
        return
    await serve(call)
    call.keep()


async def serve(call: AnyCall) -> None:
    """Carry an admitted call to its end: dispatch, settle, commit, last byte."""
    client = call.client
    call.enter()
    try:
        try:
            ended = conclude(call, None if call.gone else await dispatch(call))
            if ended.verdict is _COMPLETE:
                if not call.is_reserved():
                    await call.reserved()
                ended = call.hand_over(ended)
            connection = client.connection
            if ended.verdict is _COMPLETE and not connection.is_drained():
                await connection.drained()
                if call.gone:
                    ended = settlement.CLIENT_GONE
        except RelayError as error:  # that the ledger fails is an end like any other
            ended = Ended(Verdict.INTERNAL_ERROR, error)
        if ended.verdict is _COMPLETE:
            call.settle(ended)
            if not call.is_committed():
                ended = await call.committed(ended)
        if ended.verdict is _COMPLETE:
            if call.flows:
                client.finish(call.last())
            elif len(call.world.calls) < CALLS_MIN:
                client.complete()
            else:
                client.complete_soon()
            return
        receipt = call.settle(ended)
        if ended.error is None or call.gone or client.owes_last_byte:
            client.abort()
        else:
            if not client.begun:  # nothing delivered, so nothing charged
                client.add_headers(cost_rows(ended.verdict, receipt.charged))
            client.fail(ended.error, call.in_band(ended.error))
    finally:
        call.leave()


async def refuse(world: World, client: Downstream, key: Key | None, error: RelayError) -> None:
    """Tell the caller why there was no call; a known key is told its limits too."""
    if key is not None:
        await announce_limits(world, client, key)
    client.add_headers(cost_rows(Verdict.REJECTED, 0))
    world.metrics.observe_call(client.figures(error))
    client.fail(error)


async def announce_limits(world: World, client: Downstream, key: Key) -> None:
    """Tell a known key its limits where no call is admitted (DESIGN.md promise 8).

    Without a keeper there is nobody who knows them, and the answer does not wait for one.
    """
    try:
        state = await world.billing.limits(key.id)
    except KeeperUnavailableError:
        return
    client.add_headers(rate_limit_headers(state, world.now()))
