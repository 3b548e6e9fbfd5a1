"""An operator uploads an export and sees what explains the difference, row by row."""

import asyncio
import csv
import io
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.core.ids import format_id
from proxy.core.reconciliation.records import Reason, State
from proxy.edge.console.languages import Translator
from proxy.edge.console.pages_reconcile import LIST, ROUTES, reason_texts, state_texts
from tests.edge.console.consoles import Browser, Page, World, in_console
from tests.storage.reports.ledgers import attempt, call

HEAD = "request_id,time,model,input_tokens,output_tokens,cost\n"


async def with_attempts(world: World) -> list[int]:
    now = world.office.clock()
    await world.do("user add", name="ann", credit="1")
    await world.do("key add", user="ann", name="k")
    connection = sqlite3.connect(world.office.database, isolation_level=None)
    ids = [call(connection, now) for _ in range(3)]
    for number, of in enumerate(ids):
        attempt(
            connection, of, upstream_request_id=f"=up-{number}", cost=1_000_000,
            started_at=now, upstream_model="m-upstream",
        )  # fmt: skip
    connection.close()
    return ids


async def upload(browser: Browser, body: str, **fields: str) -> Page:
    form = aiohttp.FormData(quote_fields=False)
    for name, value in {"csrf": browser.token, "channel": "main", **fields}.items():
        form.add_field(name, value)
    if body:
        file = io.BytesIO(body.encode())
        form.add_field("file", file, filename="<b>export.csv", content_type="text/csv")
    page = await browser.ask("POST", LIST, form, {"origin": browser.url})
    async with asyncio.timeout(20):
        while "refresh" in page.headers:
            await asyncio.sleep(0.02)
            page = await browser.get(page.path)
    return page


def lines(world: World, *rows: str) -> str:
    day = int(world.office.clock() // 86_400 * 86_400)
    return HEAD + "".join(row.replace("DAY", str(day)) + "\n" for row in rows)


def test_what_differs_is_explained_filtered_and_taken_away(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ids = await with_attempts(world)
        browser = await world.signed_in("op@example.com", "operator")
        body = lines(
            world, "=up-0,DAY,m-upstream,12,5,0.001", "=up-1,DAY,m-upstream,12,9,0.002",
            "alien,DAY,<i>x,1,1,5", "bad,DAY,m,-1,1,1",
        )  # fmt: skip
        page = await upload(browser, body)
        assert page.status == 200
        assert "request by request" in page.text
        assert "$5.003" in page.text.replace('<span class="fine">', "").replace("</span>", "")
        for text in ("matches", "differs", "only in the export", "only here", "output +4"):
            assert text in page.text
        assert "The provider bills other counts than it reported with the answer." in page.text
        assert "Line 5: its input &#39;-1&#39; is no count" in page.text
        assert f"/usage/{format_id(ids[1])}" in page.text
        assert "<b>export" not in page.text
        assert "<i>x" not in page.text
        only = await browser.get(f"{page.path}?state=only_theirs&reason=")
        assert "alien" in only.text
        assert f"/usage/{format_id(ids[1])}" not in only.text
        assert "1 rows" in only.text
        file = await browser.get(f"{page.path}/rows.csv")
        rows = list(csv.DictReader(io.StringIO(file.text.removeprefix("\ufeff"))))
        assert len(rows) == 4
        by_id = {row["provider_request_id"]: row for row in rows}
        assert by_id["'=up-1"]["difference_nano_usd"] == "1000000"
        assert by_id["'=up-1"]["our_request_id"] == format_id(ids[1])
        assert by_id["alien"]["their_cost_nano_usd"] == "5000000000"
        assert by_id["'=up-2"]["difference_nano_usd"] == "-1000000"
        part = await browser.get(f"{page.path}/rows.csv?state=matched&reason=")
        assert part.text.count("\r\n") == 2

    in_console(tmp_path, test)


def test_days_and_models_where_nothing_names_requests(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await with_attempts(world)
        browser = await world.signed_in("op@example.com", "operator")
        page = await upload(browser, lines(world, ",DAY,m-upstream,36,15,0.003"))
        assert "by day and model" in page.text
        assert "3 attempts" in page.text
        assert "matches" in page.text

    in_console(tmp_path, test)


REFUSED: list[tuple[str, dict[str, str], str]] = [
    ("", {}, "Choose the file to compare."),
    ("x", {"channel": "nobody"}, "Choose a channel."),
    ("x", {"since": "2026-01-01"}, "Say both days"),
    ("x", {"since": "soon", "until": "later"}, "is not like 2026-01-31"),
]


@pytest.mark.parametrize(("body", "fields", "text"), REFUSED)
def test_what_is_missing_is_said_at_its_field(
    tmp_path: Path, body: str, fields: dict[str, str], text: str
) -> None:
    async def test(world: World) -> None:
        browser = await world.signed_in("op@example.com", "operator")
        page = await upload(browser, body, **fields)
        assert (page.status, text in page.text) == (422, True)

    in_console(tmp_path, test)


def test_a_file_that_is_no_export_is_said_and_columns_can_be_named(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await with_attempts(world)
        browser = await world.signed_in("op@example.com", "operator")
        page = await upload(browser, "when,wrote\n2026-01-01,5\n")
        assert "no usage was found in its columns (when, wrote)" in page.text
        page = await upload(browser, "when,wrote\n2026-01-01,5\n", column_time="when",
                            column_output="wrote")  # fmt: skip
        assert "only in the export" in page.text
        assert "1 lines say no cost" in page.text
        assert "&lt;b&gt;export.csv" in (await browser.get(LIST)).text

    in_console(tmp_path, test)


def test_uploads_are_bounded_and_bigger_than_other_forms(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await world.signed_in("op@example.com", "operator")
        await with_attempts(world)
        large = lines(
            world,
            "=up-0,DAY,m-upstream,12,5,0.001",
            *(f"id-{number:040},DAY,m,1,1,1" for number in range(30_000)),
        )
        assert len(large) > 1 << 20
        page = await upload(browser, large)
        assert "30,003 rows" in page.text
        page = await browser.get(f"{page.path}?page=2")
        assert "page=1" in page.text
        assert "page=3" in page.text
        page = await upload(browser, "x" * (33 << 20))
        assert page.status == 413

    in_console(tmp_path, test)


def test_results_are_for_operators_and_of_this_console(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        user = await world.signed_in("user@example.com", "user")
        operator = await world.signed_in("op@example.com", "operator")
        for route in ROUTES:
            path = route.path.replace("{job}", "x")
            answer = await (user.get if route.method == "GET" else user.post)(path)
            assert answer.status == 404
            if "{job}" in route.path:
                assert (await operator.get(path)).status == 404
        assert (await operator.get(LIST)).status == 200

    in_console(tmp_path, test)


def test_every_state_and_reason_has_its_words() -> None:
    english: Any = Translator("en", {})
    assert state_texts(english).keys() == {*State}
    assert reason_texts(english).keys() == {*Reason}
