"""The life of one service call (embeddings, images, sound, ...), top to bottom.

Rules: the same steps as a conversation's in edge/relay.py, and the same end; what differs is that
the body may be large and is read once as it comes, that all the call may cost is held, and that
its answer is passed on as it comes but for the last byte. This module must not know how bytes are
read (core/services), how channels are chosen, nor SQL.
"""

import orjson

from proxy.core.entities import Key, Wire
from proxy.core.errors import RelayError
from proxy.core.gemini import asked_inside
from proxy.core.limits import rate_limit_headers
from proxy.core.requests import read_prompt
from proxy.core.services.endpoints import open_request
from proxy.core.services.service import ServiceRequest
from proxy.core.tokenizers import count_texts
from proxy.core.urls import Endpoint, model_name
from proxy.edge.downstream import Downstream
from proxy.edge.dry_run import dry_run
from proxy.edge.kept_service import KeptServiceCall, as_priced_service, look_up_service
from proxy.edge.refusals import refused
from proxy.edge.relay import authenticate, open_call, refuse, reserve, serve
from proxy.edge.replay import give_again
from proxy.edge.service_call import ServiceCall
from proxy.edge.service_offer import COUNTED_HERE, callable_at, make_service_offer
from proxy.edge.settlement import COMPLETE
from proxy.edge.telling import asked_in_head
from proxy.edge.upload import Upload
from proxy.edge.world import World


async def serve_service(world: World, client: Downstream, call_id: int) -> None:
    """Answer one POST that is a service call. Raises nothing a caller could cause."""
    body = Upload(world.spool)
    try:
        await _serve(world, client, call_id, body)
    finally:
        body.close()


async def _serve(world: World, client: Downstream, call_id: int, body: Upload) -> None:
    key: Key | None = None
    try:
        catalog, endpoint = world.catalog, client.visit.endpoint
        if endpoint is None:
            raise AssertionError("a service without an endpoint")
        key = authenticate(world, client, catalog)
        content_type = client.head.get("content-type") or ""
        request = await receive(world, client, endpoint, content_type, body)
        model = callable_at(catalog, key, request.model, endpoint)
        offer = make_service_offer(catalog, key, model, request, endpoint)
        asks = asked_in_head(client, key)
        ticket = look_up_service(world, client, offer, asks, body, content_type)
        offer = as_priced_service(offer, asks, ticket)
        estimate = request.usage_max.prompt_total
        opening = open_call(client, offer, call_id, request.stream, estimate, world.now())
        if asks.dry_run:
            status = world.bounds.insufficient_quota_status
            await dry_run(
                world, client, offer, opening, lambda refusal: refused(refusal, offer, status)
            )
            return
        admission = await reserve(world, offer, opening)
    except RelayError as error:
        await refuse(world, client, key, error)
        return
    client.add_headers(rate_limit_headers(admission.limits, world.now()))
    if not offer.channels:
        await count_here(
            ServiceCall(world, client, offer, opening, admission, body, content_type), body
        )
    elif ticket is None:
        await serve(ServiceCall(world, client, offer, opening, admission, body, content_type))
    elif ticket.entry is not None:
        await give_again(world, client, opening, admission, ticket.entry, None)
    else:
        call = KeptServiceCall(world, client, offer, opening, admission, body, content_type, ticket)
        await serve(call)
        call.keep()


async def count_here(call: ServiceCall, body: Upload) -> None:
    """Count a prompt's tokens for callers of a model whose channels speak another dialect.

    An estimate, and called one: the channel's own template around the prompt is not known.
    """
    world, client = call.world, call.client
    call.enter()
    try:
        form = COUNTED_HERE[Endpoint(client.endpoint)]
        said = await body.whole()
        if form is Wire.GEMINI:
            said = asked_inside(said)
        prompt = read_prompt(said, client.dialect, form)
        counted = count_texts(prompt.pieces, call.offer.model, world.calibration)
        call.settle(COMPLETE)
        ended = COMPLETE if call.is_committed() else await call.committed(COMPLETE)
        if ended.error is not None:
            client.fail(ended.error)
            return
        client.add_headers([("x-sluice-estimate", "true")])
        tokens = prompt.fixed_tokens + counted.tokens
        name = "totalTokens" if form is Wire.GEMINI else "input_tokens"
        client.answer(200, orjson.dumps({name: tokens}))
    finally:
        call.leave()


async def receive(
    world: World, client: Downstream, endpoint: Endpoint, content_type: str, body: Upload
) -> ServiceRequest:
    """Take the body off the client and read it. Raises RelayError 400, 408, 413, 503."""
    bounds = world.bounds
    is_form = content_type.lower().startswith("multipart/")
    named = model_name(client.head.path) if endpoint is Endpoint.GEMINI_COUNT_TOKENS else ""
    reader = open_request(endpoint, content_type, named or client.visit.deployment)
    bytes_max = bounds.upload_bytes_max if is_form else bounds.body_bytes_max
    await body.receive(client, bounds, bytes_max, reader.feed)
    return reader.finish()
