from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import runner, teams
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions import teams as actions
from proxy.core.actions.action import Actor, Role, Via
from tests.app.commands.office import Do, in_office

NAMES = ("ann", "bob", "kim")
ANN, BOB, KIM = (
    Actor(Role.USER, f"{name}@example.com", Via.CONSOLE, person=number)
    for number, name in enumerate(NAMES, 1)
)


async def people(do: Do) -> None:
    for name in NAMES:
        await do("person register", email=f"{name}@example.com", password_hash="h", confirmed=True)


async def team(office: Office, do: Do) -> Any:
    """Ann's team, which Bob joined."""
    await people(do)
    await ask(office, ANN, "team create", name=" Research ")
    made = await ask(office, ANN, "team invite", user="Research", email="Bob@example.com")
    token = made["link"].rpartition("=")[2]
    with pytest.raises(CommandError, match="not good"):
        await ask(office, KIM, "team join", token=token)
    done = await ask(office, BOB, "team join", token=token)
    assert done == {"user": "Research", "fresh": True}
    return made


async def ask(office: Office, actor: Actor, command: str, **arguments: object) -> Any:
    return await runner.run(office, command, arguments, actor)


async def refused(office: Office, actor: Actor, command: str, **arguments: object) -> str:
    with pytest.raises(CommandError) as caught:
        await ask(office, actor, command, **arguments)
    return caught.value.message


def test_a_team_is_made_and_joined_and_left(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await team(office, do)
        rows = await ask(office, BOB, "team list", user="Research")
        assert [(row["email"], row["role"]) for row in rows] == [
            ("ann@example.com", "owner"), ("bob@example.com", "member"),
        ]  # fmt: skip
        assert "last owner" in await refused(office, ANN, "team leave", user="Research")
        await ask(office, ANN, "team role", user="Research", email="bob@example.com", role="owner")
        await ask(office, ANN, "team leave", user="Research")
        assert "no wallet" in await refused(office, ANN, "team list", user="Research")
        assert "signed in" in await refused(
            office, Actor(Role.ADMIN, "x", Via.CLI), "team create", name="x"
        )

    in_office(tmp_path, test)


OWNERS_ONLY: list[tuple[str, Mapping[str, object]]] = [
    ("team invite", {}),
    ("team revoke", {"invitation": 1}),
    ("team remove", {"email": "ann@example.com"}),
    ("team role", {"email": "bob@example.com", "role": "owner"}),
]


@pytest.mark.parametrize(("command", "arguments"), OWNERS_ONLY)
def test_members_decide_nothing_about_others_and_strangers_do_not_see_the_team(
    tmp_path: Path, command: str, arguments: Mapping[str, object]
) -> None:
    async def test(do: Do, office: Office) -> None:
        await team(office, do)
        given = {"user": "Research", **arguments}
        assert "for the owners" in await refused(office, BOB, command, **given)
        for stranger in ("team list", "team leave", command):
            more = given if stranger == command else {"user": "Research"}
            said = await refused(office, KIM, stranger, **more)
            nothing = await refused(office, KIM, stranger, **{**more, "user": "Nothing"})
            assert said.replace("Research", "") == nothing.replace("Nothing", "")

    in_office(tmp_path, test)


def test_an_invitation_of_one_team_is_not_taken_back_by_another(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await team(office, do)
        made = await ask(office, ANN, "team invite", user="Research", role="owner")
        own = {"user": "kim@example.com", "invitation": made["id"]}
        assert "no open invitation" in await refused(office, KIM, "team revoke", **own)
        await ask(office, ANN, "team revoke", user="Research", invitation=made["id"])
        token = made["link"].rpartition("=")[2]
        assert "not good" in await refused(office, KIM, "team join", token=token)
        relay = await do("invitation add")
        token = relay["link"].rpartition("=")[2]
        assert "not good" in await refused(office, KIM, "team join", token=token)

    in_office(tmp_path, test)


def test_an_owner_takes_a_member_out(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await team(office, do)
        made = {
            actor: await ask(office, actor, "key add", user="Research", name=actor.name)
            for actor in (ANN, BOB)
        }
        own = await ask(office, BOB, "key add", user="bob@example.com", name="own")
        await ask(office, ANN, "team remove", user="Research", email="BOB@example.com")
        keys = office.keeper.catalog.keys_by_id
        # What is refused with it is refused at once: the catalog in force says so.
        assert not keys[made[BOB]["id"]].enabled
        assert keys[made[ANN]["id"]].enabled
        assert keys[own["id"]].enabled
        assert "no wallet" in await refused(office, BOB, "team list", user="Research")

    in_office(tmp_path, test)


@pytest.mark.parametrize("how", ["removed", "demoted", "left", "disabled"])
def test_who_may_invite_no_more_does_not_come_back_by_a_link_they_kept(
    tmp_path: Path, how: str
) -> None:
    async def test(do: Do, office: Office) -> None:
        await team(office, do)
        bob = {"user": "Research", "email": "bob@example.com"}
        await ask(office, ANN, "team role", **bob, role="owner")
        kept = await ask(office, BOB, "team invite", user="Research", role="owner")
        theirs = await ask(office, ANN, "team invite", user="Research")
        elsewhere = await ask(office, BOB, "team invite", user="bob@example.com")
        if how == "removed":
            await ask(office, ANN, "team remove", **bob)
        elif how == "demoted":
            await ask(office, ANN, "team role", **bob, role="member")
        elif how == "left":
            await ask(office, BOB, "team leave", user="Research")
        else:
            await do("person disable", email="bob@example.com")
        token = kept["link"].rpartition("=")[2]
        assert "not good" in await refused(office, KIM, "team join", token=token)
        # What others invite to, and what is one's own, goes on.
        await ask(office, KIM, "team join", token=theirs["link"].rpartition("=")[2])
        token = elsewhere["link"].rpartition("=")[2]
        if how == "disabled":
            assert "not good" in await refused(office, KIM, "team join", token=token)
        else:
            await ask(office, KIM, "team join", token=token)

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert teams.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
