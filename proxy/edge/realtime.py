"""The life of a realtime session, top to bottom: who asks, what it may cost, who answers.

Rules: nothing is promised before it is known: the key, the model, the money for a first response
and an upstream that has opened its own session; only then is the client's handshake answered, and
until then a refusal has its true status. This module must not know frames.

Sources: RFC 6455 section 4.2 (a server's handshake); OpenAI's guide to realtime over WebSocket
(`model` in the query; in browsers the key in the subprotocol `openai-insecure-api-key.<key>`
beside `realtime`, and `openai-beta.realtime-v1` for the earlier protocol).
"""

import asyncio
from typing import Final

from proxy.core import websocket
from proxy.core.catalog import Catalog
from proxy.core.entities import Key, Verdict
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.limits import rate_limit_headers
from proxy.core.realtime import CONTEXT_TOKENS
from proxy.core.urls import Endpoint
from proxy.edge import settlement
from proxy.edge.auth import identify, recognise
from proxy.edge.downstream import Downstream
from proxy.edge.dry_run import dry_run
from proxy.edge.realtime_account import RealtimeAccount
from proxy.edge.realtime_ends import failed_with
from proxy.edge.realtime_session import RealtimeSession
from proxy.edge.realtime_turn import Turn, make_realtime_offer, opening_of
from proxy.edge.realtime_upstream import Connecting, UpstreamLine
from proxy.edge.refusals import refused
from proxy.edge.relay import refuse, reserve
from proxy.edge.service_offer import callable_at
from proxy.edge.settlement import Ended
from proxy.edge.telling import asked_in_head
from proxy.edge.world import World

PROTOCOL: Final = "realtime"
_KEY_PREFIX: Final = "openai-insecure-api-key."
_BETA_PROTOCOL: Final = "openai-beta.realtime-v1"
_BETA_HEADER: Final = ("openai-beta", "realtime=v1")


async def serve_realtime(world: World, client: Downstream, call_id: int) -> None:
    """Carry one session. Raises nothing a caller could cause."""
    key: Key | None = None
    try:
        catalog = world.catalog
        nonce, protocols = handshake(client)
        key = _authenticate(world, client, catalog, protocols)
        model = callable_at(catalog, key, _model_name(client), Endpoint.REALTIME)
        asks = asked_in_head(client, key)
        offer = make_realtime_offer(
            catalog, key, model, CONTEXT_TOKENS, world.bounds.slice_tokens, asks.cost_max
        )
        opening = opening_of(world, offer, call_id, client.visit.reference or client.request_id)
        if asks.dry_run:
            status = world.bounds.insufficient_quota_status
            await dry_run(
                world, client, offer, opening, lambda refusal: refused(refusal, offer, status)
            )
            return
        turn = Turn(world, offer, opening, await reserve(world, offer, opening))
    except RelayError as error:
        await refuse(world, client, key, error)
        return
    client.add_headers(rate_limit_headers(turn.admission.limits, world.now()))
    account = RealtimeAccount(world, client, turn)
    session = RealtimeSession(world, client, account)
    await _carry(world, client, session, accepting(nonce, protocols), _forwarded(client, protocols))


async def _carry(
    world: World,
    client: Downstream,
    session: RealtimeSession,
    accept: tuple[tuple[str, str], ...],
    forwarded: tuple[tuple[str, str], ...],
) -> None:
    """Open the upstream's session, answer the client's handshake and hand over."""
    connection, account = client.connection, session.account
    world.sessions.add(session)
    world.sweep.add(session)
    connection.listener = session
    try:
        line = await _opened(world, session, forwarded)
        if line is None:
            return
        session.begin(line)
        client.switch_protocols(accept)
        connection.tunnel(session.client_data)
        line.attach(session)
        await session.run()
    finally:
        connection.listener = None
        world.sweep.remove(session)
        world.sessions.discard(session)
        account.settle(settlement.INTERNAL_ERROR, None)


async def _opened(
    world: World, session: RealtimeSession, forwarded: tuple[tuple[str, str], ...]
) -> UpstreamLine | None:
    """Return the upstream's open session; None when there is none, which the client is told."""
    client, account = session.client, session.account
    turn = account.turn
    connecting = Connecting(world, turn.offer, forwarded)
    line: UpstreamLine | None = None
    ended: Ended | None = None
    try:
        if client.gone:
            session.client_lost(0)
        else:
            session.opening_line = asyncio.ensure_future(connecting.open())
            line = await session.opening_line
            await account.durable(turn.admission.committed)
    except asyncio.CancelledError:
        if session.ended is None:
            raise
    except RelayError as error:
        ended = Ended(Verdict.UPSTREAM_ERROR, error) if line is None else failed_with(error)
    turn.earlier = tuple(connecting.attempts)
    ended = ended if session.ended is None else session.ended
    if ended is None and line is not None:
        channel = line.served.channel
        client.name_upstream(channel.name, channel.models[turn.offer.model.name])
        return line
    if line is not None:
        line.abort()
    account.settle(settlement.INTERNAL_ERROR if ended is None else ended, None)
    if client.gone or ended is None or ended.error is None:
        client.abort()
    else:
        client.fail(ended.error)
    return None


def handshake(client: Downstream) -> tuple[str, tuple[str, ...]]:
    """Return the key and the subprotocols of a client's handshake. Raises RelayError 400."""
    head = client.head
    nonce = websocket.upgrade_key(head.method, head.values)
    if nonce is None or head.minor == 0:
        raise RelayError(
            ErrorCode.INVALID_REQUEST,
            "/v1/realtime is a WebSocket: connect with ws:// or wss://, version 13.",
        )
    offered = ",".join([value for name, value in head.items() if name == "sec-websocket-protocol"])
    return nonce, tuple([word.strip() for word in offered.split(",") if word.strip()])


def accepting(nonce: str, protocols: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the headers that open a session; of the subprotocols only ours is taken."""
    rows = (
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", websocket.accept_value(nonce)),
    )
    return (*rows, ("sec-websocket-protocol", PROTOCOL)) if PROTOCOL in protocols else rows


def _authenticate(
    world: World, client: Downstream, catalog: Catalog, protocols: tuple[str, ...]
) -> Key:
    """Say whose session this is: by a header, or in a browser by a subprotocol."""
    sent = [
        ("authorization", f"Bearer {word.removeprefix(_KEY_PREFIX)}")
        for word in protocols
        if word.startswith(_KEY_PREFIX)
    ]
    digest = identify(_Rows((*client.head.items(), *sent)), world.pepper)
    return recognise(digest, catalog, world.now(), client)


class _Rows:
    """Headers for `identify`."""

    def __init__(self, rows: tuple[tuple[str, str], ...]) -> None:
        self._rows = rows

    def items(self) -> tuple[tuple[str, str], ...]:
        return self._rows


def _model_name(client: Downstream) -> str:
    """Return the model that the query names. Raises RelayError 400."""
    query = client.head.query
    if "call_id" in query:
        raise RelayError(
            ErrorCode.INVALID_REQUEST,
            "`call_id` is not supported: calls are not placed here, so none can be joined.",
            param="call_id",
        )
    name = query.get("model") or query.get("deployment") or ""
    if not name:
        raise RelayError(
            ErrorCode.INVALID_REQUEST,
            "`model` is required: connect to /v1/realtime?model=... (GET /v1/models lists them).",
            param="model",
        )
    return name


def _forwarded(client: Downstream, protocols: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the request headers that go on: which protocol's events are spoken."""
    if _BETA_PROTOCOL in protocols:
        return (_BETA_HEADER,)
    return tuple([row for row in client.visit.forwarded if row[0] == _BETA_HEADER[0]])
