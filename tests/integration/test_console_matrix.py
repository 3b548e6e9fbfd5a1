"""Every route of the console, asked for by everybody who might: who gets in is said here again.

`PUBLIC` and the prefixes below are the expectation, written apart from the table of routes: a route
that nobody thought of is for signed-in people at least, and what is under /operator for operators.
The handlers are replaced by one that says it was reached, so that a page's own 404 hides nothing.
"""

import re
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from proxy.core.actions.action import Role
from proxy.edge.console import visit
from proxy.edge.console.pages import ROUTES
from proxy.edge.console.routes import Route
from proxy.edge.console.site import Site
from proxy.edge.console.visit import Visit
from tests.edge.console import consoles
from tests.edge.console.consoles import Browser, World, in_console

PUBLIC = frozenset(
    {
        ("GET", "/"),
        ("GET", "/account/email/take"),
        ("POST", "/account/email/take"),
        ("GET", "/models"),
        ("GET", "/models/{name:.+}"),
        ("POST", "/preferences"),
        ("GET", "/invitation"),
        ("GET", "/login"),
        ("POST", "/login"),
        ("GET", "/login/callback"),
        ("GET", "/login/provider"),
        ("POST", "/logout"),
        ("GET", "/password/reset"),
        ("POST", "/password/reset"),
        ("GET", "/password/set"),
        ("POST", "/password/set"),
        ("GET", "/register"),
        ("POST", "/register"),
        ("GET", "/verify"),
        ("POST", "/verify"),
    }
)
"""What a stranger may ask for: to come in, and to look at what is on offer."""
FOREIGN = frozenset(
    {
        ("GET", "/api/openapi.json"),
        ("GET", "/api/v1/actions/{action}"),
        ("POST", "/api/v1/actions/{action}"),
        ("GET", "/api/{path:.*}"),
        ("POST", "/api/{path:.*}"),
        ("POST", "/webhooks/stripe"),
    }
)
"""What is not for browsers: it has no session and looks for itself (its own tests say how)."""
ROLES = ("stranger", "user", "member", "operator", "admin")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")
REACHED = "the handler was reached"
PARAMETER = re.compile(r"\{(\w+)(?::[^{}]*)?\}")

ByRole = dict[str, Browser]


def named(route: Route) -> tuple[str, str]:
    return route.method, route.path


def least(route: Route) -> Role | None:
    """The least role that this test expects a route to ask for."""
    if named(route) in PUBLIC | FOREIGN:
        return None
    if route.path.startswith("/operator/tokens") or route.path == "/operator/people/delete":
        return Role.ADMIN
    return Role.OPERATOR if re.match(r"/operator(/|$)", route.path) else Role.USER


def address(route: Route, value: str = "1") -> str:
    """A path that the route answers."""
    return PARAMETER.sub(value, route.path)


def answers(route: Route, method: str, path: str) -> bool:
    """Whether a route is for this method at this path."""
    parts = [re.escape(part) for part in PARAMETER.split(route.path)[::2]]
    return route.method == method and bool(re.fullmatch("[^/]+".join(parts), path))


async def reached(_seen: Visit) -> web.StreamResponse:
    return web.Response(text=REACHED)


@asynccontextmanager
async def everybody(world: World) -> AsyncIterator[ByRole]:
    """One browser of each role, at a site whose handlers only say that they were reached."""
    routes = [replace(route, handler=reached) for route in ROUTES]
    site = Site(world.surroundings, routes)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = await site.start_on(listener)
        world.url = f"http://{host}:{port}"
        try:
            yield await people(world)
        finally:
            await site.stop()


async def people(world: World) -> ByRole:
    stranger = world.stranger()
    await stranger.get("/")  # who was here before has a token of their own
    return {
        "stranger": stranger,
        "user": await world.signed_in("user@example.com", "user", "team"),
        "member": await world.signed_in("member@example.com", "user", "team", rank="member"),
        "operator": await world.signed_in("operator@example.com", "operator", "office"),
        "admin": await world.signed_in("admin@example.com", "admin", "office"),
    }


def at_doors(tmp_path: Path, test: Callable[[World, ByRole], Awaitable[None]]) -> None:
    async def run(world: World) -> None:
        async with everybody(world) as readers:
            await test(world, readers)

    in_console(tmp_path, run)


def allowed(role: str, route: Route) -> bool:
    needed = least(route)
    if needed is None:
        return True
    rank = {"member": "user"}.get(role, role)
    return role != "stranger" and Role(rank).covers(needed)


def refusal(role: str, route: Route) -> int:
    """The status for somebody who may not: strangers are sent to sign in, others see nothing."""
    if role == "stranger":
        return 303 if route.method == "GET" else 401
    return 404


async def ask(world: World, browser: Browser, route: Route, **changed: str) -> consoles.Page:
    """Ask for a route as a page of ours would, except for what is `changed`."""
    form = {"csrf": changed.get("csrf", browser.token)}
    headers = {"origin": changed.get("origin", world.url)}
    body = None if route.method in {"GET", "HEAD"} else form
    return await browser.ask(route.method, address(route), body, headers, follow=False)


@pytest.mark.parametrize("role", ROLES)
def test_every_route_lets_in_exactly_whom_it_is_for(tmp_path: Path, role: str) -> None:
    async def test(world: World, readers: ByRole) -> None:
        wrong = []
        for route in ROUTES:
            page = await ask(world, readers[role], route)
            if allowed(role, route):
                right = (page.status, page.text) == (200, REACHED)
            else:
                right = page.status == refusal(role, route) and REACHED not in page.text
                right &= role != "stranger" or route.method != "GET" or "/login" in _to(page)
            if not right:
                wrong.append((named(route), page.status, _to(page)))
        assert not wrong

    at_doors(tmp_path, test)


def _to(page: consoles.Page) -> str:
    return page.headers.get("location", "")


def test_what_this_table_names_exists() -> None:
    there = {named(route) for route in ROUTES}
    assert there >= PUBLIC | FOREIGN
    assert {named(route) for route in ROUTES if route.foreign} == FOREIGN
    assert {named(route) for route in ROUTES if route.role is None} == PUBLIC | FOREIGN
    assert {route.method for route in ROUTES} <= {"GET", "POST"} or FOREIGN


def test_what_asks_for_the_password_again_is_reached_only_after_it(tmp_path: Path) -> None:
    async def test(world: World, readers: ByRole) -> None:
        await world.office.keeper.note(lambda c: c.execute("UPDATE session SET confirmed_at = 0"))
        for route in ROUTES:
            page = await ask(world, readers["admin"], route)
            if route.step_up:
                assert (page.status, _to(page).partition("?")[0]) == (303, "/confirm"), route
            else:
                assert page.text == REACHED, route

    at_doors(tmp_path, test)


@pytest.mark.parametrize("role", ROLES)
def test_no_form_is_taken_without_its_token_or_from_elsewhere(tmp_path: Path, role: str) -> None:
    async def test(world: World, readers: ByRole) -> None:
        other = readers["user" if role != "user" else "member"]
        for route in ROUTES:
            if route.method == "GET" or route.foreign or not allowed(role, route):
                continue
            for changed in (
                {"csrf": ""},
                {"csrf": other.token},
                {"origin": "https://evil.example"},
                {"origin": "null"},
                {"origin": world.url.replace("http:", "ftp:")},
                {"origin": world.url + ".evil.example"},
            ):
                page = await ask(world, readers[role], route, **changed)
                assert page.status == 403, (named(route), changed)
                assert REACHED not in page.text

    at_doors(tmp_path, test)


def test_no_other_method_reaches_a_handler(tmp_path: Path) -> None:
    async def test(world: World, readers: ByRole) -> None:
        for path in {address(route) for route in ROUTES}:
            for method in METHODS:
                if method == "CONNECT" or any(answers(route, method, path) for route in ROUTES):
                    continue
                page = await ask(world, readers["admin"], Route(method, path, None, reached))
                assert page.status in {404, 405}, (method, path)
                assert REACHED not in page.text

    at_doors(tmp_path, test)


@pytest.mark.parametrize("role", ROLES)
def test_the_head_of_a_page_is_for_whom_the_page_is(tmp_path: Path, role: str) -> None:
    async def test(world: World, readers: ByRole) -> None:
        for route in ROUTES:
            if route.method == "GET":
                page = await ask(world, readers[role], route)
                head = await ask(world, readers[role], replace(route, method="HEAD"))
                assert (head.status, head.text) == (page.status, ""), named(route)
                assert _to(head) == _to(page)

    at_doors(tmp_path, test)


def test_a_session_that_has_ended_is_a_stranger_at_every_door(tmp_path: Path) -> None:
    async def test(world: World, readers: ByRole) -> None:
        await world.office.keeper.note(lambda c: c.execute("UPDATE session SET revoked_at = 1"))
        for route in ROUTES:
            if least(route) is not None:
                page = await ask(world, readers["admin"], route)
                assert page.status == refusal("stranger", route), named(route)

    at_doors(tmp_path, test)


def test_a_person_who_was_shut_out_is_a_stranger_at_every_door(tmp_path: Path) -> None:
    async def test(world: World, readers: ByRole) -> None:
        await world.office.keeper.note(lambda c: c.execute("UPDATE person SET enabled = 0"))
        for route in ROUTES:
            if least(route) is not None:
                page = await ask(world, readers["operator"], route)
                assert page.status == refusal("stranger", route), named(route)

    at_doors(tmp_path, test)


def contents(database: Path) -> dict[str, list[Any]]:
    """Every row of every table."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        names = [row[0] for row in connection.execute(_TABLES)]
        found = {
            name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}"))) for name in names
        }
    connection.close()
    return found


_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"


def forbidden(world: World, readers: ByRole) -> Iterator[tuple[Browser, Route, dict[str, str]]]:
    """Every request to a real handler that must not get to it."""
    for route in ROUTES:
        if route.foreign:
            continue
        for role, browser in readers.items():
            if not allowed(role, route):
                yield browser, route, {}
            elif route.method != "GET":
                yield browser, route, {"csrf": ""}
                yield browser, route, {"origin": "https://evil.example"}


def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        readers = await people(world)
        await world.do("key add", user="team", name="k")
        await world.do("ledger flush")
        before = contents(world.surroundings.database)
        for browser, route, changed in forbidden(world, readers):
            await ask(world, browser, route, **changed)
        await world.do("ledger flush")
        assert contents(world.surroundings.database) == before

    in_console(tmp_path, test)


def test_a_cookie_opens_nothing_that_is_not_for_browsers(tmp_path: Path) -> None:
    """An administrator's session is no token of the API and no signature of a payment."""

    async def test(world: World) -> None:
        readers = await people(world)
        await world.do("ledger flush")
        before = contents(world.surroundings.database)
        for route in ROUTES:
            if not route.foreign or route.path == "/api/openapi.json":
                continue
            for value in ("1", "wallet-credit", "user-list"):
                for browser in readers.values():
                    path = address(route, value)
                    for body in ({"user": "team", "amount": "5", "csrf": browser.token}, {}):
                        sent = None if route.method == "GET" else body
                        page = await browser.ask(
                            route.method, path, sent, {"origin": world.url}, follow=False
                        )
                        assert 400 <= page.status < 500, (path, page.status, page.text)
        await world.do("ledger flush")
        assert contents(world.surroundings.database) == before

    in_console(tmp_path, test)


def test_no_page_fails_for_anybody_whatever_it_is_asked_about(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        readers = await people(world)
        for route in ROUTES:
            if route.method != "GET" or route.foreign or "live" in route.path:
                continue
            for browser in readers.values():
                for value in ("1", "nothing", "-1", "99999999999999999999", "%00", "%F0%9F%8C%8A"):
                    path = address(route, value)
                    page = await browser.ask("GET", path, None, {}, follow=False)
                    assert page.status < 500, (path, page.status, page.text[-2000:])
                    if "{" not in route.path:
                        break

    in_console(tmp_path, test)


def test_a_cookie_that_is_not_ours_is_no_session(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await people(world)
        for token in ("", "x", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "x" * 4000):
            async with Browser(world.url, None, {visit.SESSION: token}) as liar:
                page = await liar.get("/wallet/choose")
                assert page.status in {404, 405}
                assert "admin@example.com" not in (await liar.get("/")).text

    in_console(tmp_path, test)
