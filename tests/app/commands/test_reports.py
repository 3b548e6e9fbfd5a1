"""Reports say what the pages of the same name show: both read storage/reports."""

from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import reports
from proxy.app.control import CommandError
from proxy.core.actions import reports as actions
from proxy.core.reconciliation.records import day_of
from proxy.edge.console.render import usd
from proxy.storage.reports.margin import By, margin
from proxy.storage.reports.spans import Days
from tests.edge.console.consoles import World, in_console
from tests.edge.console.test_pages_operator import with_calls

FIGURES = ("charged", "refunded", "cost", "margin", "expense")


def test_every_action_of_the_domain_has_its_report() -> None:
    assert reports.REPORTS.keys() == {action.name for action in actions.ACTIONS}


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
