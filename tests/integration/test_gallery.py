"""Every component in Chromium: accessible in both themes, usable on a phone, without a script too."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from proxy.edge.console import guard
from proxy.edge.console.render import FOLDER, Renderer
from proxy.edge.console.surroundings import Options
from tests.edge.console.visits import charts, stranger, visit
from tests.integration.browser import DESK, PHONE, SMALL_PHONE, chromium, visitor

HERE = Path(__file__).parent.parent / "edge" / "console"
RENDERER = Renderer(folders=(FOLDER, HERE))


class Pages(http.server.BaseHTTPRequestHandler):
    """`/?language=zh&theme=dark` is the gallery; with `stranger=1` as nobody in particular."""

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(where.query).items()}
        asset = RENDERER.assets.at(where.path)
        if asset is None:
            theme, language = asked.get("theme", "auto"), asked.get("language", "en")
            seen = (stranger if "stranger" in asked else visit)(theme=theme, language=language)
            page = RENDERER.render("gallery.html", language=language, visit=seen, charts=charts())
            body, kind = page.encode(), "text/html; charset=utf-8"
        else:
            body, kind = asset.body, asset.content_type
        self.send_response(200)
        self.send_header("content-type", kind)
        for name, value in guard.headers(Options()).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE])
def test_it_is_accessible(
    browser: Browser, site: str, size: tuple[int, int], theme: str, language: str
) -> None:
    with visitor(browser, site, size=size) as reader:
        page = reader.go(f"/?theme={theme}&language={language}")
        found = Axe().run(page).response["violations"]
        assert not [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
        reader.shoot(f"gallery-{size[0]}-{theme}-{language}")


@pytest.mark.parametrize("size", [DESK, PHONE, SMALL_PHONE])
@pytest.mark.parametrize("who", ["", "&stranger=1"])
def test_it_never_scrolls_sideways(
    browser: Browser, site: str, size: tuple[int, int], who: str
) -> None:
    with visitor(browser, site, size=size) as reader:
        for language in ("en", "zh"):
            reader.go(f"/?language={language}{who}")
            assert not reader.scrolls_sideways()


def test_the_system_s_theme_is_followed_unless_another_was_chosen(
    browser: Browser, site: str
) -> None:
    with visitor(browser, site, theme="dark") as reader:
        grounds = {}
        for theme in ("auto", "dark", "light"):
            page = reader.go(f"/?theme={theme}")
            grounds[theme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert grounds["auto"] == grounds["dark"] != grounds["light"]


@pytest.mark.parametrize("script", [True, False])
def test_menu_and_dialogs_work_by_keyboard_with_and_without_a_script(
    browser: Browser, site: str, *, script: bool
) -> None:
    with visitor(browser, site, size=PHONE, script=script) as reader:
        page = reader.go("/")
        menu = page.locator("#menu")
        expect(menu).to_be_hidden()
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(menu).to_be_visible()
        page.keyboard.press("Escape")
        expect(menu).to_be_hidden()
        opener = page.get_by_role("button", name="Revoke").first
        opener.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Revoke the key “laptop”?")
        expect(dialog).to_be_visible()
        expect(dialog.get_by_role("button", name="Revoke")).to_be_visible()
        dialog.get_by_role("button", name="Cancel").click()
        expect(dialog).to_be_hidden()


def test_tabs_change_without_a_script(browser: Browser, site: str) -> None:
    with visitor(browser, site, script=False) as reader:
        page = reader.go("/")
        expect(page.get_by_text("package main")).to_be_hidden()
        page.get_by_text("Go", exact=True).click()
        expect(page.get_by_text("package main")).to_be_visible()
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_text("from openai import")).to_be_visible()
        expect(page.get_by_role("button", name="Copy").first).to_be_hidden()


def test_a_script_copies_secrets_and_tells_times_of_the_reader(browser: Browser, site: str) -> None:
    with visitor(browser, site) as reader:
        page = reader.go("/")
        page.locator("[data-copy=made]").click()
        expect(page.locator("[data-copy=made]")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()").startswith("sk-sluice-")
        time = page.locator("time").first
        assert time.get_attribute("title") == "2025-11-21 04:40:00 UTC"
        assert "2025" in time.inner_text()
        assert "UTC" not in time.inner_text()
