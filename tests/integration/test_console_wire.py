"""The console's listener against who does not use a browser: bytes as nobody should send them.

Each answer is a whole one with a status that says no, none is a fault of ours (500), and after it
the console serves the next visitor.
"""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path

import pytest

from proxy.app.directory import DataDirectory
from proxy.edge.console import guard, visit
from proxy.edge.console.pages import ROUTES
from proxy.edge.console.site import FORM_BYTES_MAX
from proxy.edge.console.surroundings import Options
from tests.edge.console.consoles import SECRET, Browser, World, in_console

READ_SECONDS_MAX = 20
ENDS = ("/logout", "/account/sessions/end", "/account/sessions/end-all")
"""After these the reader is a stranger."""
FORM = "application/x-www-form-urlencoded"
COOKIES = (visit.SESSION, visit.VISITOR, visit.WALLET, visit.LANGUAGE, visit.THEME, visit.NOTICE)
ODD_VALUES = (
    b"",
    b"\xff\xfe",
    b"\xff.\xff.\xff",
    b'"\\377"',
    b"a.b.c",
    b".x",
    b"eyJh.eyJh.eyJh",
    b"\xc3\xa9",
    b"%00",
    b"1;drop",
    b"9" * 4000,
)


def port(world: World) -> int:
    return int(world.url.rpartition(":")[2])


async def raw(world: World, data: bytes) -> bytes:
    """Send bytes; everything that came until the console closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port(world))
    try:
        writer.write(data)
        async with asyncio.timeout(READ_SECONDS_MAX):
            return await reader.read()
    finally:
        writer.close()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def post(world: World, *headers: bytes, body: bytes = b"a=b", form: str = FORM) -> bytes:
    """A form as one of our pages sends it, but for a token."""
    head = (
        b"POST /preferences HTTP/1.1",
        b"Host: 127.0.0.1:%d" % port(world),
        b"Origin: %s" % world.url.encode(),
        b"Content-Type: %s" % form.encode(),
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        *headers,
    )
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def at_the_wire(tmp_path: Path, test: Callable[[World], Awaitable[None]]) -> None:
    async def run(world: World) -> None:
        await test(world)
        assert (await world.stranger().get("/")).status == 200, "the next visitor is served"

    in_console(tmp_path, run)


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("multipart/form-data", b"abcd"),
        ("multipart/form-data; boundary=", b"abcd"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\nabcd"),
        ("multipart/form-data; boundary=x", b"--y--"),
        (FORM + "; charset=nope", b"a=b"),
        (FORM + "; charset=utf-16", b"a=b"),
        (FORM, b"a=\xff\xfe"),
        (FORM, b"&=&=&&&;%"),
        (FORM, b"csrf=1&csrf=2&csrf[]=3"),
        ("application/json", b'{"csrf": 1}'),
        ("text/plain", b"csrf=1"),
        ("", b"a=b"),
    ],
)
def test_a_form_that_is_none_is_refused(tmp_path: Path, form: str, body: bytes) -> None:
    async def test(world: World) -> None:
        answer = await raw(world, post(world, body=body, form=form))
        assert status(answer) in {400, 403}, answer
        assert b"<h1>" in answer, "it is a page that says so"

    at_the_wire(tmp_path, test)


def test_a_huge_form_is_refused_before_it_is_kept(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        body = b"name=" + b"x" * (FORM_BYTES_MAX + 1)
        answer = await raw(world, post(world, body=body))
        assert status(answer) == 413
        ann = await world.signed_in("ann@example.com", wallet="ann")
        for route in ROUTES:
            own = not route.foreign and "{" not in route.path and route.path not in ENDS
            if route.method == "POST" and own:
                headers = {"origin": world.url, "content-type": FORM, "x-csrf-token": ann.token}
                page = await ann.ask("POST", route.path, BytesIO(body), headers, follow=False)
                assert page.status in {303, 404, 413}, route.path

    at_the_wire(tmp_path, test)


def test_a_form_of_very_many_fields_takes_no_handler_down(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        body = b"&".join(b"%x=" % number for number in range(100_000))
        answer = await raw(world, post(world, body=body))
        assert status(answer) in {400, 403, 413}, answer

    at_the_wire(tmp_path, test)


@pytest.mark.parametrize("name", COOKIES)
def test_no_cookie_breaks_a_page(tmp_path: Path, name: str) -> None:
    async def test(world: World) -> None:
        for value in ODD_VALUES:
            answer = await raw(
                world,
                b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: "
                + b"%s=%s\r\n\r\n" % (name.encode(), value),
            )
            assert status(answer) in {200, 400}, (value, answer[:200])

    at_the_wire(tmp_path, test)


@pytest.mark.parametrize(
    "header",
    [
        b"Accept-Language: \xff",
        b"Accept-Language: " + b"a-" * 3000,
        b"X-Csrf-Token: \xff",
        b"X-Forwarded-For: \xff, <script>",
        b"Referer: \xff",
        b"User-Agent: \xff<script>",
        b"Sec-Fetch-Site: \xff",
        b"Cookie: " + b"; ".join(b"c%d=1" % number for number in range(500)),
    ],
)
def test_no_header_breaks_a_page(tmp_path: Path, header: bytes) -> None:
    async def test(world: World) -> None:
        assert status(await raw(world, post(world, header))) == 403
        get = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + b"\r\n\r\n"
        assert status(await raw(world, get)) == 200

    at_the_wire(tmp_path, test)


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nabcde",
        b"Content-Length: +5\r\n\r\nabcde",
        b"Content-Length: 0x5\r\n\r\nabcde",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"X: a\r\n b\r\n\r\n",
        b"X\x00Y: a\r\n\r\n",
    ],
)
def test_no_second_request_is_smuggled(tmp_path: Path, head: bytes) -> None:
    async def test(world: World) -> None:
        data = b"POST /preferences HTTP/1.1\r\nHost: x\r\n" + head + SMUGGLED
        answer = await raw(world, data)
        assert status(answer) == 400
        assert answer.count(b"HTTP/1.") == 1

    at_the_wire(tmp_path, test)


@pytest.mark.parametrize(
    "target",
    [
        b"/static/../../secrets/console",
        b"/static/%2e%2e/%2e%2e/secrets/console",
        b"/static/..%2f..%2fsecrets%2fconsole",
        b"/static/x/..%5c..%5csecrets",
        b"/static//etc/passwd",
        b"/static/%00/sluice.css",
        b"/static/x/sluice.css%00.png",
        b"//etc/passwd",
        b"/../../../../etc/passwd",
        b"/templates/layout.html",
        b"/static/",
        b"/static",
    ],
)
def test_no_path_leads_out_of_the_static_files(tmp_path: Path, target: bytes) -> None:
    async def test(world: World) -> None:
        secret = DataDirectory(tmp_path).secrets
        secret.mkdir(exist_ok=True)
        (secret / "console").write_bytes(b"canary-of-a-secret")
        request = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target
        answer = await raw(world, request)
        assert status(answer) in {400, 404}
        assert b"canary-of-a-secret" not in answer
        assert b"root:" not in answer
        assert b"{%" not in answer

    at_the_wire(tmp_path, test)


@pytest.mark.parametrize("over_tls", [True, False])
def test_what_cookies_are_allowed_to(tmp_path: Path, over_tls: bool) -> None:
    scheme = "https" if over_tls else "http"

    async def test(world: World) -> None:
        answer = await raw(world, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        cookies = [line for line in answer.split(b"\r\n") if line.lower().startswith(b"set-cookie")]
        assert cookies
        for cookie in cookies:
            said = cookie.lower()
            assert b"httponly" in said
            assert b"samesite=lax" in said
            assert b"path=/" in said
            assert b"domain" not in said
            assert (b"; secure" in said, b" __host-" in said) == (over_tls, over_tls)
        assert (b"strict-transport-security" in answer.lower()) == over_tls

    options = Options(console_url=f"{scheme}://console.example")
    in_console(tmp_path, test, options)


def test_no_page_can_be_framed_or_tells_what_serves_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        for path in ("/", "/nothing", "/static/nothing", "/wallet", "/keys"):
            headers = (await ann.get(path)).headers
            assert headers["x-frame-options"] == "DENY"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["server"] == "sluice"

    at_the_wire(tmp_path, test)


def test_a_host_that_is_not_ours_gets_into_no_page(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        answer = await raw(
            world, b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        )
        assert b"evil.example" not in answer

    at_the_wire(tmp_path, test)


def test_a_readers_own_token_signs_nothing_else(tmp_path: Path) -> None:
    """A visitor's name is theirs to choose, so its token must not be the seal of a notice."""

    async def test(world: World) -> None:
        body = urlsafe_b64encode(json.dumps({"kind": "info", "text": "forged"}).encode()).decode()
        seal = guard.token_for(SECRET, body)
        async with Browser(world.url, None, {visit.VISITOR: body}) as chooser:
            assert seal in (await chooser.get("/")).text, "the token is that of the name"
        async with Browser(world.url, None, {visit.NOTICE: f"{body}.{seal}"}) as victim:
            assert "forged" not in (await victim.get("/")).text

    at_the_wire(tmp_path, test)


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example",
        "\\/evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "/%0d%0aset-cookie:x=1",
        "/\r\nset-cookie: x=1",
        "/\x00",
        " //evil.example",
        "/@evil.example",
        "http://[",
    ],
)
def test_no_redirect_goes_to_where_a_form_says(tmp_path: Path, target: str) -> None:
    async def test(world: World) -> None:
        anybody = world.stranger()
        await anybody.get("/")
        page = await anybody.post("/preferences", follow=False, theme="dark", next=target)
        where = page.headers["location"]
        assert where.startswith("/")
        assert not where.startswith(("//", "/\\"))
        assert "\r" not in where
        assert "\n" not in where
        assert "x" not in [one.partition("=")[0] for one in anybody.cookies]

    at_the_wire(tmp_path, test)
