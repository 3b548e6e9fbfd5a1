from pathlib import Path

import pytest

from proxy.app.commands import runner, sign_ins
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions import sign_ins as actions
from proxy.core.actions.action import Actor, Role, Via
from tests.app.commands.office import Do, in_office

ANN = Actor(Role.USER, "ann@example.com", Via.CONSOLE, person=1)
BOB = Actor(Role.USER, "bob@example.com", Via.CONSOLE, person=2)


async def two_people(do: Do) -> None:
    for name in ("ann", "bob"):
        await do(
            "person register",
            email=f"{name}@example.com",
            password_hash=f"hash of {name}",
            confirmed=True,
        )


def test_every_sign_in_has_a_session_of_its_own(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await two_people(do)
        made = [await do("session open", person=1) for _ in range(3)]
        assert len({one["session"] for one in made}) == 3
        assert all(len(one["session"]) >= 22 for one in made)
        name = made[0]["session"]
        renewed = await do("session renew", session=name)
        assert renewed["expires_at"] >= made[0]["expires_at"]
        confirmed = await do("session confirm", person=1, session=name)
        assert confirmed["confirmed_at"] <= office.clock()
        with pytest.raises(CommandError, match="over"):
            await do("session confirm", person=2, session=name)

    in_office(tmp_path, test)


def test_a_password_that_was_changed_meanwhile_signs_nobody_in(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        await two_people(do)
        await do("session open", person=1, password_hash="hash of ann")
        await do("password set", person=1, password_hash="new")
        with pytest.raises(CommandError, match="changed meanwhile"):
            await do("session open", person=1, password_hash="hash of ann")

    in_office(tmp_path, test)


def test_people_end_their_own_sessions_alone(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await two_people(do)
        a, b, _ = [(await do("session open", person=1))["session"] for _ in range(3)]
        end = {"session": a}
        assert await runner.run(office, "session revoke", end, BOB) == {"revoked": 0}
        assert await runner.run(office, "session revoke", end, ANN) == {"revoked": 1}
        with pytest.raises(CommandError, match="over"):
            await do("session renew", session=a)
        assert await runner.run(office, "session revoke all", {"keep": b}, BOB) == {"revoked": 0}
        assert await runner.run(office, "session revoke all", {"keep": b}, ANN) == {"revoked": 1}
        await do("session renew", session=b)
        assert await runner.run(office, "session revoke all", {}, ANN) == {"revoked": 1}
        with pytest.raises(CommandError, match="who is signed in"):
            await do("session revoke all")

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert sign_ins.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
