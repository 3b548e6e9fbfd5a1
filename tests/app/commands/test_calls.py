"""Calls, their sums and receipts: what the usage log's pages show, to whom they show it."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.app.commands import calls
from proxy.app.control import CommandError
from proxy.core.actions import usage as actions
from proxy.core.actions.action import Actor, Role, Via
from proxy.core.entities import Verdict
from proxy.core.ids import format_id
from proxy.edge.console.render import usd
from tests.edge.console.calls import USED, Calls, in_one_day
from tests.edge.console.consoles import World, in_console

NAMES = ("call list", "call sums", "call show")


def test_every_report_of_the_domain_is_made() -> None:
    assert calls.REPORTS.keys() == {*NAMES} <= {action.name for action in actions.ACTIONS}


def person(number: int) -> Actor:
    return Actor(Role.USER, "x@example.com", Via.API, person=number, scopes=("usage:read",))


async def small_world(world: World) -> dict[str, int]:
    """Ann owns a wallet, mia belongs to it; bob has another. Each made calls."""
    await in_one_day(world)
    ids = {
        "ann": await world.person("ann@example.com", wallet="ann"),
        "mia": await world.person("mia@example.com", wallet="ann", rank="member"),
        "bob": await world.person("bob@example.com", wallet="bob"),
    }
    made = Calls(world)
    of_ann = await made.key("ann", "of-ann", ids["ann"])
    of_mia = await made.key("ann", "of-mia", ids["mia"])
    of_bob = await made.key("bob", "of-bob", ids["bob"])
    found = {"key": of_ann}
    found["first"] = await made.made(1, of_ann, ago=3.0)
    cut = {"verdict": Verdict.CLIENT_GONE, "status": 499}
    found["cut"] = await made.made(1, of_ann, ago=2.5, closed=cut)
    found["mias"] = await made.made(1, of_mia, ago=2.0)
    found["bobs"] = await made.made(2, of_bob, ago=1.5)
    found["open"] = await made.begin(1, of_ann)
    return ids | found


def test_calls_are_listed_picked_and_paged(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ids = await small_world(world)

        async def listed(**asked: Any) -> list[str]:
            return [row["request_id"] for row in (await world.do("call list", **asked))["calls"]]

        order = [format_id(ids[name]) for name in ("bobs", "mias", "cut", "first")]
        found = await world.do("call list")
        assert [row["request_id"] for row in found["calls"]] == order
        row = found["calls"][1]
        assert (row["user"], row["key"], row["channel"]) == ("ann", "of-mia", "main")
        assert (row["charge_nano"] > 0, row["output"], row["stream"]) == (True, USED.output, True)
        (running,) = found["running"]
        assert (running["request_id"], running["held_nano"] > 0) == (format_id(ids["open"]), True)
        assert (found["older"], found["searched_to"]) == (None, None)
        assert await listed(user="bob") == order[:1]
        assert await listed(key=str(ids["key"])) == await listed(key="of-ann") == order[2:]
        await world.do("key add", user="bob", name="of-ann")
        assert await listed(key="of-ann", user="ann") == order[2:]
        with pytest.raises(CommandError, match="several keys are named 'of-ann'"):
            await listed(key="of-ann")
        assert await listed(verdict="failed") == await listed(verdict="client_gone") == [order[2]]
        assert await listed(model="none") == await listed(group="none") == []
        assert await listed(since="1d") == order
        assert await listed(until="1d") == []
        first = await world.do("call list", rows_max=3)
        assert first["older"] == order[2]
        rest = await world.do("call list", rows_max=3, before=first["older"])
        assert [one["request_id"] for one in first["calls"] + rest["calls"]] == order
        assert rest["running"] == [], "told with the first page"
        await Calls(world).end(ids["open"])

    in_console(tmp_path, test)


def test_sums_are_those_of_the_page(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ids = await small_world(world)
        await Calls(world).end(ids["open"])
        found = await world.do("call sums", user="ann")
        total = found["total"]
        assert (total["calls"], total["output_tokens"]) == (4, 4 * USED.completion_total)
        assert sum(row["charge_nano"] for row in found["keys"]) == total["charge_nano"]
        assert {row["name"]: row["calls"] for row in found["keys"]} == {"of-ann": 3, "of-mia": 1}
        (model,) = found["models"]
        assert model == {"model": "m"} | total
        assert len(found["days"]) == 30
        assert found["days"][-1] == {"day": found["until"]} | total
        assert found["back_to"] is None
        browser = await world.signed_in("op@example.com", "operator")
        page = await browser.get("/operator/calls?wallet=ann")
        shown = page.text.replace('<span class="fine">', "").replace("</span>", "")
        assert usd(total["charge_nano"]) in shown
        assert (await world.do("call sums", user="ann", verdict="failed"))["total"]["calls"] == 1
        past = await world.do("call sums", user="ann", days=2, until="2024-03-01")
        assert [row["day"] for row in past["days"]] == ["2024-02-29", "2024-03-01"]
        assert past["total"]["calls"] == 0

    in_console(tmp_path, test)


def test_a_receipt_is_that_of_the_page_with_what_was_given_back(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ids = await small_world(world)
        call = format_id(ids["first"])
        await world.do("wallet refund", call=call, amount="0.000001", reason="sorry")
        found = await world.do("call show", call=call)
        browser = await world.signed_in("op@example.com", "operator")
        page = await browser.get(f"/usage/{call}/receipt.json")
        same = orjson.loads(page.text)["data"]
        for name in ("total_cost", "usage"):
            del same[name]
        assert {name: found[name] for name in same} == same
        assert (found["refunded_usd"], found["refunded_nano"]) == ("0.000001", 1_000)
        assert found["charge_nano"] == found["charge_nano_usd"]
        assert same["refunded_nano_usd"] == 1_000, "the endpoint tells it, too"
        await Calls(world).end(ids["open"])

    in_console(tmp_path, test)


def test_people_see_what_their_pages_show_and_nothing_else(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ids = await small_world(world)
        make = world.reporter.make

        async def listed(who: str, wallet: str) -> set[str]:
            found: Any = await make("call list", {"user": wallet}, person(ids[who]))
            return {row["request_id"] for row in found["calls"]}

        whole = {format_id(ids[name]) for name in ("first", "cut", "mias")}
        assert await listed("ann", "ann") == whole
        assert await listed("mia", "ann") == {format_id(ids["mias"])}
        with pytest.raises(CommandError, match="there is no key 'of-ann'"):
            await make("call list", {"user": "ann", "key": "of-ann"}, person(ids["mia"]))
        by_id: Any = await make("call list", {"user": "ann", "key": "1"}, person(ids["mia"]))
        assert by_id["calls"] == by_id["running"] == []
        sums: Any = await make("call sums", {"user": "ann"}, person(ids["mia"]))
        assert (sums["total"]["calls"], [row["name"] for row in sums["keys"]]) == (1, ["of-mia"])
        given: dict[str, dict[str, Any]] = {"call show": {"call": format_id(ids["first"])}}
        for name in NAMES:
            for wallet in ("ann", "nobody"):
                with pytest.raises(CommandError, match="there is no wallet"):
                    await make(name, given.get(name, {}) | {"user": wallet}, person(ids["bob"]))
        for who, wallet in (("bob", "bob"), ("mia", "ann")):
            with pytest.raises(CommandError, match="no ended call has the id") as caught:
                await make("call show", given["call show"] | {"user": wallet}, person(ids[who]))
            assert caught.value.fields.keys() == {"call"}
        for name in ("call list", "call show"):
            with pytest.raises(CommandError, match="there is no wallet"):
                await make(name, given.get(name, {}), person(ids["ann"]))
        await Calls(world).end(ids["open"])

    in_console(tmp_path, test)


@pytest.mark.parametrize(
    ("name", "given", "field", "message"),
    [
        ("call list", {"user": "no"}, "user", "there is no user 'no'"),
        ("call list", {"key": "x"}, "key", "there is no key 'x'"),
        ("call list", {"before": "x"}, "before", "'x' is not a request id"),
        ("call list", {"since": "x"}, "since", "neither a span"),
        ("call list", {"verdict": "x"}, None, "Invalid enum value 'x'"),
        ("call list", {"rows_max": 1_001}, None, "<= 1000"),
        ("call sums", {}, None, "missing required field `user`"),
        ("call sums", {"user": "no"}, "user", "there is no user 'no'"),
        ("call sums", {"user": "ann", "until": "7d"}, "until", "is no day"),
        ("call show", {"call": "x"}, "call", "'x' is not a request id"),
        ("call show", {"call": format_id(9)}, "call", "no ended call has the id"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, name: str, given: dict[str, Any], field: str | None, message: str
) -> None:
    async def test(world: World) -> None:
        await world.do("user add", name="ann")
        with pytest.raises(CommandError, match=message) as caught:
            await world.do(name, **given)
        assert caught.value.fields.keys() == ({field} if field else set())

    in_console(tmp_path, test)
