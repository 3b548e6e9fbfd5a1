from pathlib import Path

import pytest
from msgspec import structs

from proxy.app.commands import plans, runner
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions import plans as actions
from proxy.core.actions.action import Actor, Role, Via
from proxy.storage.verify import verify
from tests.app.commands.office import Do, in_office
from tests.app.commands.test_runner import ANN, people

BOSS = Actor(Role.OPERATOR, "boss", Via.CONSOLE, person=9)


async def prepare(do: Do) -> None:
    await do("user add", name="ann", credit="25")
    pro = {"monthly_fee": "10", "monthly_credit": "2.5", "requests_per_minute": 60}
    await do("plan set", name="pro", set={**pro, "offered": True}, create=True)
    await do("plan set", name="secret", set={"monthly_fee": "0"}, create=True)


def test_a_plan_is_made_chosen_left_and_come_back_to(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await prepare(do)
        await office.keeper.note(people)
        wanted = {"user": "ann", "plan": "pro"}
        first = await runner.run(office, "plan choose", wanted, ANN)
        assert isinstance(first, dict)
        assert (first["fee_usd"], first["credit_usd"]) == ("10.00", "2.50")
        assert (first["balance_usd"], first["plan"]) == ("17.50", "pro")
        assert office.keeper.catalog.users[1].plan == "pro"
        assert (await do("plan choose", user="ann", plan="paygo"))["until"] is None
        again = await do("plan choose", **wanted)
        assert (again["fee_usd"], again["credit_usd"]) == ("0.00", "0.00"), "it is paid for"
        assert again["until"] == first["until"]
        listed = await do("plan list")
        assert {row["plan"]["name"]: row["wallets"] for row in listed} == {
            "paygo": 0, "pro": 1, "secret": 0,
        }  # fmt: skip
        basis = {row["plan"]["name"]: row["basis"] for row in listed}
        await do("plan set", name="pro", set={"monthly_fee": "12"}, basis=basis["pro"])
        assert office.keeper.catalog.plans["pro"].monthly_fee == 12 * 10**9
        await do("plan remove", name="secret")
        assert verify(office.database).problems == ()

    in_office(tmp_path, test)


def test_what_cannot_be_chosen_or_changed_is_refused(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await prepare(do)
        await office.keeper.note(people)

        async def refused(actor: Actor, command: str, **arguments: object) -> str:
            with pytest.raises(CommandError) as caught:
                await runner.run(office, command, arguments, actor)
            return caught.value.message

        for plan in ("secret", "nothing"):
            said = await refused(ANN, "plan choose", user="ann", plan=plan)
            assert said == f"there is no plan {plan!r} on offer"
        await runner.run(office, "plan choose", {"user": "ann", "plan": "secret"}, BOSS)
        await do("plan set", name="pro", set={"monthly_fee": "30"})
        said = await refused(ANN, "plan choose", user="ann", plan="pro")
        assert "25.00 USD" in said
        assert office.keeper.catalog.users[1].plan == "secret", "nothing was changed"
        assert "still use" in await refused(BOSS, "plan remove", name="secret")
        assert "no plan 'x'" in await refused(BOSS, "plan remove", name="x")
        assert "already" in await refused(BOSS, "plan set", name="pro", set={}, create=True)
        for fee in ("-1", "NaN", 1.5, "1e3", "100001"):
            said = await refused(BOSS, "plan set", name="pro", set={"monthly_fee": fee})
            assert "monthly_fee" in said
        stranger = structs.replace(ANN, person=7)
        assert "no wallet" in await refused(stranger, "plan choose", user="ann", plan="pro")

    in_office(tmp_path, test)


def test_only_an_owner_chooses(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await prepare(do)
        await office.keeper.note(people)
        await office.keeper.note(lambda c: c.execute("UPDATE membership SET role = 'member'"))
        with pytest.raises(CommandError, match="owns"):
            await runner.run(office, "plan choose", {"user": "ann", "plan": "pro"}, ANN)

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert plans.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
