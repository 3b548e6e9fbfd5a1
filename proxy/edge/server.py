"""The public listener: routes, CORS, who the peer is, and the last resort for an exception.

Rules: every request gets exactly one response or a cut connection; once a status line is out, an
exception cuts, because a second response would be read by the next tenant on the connection.
This module must not know what a call is.
"""

import asyncio
import ipaddress
from functools import cache
from typing import Final

from proxy import __version__
from proxy.core.catalog import Catalog
from proxy.core.entities import Dialect, Key
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.http1_request import RequestHead
from proxy.core.openapi.document import document
from proxy.core.urls import CANONICAL, METHODS, Endpoint, hint, model_name
from proxy.edge import google_models, log, models
from proxy.edge.auth import authenticate
from proxy.edge.client_request import Request
from proxy.edge.client_socket import peer_address
from proxy.edge.downstream import Downstream
from proxy.edge.generation import generation
from proxy.edge.kept import KEPT_ENDPOINTS, count, pass_on
from proxy.edge.metrics import CallFigures
from proxy.edge.realtime import serve_realtime
from proxy.edge.relay import announce_limits, relay
from proxy.edge.service import serve_service
from proxy.edge.visit import Visit
from proxy.edge.world import World

ROUTES: Final = tuple(f"{METHODS[endpoint][0]} {path}" for endpoint, path in CANONICAL.items())
"""Every endpoint that is served, under the one path it is documented with."""
CORS_ALLOW_HEADERS: Final = (
    "authorization, content-type, x-api-key, api-key, x-goog-api-key, anthropic-version, "
    "anthropic-beta, openai-beta, "
    "anthropic-dangerous-direct-browser-access, x-request-id, x-stainless-arch, "
    "x-stainless-lang, x-stainless-os, x-stainless-package-version, x-stainless-retry-count, "
    "x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout, "
    "x-stainless-helper-method, x-max-cost, x-dry-run, x-sluice-usage, x-sluice-cache, "
    "x-sluice-cache-ttl"
)
PREFLIGHT_SECONDS: Final = 86_400
_ONE_MODEL: Final = {
    Dialect.OPENAI: models.openai_model,
    Dialect.ANTHROPIC: models.anthropic_model,
    Dialect.GEMINI: google_models.google_model,
}
_NAMELESS: Final = frozenset({Endpoint.MODELS, Endpoint.GENERATION})


class Server:
    """Answers every request of the public listener."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._trusted: tuple[str, ...] = ()
        self._networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    async def handle(self, request: Request) -> None:
        """Answer one request: the handler given to ClientServer."""
        try:
            world, head = self._world, request.head
            now = world.now()
            call_id, request_id = world.ids.named(now)
            visit = head.memo
            if not isinstance(visit, Visit):
                visit = head.memo = Visit(head)
            client = Downstream(
                request,
                visit,
                request_id,
                self._cors_origin(head) if visit.is_browsers else "",
                self._peer_address(request) if visit.is_passed_on else None,
            )
            try:
                if visit.is_call:
                    await relay(world, client, call_id, now)
                elif visit.is_service:
                    await serve_service(world, client, call_id)
                else:
                    await self._route(client, head.path, call_id)
            except RelayError as error:
                world.metrics.observe_call(client.figures(error))
                client.fail(error)
            except ConnectionError:
                client.abort()
            except asyncio.CancelledError:
                client.abort()
                raise
            except Exception as error:  # noqa: BLE001 - the last resort, named in the house rules
                _last_resort(client, error)
        finally:
            # Here, not around: a coroutine that only awaits this one costs each call 2,000.
            request.protocol.answered(request)

    async def _route(self, client: Downstream, path: str, call_id: int) -> None:
        """Answer what is no call."""
        method = client.head.method
        if method == "OPTIONS":
            self._preflight(client)
            return
        endpoint = client.visit.endpoint
        code = _misdirected(endpoint, method)
        if endpoint is Endpoint.REALTIME and code is None:
            await serve_realtime(self._world, client, call_id)
            return
        if endpoint is None or code is not None:
            await self._announce_limits(client)
            if endpoint is not None and code is ErrorCode.METHOD_NOT_ALLOWED:
                client.add_headers([("allow", ", ".join((*METHODS[endpoint], "OPTIONS")))])
            raise RelayError(code or ErrorCode.UNKNOWN_URL, hint(path, method))
        if endpoint is Endpoint.OPENAPI:
            await self._announce_limits(client)
            self._world.metrics.observe_call(CallFigures(endpoint=client.endpoint))
            client.answer(200, _openapi())
            return
        if endpoint in KEPT_ENDPOINTS:
            await self._kept(client)
            return
        await self._models(client, endpoint, path)

    async def _kept(self, client: Downstream) -> None:
        world = self._world
        key = authenticate(client.head, world.catalog, world.pepper, world.now(), client)
        try:
            await count(world, key)
        finally:  # what is left after this one
            await announce_limits(world, client, key)
        await pass_on(world, client, key)

    async def _models(self, client: Downstream, endpoint: Endpoint, path: str) -> None:
        world = self._world
        catalog: Catalog = world.catalog
        key: Key = authenticate(client.credentials, catalog, world.pepper, world.now(), client)
        await announce_limits(world, client, key)
        name = "" if endpoint in _NAMELESS else model_name(path)
        if endpoint is Endpoint.GENERATION:
            body = await generation(world.records, key, client.head.query)
        elif name:
            body = _ONE_MODEL[client.dialect](catalog, key, name)
        elif client.dialect is Dialect.ANTHROPIC:
            body = models.anthropic_list(catalog, key, models.page_of(client.head.query))
        elif client.dialect is Dialect.GEMINI:
            body = google_models.google_list(catalog, key, client.head.query)
        else:
            body = models.openai_list(catalog, key)
        world.metrics.observe_call(CallFigures(endpoint=client.endpoint))
        client.answer(200, body)

    async def _announce_limits(self, client: Downstream) -> None:
        """Tell a known key its limits also where nothing is served (DESIGN.md promise 8)."""
        world = self._world
        try:
            key = authenticate(client.credentials, world.catalog, world.pepper, world.now(), client)
        except RelayError:
            return
        await announce_limits(world, client, key)

    def _preflight(self, client: Downstream) -> None:
        """Answer a browser's question without asking for a key (DESIGN.md promise 7)."""
        client.add_headers(
            [
                ("access-control-allow-methods", "GET, POST, DELETE, OPTIONS"),
                ("access-control-allow-headers", CORS_ALLOW_HEADERS),
                ("access-control-max-age", str(PREFLIGHT_SECONDS)),
            ]
        )
        self._world.metrics.observe_call(CallFigures(endpoint=client.endpoint, code=204))
        client.empty(204)

    def _cors_origin(self, head: RequestHead) -> str:
        allowed = self._world.bounds.cors_allow_origins
        if allowed == "*":
            return "*"
        origin = head.get("origin") or ""
        return origin if origin and origin in allowed.replace(",", " ").split() else ""

    def _peer_address(self, request: Request) -> str | None:
        """The caller's address: the socket's, or what a trusted proxy in front says it was."""
        address = peer_address(request.protocol.transport)
        forwarded = request.head.get("x-forwarded-for")
        if forwarded is None or address is None:
            return address
        trusted = self._world.bounds.trusted_proxies
        if trusted is not self._trusted:
            self._trusted = trusted
            self._networks = tuple(ipaddress.ip_network(one, strict=False) for one in trusted)
        try:
            if any(ipaddress.ip_address(address) in network for network in self._networks):
                last = forwarded.rsplit(",", 1)[-1].strip()
                return str(ipaddress.ip_address(last))
        except ValueError:
            return address
        return address


def _last_resort(client: Downstream, error: Exception) -> None:
    """Log a fault of ours, and tell of it while there is place for it."""
    log.get().error(
        "internal error", request_id=client.request_id, error=repr(error), path=client.head.path
    )
    if client.begun:
        client.abort()
        return
    message = "An internal error occurred; nothing more was charged."
    client.fail(RelayError(ErrorCode.INTERNAL_ERROR, message))


@cache
def _openapi() -> bytes:
    """The same for everybody, made when somebody asks."""
    return document(__version__)


def _misdirected(endpoint: Endpoint | None, method: str) -> ErrorCode | None:
    """Why `endpoint` cannot be called with `method`; None when it can."""
    if endpoint is None:
        return ErrorCode.UNKNOWN_URL
    if endpoint is Endpoint.UNSUPPORTED:
        return ErrorCode.UNSUPPORTED_ENDPOINT
    return None if method in METHODS[endpoint] else ErrorCode.METHOD_NOT_ALLOWED
