"""An exported log is whole, belongs to who asks, and is nothing a spreadsheet would run."""

import asyncio
import csv
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.core.ids import format_id
from proxy.edge.console import usage_export
from proxy.storage.reports import usage_log
from proxy.storage.reports.call_lines import COLUMNS
from tests.edge.console.calls import Calls
from tests.edge.console.consoles import World, in_console


def rows(text: str) -> list[dict[str, str]]:
    assert text.startswith("\ufeff")
    return [*csv.DictReader(io.StringIO(text[1:], newline=""))]


def test_both_files_hold_every_call_of_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_export, "PAGE_ROWS", 2)

    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        key, other = await calls.key("ann"), await calls.key("ann", "second")
        ids = [format_id(await calls.made(1, key)) for _ in range(5)]
        await calls.made(1, other, client_reference="theirs")
        page = await ann.get("/usage/export.csv")
        assert page.headers["content-disposition"] == 'attachment; filename="usage.csv"'
        found = rows(page.text)
        assert len(found) == 6
        assert tuple(found[0]) == COLUMNS
        assert [row["request_id"] for row in found[1:]] == ids[::-1]
        assert found[1]["charge_usd"] == "0.000207"
        assert (found[1]["input_uncached"], found[1]["reasoning"]) == ("100", "10")
        (only,) = rows((await ann.get(f"/usage/export.csv?key={other}")).text)
        assert only["client_reference"] == "theirs"
        whole = json.loads((await ann.get("/usage/export.json")).text)
        assert [one["request_id"] for one in whole][1:] == ids[::-1]
        assert tuple(whole[0]) == COLUMNS
        assert whole[0]["input_uncached"] == 100
        assert json.loads((await ann.get("/usage/export.json?model=none")).text) == []

    in_console(tmp_path, test)


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    evil = '=HYPERLINK("http://evil.example","x")'

    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        key = await calls.key("ann", "@SUM(1)")
        await calls.made(
            1, key, client_reference=evil, model="+m", closed={"finish_reason": "-2+3"}
        )
        page = await ann.get("/usage/export.csv")
        (row,) = rows(page.text)
        assert row["client_reference"] == f"'{evil}"
        assert (row["key"], row["model"], row["finish_reason"]) == ("'@SUM(1)", "'+m", "'-2+3")
        (told,) = json.loads((await ann.get("/usage/export.json")).text)
        assert told["client_reference"] == evil

    in_console(tmp_path, test)


def test_only_so_many_are_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_export, "EXPORTS_MAX", 0)

    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        page = await ann.get("/usage/export.csv")
        assert (page.status, "try again" in page.text) == (429, True)
        monkeypatch.setattr(usage_export, "EXPORTS_OF_PERSON_MAX", 0)
        page = await ann.get("/usage/export.json")
        assert (page.status, "of yours" in page.text) == (429, True)

    in_console(tmp_path, test)


def test_a_file_that_fails_half_way_does_not_look_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_export, "PAGE_ROWS", 1)

    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        key = await calls.key("ann")
        for _ in range(2):
            await calls.made(1, key)
        read, asked = usage_log.page, 0

        async def failing(*what: Any, **more: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked > 1:
                raise sqlite3.OperationalError("disk I/O error")
            return await read(*what, **more)

        monkeypatch.setattr(usage_log, "page", failing)
        with pytest.raises(aiohttp.ClientError):
            await ann.get("/usage/export.csv")
        assert world.surroundings.exports.total() == 0

    in_console(tmp_path, test)


def test_who_leaves_stops_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_export, "PAGE_ROWS", 1)
    read = usage_log.page

    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        await calls.made(1, await calls.key("ann"))
        left, pages = asyncio.Event(), 0

        async def endless(*what: Any, **more: Any) -> Any:
            nonlocal pages
            found = await read(*what, **{**more, "before": None})
            pages += 1
            if pages > 3:
                await left.wait()
            return found._replace(older=found.calls[0].id)

        monkeypatch.setattr(usage_log, "page", endless)
        async with ann._client.get(f"{ann.url}/usage/export.csv") as answer:
            await answer.content.readany()
            assert world.surroundings.exports[1] == 1
            answer.close()
        left.set()
        async with asyncio.timeout(20):
            while world.surroundings.exports.total():
                await asyncio.sleep(0)

    in_console(tmp_path, test)


def test_a_file_that_takes_too_long_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_export, "EXPORT_SECONDS_MAX", 0.0)

    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        await calls.made(1, await calls.key("ann"))
        with pytest.raises(aiohttp.ClientError):
            await ann.get("/usage/export.csv")
        assert world.surroundings.exports.total() == 0

    in_console(tmp_path, test)
