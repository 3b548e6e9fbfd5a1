"""The console without a script: what a user must do works in a browser that runs none.

Nothing is copied by a button and nothing appears by itself; forms, menus and links are HTML's own.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.integration.browser import DESK, PHONE, chromium, visitor
from tests.integration.console_stage import Stage, stage
from tests.integration.console_story import Story
from tests.integration.relay_process import OPENAI_MODEL

PASSWORD = "some words that nobody has"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("plain"), registration="open") as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_user_needs_no_script(
    found: Stage, browser: Browser, size: tuple[int, int], tmp_path: Path
) -> None:
    email = f"plain-{size[0]}@example.com"
    with visitor(browser, found.url, size=size, script=False, expects={401, 422}) as reader:
        story = Story(reader)
        story.register(email, PASSWORD)
        story.redeem(found.code("3.00"), "$3.00")
        secret = story.make_key("first")
        example = story.page.locator(".tabset-panel").first
        story.choose_tab("Python SDK")
        expect(example).to_be_hidden()
        answered = found.call(secret, OPENAI_MODEL)
        assert answered.status == 200
        found.do("ledger flush")  # the page shows what the file has, and is not told of more
        story.go_by_menu("Usage")
        expect(story.page.locator("#calls-body > tr")).to_have_count(1)
        expect(story.page.locator("time").first).to_contain_text("UTC")
        story.press(story.page.locator("#calls-body > tr").first.get_by_role("link").first)
        expect(story.page.get_by_role("heading", level=1)).to_have_text("Receipt")
        story.press(story.button("Your account"))
        story.press(story.button("Sign out"))
        story.reader.go("/keys")
        assert "/login" in story.page.url, "a page of the account asks who it is"
        story.write(story.field("E-mail"), email)
        story.write(story.field("Password"), "wrong words altogether")
        story.press(story.button("Sign in"))
        expect(story.page.get_by_role("alert")).to_be_visible()
        story.write(story.field("Password"), PASSWORD)
        story.press(story.button("Sign in"))
        expect(story.page.get_by_role("heading", level=1)).to_have_text("Keys")


def test_a_theme_and_a_language_are_chosen_without_a_script(found: Stage, browser: Browser) -> None:
    with visitor(browser, found.url, script=False) as reader:
        story = Story(reader)
        reader.go("/login")
        story.press(story.button("Language and appearance"))
        story.press(story.page.get_by_role("button", name="中文"))
        expect(story.page.locator("html")).to_have_attribute("lang", "zh-Hans")
        assert "/login" in story.page.url
        story.language = "zh"
        story.press(story.button("Language and appearance"))
        story.press(story.button("Dark"))
        expect(story.page.locator("html")).to_have_attribute("data-theme", "dark")
