from pathlib import Path

import pytest

from proxy.app.commands import users
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions import users as actions
from tests.app.commands.office import DOCUMENT, Do, in_office


def test_a_user_is_added_with_credit_and_listed(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        added = await do("user add", name="ann", credit="12.50")
        assert added == {"id": 1, "name": "ann", "plan": "paygo", "balance_usd": "12.50"}
        (row,) = await do("user list")
        assert (row["name"], row["balance_usd"], row["enabled"]) == ("ann", "12.50", True)
        wallet = await do("wallet show", user="ann")
        assert wallet["topped_up_usd"] == "12.50"

    in_office(tmp_path, test)


def test_a_plan_is_asked_for_only_when_there_is_a_choice(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        plans = [{"name": "paygo"}, {"name": "free"}]
        await do("catalog apply", document={**DOCUMENT, "plan": plans})
        with pytest.raises(CommandError, match="which plan"):
            await do("user add", name="x")
        await do("catalog apply", document={})
        with pytest.raises(CommandError, match="no plan yet"):
            await do("user add", name="x")

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert users.HANDLERS.keys() == {action.name for action in actions.ACTIONS}


def test_a_user_gets_another_plan_and_is_shut_out(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann")
        document = await do("catalog export")
        await do(
            "catalog apply", document={**document, "plan": [{"name": "paygo"}, {"name": "big"}]}
        )
        assert (await do("user set", user="ann", plan="big"))["plan"] == "big"
        assert (await do("user set", user="ann", enabled=False))["enabled"] is False
        (user,) = office.keeper.catalog.users.values()
        assert (user.plan, user.enabled) == ("big", False)
        for arguments, message in (
            ({"user": "bob", "enabled": True}, "there is no user 'bob'"),
            ({"user": "ann", "plan": "none"}, "there is no plan 'none'"),
        ):
            with pytest.raises(CommandError, match=message):
                await do("user set", **arguments)

    in_office(tmp_path, test)
