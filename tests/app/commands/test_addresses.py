from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from proxy.app.commands import addresses, runner
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Role, Via
from proxy.storage import people
from tests.app.commands.office import Do, in_office

DAY = 86_400.0
NOON = 1_900_000_000 // DAY * DAY + DAY / 2
ANN, BOB, NEW = "ann@example.com", "bob@example.com", "new@example.com"


async def register(do: Do, email: str) -> None:
    await do("person register", email=email, password_hash="h", confirmed=True, credit="1.50")


def test_an_address_is_changed_by_the_link_to_it(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do, ANN)
        await register(do, BOB)
        assert (await do("email change", person=1, email=BOB))["token"] is None
        with pytest.raises(CommandError, match="not an e-mail"):
            await do("email change", person=1, email="x")
        made = await do("email change", person=1, email=" New@Example.com ")
        version = office.keeper.catalog.version
        done = await do("email confirm", token=made["token"])
        assert (done["email"], done["earlier"]) == (NEW, ANN)
        assert office.keeper.catalog.version == version + 1
        assert (await do("wallet show", user=NEW))["balance_usd"] == "1.50"
        assert addresses.CHANGE_SECONDS == 86_400
        with pytest.raises(CommandError, match="not good any more"):
            await do("email confirm", token=made["token"])
        rows = await office.read(
            lambda c: c.execute("SELECT arguments FROM audit WHERE action = 'email confirm'")
            .fetchall()
        )  # fmt: skip
        assert made["token"] not in repr(rows)

    in_office(tmp_path, test)


@pytest.mark.parametrize("action", ["account delete", "person delete"])
def test_a_deleted_account_leaves_money_and_no_key_that_works(tmp_path: Path, action: str) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do, ANN)
        ann = Actor(Role.USER, ANN, Via.CONSOLE, person=1)
        made: Any = await runner.run(office, "key add", {"user": ANN, "name": "k"}, ann)
        other = await do("key add", user=ANN, name="of the operator")
        given: dict[str, object] = {"email": ANN} if action == "person delete" else {"person": 1}
        done = await do(action, **given)
        assert done["wallets"] == [
            {"user": "deleted-1", "balance_usd": "1.50", "balance_nano": 1_500_000_000}
        ]
        keys = office.keeper.catalog.keys_by_id
        assert not keys[made["id"]].enabled
        assert not keys[other["id"]].enabled or not office.keeper.catalog.users[1].enabled
        assert (await do("wallet show", user="deleted-1"))["balance_usd"] == "1.50"
        (row,) = await do("person list")
        assert (row["email"], row["deleted"]) == ("deleted-1@deleted.invalid", done["deleted"])
        audited = await office.read(
            lambda c: c.execute("SELECT outcome FROM audit WHERE action = ?", (action,)).fetchall()
        )
        assert audited == [("done",)]
        for again in ("person enable", "person delete", "person link"):
            with pytest.raises(CommandError, match="no person"):
                await do(again, email=row["email"])

    in_office(tmp_path, test)


@pytest.mark.parametrize("way", ["account delete", "email change"])
def test_an_address_that_was_given_up_brings_no_second_starting_credit(
    tmp_path: Path, way: str
) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do, ANN)
        if way == "email change":
            made = await do("email change", person=1, email="new@example.com")
            await do("email confirm", token=made["token"])
        else:
            await do("account delete", person=1)
        await register(do, ANN)
        assert (await do("wallet show", user=ANN))["balance_usd"] == "0.00"
        await register(do, "carl@example.com")
        assert (await do("wallet show", user="carl@example.com"))["balance_usd"] == "1.50"
        rows = await office.read(
            lambda c: c.execute("SELECT digest FROM starting_credit_given").fetchall()
        )
        assert len(rows) == 1, "of who had one alone"
        assert b"ann" not in rows[0][0]
        second = next(row["id"] for row in await do("person list") if row["email"] == ANN)
        await do("account delete", person=second)
        added = await do("person add", email=ANN, credit="7")
        assert (await do("wallet show", user=added["user"]))["balance_usd"] == "7.00", (
            "an operator gives what they like"
        )

    in_office(tmp_path, test)


def test_who_had_no_credit_gives_up_nothing_with_their_address(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        await do("person register", email=ANN, password_hash="h", confirmed=True)
        await do("account delete", person=1)
        await register(do, ANN)
        assert (await do("wallet show", user=ANN))["balance_usd"] == "1.50"

    in_office(tmp_path, test)


@pytest.mark.parametrize("way", ["account delete", "email change"])
def test_an_address_that_was_given_up_brings_no_second_month_of_a_plan(
    tmp_path: Path, way: str
) -> None:
    async def test(do: Do, office: Office) -> None:
        now = [NOON]
        office.keeper.renewals._moment = lambda: now[0]
        office = replace(office, clock=lambda: now[0])

        async def ask(action: str, **given: object) -> Any:
            return await runner.run(office, action, given)

        async def begun(email: str) -> str:
            await office.keeper.renewals.look()
            return str((await do("wallet show", user=email))["balance_usd"])

        await ask("plan set", name="paygo", set={"monthly_credit": "5"})
        for email in (ANN, BOB):
            await ask("person register", email=email, password_hash="h", confirmed=True)
        assert (await begun(ANN), await begun(BOB)) == ("5.00", "5.00")
        if way == "email change":
            made = await ask("email change", person=1, email=NEW)
            await ask("email confirm", token=made["token"])
        else:
            await ask("account delete", person=1)
        now[0] += 2 * DAY
        await ask("person register", email=ANN, password_hash="h", confirmed=True)
        await ask("person register", email="carl@example.com", password_hash="h", confirmed=True)
        assert await begun(ANN) == "0.00", "the address has had this month"
        assert await begun("carl@example.com") == "5.00"
        assert (await do("plan choose", user=ANN, plan="paygo"))["credit_usd"] == "0.00"
        now[0] += 31 * DAY
        assert await begun(ANN) == "5.00", "and has the next one"
        now[0] += 27 * DAY
        assert await begun(ANN) == "5.00", "which is a whole one"

    in_office(tmp_path, test)


@pytest.mark.parametrize("way", ["person register", "person identify", "email change"])
def test_nobody_takes_an_address_that_somebody_gets_who_deletes_their_account(
    tmp_path: Path, way: str
) -> None:
    async def test(do: Do, _office: Office) -> None:
        await register(do, ANN)
        taken = "Deleted-1@deleted.invalid"
        given: dict[str, dict[str, object]] = {
            "person register": {"email": taken, "password_hash": "h", "prove": True},
            "person identify": {
                "issuer": "i", "subject": "s", "email": taken, "may_register": True,
            },
            "email change": {"person": 1, "email": taken},
        }  # fmt: skip
        with pytest.raises(CommandError, match="not an e-mail address"):
            await do(way, **given[way])
        done = await do("account delete", person=1)
        assert done["wallets"][0]["user"] == "deleted-1"

    in_office(tmp_path, test)


@pytest.mark.parametrize("action", ["account delete", "person delete"])
def test_nobody_comes_back_by_a_link_they_made_before_they_were_deleted(
    tmp_path: Path, action: str
) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do, ANN)
        await register(do, BOB)
        ann, bob = (Actor(Role.USER, one, Via.CONSOLE, person=n + 1)
                    for n, one in enumerate((ANN, BOB)))  # fmt: skip
        await runner.run(office, "team create", {"name": "crew"}, bob)
        given = {"user": "crew", "role": "owner"}
        for_ann: Any = await runner.run(office, "team invite", given, bob)
        await runner.run(office, "team join", {"token": for_ann["link"].rpartition("=")[2]}, ann)
        kept: Any = await runner.run(office, "team invite", given, ann)
        relays: Any = await runner.run(
            office, "invitation add", {}, structs.replace(ann, role=Role.OPERATOR)
        )
        await do(action, **({"person": 1} if action == "account delete" else {"email": ANN}))
        for link in (kept, relays):
            with pytest.raises(CommandError, match="not good any more"):
                await do(
                    "person register", email=ANN, password_hash="h", confirmed=True,
                    invitation=link["link"].rpartition("=")[2], must_be_invited=True,
                )  # fmt: skip

    in_office(tmp_path, test)


def test_the_only_administrator_is_not_deleted(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do, ANN)
        await do("person role", email=ANN, role="admin")
        with pytest.raises(CommandError, match="last administrator") as caught:
            await do("account delete", person=1)
        assert caught.value.remedy == "make another one first"
        assert (await office.read(lambda c: people.person_of(c, 1))).email == ANN

    in_office(tmp_path, test)
