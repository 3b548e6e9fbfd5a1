"""The wallet's page: codes, plans, thresholds, the history; of nobody else's wallet."""

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import runner
from proxy.app.control import CommandError
from proxy.core.actions.action import Actor, Role, Via
from proxy.edge.console import pages_wallet
from proxy.storage.notices import watch_balances
from tests.edge.console.consoles import Browser, World, in_console


async def code(world: World, amount: str = "5") -> str:
    made = await world.do("code make", amount=amount)
    return str(made["codes"][0]["code"])


async def ann(world: World, rank: str = "owner") -> Browser:
    return await world.signed_in("ann@example.com", wallet="ann", rank=rank)


def test_a_code_is_redeemed_once_and_the_history_says_so(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await ann(world)
        given = await code(world)
        done = await browser.post("/wallet/redeem", code=given.lower().replace("-", " "))
        assert (done.status, done.path) == (200, "/wallet")
        assert "5.00 USD were credited." in done.text
        assert "$15.00" in done.text
        assert "Redeem code" in done.text
        again = await browser.post("/wallet/redeem", code=given)
        assert "had that code before" in again.text
        for wrong, said in ((given[:-1] + "!", "only letters"), ("A" * 24, "typing error")):
            page = await browser.post("/wallet/redeem", code=wrong)
            assert page.status == 422
            assert said in page.text
            assert page.field("code") == wrong
        assert (await browser.post("/wallet/redeem", code=await code(world))).status == 200

    in_console(tmp_path, test)


def test_the_page_speaks_chinese_also_of_a_wrong_code(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await ann(world)
        await browser.post("/preferences", language="zh", next="/wallet")
        page = await browser.post("/wallet/redeem", code="A" * 24)
        assert "此兑换码输入有误" in page.text

    in_console(tmp_path, test)


def test_a_member_does_not_say_when_the_team_is_told(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        owner = await world.signed_in("ann@example.com", wallet="team")
        member = await world.signed_in("bob@example.com", wallet="team", rank="member")
        assert "/wallet/threshold" in (await owner.get("/wallet")).text
        assert "/wallet/threshold" not in (await member.get("/wallet")).text
        assert (await member.post("/wallet/threshold", below="5")).status == 404
        asked = Actor(Role.USER, "bob@example.com", Via.API, person=2)
        with pytest.raises(CommandError, match="only who owns"):
            await runner.run(
                world.office, "wallet threshold", {"user": "team", "below": "5"}, asked
            )

    in_console(tmp_path, test)


def test_a_threshold_is_kept_and_its_notice_shown(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await ann(world)
        saved = await browser.post("/wallet/threshold", below="12.5")
        assert saved.field("below") == "12.50"
        await world.office.keeper.note(lambda c: watch(c, 1.0))
        for path in ("/wallet", "/"):
            assert "The balance is below $12.50" in (await browser.get(path)).text
        assert (await browser.post("/wallet/threshold", below="x")).status == 422
        await browser.post("/wallet/threshold", below="")
        assert "The balance is below" not in (await browser.get("/wallet")).text

    in_console(tmp_path, test)


def watch(connection: Any, now: float) -> int:

    return watch_balances(connection, now)


def test_an_owner_chooses_a_plan_and_a_member_does_not(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await ann(world)
        pro = {"monthly_fee": "4", "requests_per_minute": 60, "offered": True}
        await world.do("plan set", name="pro", set=pro, create=True)
        assert "60 requests a minute" in (await browser.get("/wallet")).text
        page = await browser.post("/wallet/plan", plan="pro")
        assert "on the plan pro now" in page.text
        assert "Fee of the plan" in page.text
        assert "$6.00" in page.text
        await world.do(
            "plan set", name="gold", set={"monthly_fee": "7", "offered": True}, create=True
        )
        refused = await browser.post("/wallet/plan", plan="gold")
        assert refused.status == 422
        assert "6.00 USD" in refused.text
        assert (await browser.post("/wallet/plan", plan="paygo")).status == 422, "not on offer"
        eve = await world.signed_in("eve@example.com", wallet="ann", rank="member")
        assert "Plans on offer" not in (await eve.get("/wallet")).text
        assert (await eve.post("/wallet/plan", plan="gold")).status == 422

    in_console(tmp_path, test)


def _owned(wallet: int | None, connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE person SET wallet_id = ?", (wallet,))


def test_a_team_is_not_told_that_it_gets_what_it_does_not(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await ann(world)
        gift = {"monthly_credit": "3", "offered": True}
        await world.do("plan set", name="gift", set=gift, create=True)
        number = await world.office.read(
            lambda c: c.execute("SELECT id FROM user WHERE name = 'ann'").fetchone()[0]
        )
        for own, left in ((None, "$10.00"), (number, "$13.00")):
            change = partial(_owned, own)
            await world.office.keeper.note(change)
            page = await browser.get("/wallet")
            assert ("$3.00" in page.text) == (own is not None)
            page = await browser.post("/wallet/plan", plan="gift")
            assert "on the plan gift now" in page.text
            assert left in page.text
            await world.do("user set", user="ann", plan="paygo")
            await world.office.keeper.note(lambda c: c.execute("DELETE FROM subscription"))

    in_console(tmp_path, test)


def test_the_history_is_exported_and_paged(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await ann(world)
        await world.do("wallet adjust", user="ann", amount="-1.5", reason="=1+1", reference="t")
        page = await browser.get("/wallet")
        assert "-$1.50" in page.text
        file = await browser.get("/wallet/history.csv")
        lines = file.text.splitlines()
        assert lines[0].endswith("time,kind,in_usd,out_usd,calls,reason,reference,request_id")
        assert "adjustment,0.00,1.50" in lines[1]
        assert ",=1+1" not in lines[1], "no cell is a formula"
        assert "top_up,10.00,0.00" in lines[2]
        for until in ("2020-01-01", "x", "9999-12-31", "0001-01-01", "2026-02-30"):
            assert (await browser.get(f"/wallet?until={until}")).status == 200

    in_console(tmp_path, test)


def test_a_notice_is_read_away(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await ann(world)
        await world.office.keeper.note(
            lambda c: c.execute(
                "INSERT INTO notice (user_id, kind, detail, at) VALUES (1, 'plan_ended', 'pro', 1)"
            )
        )
        assert "fee of the plan pro" in (await browser.get("/wallet")).text
        assert (await browser.post("/wallet/notice", kind="nonsense")).status == 422
        page = await browser.post("/wallet/notice", kind="plan_ended")
        assert "fee of the plan pro" not in page.text

    in_console(tmp_path, test)


def test_everybody_has_the_pages_of_their_wallet() -> None:
    assert {route.role for route in pages_wallet.ROUTES} == {Role.USER}


@pytest.mark.parametrize(
    "path",
    [
        "/wallet/history.csv",
        "/wallet/redeem",
        "/wallet/threshold",
        "/wallet/plan",
        "/wallet/notice",
    ],
)
def test_who_has_no_wallet_has_no_money(tmp_path: Path, path: str) -> None:
    async def test(world: World) -> None:
        nobody = await world.signed_in("bob@example.com")
        assert (await nobody.get("/wallet")).status == 200
        ask = nobody.get if path.endswith("csv") else nobody.post
        assert (await ask(path)).status == 404

    in_console(tmp_path, test)
