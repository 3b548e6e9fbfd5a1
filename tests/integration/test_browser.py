"""The watch over pages itself: each thing a page must not do is seen when one does it."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.integration.browser import chromium, visitor

PAGES = {
    "/fine": "<p>nothing to see",
    "/inline": "<script>document.title = 'ran'</script>",
    "/handler": "<p>x<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw=' onload='alert(1)'>",
    "/style": "<p style='color: red'>x",
    "/broken": "<script src='/throws.js'></script>",
    "/throws.js": "throw new Error('broken on purpose')",
    "/dialog": "<script src='/alerts.js'></script>",
    "/alerts.js": "alert('hello')",
    "/abroad": "<link rel=stylesheet href='http://127.0.0.2:9/x.css'>",
    "/picture": "<img src='/nothing.png'>",
    "/wide": "<p>" + "x" * 1000,
}
FAULTS = {
    "/inline": "Content Security Policy|violates",
    "/handler": "Content Security Policy|violates",
    "/style": "Content Security Policy|violates",
    "/broken": "broken on purpose",
    "/dialog": "a dialog opened: alert hello",
    "/abroad": "a request left for http://127.0.0.2:9/x.css",
    "/picture": "GET .*/nothing.png: 404",
}
POLICY = "default-src 'self'; style-src 'self' http://127.0.0.2:9; img-src 'self' data:"


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = PAGES.get(self.path, "")
        self.send_response(200 if text or self.path == "/favicon.ico" else 404)
        kind = "text/javascript" if self.path.endswith(".js") else "text/html"
        self.send_header("content-type", kind)
        self.send_header("content-security-policy", POLICY)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=functools.partial(server.serve_forever, 0.05), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def test_a_page_without_faults_passes(browser: Browser, site: str) -> None:
    with visitor(browser, site) as reader:
        reader.go("/fine")
        assert reader.text() == "nothing to see"
        assert not reader.scrolls_sideways()
        reader.go("/wide")
        assert reader.scrolls_sideways()


@pytest.mark.parametrize("path", FAULTS)
def test_what_a_page_must_not_do_is_seen(browser: Browser, site: str, path: str) -> None:
    with pytest.raises(AssertionError, match=FAULTS[path]), visitor(browser, site) as reader:
        reader.go(path)


def test_a_status_that_is_meant_passes(browser: Browser, site: str) -> None:
    with visitor(browser, site, expects={404}) as reader:
        reader.go("/picture")


def test_pictures_are_made_only_where_they_are_asked_for(
    browser: Browser, site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with visitor(browser, site) as reader:
        reader.go("/fine")
        monkeypatch.delenv("SLUICE_SHOTS", raising=False)
        reader.shoot("none")
        monkeypatch.setenv("SLUICE_SHOTS", str(tmp_path))
        reader.shoot("fine")
    assert [path.name for path in tmp_path.iterdir()] == ["fine.png"]
