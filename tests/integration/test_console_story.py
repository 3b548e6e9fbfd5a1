"""A new user's way through the console, in Chromium, with the real SDK against the real relay.

Register, top up with a code, create a key, copy the example from the page and run it, see the call arrive in the log that is
open, with its cost; compute the receipt again with the program that is shown; take the key back.
The same by a phone, in Chinese, and with nothing but a keyboard.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Download, Page, expect

from tests.integration.browser import DESK, PHONE, chromium, visitor
from tests.integration.console_stage import Stage, stage
from tests.integration.console_story import Ended, Story, run_program
from tests.integration.relay_process import OPENAI_MODEL

PASSWORD = "four plain words together"
REVOKED_SECONDS_MAX = 1.0
"""The console's promise (FEATURES.md): what is changed of a key holds within a second."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("story"), registration="open") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def call_and_watch(story: Story, program: str, secret: str, folder: Path) -> Ended:
    """Run the program while the usage log is open: the call appears there, with its cost."""
    story.go_by_menu("Usage")
    expect(story.page.locator(".live[data-state=open]")).to_be_visible()
    rows = story.page.locator("#calls-body > tr")
    before = rows.count()
    with story.without_reload():
        ended = run_program(program, secret, folder)
        assert ended.status == 0, ended
        expect(rows).to_have_count(before + 1)
        expect(rows.first).to_contain_text(story.say("complete"))
        expect(rows.first).to_contain_text(OPENAI_MODEL)
        expect(rows.first).to_contain_text(re.compile(r"\$0\.0000\d*[1-9]"))
    return ended


def saved(page: Page, download: Download, folder: Path) -> Path:
    """Save what a page gives, under the name it suggests."""
    path = folder / download.suggested_filename
    download.save_as(path)
    return path


def recompute(story: Story, folder: Path) -> str:
    """From the latest call's receipt: save both files and run what the page says; its output."""
    story.press(story.page.locator("#calls-body > tr").first.get_by_role("link").first)
    charged = story.page.locator(".stat").first
    expect(charged).to_contain_text("$")
    with story.page.expect_download() as receipt:
        story.press(story.link("Receipt as JSON"))
    file = saved(story.page, receipt.value, folder)
    with story.page.expect_download() as program:
        story.press(story.link("Program"))
    script = saved(story.page, program.value, folder)
    expect(story.page.get_by_text(f"python3 {script.name} {file.name}")).to_be_visible()
    ended = run_program(script.read_text(), "", folder, file.name)
    assert ended.status == 0, ended
    assert re.search(r"recomputed ([1-9]\d*) nano-USD, the receipt says \1: equal", ended.output)
    return ended.output


def revoke(story: Story, found: Stage, name: str, program: str, secret: str, folder: Path) -> None:
    """Disable the key: calls are refused from then on, at the latest after a second."""
    story.go_by_menu("Keys")
    story.press(story.link(name))
    story.press(story.button("Disable"))
    expect(story.page.locator(".badge").first).to_have_text(story.say("disabled"))
    until = time.monotonic() + REVOKED_SECONDS_MAX
    while (status := found.call(secret).status) != 401:
        assert time.monotonic() < until, f"the key still works: {status}"
    ended = run_program(program, secret, folder)
    assert ended.status != 0
    assert "401" in ended.errors, ended.errors


def walk(story: Story, found: Stage, folder: Path, name: str) -> None:
    """The whole way."""
    story.register(f"{name}@example.com", PASSWORD)
    story.redeem(found.code("5.00"), "$5.00")
    secret = story.make_key(name)
    program = story.copy_example()
    assert secret not in program, "a program is kept, so the key does not stand in it"
    ended = call_and_watch(story, program, secret, folder)
    assert ended.status == 0, ended.errors
    assert ended.output.strip()
    recompute(story, folder)
    revoke(story, found, name, program, secret, folder)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("size", "language", "keys_only"),
    [
        pytest.param(DESK, "en", False, id="desk"),
        pytest.param(PHONE, "en", False, id="phone"),
        pytest.param(DESK, "zh", False, id="chinese"),
        pytest.param(DESK, "en", True, id="keyboard"),
    ],
)
def test_a_new_users_way(
    found: Stage,
    browser: Browser,
    tmp_path: Path,
    size: tuple[int, int],
    language: str,
    keys_only: bool,
    request: pytest.FixtureRequest,
) -> None:
    tag = {"en": "en-US", "zh": "zh-CN"}[language]
    name = request.node.callspec.id
    with visitor(browser, found.url, size=size, language=tag) as reader:
        walk(Story(reader, language, keys_only), found, tmp_path, f"of-{name}")
