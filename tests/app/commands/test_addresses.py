from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import addresses, runner
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Role, Via
from proxy.storage import people
from tests.app.commands.office import Do, in_office

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


def test_the_only_administrator_is_not_deleted(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do, ANN)
        await do("person role", email=ANN, role="admin")
        with pytest.raises(CommandError, match="last administrator") as caught:
            await do("account delete", person=1)
        assert caught.value.remedy == "make another one first"
        assert (await office.read(lambda c: people.person_of(c, 1))).email == ANN

    in_office(tmp_path, test)
