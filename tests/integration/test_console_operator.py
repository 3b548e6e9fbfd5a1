"""An operator's way through the console, in Chromium, from an empty relay to a refund.

Set the password by the link from the command line; make a group; take a model and its price over
from the published list; add a channel with its key and test it; a user's key in that group is
served through it, and the operator watches; then a call is given back, and the provider's export is
compared with the books. Nothing is done beside the pages but what a user does.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.edge.harness import body as chat
from tests.integration.browser import DESK, PHONE, chromium, visitor
from tests.integration.console_stage import Stage, stage
from tests.integration.console_story import Story
from tests.integration.raw_client import RawClient, request_bytes
from tests.integration.test_console_pages import faults_of

MODEL = "gpt-4o-mini"
PASSWORD = "another four plain words"
UPSTREAM_KEY = "sk-canary-of-the-upstream-0000wxyz"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path / "relay", catalog_file="") as running:
        running.do("catalog apply", document={"plan": [{"name": "default"}]})
        yield running


def begin(story: Story, found: Stage) -> None:
    """Come by the link that the command line printed, and choose a password."""
    link = found.do("person add", email="op@example.com", role="admin")["link"]
    story.reader.go(link[link.index("/password") :])
    story.write(story.field("New password"), PASSWORD)
    story.press(story.button("Set the password and sign in"))
    expect(story.button("Your account")).to_be_visible()


def make_group(story: Story) -> None:
    story.go_by_menu("Groups")
    story.press(story.link("Add a group"))
    story.write(story.field("Name"), "pro")
    story.write(story.field("Multiplier"), "1.5")
    story.press(story.button("Save"))
    expect(story.page.get_by_role("main")).to_contain_text("× 1.5")


def import_price(story: Story) -> None:
    story.go_by_menu("Models and prices")
    story.press(story.link("Compare with published prices"))
    story.page.get_by_label(story.say("Provider")).select_option("openai")
    story.write(story.field("Models"), MODEL)
    story.press(story.button("Apply"))
    story.page.get_by_label(story.say("Take over {name}", name=MODEL), exact=True).check()
    story.press(story.button("Take over what is chosen"))
    expect(story.page.get_by_role("status").first).to_be_visible()
    story.go_by_menu("Models and prices")
    expect(story.page.get_by_role("main")).to_contain_text(MODEL)


def add_channel(story: Story, base_url: str) -> None:
    story.go_by_menu("Channels")
    story.press(story.link("Add a channel"))
    story.write(story.field("Name"), "provider")
    story.write(story.page.get_by_label(story.say("Base URL")), base_url)
    story.page.get_by_label(story.say("It may be on a private address")).check()
    story.page.get_by_label("pro", exact=True).check()
    story.write(story.field("Models"), f"{MODEL} = up-model")
    story.write(story.field("Costs"), f"{MODEL}: input 0.10, output 0.40")
    story.press(story.button("Make the channel"))
    story.press(story.link("Add a key"))
    story.write(story.field("Upstream key"), UPSTREAM_KEY)
    story.press(story.button("Add the key"))
    expect(story.page.get_by_role("main")).to_contain_text("…wxyz")
    assert UPSTREAM_KEY not in story.page.content()


def try_channel(story: Story) -> None:
    story.press(story.button("Test the channel"))
    told = story.page.locator(".notice")
    expect(told).to_be_visible()
    assert "good" in (told.get_attribute("class") or ""), told.inner_text()


def serve(story: Story, found: Stage) -> str:
    """A user's call in the new group, seen in the operator's log as it is made; its id."""
    user = found.person("customer@example.com")
    key = found.do("key add", user=user.wallet, name="app", group="pro")["key"]
    story.reader.go("/operator/calls")
    expect(story.page.locator(".live[data-state=open]")).to_be_visible()
    with RawClient(found.relay.port) as client:
        client.send(request_bytes("/v1/chat/completions", chat(model=MODEL), key=key))
        answered = client.read_response()
    assert answered.status == 200, answered.body
    rows = story.page.locator("#calls-body > tr")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("customer@example.com")
    expect(rows.first).to_contain_text(re.compile(r"\$0\.00"))
    story.go_by_menu("Traffic")
    expect(story.page.get_by_role("main")).to_contain_text("provider")
    return str(answered.header("x-request-id"))


def refund(story: Story, found: Stage, call: str) -> None:
    """From the receipt; the wallet has all of its money again."""
    assert found.do("wallet show", user="customer@example.com")["balance_usd"] != "10.00"
    story.reader.go("/operator/calls")
    story.press(story.page.locator("#calls-body > tr").first.get_by_role("link").first)
    expect(story.page.get_by_role("main")).to_contain_text(call)
    story.press(story.link("Refund"))
    story.write(story.field("Reason"), "the answer was cut off")
    story.press(story.button("Refund"))
    expect(story.page.get_by_role("main")).to_contain_text("the answer was cut off")
    assert found.do("wallet show", user="customer@example.com")["balance_usd"] == "10.00"


def reconcile(story: Story, folder: Path) -> None:
    """The provider's export says one more call than the books have: it is named."""
    lines = [
        {"time": "2026-01-01T00:00:00Z", "model": "up-model", "input_tokens": 9, "output_tokens": 7}
    ]
    file = folder / "export.json"
    file.write_text(json.dumps(lines))
    story.go_by_menu("Reconciliation")
    story.page.get_by_label(story.say("Channel")).select_option("provider")
    story.page.get_by_label(story.say("Usage export")).set_input_files(file)
    story.press(story.button("Compare"))
    expect(story.page.get_by_role("heading", name=story.say("What explains it"))).to_be_visible()
    expect(story.page.get_by_role("main")).to_contain_text("2026-01-01")


def read_log(story: Story) -> None:
    """The audit log names what was done, and no secret."""
    story.go_by_menu("Audit log")
    log = story.page.get_by_role("main")
    for action in ("wallet refund", "channel key add", "price import", "group set", "channel test"):
        expect(log).to_contain_text(action)
    assert UPSTREAM_KEY not in story.page.content()
    assert PASSWORD not in story.page.content()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("size", "language"),
    [
        pytest.param(DESK, "en", id="desk"),
        pytest.param(PHONE, "zh", id="phone-chinese"),
    ],
)
def test_an_operators_way(
    found: Stage, browser: Browser, tmp_path: Path, size: tuple[int, int], language: str
) -> None:
    tag = {"en": "en-US", "zh": "zh-CN"}[language]
    with visitor(browser, found.url, size=size, language=tag) as reader:
        story = Story(reader, language)
        begin(story, found)
        make_group(story)
        import_price(story)
        add_channel(story, found.upstream.base_url)
        try_channel(story)
        refund(story, found, serve(story, found))
        reconcile(story, tmp_path)
        assert not faults_of(story.page)
        assert not reader.scrolls_sideways()
        read_log(story)
