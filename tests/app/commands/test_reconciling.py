"""The comparison of the console's page, as programs get it."""

from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import reconciling
from proxy.app.control import CommandError
from proxy.core.ids import format_id
from proxy.edge.console.render import usd
from tests.edge.console.consoles import World, in_console
from tests.edge.console.test_pages_reconcile import lines, upload, with_attempts

REPORT = "report reconcile"


def test_there_is_one_report() -> None:
    assert reconciling.REPORTS.keys() == {REPORT}


def test_what_differs_is_what_the_page_says(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ids = await with_attempts(world)
        body = lines(
            world, "=up-0,DAY,m-upstream,12,5,0.001", "=up-1,DAY,m-upstream,12,9,0.002",
            "alien,DAY,<i>x,1,1,5", "bad,DAY,m,-1,1,1",
        )  # fmt: skip
        found = await world.do(REPORT, channel="main", export=body)
        assert (found["by"], found["lines"], found["not_understood"]) == ("request", 3, 1)
        assert found["problems"] == [{"line": 5, "problem": "its input '-1' is no count"}]
        assert (found["theirs_usd"], found["ours_usd"]) == ("5.003", "0.003")
        assert found["difference_nano"] == 5_000_000_000
        by_id = {row["provider_request_id"]: row for row in found["rows"]}
        assert len(found["rows"]) == 4
        assert by_id["=up-1"]["differences"] == {"output": 4}
        assert (by_id["=up-1"]["difference_usd"], by_id["=up-1"]["reason"]) == ("0.001", "tokens")
        assert by_id["=up-1"]["our_request_id"] == format_id(ids[1])
        assert (by_id["alien"]["our_cost_usd"], by_id["alien"]["our_cost_nano"]) == (None, None)
        assert by_id["=up-2"]["difference_nano"] == -1_000_000
        assert by_id["=up-0"]["reason"] is None
        assert sum(one["rows"] for one in found["sums"]) == 4
        browser = await world.signed_in("op@example.com", "operator")
        page = await upload(browser, body)
        shown = page.text.replace('<span class="fine">', "").replace("</span>", "")
        for one in (found, *found["sums"]):
            assert usd(one["theirs_nano"]) in shown
            assert usd(one["ours_nano"]) in shown

    in_console(tmp_path, test)


def test_rows_are_picked_and_paged(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await with_attempts(world)
        unknown = [f"id-{number},DAY,m,1,1,1" for number in range(5)]
        body = lines(world, "=up-0,DAY,m-upstream,12,5,0.001", *unknown)
        asked: dict[str, Any] = {"channel": "main", "export": body, "state": "only_theirs"}
        whole = (await world.do(REPORT, **asked))["rows"]
        assert [row["reason"] for row in whole] == ["not_ours"] * 5
        first = await world.do(REPORT, **asked, rows_max=3)
        rest = await world.do(REPORT, **asked, rows_max=3, skip=3)
        assert first["rows"] + rest["rows"] == whole
        assert (first["more"], rest["more"]) == (True, False)
        assert first["sums"] == rest["sums"], "sums are of everything"
        assert (await world.do(REPORT, **asked, reason="price"))["rows"] == []

    in_console(tmp_path, test)


def test_columns_and_days_may_be_said(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await with_attempts(world)
        today = (await world.do("report margin", days=1))["until"]
        found = await world.do(
            REPORT,
            channel="main",
            export=f"when,wrote\n{today},15\n",
            columns=["output = wrote", "time=when"],
            since=today,
            until=today,
        )
        assert found["columns"] == {"output": "wrote", "time": "when"}
        assert (found["since"], found["by"]) == (f"{today}T00:00:00Z", "day and model")

    in_console(tmp_path, test)


@pytest.mark.parametrize(
    ("given", "fields", "message"),
    [
        ({"channel": "no"}, {"channel"}, "there is no channel 'no'"),
        ({"columns": ["x=y"]}, {"columns"}, "'x=y' is not like input=tokens_in"),
        ({"columns": ["input"]}, {"columns"}, "is not like input=tokens_in"),
        ({"since": "2026-01-01"}, {"until"}, "say both days"),
        ({"until": "2026-01-01"}, {"since"}, "say both days"),
        ({"since": "x", "until": "y"}, {"since", "until"}, "'x' is no day"),
        ({"since": "2026-01-02", "until": "2026-01-01"}, {"until"}, "is before"),
        ({"export": ""}, set(), "the file is empty"),
        ({"export": "a,b\n1,2\n"}, set(), "no usage was found"),
        ({"export": "request_id,cost\nup-1,1\n"}, set(), "its lines have no time"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, given: dict[str, Any], fields: set[str], message: str
) -> None:
    async def test(world: World) -> None:
        body = lines(world, "x,DAY,m,1,1,1")
        with pytest.raises(CommandError, match=message) as caught:
            await world.do(REPORT, **{"channel": "main", "export": body, **given})
        assert caught.value.fields.keys() == fields
        assert ("see the list of channels" in caught.value.remedy) == (fields == {"channel"})

    in_console(tmp_path, test)
