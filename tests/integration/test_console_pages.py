"""Every page of the console as Chromium shows it, with something on it: is it for everybody?

Judged by axe-core against WCAG 2 A and AA and its own best practices; at 360 pixels nothing
scrolls sideways; no request leaves the machine, no script or style is stopped by the content
policy, and nothing is said on the browser's console (browser.py). With SLUICE_SHOTS each page is
also drawn into a file.
"""

import re
from collections.abc import Iterator
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from proxy.edge.console.assets import Assets
from proxy.edge.console.routes import Route
from tests.integration.browser import DESK, PHONE, SMALL_PHONE, Visitor, chromium, visitor
from tests.integration.console_pages import address, pages
from tests.integration.console_stage import Person, Stage, sign_in, stage

SCRIPT_BYTES_MAX = 100_000
SPILLED = re.compile(r"object at 0x|built-in method|Undefined|Traceback|\bNone\b|\bNaN\b|\{\{|\{%")
"""What a template shows that was given something else than it thinks."""
PAGES = tuple(pages())
JUDGED = ("light", "phone-dark")
"""Where axe is asked, which takes most of the time: each theme, language and kind of screen once."""
LOOKS: dict[str, tuple[Literal["light", "dark"], tuple[int, int], str]] = {
    "light": ("light", DESK, "en-US"),
    "dark": ("dark", DESK, "en-US"),
    "phone": ("light", PHONE, "en-US"),
    "phone-dark": ("dark", SMALL_PHONE, "zh-CN"),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("pages")) as furnished:
        yield furnished


@pytest.fixture(scope="module")
def admin(found: Stage) -> Person:
    person = found.person("admin@example.com", "admin", credit="100.00")
    found.furnish(person)
    return person


def faults_of(page: Page) -> str:
    """What axe finds; empty if nothing."""
    result = Axe().run(page)
    return str(result.generate_report()) if result.violations_count else ""


def look(reader: Visitor, found: Stage, route: Route, name: str) -> list[str]:
    """Open one page; what is wrong with it."""
    path = address(route, found.known)
    page = reader.go(path)
    wrong = []
    judged = name in JUDGED or route.role is None
    axe = faults_of(page) if judged else ""
    if axe:
        wrong.append(axe)
    if reader.scrolls_sideways():
        wrong.append("it scrolls sideways")
    spilled = SPILLED.search(reader.text())
    if spilled:
        wrong.append(f"it shows {spilled[0]!r}")
    if "<title> · " in page.content() or not page.locator("h1").count():
        wrong.append("it has no title")
    reader.shoot(f"{name}{path.partition('?')[0].replace('/', '-')}"[:120])
    return [f"{path} ({name}): {fault}" for fault in wrong]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", LOOKS)
def test_every_page_is_for_everybody(
    browser: Browser, found: Stage, admin: Person, name: str
) -> None:
    theme, size, language = LOOKS[name]
    wrong: list[str] = []
    with visitor(
        browser, found.url, theme=theme, size=size, language=language, others={found.relay_host}
    ) as reader:
        sign_in(reader, admin)
        for route in PAGES:
            wrong += look(reader, found, route, name)
    assert not wrong, "\n".join(wrong)


@pytest.mark.timeout(120)
def test_every_public_page_is_for_everybody(browser: Browser, found: Stage, admin: Person) -> None:
    wrong: list[str] = []
    for theme in ("light", "dark"):
        with visitor(browser, found.url, theme=theme, size=SMALL_PHONE) as reader:
            for route in PAGES:
                if route.role is None:
                    wrong += look(reader, found, route, f"stranger-{theme}")
    assert not wrong, "\n".join(wrong)


def test_the_judge_finds_what_is_wrong(browser: Browser) -> None:
    with visitor(browser, "http://127.0.0.1:1") as reader:
        reader.page.set_content("<html><img src='data:,'><p style='color:#eee'>pale</p>")
        found = faults_of(reader.page)
    assert "image-alt" in found
    assert "color-contrast" in found


def test_all_scripts_together_are_small() -> None:
    assets = Assets()
    scripts = [one for one in assets._by_name.values() if one.path.endswith(".js")]
    assert scripts
    assert sum(len(one.body) for one in scripts) < SCRIPT_BYTES_MAX
