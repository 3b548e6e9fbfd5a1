"""An operator compares a provider's export in Chromium, and the result is for everybody to read."""

import json
from collections.abc import Iterator
from pathlib import Path
from time import gmtime, strftime

import pytest
from playwright.sync_api import Browser, expect

from tests.integration.browser import SMALL_PHONE, chromium, visitor
from tests.integration.console_stage import Stage, sign_in, stage
from tests.integration.test_console_pages import faults_of


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("reconcile")) as furnished:
        yield furnished


@pytest.mark.timeout(120)
def test_an_export_is_uploaded_and_its_difference_explained(
    browser: Browser, found: Stage, tmp_path: Path
) -> None:
    admin = found.person("op@example.com", "admin", credit="10.00")
    key = found.do("key add", user=admin.wallet, name="k")["key"]
    for _ in range(3):
        assert found.call(key).status == 200
    found.do("ledger flush")
    export = tmp_path / "usage.json"
    day = strftime("%Y-%m-%dT00:00:00Z", gmtime())
    row = {"model": "up-model", "input_tokens": 1, "output_tokens": 1, "num_model_requests": 3}
    export.write_text(json.dumps({"data": [{"starting_at": day, "results": [row]}]}))
    for theme in ("light", "dark"):
        with visitor(browser, found.url, theme=theme, size=SMALL_PHONE) as reader:
            sign_in(reader, admin)
            page = reader.go("/operator/reconcile")
            page.get_by_label("Channel").select_option("main")
            page.get_by_label("Usage export").set_input_files(export)
            page.get_by_role("button", name="Compare").click()
            expect(page.get_by_role("heading", name="What explains it")).to_be_visible()
            expect(page.get_by_text("by day and model")).to_be_visible()
            expect(page.get_by_text("differs").first).to_be_visible()
            assert faults_of(page) == ""
            assert not reader.scrolls_sideways()
            reader.shoot(f"reconcile-{theme}")
            with page.expect_download() as saved:
                page.get_by_role("link", name="Download as CSV").click()
            text = Path(saved.value.path()).read_text(encoding="utf-8-sig")
            assert text.startswith("state,reason,provider_request_id")
            assert "up-model" in text
