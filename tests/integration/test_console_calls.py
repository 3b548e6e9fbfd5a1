"""Calls as a person sees them in Chromium, from real processes: live, paid for, stopped, tested.

The relay, its console and the upstream are real; what a provider writes is markup, so that a page
which took it for its own would be seen.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.edge.harness import DONE, ROLE, STOP, answer, plain_answer, text, usage
from tests.integration.browser import SMALL_PHONE, Visitor, chromium, visitor
from tests.integration.console_stage import Person, Stage, sign_in
from tests.integration.relay_process import OPENAI_MODEL, RelayProcess, UpstreamAt
from tests.integration.scripted import ReceivedRequest, ScriptedUpstream
from tests.integration.scripts import (
    LAST_CHUNK,
    AwaitGone,
    Pause,
    Script,
    Send,
    chunk,
    plain_script,
    stream_head,
    stream_script,
)
from tests.integration.test_console_pages import faults_of

MARKUP = "<img src=x onerror=alert(1)><b>bold</b>"
WAIT_MS = 15_000
PAUSED = "hold the line"
ENDLESS = "never end"


def _answer(request: ReceivedRequest) -> Script:
    """Answer by what is asked: paused after the first words, endless, or whole."""
    if b'"stream":true' not in request.body.replace(b" ", b""):
        return plain_script(plain_answer())
    first = [Send(stream_head()), Send(chunk(ROLE)), Send(chunk(text(MARKUP)))]
    rest = [Send(chunk(event)) for event in (text(" and more"), STOP, usage(9, 20), DONE)]
    if PAUSED.encode() in request.body:
        return [*first, Pause("words"), *rest, Send(LAST_CHUNK)]
    if ENDLESS.encode() in request.body:
        return [*first, AwaitGone()]
    return stream_script(answer())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ScriptedUpstream(_answer) as upstream:
        channel = UpstreamAt("main", "openai", upstream.base_url, {OPENAI_MODEL: "up-model"})
        directory = tmp_path_factory.mktemp("calls")
        with RelayProcess(directory, [channel], console=True) as relay:
            yield Stage(relay, upstream)


@pytest.fixture
def ann(found: Stage, request: pytest.FixtureRequest) -> Person:
    """Somebody new for each test."""
    return found.person(f"{abs(hash(request.node.name))}@example.com")


def key_of(found: Stage, person: Person) -> str:
    made = found.do("key add", user=person.wallet, name="laptop")
    return str(made["key"])


def test_a_call_appears_in_the_open_log_with_its_cost_and_recomputes(
    browser: Browser, found: Stage, ann: Person, tmp_path: Path
) -> None:
    secret = key_of(found, ann)
    with visitor(browser, found.url) as reader:
        page = sign_in(reader, ann).go("/usage")
        expect(page.get_by_text("No calls yet")).to_be_visible()
        expect(page.locator(".live")).to_have_text("live", timeout=WAIT_MS)
        found.call(secret)
        row = page.locator("#calls-body tr")
        expect(row).to_have_count(1, timeout=WAIT_MS)
        expect(row).to_contain_text("complete")
        expect(row).to_contain_text("$0.00")
        expect(row).to_contain_text("9 → 7")
        expect(page.get_by_text("No calls yet")).to_be_hidden()
        found.call(secret)
        expect(row).to_have_count(2, timeout=WAIT_MS)
        row.first.locator("a").click()
        expect(page.locator("h1")).to_have_text("Receipt")
        for link in ("Receipt as JSON", "Program"):
            with page.expect_download() as saved:
                page.get_by_role("link", name=link).last.click()
            saved.value.save_as(tmp_path / saved.value.suggested_filename)
    (receipt,) = tmp_path.glob("receipt-req_*.json")
    program = [sys.executable, "-I", str(tmp_path / "recompute.py"), str(receipt)]
    run = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
    assert (run.returncode, "equal" in run.stdout) == (0, True), run.stdout + run.stderr


def test_a_chat_is_streamed_as_text_and_its_charge_is_the_books(
    browser: Browser, found: Stage, ann: Person
) -> None:
    key_of(found, ann)
    with visitor(browser, found.url, others={found.relay_host}) as reader:
        page = sign_in(reader, ann).go("/playground")
        page.get_by_label("Message").fill(PAUSED)
        page.get_by_role("button", name="Send").click()
        said = page.locator("#talk .said")
        expect(said.last).to_have_text(MARKUP, timeout=WAIT_MS)
        assert page.locator("#talk img, #talk b").count() == 0
        expect(page.locator("#state")).to_have_text("running")
        # The books know of a running call about once a second.
        expect(page.locator("#cost")).to_have_text(re.compile(r"^\$0\.0+[1-9]"), timeout=WAIT_MS)
        found.upstream.release("words")
        expect(page.locator("#state")).to_have_text("done", timeout=WAIT_MS)
        expect(said.last).to_have_text(f"{MARKUP} and more")
        expect(page.locator("#cost")).to_have_text("$0.000089")
        expect(page.locator("#tokens")).to_have_text("9 → 20")
        left = page.locator("#left").inner_text()
        assert left.endswith("911"), "to the last digit"
        for shown in page.locator("[data-balance] .money").all():
            expect(shown).to_have_text(left)
        assert page.locator("[data-balance] .fine").last.inner_text() == left.partition(".")[2][2:]
        expect(page.locator("#receipt a")).to_have_text(re.compile("^req_"))
        assert not faults_of(page)
        page.get_by_label("Message").fill("and again")
        page.get_by_role("button", name="Send").click()
        expect(said).to_have_count(4, timeout=WAIT_MS)
        expect(page.locator("#state")).to_have_text("done", timeout=WAIT_MS)
        _remembers(found)
        page.locator("#receipt a").click()
        expect(page.locator("h1")).to_have_text("Receipt")
        reader.shoot("receipt-of-chat")


def _remembers(found: Stage) -> None:
    """The last request has the whole conversation, and a key that is not the key's own."""
    request = found.upstream.visits[-1].exchanges[-1].request
    assert request is not None
    for part in (PAUSED.encode(), b"and more", b"and again"):
        assert part in request.body


def test_stopping_charges_what_was_delivered(browser: Browser, found: Stage, ann: Person) -> None:
    key_of(found, ann)
    with visitor(browser, found.url, others={found.relay_host}) as reader:
        page = sign_in(reader, ann).go("/playground")
        page.get_by_label("Message").fill(ENDLESS)
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#talk .said").last).to_have_text(MARKUP, timeout=WAIT_MS)
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#state")).to_contain_text("stopped by you", timeout=WAIT_MS)
        expect(page.locator("#receipt a")).to_be_visible(timeout=WAIT_MS)
        page.locator("#receipt a").click()
        expect(page.locator("main")).to_contain_text("caller left")
        expect(page.locator("main")).to_contain_text("counted by us")
    (call,) = found.do("usage", user=ann.wallet)
    assert (call["verdict"], call["source"]) == ("client_gone", "counted")


def test_what_the_relay_refuses_is_said(browser: Browser, found: Stage) -> None:
    poor = found.person("poor@example.com", credit=None)
    key_of(found, poor)
    with visitor(browser, found.url, others={found.relay_host}, expects={402}) as reader:
        page = sign_in(reader, poor).go("/playground")
        page.get_by_label("Message").fill("Hello")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#state")).to_contain_text("failed:", timeout=WAIT_MS)
        expect(page.locator("#state")).to_contain_text("balance")
        reader.shoot("playground-refused")


def test_without_a_script_it_is_said_what_to_do(
    browser: Browser, found: Stage, ann: Person
) -> None:
    key_of(found, ann)
    with visitor(browser, found.url, script=False) as reader:
        page = sign_in(reader, ann).go("/playground")
        expect(page.get_by_text("This page needs its script")).to_be_visible()
        page = reader.go("/usage")
        expect(page.get_by_text("reload for newer calls")).to_be_visible()


def test_the_self_test_runs_from_the_console_and_finds_all_well(
    browser: Browser, found: Stage, ann: Person
) -> None:
    key_of(found, ann)
    with visitor(browser, found.url, size=SMALL_PHONE) as reader:
        page = sign_in(reader, ann).go("/selftest?concurrency=2")
        expect(page.locator("main")).to_contain_text("Costs at most")
        page.get_by_role("button", name="Start the self-test").click()
        expect(page.get_by_text("Another self-test")).to_be_visible(timeout=30_000)
        reader.shoot("selftest-report")
        _judge(reader)
    assert len(found.do("usage", user=ann.wallet)) >= 8


def _judge(reader: Visitor) -> None:
    page = reader.page
    lines = page.locator("tbody tr")
    assert lines.count() == 10, reader.text()
    expect(page.locator("main")).to_contain_text("leaving early")
    assert page.locator(".badge.bad").count() == 0, reader.text()
    assert not faults_of(page)
    assert not reader.scrolls_sideways()
