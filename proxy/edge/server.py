"""The public listener: strictness aiohttp leaves to us, CORS, routes, and the last resort.

Rules: what nginx and we could read differently is refused (FAULTS.md, edge behaviour): other
HTTP versions, underscores in header names, absolute-form targets, a body on a GET. Once a status
line is out, no exception reaches aiohttp, which would write a second response that the next
tenant on the connection would read. This module must not know what a call is.
"""

import asyncio
import ipaddress
from typing import Final

from aiohttp import web

from proxy.core.catalog import Catalog
from proxy.core.entities import Dialect, Key
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.ids import format_id
from proxy.core.limits import rate_limit_headers
from proxy.core.urls import METHODS, Endpoint, dialect_of, hint, model_name, resolve
from proxy.edge import log, models
from proxy.edge.auth import authenticate, refuse_header_names
from proxy.edge.client import ClientConnection
from proxy.edge.downstream import Downstream
from proxy.edge.relay import relay
from proxy.edge.world import World

ROUTES: Final = (
    "POST /v1/chat/completions",
    "POST /v1/messages",
    "GET /v1/models",
    "GET /v1/models/{model}",
)
CORS_ALLOW_HEADERS: Final = (
    "authorization, content-type, x-api-key, anthropic-version, anthropic-beta, openai-beta, "
    "anthropic-dangerous-direct-browser-access, x-request-id, x-stainless-arch, "
    "x-stainless-lang, x-stainless-os, x-stainless-package-version, x-stainless-retry-count, "
    "x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout, "
    "x-stainless-helper-method"
)
PREFLIGHT_SECONDS: Final = 86_400


class Server:
    """Answers every request of the public listener."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._trusted: tuple[str, ...] = ()
        self._networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request: the handler given to aiohttp."""
        world = self._world
        connection = request.protocol
        if isinstance(connection, ClientConnection):
            connection.head_seen = True
        path = request.path
        call_id = world.ids.next(world.now())
        client = Downstream(
            request,
            dialect_of(path, anthropic_version="anthropic-version" in request.headers),
            "other",
            format_id(call_id),
            self._cors_origin(request),
            self._peer_address(request),
        )
        try:
            return await self._route(client, path, call_id)
        except RelayError as error:
            world.metrics.observe_call(client.figures(error))
            return await client.fail(error)
        except ConnectionError:
            return client.abort()
        except asyncio.CancelledError:
            client.abort()
            raise
        except Exception as error:  # noqa: BLE001 - the last resort, named in the house rules
            log.get().error(
                "internal error", request_id=client.request_id, error=repr(error), path=path
            )
            if client.begun:
                return client.abort()
            message = "An internal error occurred; nothing more was charged."
            return await client.fail(RelayError(ErrorCode.INTERNAL_ERROR, message))

    async def _route(self, client: Downstream, path: str, call_id: int) -> web.StreamResponse:
        request = client.request
        _refuse_ambiguity(request)
        if request.method == "OPTIONS":
            return self._preflight(client)
        endpoint = resolve(path)
        if endpoint is None:
            raise RelayError(ErrorCode.UNKNOWN_URL, hint(path, request.method))
        client.endpoint = endpoint.value
        if endpoint is Endpoint.UNSUPPORTED:
            raise RelayError(ErrorCode.UNSUPPORTED_ENDPOINT, hint(path, request.method))
        if request.method not in METHODS[endpoint]:
            client.headers["allow"] = ", ".join((*METHODS[endpoint], "OPTIONS"))
            raise RelayError(ErrorCode.METHOD_NOT_ALLOWED, hint(path, request.method))
        if endpoint in {Endpoint.CHAT, Endpoint.MESSAGES}:
            return await relay(self._world, client, call_id)
        return self._models(client, endpoint, path)

    def _models(self, client: Downstream, endpoint: Endpoint, path: str) -> web.StreamResponse:
        world = self._world
        catalog: Catalog = world.catalog
        key: Key = authenticate(
            client.request.headers, catalog, world.pepper, world.now(), client.peer_address
        )
        client.add_headers(rate_limit_headers(world.billing.limits(key.id), world.now()))
        anthropic = client.dialect is Dialect.ANTHROPIC
        if endpoint is Endpoint.MODEL:
            name = model_name(path)
            one = models.anthropic_model if anthropic else models.openai_model
            body = one(catalog, key, name)
        elif anthropic:
            body = models.anthropic_list(catalog, key, models.page_of(client.request.query))
        else:
            body = models.openai_list(catalog, key)
        return client.answer(200, body, "application/json")

    def _preflight(self, client: Downstream) -> web.StreamResponse:
        """Answer a browser's question without asking for a key (DESIGN.md promise 7)."""
        client.headers["access-control-allow-methods"] = "GET, POST, OPTIONS"
        client.headers["access-control-allow-headers"] = CORS_ALLOW_HEADERS
        client.headers["access-control-max-age"] = str(PREFLIGHT_SECONDS)
        return web.Response(status=204, headers=client.headers)

    def _cors_origin(self, request: web.BaseRequest) -> str:
        allowed = self._world.bounds.cors_allow_origins
        if allowed == "*":
            return "*"
        origin = request.headers.get("origin", "")
        return origin if origin and origin in allowed.replace(",", " ").split() else ""

    def _peer_address(self, request: web.BaseRequest) -> str | None:
        """The caller's address: the socket's, or what a trusted proxy in front says it was."""
        peer = request.transport and request.transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) and peer else None
        forwarded = request.headers.get("x-forwarded-for")
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


def _refuse_ambiguity(request: web.BaseRequest) -> None:
    """Refuse what two servers in a row could read as two different requests."""
    if request.version not in {(1, 0), (1, 1)}:
        raise RelayError(ErrorCode.INVALID_REQUEST, "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
    target = request.raw_path
    if not target.startswith("/") and not (target == "*" and request.method == "OPTIONS"):
        raise RelayError(
            ErrorCode.INVALID_REQUEST, "The request target must be a path, such as /v1/messages."
        )
    refuse_header_names(request.headers)
    if request.method in {"GET", "HEAD", "OPTIONS"} and not request.content.is_eof():
        raise RelayError(ErrorCode.INVALID_REQUEST, f"A {request.method} must not have a body.")
