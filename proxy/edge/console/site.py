"""The console's web site: every route behind the same guard, on its own listener.

Rules: default deny: a route without a role is public, any other asks for a session of that role;
a form that changes something comes from a page of ours (origin, token), or changes nothing; every
answer has the same strict headers. HEAD is answered as GET, without the body; a stream does not
begin for it. A keeper or file that is away is a page that says so. Each request is bounded in size
and time. This module must not know any page.
"""

import socket
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, cast
from urllib.parse import quote

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.edge import log
from proxy.edge.console import guard
from proxy.edge.console.assets import CACHE_CONTROL, PREFIX
from proxy.edge.console.keeper_line import KeeperGoneError, Refused
from proxy.edge.console.pages import ROUTES
from proxy.edge.console.routes import Route
from proxy.edge.console.surroundings import Surroundings
from proxy.edge.console.visit import Visit, see

FORM_BYTES_MAX: Final = 1 << 20
SHUTDOWN_SECONDS_MAX: Final = 1.0
IDLE_SECONDS_MAX: Final = 75.0
"""How long a connection may rest, and a request's head may take to be whole: longer than nginx
keeps one, which would else send a request into a closing connection."""


_HEAD_ALONE: Final = web.RequestKey("head_alone", bool)


class _HeadIsEnoughError(Exception):
    """A stream was about to begin for who wants no more than its head."""

    def __init__(self, response: web.StreamResponse) -> None:
        super().__init__()
        self._response = response

    def head(self) -> web.StreamResponse:
        """What the stream would have begun with."""
        return web.StreamResponse(status=self._response.status, headers=self._response.headers)


class Site:
    """Answers until `stop`."""

    def __init__(self, surroundings: Surroundings, routes: Sequence[Route] = ROUTES) -> None:
        self._surroundings = surroundings
        self._routes = routes
        self._runners: list[web.AppRunner] = []

    async def start_on(self, listener: socket.socket) -> tuple[str, int]:
        """Accept on a duplicate of a listening socket that others keep open. Raises OSError.

        May be called for several: `localhost` has two.
        """
        app = web.Application(client_max_size=FORM_BYTES_MAX)

        async def prepare(request: web.Request, response: web.StreamResponse) -> None:
            if (
                request.method == "HEAD"
                and not isinstance(response, web.Response)
                and not request.get(_HEAD_ALONE, False)
            ):
                request[_HEAD_ALONE] = True
                raise _HeadIsEnoughError(response)
            response.headers.pop("server", None)  # aiohttp's says versions
            for name, value in guard.headers(self._surroundings.options).items():
                response.headers.setdefault(name, value)

        app.on_response_prepare.append(prepare)
        for route in self._routes:
            app.router.add_route(route.method, route.path, self._answering(route))
            if route.method == "GET":
                app.router.add_route("HEAD", route.path, self._answering(route))
        app.router.add_get(PREFIX + "{hash}/{name}", self._asset)
        app.router.add_route("*", "/{path:.*}", self._nothing)
        runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=SHUTDOWN_SECONDS_MAX,
            keepalive_timeout=IDLE_SECONDS_MAX,
        )
        await runner.setup()
        try:
            await web.SockSite(runner, listener.dup()).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runners.append(runner)
        return cast("tuple[str, int]", runner.addresses[0][:2])

    async def stop(self) -> None:
        """Stop answering; safe to call twice."""
        runners, self._runners = self._runners, []
        for runner in runners:
            await runner.cleanup()
        await self._surroundings.close()

    def _answering(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            if route.bytes_max is not None:
                request = request.clone(client_max_size=route.bytes_max)
            try:
                visit = await see(self._surroundings, request)
                response = await _admitted(route, visit)
            except KeeperGoneError as gone:
                return await self._away(request, gone.message, gone.remedy)
            except sqlite3.Error as error:
                return await self._away(request, error=error)
            except web.HTTPException as refusal:  # aiohttp's own, such as a form that is too large
                return Visit(self._surroundings, request).problem(refusal.status)
            except _HeadIsEnoughError as enough:
                return enough.head()
            except Exception as error:  # noqa: BLE001 - the last resort of the pages
                log.get().error("page failed", path=request.path, error=repr(error))
                return Visit(self._surroundings, request).problem(500)
            if not route.foreign:
                visit.take_leave(response)
            return response

        return answer

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        asset = self._surroundings.renderer.assets.at(request.path)
        if asset is None:
            return await self._nothing(request)
        response = web.Response(body=asset.body)
        response.headers["content-type"] = asset.content_type
        response.headers["cache-control"] = CACHE_CONTROL
        return response

    async def _nothing(self, request: web.Request) -> web.StreamResponse:
        try:
            visit = await see(self._surroundings, request)
        except sqlite3.Error as error:
            return await self._away(request, error=error)
        return visit.problem(404)

    async def _away(
        self,
        request: web.Request,
        reason: str = "",
        remedy: str = "",
        *,
        error: sqlite3.Error | None = None,
    ) -> web.StreamResponse:
        """Say that keeper or file cannot be reached; what the file said is for the log alone."""
        if error is not None:
            log.get().error("page failed", path=request.path, error=repr(error))
        await self._surroundings.forget_reader()
        visit = Visit(self._surroundings, request)
        response = visit.problem(503, visit.texts(reason), visit.texts(remedy))
        response.headers["retry-after"] = "2"
        return response


async def _admitted(route: Route, visit: Visit) -> web.StreamResponse:
    """Let a request through to its handler, or say why not."""
    if route.foreign:
        return await route.handler(visit)
    person = visit.person
    if route.role is not None:
        if person is None:
            if visit.request.method in {"GET", "HEAD"}:
                return visit.redirect(f"/login?next={quote(visit.request.path_qs, safe='')}")
            return visit.problem(401)
        if not person.role.covers(route.role):
            # An operator's page does not exist for those it is not for.
            return visit.problem(404 if route.role is not Role.USER else 403)
    if visit.request.method not in {"GET", "HEAD"}:
        fault = guard.origin_fault(visit.request) or await visit.token_fault()
        if fault is not None:
            return visit.problem(403, visit.texts(fault))
    if route.step_up and not visit.confirmed:
        return visit.redirect(f"/confirm?next={quote(visit.back, safe='')}")
    try:
        return await route.handler(visit)
    except Refused as refused:
        return visit.problem(422, refused.message, refused.remedy)
