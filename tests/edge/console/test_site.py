import asyncio
import socket
import sqlite3
from io import BytesIO
from pathlib import Path

import pytest
from aiohttp import web

from proxy.edge.console import guard, sessions, visit
from proxy.edge.console.pages import ROUTES
from proxy.edge.console.routes import Route
from proxy.edge.console.site import FORM_BYTES_MAX, Site
from proxy.edge.console.surroundings import Surroundings
from proxy.edge.console.visit import Visit
from tests.edge.console.consoles import SECRET, Browser, World, in_console


def test_every_answer_has_the_strict_headers(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        anybody = world.stranger()
        for path in ("/", "/nowhere", "/static/x/sluice.css"):
            page = await anybody.get(path)
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert page.headers["cache-control"] == "no-store"
            assert page.headers["x-content-type-options"] == "nosniff"
        asset = world.surroundings.renderer.assets.url("sluice.css")
        found = await anybody.get(asset)
        assert found.status == 200
        assert "immutable" in found.headers["cache-control"]

    in_console(tmp_path, test)


def test_a_session_shows_the_wallet_and_ends_when_it_is_revoked(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        page = await ann.get("/")
        assert (page.status, "10.00" in page.text) == (200, True)
        await world.office.keeper.note(lambda c: c.execute("UPDATE session SET revoked_at = 1"))
        assert "10.00" not in (await ann.get("/")).text

    in_console(tmp_path, test)


def test_a_stale_token_is_renewed_while_its_session_lives(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        old = sessions.issue(SECRET, ann.session or "", 1, world.office.clock() - 10_000)
        late = Browser(world.url, ann.session, {visit.SESSION: old})
        async with late:
            assert "10.00" in (await late.get("/")).text
            fresh = sessions.read(SECRET, late.cookies[visit.SESSION], world.office.clock())
        assert fresh is not None
        assert not fresh.stale

    in_console(tmp_path, test)


def test_a_form_of_another_site_changes_nothing(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        form = {"theme": "dark", "csrf": ann.token}
        for headers in (
            {},
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"referer": "https://evil.example/"},
            {"origin": world.url, "sec-fetch-site": "cross-site"},
            {"origin": "http://[broken"},
        ):
            page = await ann.ask("POST", "/preferences", form, headers)
            assert page.status == 403, headers
        for token in ("", "x", guard.token_for(SECRET, "somebody else")):
            page = await ann.ask(
                "POST", "/preferences", {"theme": "dark", "csrf": token}, {"origin": world.url}
            )
            assert page.status == 403, token
        assert visit.THEME not in ann.cookies
        assert (await ann.post("/preferences", theme="dark")).status == 200
        assert ann.cookies[visit.THEME] == "dark"

    in_console(tmp_path, test)


def test_who_is_not_signed_in_changes_nothing(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        anybody = world.stranger()
        page = await anybody.ask("POST", "/wallet/choose", {}, {"origin": world.url})
        assert page.status == 401

    in_console(tmp_path, test)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        world.surroundings.database = tmp_path / "nothing"
        for path in ("/", "/nowhere"):
            page = await ann.get(path)
            assert (page.status, page.headers["retry-after"]) == (503, "2")

    in_console(tmp_path, test)


def test_every_route_is_said_once() -> None:
    named = [(route.method, route.path) for route in ROUTES]
    assert len(named) == len(set(named))
    assert Site.__init__.__annotations__["surroundings"] is Surroundings


def test_a_page_that_fails_says_so_and_nothing_of_its_inside(tmp_path: Path) -> None:
    async def broken(_seen: Visit) -> web.StreamResponse:
        raise RuntimeError("the secret inside")

    async def away(_seen: Visit) -> web.StreamResponse:
        raise sqlite3.OperationalError("no such table: inside")

    async def test(world: World) -> None:
        routes = [
            Route("GET", "/broken", None, broken),
            Route("GET", "/away", None, away),
            Route("POST", "/form", None, broken),
        ]
        listener = socket.create_server(("127.0.0.1", 0))
        site = Site(world.surroundings, routes)
        host, port = await site.start_on(listener)
        try:
            async with Browser(f"http://{host}:{port}", None, {}) as anybody:
                page = await anybody.get("/broken")
                assert (page.status, "inside" in page.text) == (500, False)
                assert "Something broke here" in page.text
                page = await anybody.get("/away")
                assert (page.status, "inside" in page.text) == (503, False)
                assert page.headers["retry-after"] == "2"
                form = BytesIO(b"text=" + b"x" * FORM_BYTES_MAX)
                kind = {"content-type": "application/x-www-form-urlencoded"}
                page = await anybody.ask("POST", "/form", form, {"origin": anybody.url} | kind)
                assert (page.status, "That is too large" in page.text) == (413, True)
        finally:
            await site.stop()
            listener.close()

    in_console(tmp_path, test)


def test_a_connection_that_asks_for_nothing_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.edge.console.site.IDLE_SECONDS_MAX", 0.05)

    async def test(world: World) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        site = Site(world.surroundings)
        host, port = await site.start_on(listener)
        try:
            for sent in (b"", b"GET / HTTP/1.1\r\nhost: x\r\n"):
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(sent)
                assert await reader.read() == b""
                writer.close()
        finally:
            await site.stop()
            listener.close()

    in_console(tmp_path, test)


def test_the_head_of_a_page_is_that_of_the_page(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        for path in ("/", "/keys", "/wallet", "/usage", "/account", "/nowhere", "/operator"):
            page, head = await ann.get(path), await ann.ask("HEAD", path, None, {})
            assert (head.status, head.text) == (page.status, ""), path
            for name in ("content-type", "content-security-policy", "cache-control"):
                assert head.headers[name] == page.headers[name], path
            assert int(head.headers["content-length"]) > 1_000, path

    in_console(tmp_path, test)


@pytest.mark.parametrize(
    "path", ["/usage/live", "/usage/export.csv", "/usage/export.json", "/wallet/history.csv"]
)
def test_no_stream_begins_for_its_head(tmp_path: Path, path: str) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        for _ in range(10):
            head = await ann.ask("HEAD", path, None, {})
            assert (head.status, head.text) == (200, "")
            assert head.headers["content-type"].startswith(("text/", "application/json"))
            assert "content-security-policy" in head.headers
        assert world.surroundings.exports.total() == world.surroundings.streams.total() == 0
        # Nothing of a body is left on the connection.
        assert (await ann.get("/keys")).status == 200

    in_console(tmp_path, test)
