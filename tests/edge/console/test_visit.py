import asyncio
import socket
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
from aiohttp import web

from proxy.edge.console import visit
from proxy.edge.console.routes import Route
from proxy.edge.console.site import Site
from proxy.edge.console.surroundings import Options
from proxy.edge.console.visit import Visit, local_path
from tests.edge.console.consoles import Browser, World, in_console


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/keys", "/keys"),
        ("/usage?model=a&b=1", "/usage?model=a&b=1"),
        ("https://evil.example/keys?x=1", "/keys?x=1"),
        ("//evil.example/keys", "/keys"),
        ("///evil.example", "/evil.example"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("https:evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nset-cookie: x=1", "/"),
        ("/a\tb", "/"),
        ("/a\udcff", "/"),
        (" /keys", "/"),
        ("http://[", "/"),
        ("keys", "/"),
        ("", "/"),
        (None, "/"),
    ],
)
def test_no_redirect_leaves_the_console(target: str | None, path: str) -> None:
    assert local_path(target) == path


@pytest.mark.parametrize(
    ("trusted", "said", "seen"),
    [
        (("127.0.0.0/8",), "192.0.2.9", "192.0.2.9"),
        (("127.0.0.0/8",), "203.0.113.1, 192.0.2.9 ", "192.0.2.9"),
        (("127.0.0.0/8",), "2001:db8::1", "2001:db8::1"),
        (("127.0.0.0/8",), "somewhere", "127.0.0.1"),
        (("127.0.0.0/8",), None, "127.0.0.1"),
        (("10.0.0.0/8", "127.0.0.1/32"), "192.0.2.9", "192.0.2.9"),
        (("10.0.0.0/8",), "192.0.2.9", "127.0.0.1"),
        ((), "192.0.2.9", "127.0.0.1"),
    ],
)
def test_an_address_is_believed_of_the_proxies_that_the_operator_trusts(
    tmp_path: Path, trusted: tuple[str, ...], said: str | None, seen: str
) -> None:
    async def where(one: Visit) -> web.StreamResponse:
        return web.Response(text=str(one.address))

    async def test(world: World) -> None:
        world.surroundings.options = Options(trusted_proxies=trusted)
        listener = socket.create_server(("127.0.0.1", 0))
        site = Site(world.surroundings, [Route("GET", "/where", None, where)])
        host, port = await site.start_on(listener)
        headers = {} if said is None else {"x-forwarded-for": said}
        try:
            async with Browser(f"http://{host}:{port}", None, {}) as anybody:
                assert (await anybody.ask("GET", "/where", None, headers)).text == seen
        finally:
            await site.stop()
            listener.close()

    in_console(tmp_path, test)


def test_a_form_that_does_not_arrive_changes_nothing_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit, "BODY_SECONDS_MAX", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"theme="
        await asyncio.Event().wait()

    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        kind = {"content-type": "application/x-www-form-urlencoded"}
        page = await ann.ask("POST", "/preferences", slow(), {"origin": ann.url} | kind)
        assert (page.status, "did not arrive in time" in page.text) == (408, True)
        assert visit.THEME not in ann.cookies

    in_console(tmp_path, test)


def test_a_form_that_is_not_compressed_as_it_says_is_no_fault_of_ours(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        kind = {"content-type": "application/x-www-form-urlencoded", "content-encoding": "gzip"}
        page = await ann.ask(
            "POST", "/preferences", BytesIO(b"theme=dark"), {"origin": ann.url} | kind
        )
        assert page.status == 400

    in_console(tmp_path, test)
