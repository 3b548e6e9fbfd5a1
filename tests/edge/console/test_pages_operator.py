"""The operator's reports say what the ledger says, to operators alone."""

import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from proxy.core.ids import format_id
from proxy.edge.console.pages_operator import ROUTES
from proxy.edge.exposition import Picture
from proxy.edge.merging import merge
from proxy.edge.metrics import Live, Metrics
from proxy.edge.state import StorageFigures
from tests.edge.console.calls import in_one_day
from tests.edge.console.consoles import World, in_console
from tests.storage.reports.ledgers import attempt, call

PAGES = tuple(route.path for route in ROUTES)


def some_calls(connection: sqlite3.Connection, began: float) -> list[int]:
    good = call(connection, began, charge=2_500_000_000, ttft_ms=840.0)
    attempt(connection, good, cost=1_250_000_000, started_at=began)
    bad = call(connection, began, error_code="upstream_error", status=502, charge=0)
    attempt(connection, bad, outcome="upstream_error", status=500)
    return [good, bad]


async def with_calls(world: World, ago: float = 3.0) -> list[int]:
    """Put two calls in, as the keeper does: on its own thread."""
    await in_one_day(world)
    now = world.office.clock()
    await world.do("user add", name="ann", credit="1")
    await world.do("key add", user="ann", name="k")
    connection = sqlite3.connect(world.office.database, isolation_level=None)
    try:
        return some_calls(connection, now - ago)
    finally:
        connection.close()


def picture(**changes: Any) -> Callable[[], Coroutine[Any, Any, Picture]]:
    live = Live(breakers=lambda: [("main", 2)], resting=lambda: [("main", 1)])
    metrics = Metrics(live, role="relay")
    fields: dict[str, Any] = {
        "merged": merge([metrics.snapshot()]),
        "keeper_up": True,
        "ready": True,
        "storage": StorageFigures(1, 1, 1 << 40),
    }
    made = Picture(**(fields | changes))

    async def gathered() -> Picture:
        return made

    return gathered


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_for_operators_and_say_so_without_any_calls(tmp_path: Path, path: str) -> None:
    async def test(world: World) -> None:
        for role, status in (("operator", 200), ("admin", 200), ("user", 404)):
            browser = await world.signed_in(f"{role}@example.com", role)
            assert (await browser.get(path)).status == status
        answer = await world.stranger().get(path, follow=False)
        assert (answer.status, answer.headers["location"].split("?")[0]) == (303, "/login")

    in_console(tmp_path, test)


def test_the_overview_says_what_is_and_what_is_wrong(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await with_calls(world)
        browser = await world.signed_in("op@example.com", "operator")
        page = await browser.get("/operator")
        assert "$1.25" in page.text  # today's margin, and its cost
        assert "50%" in page.text
        assert "not asked yet" in page.text
        world.surroundings.picture = picture()
        page = await browser.get("/operator")
        assert "Channels that fail and are not asked for now: main" in page.text
        assert "failing" in page.text
        await world.do("price withdraw", model="m")
        page = await browser.get("/operator")
        assert "Models without a price are refused: m" in page.text

    in_console(tmp_path, test)


def test_traffic_and_errors_name_channel_model_and_examples(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        good, bad = await with_calls(world)
        browser = await world.signed_in("op@example.com", "operator")
        page = await browser.get("/operator/traffic")
        assert "840 ms" in page.text
        assert "name=main" in page.text
        page = await browser.get("/operator/errors")
        assert page.text.count("upstream_error") == 2
        assert f"/usage/{format_id(bad)}" in page.text
        assert format_id(good) not in page.text
        for hours in ("1", "168", "7", "<script>"):
            assert (await browser.get(f"/operator/errors?hours={hours}")).status == 200

    in_console(tmp_path, test)


@pytest.mark.parametrize("by", ["channel", "model", "group", "nonsense"])
def test_margin_is_what_was_charged_less_what_it_cost(tmp_path: Path, by: str) -> None:
    async def test(world: World) -> None:
        await with_calls(world)
        browser = await world.signed_in("op@example.com", "operator")
        page = await browser.get(f"/operator/margin?by={by}&days=30")
        assert page.status == 200
        name = {"model": ">m<", "group": ">default<"}.get(by, ">main<")
        assert name in page.text
        assert "$2.50" in page.text
        assert page.text.count("50%") >= 2
        assert "attempts were served at a cost nobody told" not in page.text

    in_console(tmp_path, test)


def test_pages_are_chinese_for_who_reads_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await with_calls(world)
        browser = await world.signed_in("op@example.com", "operator")
        await browser.post("/preferences", language="zh")
        pages = [await browser.get(path) for path in PAGES]
        assert all('lang="zh-Hans"' in page.text for page in pages)
        assert "上游成本" in pages[-1].text

    in_console(tmp_path, test)
