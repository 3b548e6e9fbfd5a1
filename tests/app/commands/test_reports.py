"""Reports say what the pages of the same name show: both read storage/reports."""

from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import reconciling, reports
from proxy.app.control import CommandError
from proxy.core.actions import reports as actions
from proxy.core.ids import format_id
from proxy.core.money import format_usd
from proxy.core.reconciliation.records import day_of
from proxy.edge.console.render import duration, usd
from proxy.storage.reports.margin import By, margin
from proxy.storage.reports.spans import Days
from tests.edge.console.calls import Calls
from tests.edge.console.consoles import World, in_console
from tests.edge.console.test_pages_operator import picture, with_calls

FIGURES = ("charged", "refunded", "cost", "margin", "expense")


def test_every_action_of_the_domain_has_its_report() -> None:
    made = reports.REPORTS.keys() | reconciling.REPORTS.keys()
    assert made == {action.name for action in actions.ACTIONS}


@pytest.mark.parametrize("by", list(By))
def test_margins_are_those_of_the_page(tmp_path: Path, by: By) -> None:
    async def test(world: World) -> None:
        await with_calls(world)
        today = day_of(world.office.clock())
        found = await world.do("report margin", days=30, by=by.value)
        report = await margin(await world.surroundings.reader(), Days(today - 29, today), by)
        total = report.total()
        assert (total.charged, total.cost) == (2_500_000_000, 1_250_000_000)
        browser = await world.signed_in("op@example.com", "operator")
        page = await browser.get(f"/operator/margin?by={by.value}&days=30")
        for figure in FIGURES:
            nano = getattr(total, figure)
            assert found["total"][f"{figure}_nano"] == nano
            assert usd(nano) in page.text
        assert (found["total"]["margin_usd"], found["total"]["calls"]) == ("1.25", 2)
        (only,) = found["names"]
        assert only == {"name": {"model": "m", "group": "default"}.get(by, "main")} | found["total"]
        assert len(found["days"]) == 30
        assert found["days"][-1]["day"] == found["until"]
        assert sum(row["charged_nano"] for row in found["days"]) == total.charged
        assert (found["by"], found["more"]) == (by.value, False)

    in_console(tmp_path, test)


def test_names_of_margins_are_paged_and_days_chosen(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await with_calls(world)
        found = await world.do("report margin", skip=1)
        assert (found["names"], found["more"]) == ([], False)
        found = await world.do("report margin", days=3, until="2024-02-29")
        assert [row["day"] for row in found["days"]] == ["2024-02-27", "2024-02-28", "2024-02-29"]
        assert (found["since"], found["total"]["calls"]) == ("2024-02-27", 0)
        for wrong in ("tomorrow", "2024-02-30", "1999-01-01", "7d"):
            with pytest.raises(CommandError, match="is no day such as") as caught:
                await world.do("report margin", until=wrong)
            assert caught.value.fields.keys() == {"until"}

    in_console(tmp_path, test)


def test_the_overview_is_that_of_the_page(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await with_calls(world)
        await world.do("price withdraw", model="m")
        found = await world.do("report overview")
        assert found["relay"] is None
        assert found["alerts"] == [
            {"kind": "warn", "text": "Models without a price are refused: m"}
        ]
        assert (found["calls"], found["failed"], found["open_calls"]) == (2, 1, 0)
        assert found["today"]["margin_usd"] == "1.25"
        (channel,) = found["channels"]
        assert channel == {
            "name": "main", "enabled": True, "health": None, "calls": 2, "failed": 1,
        }  # fmt: skip
        world.surroundings.picture = picture()
        found = await world.do("report overview")
        assert found["relay"] == {"keeper": True, "ready": True, "workers": 1, "streams": 0}
        assert found["channels"] == [channel | {"health": "failing"}]
        browser = await world.signed_in("op@example.com", "operator")
        page = await browser.get("/operator")
        assert len(found["alerts"]) == 2
        for alert in found["alerts"]:
            assert alert["text"] in page.text

    in_console(tmp_path, test)


def test_channels_do_as_their_page_says(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await with_calls(world)
        world.surroundings.picture = picture()
        found = await world.do("report channels")
        assert found["channels"] == [
            {
                "name": "main", "enabled": True, "health": "failing", "dialect": "openai",
                "groups": ["default"], "models": 1, "keys": 1, "resting_keys": 1, "priority": 0,
                "weight": 1, "calls": 2, "failed": 1,
                "cost_today_usd": "1.25", "cost_today_nano": 1_250_000_000,
                "margin_today_usd": "1.25", "margin_today_nano": 1_250_000_000,
            }
        ]  # fmt: skip
        browser = await world.signed_in("op@example.com", "operator")
        page = await browser.get("/operator/channels")
        for said in ("failing", "50%", "$1.25", "1 resting"):
            assert said in page.text

    in_console(tmp_path, test)


def test_traffic_and_errors_are_those_of_their_pages(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        good, bad = await with_calls(world, ago=90.0)
        found = await world.do("report traffic")
        assert found["total"] == {
            "calls": 2, "failed": 1, "output_tokens": found["total"]["output_tokens"],
            "charged_usd": "2.50", "charged_nano": 2_500_000_000,
            "ttft_p50_ms": found["total"]["ttft_p50_ms"],
            "ttft_p95_ms": found["total"]["ttft_p95_ms"],
        }  # fmt: skip
        (part,) = found["parts"]
        assert part == {"channel": "main", "model": "m", **found["total"]}
        assert sum(row["calls"] for row in found["minutes"]) == 2
        assert found["open"] == []
        assert (await world.do("report traffic", minutes=1))["total"]["calls"] == 0
        errors = await world.do("report errors", hours=1)
        assert errors["looked_at"] == 2
        (told,), (tried,) = errors["calls"], errors["attempts"]
        assert (told["error"], told["channel"], told["status"]) == ("upstream_error", "main", 502)
        assert (told["count"], told["users"], tried["status"]) == (1, 1, 500)
        assert told["examples"] == tried["examples"] == [format_id(bad)]
        browser = await world.signed_in("op@example.com", "operator")
        page = await browser.get("/operator/traffic")
        assert duration(found["total"]["ttft_p50_ms"]) in page.text
        assert format_id(good) not in repr(errors)

    in_console(tmp_path, test)


def test_what_runs_now_is_told(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        calls = Calls(world)
        await world.do("user add", name="ann", credit="10")
        call_id = await calls.begin(1, await calls.key("ann"))
        found = await world.do("report traffic")
        (row,) = found["open"]
        assert (row["model"], row["calls"]) == ("m", 1)
        assert row["held_nano"] > 0
        overview = await world.do("report overview")
        assert (overview["open_calls"], overview["held_nano"]) == (1, row["held_nano"])
        await calls.end(call_id)

    in_console(tmp_path, test)


def test_every_amount_is_told_twice_and_alike(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await with_calls(world)
        for name in reports.REPORTS:
            for text, nano in money_of(await world.do(name)):
                assert format_usd(nano) == text

    in_console(tmp_path, test)


def money_of(part: Any) -> list[tuple[str, int]]:
    """Every amount of a result: its text, and its nano-USD."""
    if isinstance(part, list):
        return [pair for each in part for pair in money_of(each)]
    if not isinstance(part, dict):
        return []
    found = [pair for each in part.values() for pair in money_of(each)]
    for name, text in part.items():
        if name.endswith("_usd"):
            found.append((text, part[name.removesuffix("_usd") + "_nano"]))
    return found
