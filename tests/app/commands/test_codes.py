"""Redeem codes, also when two hundred ask for one at once through the control socket."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from proxy.app.commands import codes, runner
from proxy.app.control import CommandError, ControlServer
from proxy.app.office import GUESSES, Office
from proxy.core.actions import codes as actions
from proxy.core.actions.action import Actor, Role, Via
from proxy.core.codes import RANDOM_BYTES, new_code
from proxy.edge.console.keeper_line import KeeperLine, Refused
from proxy.storage import audit
from proxy.storage.verify import verify
from tests.app.commands.office import Do, in_office
from tests.app.commands.test_runner import ANN, people

REDEEMERS = 200


async def made(do: Do, count: int = 1, **options: object) -> list[str]:
    answer = await do("code make", amount="5", count=count, **options)
    return [each["code"] for each in answer["codes"]]


def test_codes_are_made_listed_redeemed_and_withdrawn(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann")
        answer = await do("code make", amount="5", count=3, batch="fair", note="n", expires="30d")
        assert (answer["batch"], answer["amount_usd"]) == ("fair", "5.00")
        first = answer["codes"][0]["code"]
        done = await do("code redeem", user="ann", code=first.lower().replace("-", " "))
        assert (done["credited_usd"], done["balance_usd"]) == ("5.00", "5.00")
        again = await do("code redeem", user="ann", code=first)
        assert (again["credited_usd"], again["repeated"]) == ("0.00", True)
        assert await do("code withdraw", id=2) == {"withdrawn": 1}
        assert await do("code withdraw", batch="fair") == {"withdrawn": 1}
        listed = await do("code list", batch="fair")
        states = [(row["state"], row["redeemed_by"]) for row in listed]
        assert states == [("withdrawn", None), ("withdrawn", None), ("redeemed", "ann")]
        assert first not in str(listed)
        assert listed[-1]["code"] == f"…{first[-4:]}"
        undated = await do("code make", amount="0.5")
        assert undated["batch"].startswith("20")
        log = await office.read(lambda c: c.execute("SELECT * FROM audit").fetchall())
        assert first not in str(log)
        assert audit.HIDDEN in str(log)

    in_office(tmp_path, test)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "24 letters"),
        ("U" * 24, "no U"),
        ("0" * 24, "typing error"),
        (new_code(bytes(RANDOM_BYTES)), "cannot be redeemed"),
    ],
)
def test_what_is_no_code_of_ours_is_refused(tmp_path: Path, code: str, message: str) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann")
        with pytest.raises(CommandError, match=message) as caught:
            await do("code redeem", user="ann", code=code)
        assert caught.value.remedy
        await office.keeper.note(people)
        with pytest.raises(CommandError, match=message) as caught:
            await runner.run(office, "code redeem", {"user": "ann", "code": code}, ANN)
        assert caught.value.remedy
        assert "sluice" not in caught.value.remedy, "whoever has no command line is not sent to it"

    in_office(tmp_path, test)


@pytest.mark.parametrize("count", [0, -1, 1_001, 10**9])
def test_codes_are_made_in_bounded_numbers(tmp_path: Path, count: int) -> None:
    async def test(do: Do, _office: Office) -> None:
        with pytest.raises(CommandError, match="between 1 and 1,000"):
            await made(do, count)

    in_office(tmp_path, test)


def test_two_hundred_redeems_of_one_code_at_once_are_one_credit(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann")
        await do("user add", name="bob")
        (code,) = await made(do)

        async def run(command: str, arguments: Any, actor: Any) -> object:
            return await runner.run(office, command, arguments, actor)

        server = ControlServer(tmp_path / "control.sock", run)
        await server.start()
        line = KeeperLine(tmp_path / "control.sock")

        async def redeem(number: int) -> str:
            user = "ann" if number % 2 else "bob"
            try:
                done: Any = await line.do("code redeem", {"user": user, "code": code})
            except Refused as refused:
                return refused.message
            return str(done["credited_usd"])

        try:
            credited = await asyncio.gather(*(redeem(number) for number in range(REDEEMERS)))
        finally:
            await line.close()
            await server.stop()
        (whole,) = {each for each in credited if "cannot" not in each} - {"0.00"}
        assert (whole, credited.count(whole)) == ("5.00", 1)
        assert sum("cannot be redeemed" in each for each in credited) == REDEEMERS // 2
        balances = [office.keeper.balance(user) for user in (1, 2)]
        assert sorted(balances) == [0, 5 * 10**9]
        assert verify(office.database).problems == ()

    in_office(tmp_path, test)


def test_who_guesses_codes_has_to_wait(tmp_path: Path) -> None:
    ann = Actor(Role.OPERATOR, "ann@example.com", Via.CONSOLE, person=1)

    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann")
        (code,) = await made(do)

        async def attempt(code: str, actor: Actor) -> str:
            try:
                given = {"user": "ann", "code": code}
                await runner.run(office, "code redeem", given, actor)
            except CommandError as refused:
                return refused.message
            return "redeemed"

        nothing = [new_code(os.urandom(RANDOM_BYTES)) for _ in range(30)]
        said = await asyncio.gather(*(attempt(each, ann) for each in nothing))
        assert sum("cannot be redeemed" in each for each in said) == GUESSES.free + 1
        assert await attempt(code, ann) == codes.TOO_MANY_GUESSES, "the right one is not told"
        bob = structs.replace(ann, person=2)
        assert "typing error" in await attempt("0" * 24, bob)
        assert await attempt(code, bob) == "redeemed", "others do not wait"

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert codes.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
