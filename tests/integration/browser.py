"""Chromium as the console's readers have it, which reports whatever a page does that it should not.

`with chromium() as browser, visitor(browser, url) as page:` opens a page of a fresh visitor. When
it ends, anything that went wrong meanwhile fails the test: what the content policy stopped, an
error or a warning on the browser's console, an exception of a script, a request that failed, one
that went to another host than the page's, and a dialog that nobody expected. A status of 400 and
more of a page fails too, unless `expects` names it. This module knows no page.

Playwright's driver keeps an event loop in the thread that uses it: a module of tests has one
browser (scope="module") and starts no loop of its own beside it.
"""

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    Response,
    WebError,
    sync_playwright,
)

from tests import programs

ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb")
"""Tests run as root in containers, where Chromium's own sandbox cannot be set up."""
ACTION_MILLISECONDS_MAX = 20_000
DESK = (1280, 900)
PHONE = (390, 844)
SMALL_PHONE = (360, 740)
SHOTS_VARIABLE = "SLUICE_SHOTS"
"""Names a directory to write screenshots to; without it none are made."""

_STATUS = re.compile(r"status of (\d{3})")


@dataclass  # no slots: the driver hangs its wrappers on whoever listens
class Watch:
    """What went wrong in a visitor's pages. `expects`: statuses that are meant."""

    hosts: Collection[str]
    expects: Collection[int] = ()
    faults: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def on(self, context: BrowserContext) -> None:
        """Listen to everything that happens in a context."""
        context.on("console", self._said)
        context.on("weberror", self._failed_script)
        context.on("request", self._asked)
        context.on("requestfailed", self._failed)
        context.on("response", self._answered)
        context.on("dialog", self._dialog)

    def check(self) -> None:
        """Raise what went wrong, and forget it."""
        faults, self.faults = self.faults, []
        if faults:
            raise AssertionError("\n".join(faults))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        status = _STATUS.search(message.text)
        if status is None:  # statuses are judged where they arrive
            self.faults.append(f"{message.type} on the console: {message.text}")

    def _failed_script(self, error: WebError) -> None:
        self.faults.append(f"a script failed: {error.error}")

    def _asked(self, request: Request) -> None:
        self.requests.append(request)
        where = urlsplit(request.url)
        if where.scheme not in {"data", "blob", "about"} and where.netloc not in self.hosts:
            self.faults.append(f"a request left for {request.url}")

    def _failed(self, request: Request) -> None:
        # Who goes to another page, or gets a file, breaks off what was under way.
        if request.failure != "net::ERR_ABORTED":
            self.faults.append(f"{request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expects:
            self.faults.append(f"{response.request.method} {response.url}: {response.status}")

    def _dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"a dialog opened: {dialog.type} {dialog.message}")
        dialog.dismiss()


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium without a window; skips the test where there is none."""
    program = programs.need("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=[*ARGUMENTS])
        try:
            yield browser
        finally:
            browser.close()


@dataclass(slots=True)
class Visitor:
    """Somebody with a browser: cookies of their own, a page, and its watch."""

    url: str
    page: Page
    watch: Watch

    def go(self, path: str) -> Page:
        """Open a page of the site."""
        self.page.goto(self.url + path)
        return self.page

    def text(self) -> str:
        """The page's text as it is shown."""
        return self.page.locator("body").inner_text()

    def scrolls_sideways(self) -> bool:
        """Whether the page is wider than the window."""
        found: bool = self.page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        return found

    def shoot(self, name: str) -> None:
        """Write a picture of the whole page, if a directory is named for it."""
        folder = os.environ.get(SHOTS_VARIABLE)
        if folder:
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@contextlib.contextmanager
def visitor(
    browser: Browser,
    url: str,
    *,
    size: tuple[int, int] = DESK,
    theme: Literal["light", "dark"] = "light",
    language: str = "en-US",
    script: bool = True,
    others: Collection[str] = (),
    expects: Collection[int] = (),
) -> Iterator[Visitor]:
    """A visitor of the site at `url` (its origin). `others`: hosts its pages may call besides."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=theme,
        locale=language,
        timezone_id="UTC",
        java_script_enabled=script,
        accept_downloads=True,
        permissions=["clipboard-read", "clipboard-write"],
        reduced_motion="reduce",
    )
    context.set_default_timeout(ACTION_MILLISECONDS_MAX)
    watch = Watch({urlsplit(url).netloc, *others}, expects)
    watch.on(context)
    try:
        yield Visitor(url, context.new_page(), watch)
        watch.check()
    finally:
        context.close()
