"""The operator's pages of money."""

import re
from pathlib import Path
from typing import Any

import pytest

from proxy.core.ids import format_id
from proxy.edge.console import pages_money
from tests.app.commands.test_wallets import CALL, charge
from tests.edge.console.consoles import World, in_console

CODE = re.compile(r"\b(?:[0-9A-HJKMNP-TV-Z]{4}-){5}[0-9A-HJKMNP-TV-Z]{4}\b")
FORM: dict[str, Any] = {
    "count": "3",
    "amount": "5",
    "batch": "fair",
    "note": "<b>",
    "expires": "30d",
}
AS_PAGE: dict[str, Any] = FORM | {"as": "page"}
AS_FILE: dict[str, Any] = FORM | {"as": "csv"}


def test_whatever_moves_money_asks_for_the_password() -> None:
    asking = {(route.method, route.path) for route in pages_money.ROUTES if route.step_up}
    free = {(route.method, route.path) for route in pages_money.ROUTES} - asking
    assert free == {
        ("GET", "/operator/codes"), ("POST", "/operator/codes/withdraw"), ("GET", "/operator/plans"),
        ("GET", "/operator/payments"),
    }  # fmt: skip


def test_codes_are_shown_once_listed_and_withdrawn(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        boss = await world.signed_in("boss@example.com", "operator")
        assert "No codes yet" in (await boss.get("/operator/codes")).text
        assert (await boss.get("/operator/codes/new")).field("count") == "10"
        made = await boss.post("/operator/codes/new", **AS_PAGE)
        codes = set(CODE.findall(made.text))
        assert len(codes) == 3
        listed = await boss.get("/operator/codes?batch=fair")
        assert not codes & set(CODE.findall(listed.text))
        assert listed.text.count("&lt;b&gt;") == 3
        await boss.post("/operator/codes/withdraw", id="1")
        gone = await boss.post("/operator/codes/withdraw", batch="fair")
        assert "2 codes were withdrawn." in gone.text
        for number in range(60):
            await world.do("code make", amount="1", batch=f"b{number}")
        first = await boss.get("/operator/codes")
        assert "before=14" in first.text
        assert "fair" in (await boss.get("/operator/codes?before=14")).text

    in_console(tmp_path, test)


def test_codes_are_downloaded_as_csv(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        boss = await world.signed_in("boss@example.com", "operator")
        file = await boss.post("/operator/codes/new", **AS_FILE)
        assert file.headers["content-type"] == "text/csv; charset=utf-8"
        lines = file.text.strip().splitlines()
        assert len(lines) == 4
        assert CODE.search(lines[1])
        assert lines[1].startswith("1,")

    in_console(tmp_path, test)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"count": "x"}, "whole number"),
        ({"count": "0"}, "between 1 and 1,000"),
        ({"count": "1001"}, "between 1 and 1,000"),
        ({"count": "999999"}, "whole number"),
        ({"amount": "-5"}, "negative"),
        ({"amount": "0"}, "more than 0"),
        ({"expires": "soon"}, "neither"),
        ({"note": "x" * 201}, "a note"),
    ],
)
def test_codes_that_cannot_be_made_say_why(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    async def test(world: World) -> None:
        boss = await world.signed_in("boss@example.com", "operator")
        page = await boss.post("/operator/codes/new", **FORM | change)
        assert page.status == 422
        assert said in page.text
        assert page.field("batch") == "fair"
        assert (await world.do("code list")) == []

    in_console(tmp_path, test)


def test_a_plan_is_made_changed_and_removed(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        boss = await world.signed_in("boss@example.com", "operator")
        assert (await boss.get("/operator/plans/edit")).status == 200
        plan: dict[str, Any] = {
            "name": "pro",
            "monthly_fee": "9.5",
            "concurrency": "3",
            "offered": "1",
        }
        done = await boss.post("/operator/plans/edit", create="1", **plan)
        assert "The plan is saved" in done.text
        assert "$9.50" in done.text
        form = await boss.get("/operator/plans/edit?name=pro")
        assert form.field("concurrency") == "3"
        basis = form.field("basis")
        changed: dict[str, Any] = {
            "name": "pro",
            "basis": basis,
            "monthly_fee": "",
            "concurrency": "4",
        }
        assert (await boss.post("/operator/plans/edit", **changed)).status == 200
        assert world.office.keeper.catalog.plans["pro"].concurrency == 4
        assert not world.office.keeper.catalog.plans["pro"].offered
        stale = await boss.post("/operator/plans/edit", **changed)
        assert stale.status == 422
        wrong: list[dict[str, Any]] = [
            {"concurrency": "0"}, {"concurrency": "many"}, {"monthly_fee": "-1"},
        ]  # fmt: skip
        for each in wrong:
            page = await boss.post("/operator/plans/edit", create="1", **{"name": "x"} | each)
            assert page.status == 422
        assert (await boss.get("/operator/plans/edit?name=no")).status == 404
        assert "removed" in (await boss.post("/operator/plans/remove", name="pro")).text
        assert "pro" not in world.office.keeper.catalog.plans

    in_console(tmp_path, test)


def test_a_call_is_refunded_from_its_page(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        boss = await world.signed_in("boss@example.com", "operator")
        await world.do("user add", name="ann", credit="5")
        await world.office.keeper.note(charge)
        path = f"/operator/refund/{format_id(CALL)}"
        assert (await boss.get(path)).field("amount") == "2.00"
        assert (await boss.post(path, amount="3", reason="slow")).status == 422
        assert (await boss.post(path, amount="1", reason="")).status == 422
        done = await boss.post(path, amount="0.5", reason="slow & late", reference="t1")
        assert "0.50 USD went back to ann." in done.text
        assert "slow &amp; late" in done.text
        assert done.field("amount") == "1.50"
        rest = await boss.post(path, amount="", reason="all of it")
        assert "Give back" not in rest.text
        for unknown in ("req_0000000000001", "x"):
            assert (await boss.get(f"/operator/refund/{unknown}")).status == 404

    in_console(tmp_path, test)


def test_a_wallet_is_corrected(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        boss = await world.signed_in("boss@example.com", "operator")
        await world.do("user add", name="ann", credit="5")
        assert (await boss.get("/operator/adjust?user=ann")).field("user") == "ann"
        form: dict[str, Any] = {"user": "ann", "amount": "-2", "reason": "typo", "reference": "t1"}
        done = await boss.post("/operator/adjust", **form)
        assert "ann was corrected by -2.00 USD and has 3.00 USD." in done.text
        assert "by 0.00 USD" in (await boss.post("/operator/adjust", **form)).text
        wrong = ({"amount": "-4"}, {"user": "no"}, {"reason": ""}, {"amount": "1e3"})
        for each in wrong:
            page = await boss.post("/operator/adjust", **form | {"reference": ""} | each)
            assert page.status == 422
        assert world.office.keeper.balance(1) == 3 * 10**9

    in_console(tmp_path, test)


def test_payments_and_what_is_to_be_looked_at_are_listed(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        boss = await world.signed_in("boss@example.com", "operator")
        assert "No payments yet" in (await boss.get("/operator/payments")).text
        await world.do("user add", name="ann")
        terms = {"user": "ann", "provider": "stripe", "currency": "eur", "rate": "1.08"}
        begun = await world.do("payment begin", minor=1_250, **terms)
        said = {"provider": "stripe", "message": "evt_7", "reference": begun["reference"]}
        await world.do("payment said", said="noted", kind="charge.refunded", **said)
        page = (await boss.get("/operator/payments")).text
        assert all(word in page for word in ("12.50 EUR", "$13.50", "evt_7", "charge.refunded"))
        for number in range(19):
            await world.do("payment begin", minor=1_000 + number, **terms)
        await world.do("user add", name="bob")
        for number in range(19):
            await world.do("payment begin", minor=2_000 + number, **terms | {"user": "bob"})
        await world.do("user add", name="cleo")
        for number in range(19):
            await world.do("payment begin", minor=3_000 + number, **terms | {"user": "cleo"})
        assert "before=9" in (await boss.get("/operator/payments")).text
        assert "12.50 EUR" in (await boss.get("/operator/payments?before=9")).text

    in_console(tmp_path, test)
