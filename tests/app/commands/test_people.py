import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import addresses, people, runner, users
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions import people as actions
from proxy.core.actions.action import Actor, Role, Via
from proxy.storage import one_time_links as links
from proxy.storage import people as stored
from proxy.storage.one_time_links import Purpose
from proxy.storage.people import Person
from tests.app.commands.office import Do, in_office

ANN = "ann@example.com"
BOB = "bob@example.com"


def token_of(link: str) -> str:
    return link.rpartition("=")[2]


async def person(office: Office, email: str) -> Person:
    return await office.read(lambda c: stored.person_named(c, email))


async def balance(do: Do, wallet: str) -> str:
    return str((await do("wallet show", user=wallet))["balance_usd"])


async def register(do: Do, email: str = ANN, **more: Any) -> Any:
    given = {"password_hash": f"hash of {email}", "confirmed": True, "credit": "1.50"}
    return await do("person register", email=email, **{**given, **more})


async def sessions(do: Do, number: int) -> list[str]:
    return [(await do("session open", person=number))["session"] for _ in range(2)]


async def living(office: Office, number: int) -> int:
    query = "SELECT count(*) FROM session WHERE person_id = ? AND revoked_at IS NULL"
    return int((await office.read(lambda c: c.execute(query, (number,)).fetchone()))[0])


def test_the_first_administrator_gets_a_link_that_is_good_once(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        made = await do("person add", email=" Ann@Example.com", role="admin", credit="2")
        assert (made["email"], made["role"], made["user"]) == (ANN, "admin", ANN)
        assert made["link"].startswith("/password/set?token=")
        assert await balance(do, ANN) == "2.00"
        assert (await person(office, ANN)).password_hash is None
        done = await do("password reset", token=token_of(made["link"]), password_hash="hash")
        assert done == {"person": made["id"], "email": ANN}
        assert (await person(office, ANN)).password_hash == "hash"
        with pytest.raises(CommandError, match="not good any more"):
            await do("password reset", token=token_of(made["link"]), password_hash="other")
        with pytest.raises(CommandError, match="an account already"):
            await do("person add", email=ANN)
        with pytest.raises(CommandError, match="not an e-mail"):
            await do("person add", email="ann")

    in_office(tmp_path, test)


def test_who_registers_has_a_wallet_and_its_starting_credit_once(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        made = await register(do, language="zh")
        assert (made["person"], made["token"], made["language"]) == (1, None, "zh")
        assert await balance(do, ANN) == "1.50"
        # The address is taken: nothing is changed, whoever has it now.
        again = await register(do, password_hash="another")
        assert again == {"person": None, "email": ANN}
        assert (await person(office, ANN)).password_hash == f"hash of {ANN}"
        assert await balance(do, ANN) == "1.50"

    in_office(tmp_path, test)


def test_an_address_that_must_be_confirmed_brings_the_credit_when_it_is(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        made = await register(do, confirmed=False, prove=True)
        assert made["verified"] is None
        assert await balance(do, ANN) == "0.00"
        again = await do("person verify again", email=ANN)
        assert again["token"] not in {None, made["token"]}
        assert await do("person verify", token=made["token"], credit="1.50") == {"person": 1}
        assert (await person(office, ANN)).verified_at is not None
        assert await balance(do, ANN) == "1.50"
        await do("person verify", token=again["token"], credit="1.50")
        assert await balance(do, ANN) == "1.50"
        assert (await do("person verify again", email=ANN))["token"] is None
        assert (await do("person verify again", email=BOB))["token"] is None
        with pytest.raises(CommandError, match="not good any more"):
            await do("person verify", token=made["token"])

    in_office(tmp_path, test)


def test_invitations_let_in_whom_they_name(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        with pytest.raises(CommandError, match="by invitation"):
            await register(do, must_be_invited=True)
        made = await do("invitation add", email=ANN)
        (listed,) = await do("invitation list")
        assert (listed["id"], listed["email"]) == (made["id"], ANN)
        token = token_of(made["link"])
        for email, invitation in ((BOB, token), (ANN, token + "x")):
            with pytest.raises(CommandError, match="not good any more, or for another"):
                await register(do, email, invitation=invitation, must_be_invited=True)
        # Whoever has the mail has the address: nothing is left to confirm.
        done = await register(
            do, confirmed=False, prove=True, invitation=token, must_be_invited=True
        )
        assert done["token"] is None
        assert (await person(office, ANN)).verified_at is not None
        assert await balance(do, ANN) == "1.50"
        assert await do("invitation list") == []
        free = await do("invitation add")
        await do("invitation revoke", invitation=free["id"])
        with pytest.raises(CommandError, match="not good"):
            await register(do, BOB, invitation=token_of(free["link"]))
        for days in (0, 91):
            with pytest.raises(CommandError, match="1 to 90 days"):
                await do("invitation add", days=days)

    in_office(tmp_path, test)


def test_no_step_of_starting_somebody_is_done_without_its_credit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is killed between two commits would have a person whose credit never comes."""

    def dies(*_: object) -> None:
        raise ValueError("killed here")

    async def test(do: Do, _office: Office) -> None:
        made = await register(do, confirmed=False, prove=True)
        told = {"issuer": "https://id", "subject": "s", "may_register": True, "credit": "1.50"}
        with monkeypatch.context() as patch:
            patch.setattr(people, "add_top_up", dies)
            patch.setattr(users, "add_top_up", dies)
            for action, given in (
                ("person register", {"email": BOB, "password_hash": "h", "credit": "1.50"}),
                ("person add", {"email": BOB, "credit": "1.50"}),
                ("person identify", {"email": BOB, **told}),
                ("person verify", {"token": made["token"], "credit": "1.50"}),
                ("user add", {"name": BOB, "credit": "1.50"}),
            ):
                with pytest.raises(CommandError, match="killed here"):
                    await do(action, **given)
        assert [row["email"] for row in await do("person list")] == [ANN]
        assert [row["name"] for row in await do("user list")] == [ANN]
        await do("person verify", token=made["token"], credit="1.50")
        await register(do, BOB)
        assert [await balance(do, one) for one in (ANN, BOB)] == ["1.50", "1.50"]

    in_office(tmp_path, test)


@pytest.mark.parametrize("prove", [False, True])
@pytest.mark.parametrize(("must_be_invited", "left"), [(True, "0.00"), (False, "1.50")])
def test_a_teams_guest_joins_it_but_brings_no_credit_where_operators_invite(
    tmp_path: Path, must_be_invited: bool, left: str, prove: bool
) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do)
        made = await do("team invite", user=ANN, role="owner")
        asked = {
            "invitation": token_of(made["link"]), "must_be_invited": must_be_invited,
            "prove": prove, "confirmed": not prove,
        }  # fmt: skip
        done = await register(do, BOB, **asked)
        if prove:
            await do(
                "person verify",
                token=done["token"], credit="1.50", must_be_invited=must_be_invited,
            )  # fmt: skip
        number = done["person"]
        wallets = await office.read(lambda c: stored.wallets_of(c, number))
        assert {(wallet.name, wallet.role) for wallet in wallets} == {
            (BOB, "owner"), (ANN, "owner"),
        }  # fmt: skip
        assert await balance(do, BOB) == left

    in_office(tmp_path, test)


def test_a_new_password_ends_the_sessions(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do)
        first, _ = await sessions(do, 1)
        assert await do("password set", person=1, password_hash="new", keep=first) == {"revoked": 1}
        assert await living(office, 1) == 1
        forgotten = await do("password forget", email=ANN)
        await do("password reset", token=forgotten["token"], password_hash="newer")
        assert await living(office, 1) == 0
        assert (await person(office, ANN)).password_hash == "newer"

    in_office(tmp_path, test)


def test_a_link_for_who_forgot_is_for_who_is_there(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do, language="zh")
        found = await do("password forget", email=ANN)
        assert found["language"] == "zh"
        assert (await do("password forget", email=BOB))["token"] is None
        link = await do("person link", email=ANN)
        assert token_of(link["link"]) != found["token"]
        for _ in range(links.TOKENS_MAX):
            await do("password forget", email=ANN)
        assert (await do("password forget", email=ANN))["token"] is None
        with pytest.raises(CommandError, match="links for this person already"):
            await do("person link", email=ANN)
        await do("person disable", email=ANN)
        assert (await do("password forget", email=ANN))["token"] is None
        now = office.clock()
        # What was sent before is still good, but leads nowhere for who is disabled.
        held = await office.read(
            lambda c: links.find_token(c, found["token"], Purpose.PASSWORD, now)
        )
        assert held == 1

    in_office(tmp_path, test)


def test_who_is_disabled_is_out_at_once(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do)
        await sessions(do, 1)
        ann = Actor(Role.USER, ANN, Via.CONSOLE, person=1)
        made: Any = await runner.run(office, "key add", {"user": ANN, "name": "k"}, ann)
        other = await do("key add", user=ANN, name="of the operator")
        done = await do("person disable", email=ANN)
        assert done["enabled"] is False
        assert not office.keeper.catalog.keys_by_id[made["id"]].enabled
        assert office.keeper.catalog.keys_by_id[other["id"]].enabled
        assert await living(office, 1) == 0
        with pytest.raises(CommandError, match="no enabled person"):
            await do("session open", person=1)
        assert (await do("person enable", email=ANN))["enabled"] is True
        assert await sessions(do, 1)
        with pytest.raises(CommandError, match="no person"):
            await do("person disable", email=BOB)

    in_office(tmp_path, test)


def test_roles_are_given_and_people_listed_without_hashes(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        await register(do)
        await register(do, BOB)
        assert (await do("person role", email=ANN, role="admin"))["role"] == "admin"
        with pytest.raises(CommandError, match="last administrator"):
            await do("person role", email=ANN, role="user")
        rows = await do("person list")
        assert [(row["email"], row["role"]) for row in rows] == [(BOB, "user"), (ANN, "admin")]
        assert "hash" not in repr(rows)
        (found,) = await do("person list", text="ann", before=2)
        assert found["email"] == ANN

    in_office(tmp_path, test)


def test_who_is_an_operator_no_more_has_invited_nobody(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("person add", email=ANN, role="operator")
        ann = Actor(Role.OPERATOR, ANN, Via.CONSOLE, person=1)
        both: list[Any] = [await runner.run(office, "invitation add", {}, ann) for _ in range(2)]
        kept, used = [token_of(made["link"]) for made in both]
        await register(do, BOB, invitation=used, must_be_invited=True)
        others = await do("invitation add")
        await do("person role", email=ANN, role="user")
        assert [row["id"] for row in await do("invitation list")] == [others["id"]]
        with pytest.raises(CommandError, match="not good any more"):
            await register(do, "kim@example.com", invitation=kept, must_be_invited=True)

    in_office(tmp_path, test)


def test_a_hash_is_renewed_without_ending_anything(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do)
        await sessions(do, 1)
        done = await do(
            "password rehash", person=1, earlier_password_hash=f"hash of {ANN}", password_hash="b"
        )
        assert done == {"rehashed": True}
        assert await living(office, 1) == 2

    in_office(tmp_path, test)


IDENTITY = {"issuer": "https://id.example", "subject": "7"}


def test_a_provider_is_believed_about_addresses_it_vouches_for(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        with pytest.raises(CommandError, match="does not vouch"):
            await do("person identify", **IDENTITY)
        with pytest.raises(CommandError, match="no account"):
            await do("person identify", **IDENTITY, email=ANN)
        made = await do(
            "person identify", **IDENTITY, email=ANN, may_register=True, credit="3", language="zh"
        )
        assert made == {"person": 1, "fresh": True}
        assert await balance(do, ANN) == "3.00"
        # From now on the subject counts, whatever the address, and the catalog is not touched.
        version = office.keeper.catalog.version
        assert await do("person identify", **IDENTITY) == {"person": 1, "fresh": False}
        assert await do("person identify", **IDENTITY, email=BOB) == {"person": 1, "fresh": False}
        assert office.keeper.catalog.version == version
        await do("person disable", email=ANN)
        with pytest.raises(CommandError, match="disabled"):
            await do("person identify", **IDENTITY)
        assert (await person(office, ANN)).verified_at is not None

    in_office(tmp_path, test)


def test_who_registered_with_an_address_of_others_loses_it_to_its_owner(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do, confirmed=False)
        await sessions(do, 1)
        found = await do("person identify", **IDENTITY, email=ANN, may_register=False)
        assert found == {"person": 1, "fresh": False}
        ann = await person(office, ANN)
        assert (ann.password_hash, ann.verified_at is not None) == (None, True)
        assert await living(office, 1) == 0
        # One who did confirm it keeps password and sessions.
        await register(do, BOB)
        await sessions(do, 2)
        await do("person identify", issuer="https://id.example", subject="8", email=BOB)
        assert (await person(office, BOB)).password_hash == f"hash of {BOB}"
        assert await living(office, 2) == 2

    in_office(tmp_path, test)


@pytest.mark.parametrize("way", ["person identify", "password reset"])
def test_who_loses_an_account_to_its_owner_keeps_no_way_back(tmp_path: Path, way: str) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do, confirmed=False)
        made = await do("email change", person=1, email="mallory@example.com")
        thief = Actor(Role.USER, ANN, Via.CONSOLE, person=1)
        given = {"name": "t", "scopes": ["*:confirmed"]}
        token: Any = await runner.run(office, "token add", given, thief)
        if way == "person identify":
            await do(way, **IDENTITY, email=ANN)
        else:
            link = await do("password forget", email=ANN)
            await do(way, token=link["token"], password_hash="of the owner")
        with pytest.raises(CommandError, match="not good any more"):
            await do("email confirm", token=made["token"])
        assert (await person(office, ANN)).id == 1
        query = "SELECT revoked_at FROM api_token WHERE id = ?"
        number = token["id"]
        rows = await office.read(lambda c: c.execute(query, (number,)).fetchall())
        assert rows[0][0] is not None

    in_office(tmp_path, test)


def test_the_plan_of_a_new_wallet_is_named_or_plain(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        document = await do("catalog export")
        document["plan"] += [{"name": "gold"}]
        await do("catalog apply", document=document)
        with pytest.raises(CommandError, match="which plan"):
            await register(do)
        await register(do, plan="gold")
        document = await do("catalog export")
        document["plan"] += [{"name": "default"}]
        await do("catalog apply", document=document)
        await register(do, BOB)
        rows = {row["name"]: row["plan"] for row in await do("user list")}
        assert rows == {ANN: "gold", BOB: "default"}
        office.keeper.catalog.plans.clear()  # type: ignore[attr-defined]  # no catalog yet
        with pytest.raises(CommandError, match="no plan yet"):
            await register(do, "kim@example.com")

    in_office(tmp_path, test)


def test_ones_language_is_ones_own(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do)
        ann = Actor(Role.USER, ANN, Via.CONSOLE, person=1)
        await runner.run(office, "person language", {"language": "zh"}, ann)
        assert (await person(office, ANN)).language == "zh"
        with pytest.raises(CommandError, match="who is signed in"):
            await do("person language", language="en")

    in_office(tmp_path, test)


def test_what_only_the_console_asks_is_unknown_to_the_admin_api(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do)
        api = Actor(Role.ADMIN, "token", Via.API)
        for command in ("password set", "session open", "person register"):
            with pytest.raises(CommandError, match="unknown command"):
                await runner.run(office, command, {"person": 1}, api)
        assert await runner.run(office, "person list", {}, api)

    in_office(tmp_path, test)


def test_no_hash_and_no_link_is_in_the_audit_log(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> str:
        made = await register(do, confirmed=False, prove=True, password_hash="canary-hash")
        await do("person verify", token=made["token"])
        await do("password set", person=1, password_hash="canary-hash")
        found = await do("password forget", email=ANN)
        await do("password reset", token=found["token"], password_hash="canary-hash")
        await do("session open", person=1, password_hash="canary-hash")

        def log(connection: sqlite3.Connection) -> str:
            return repr(connection.execute("SELECT * FROM audit").fetchall())

        said = await office.read(log)
        assert made["token"] not in said
        assert found["token"] not in said
        return said

    said = in_office(tmp_path, test)
    assert "person register" in said
    assert "canary" not in said


def test_every_action_of_the_domain_has_its_handler() -> None:
    handled = people.HANDLERS.keys() | addresses.HANDLERS.keys()
    assert handled == {action.name for action in actions.ACTIONS}


def test_a_hundred_at_once_register_one_person_and_use_a_link_once(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        made = await asyncio.gather(*(register(do) for _ in range(50)))
        assert [one["person"] for one in made].count(1) == 1
        assert [one["person"] for one in made].count(None) == 49
        assert await balance(do, ANN) == "1.50"
        token = token_of((await do("person link", email=ANN))["link"])

        async def reset(number: int) -> bool:
            try:
                await do("password reset", token=token, password_hash=f"hash {number}")
            except CommandError:
                return False
            return True

        done = await asyncio.gather(*(reset(number) for number in range(50)))
        assert done.count(True) == 1
        assert (await person(office, ANN)).password_hash == f"hash {done.index(True)}"
        invitation = token_of((await do("invitation add"))["link"])

        async def join(number: int) -> bool:
            try:
                await register(do, f"{number}@example.com", invitation=invitation)
            except CommandError:
                return False
            return True

        assert (await asyncio.gather(*(join(number) for number in range(50)))).count(True) == 1

    in_office(tmp_path, test)


def test_a_teams_owner_vouches_for_nobodys_address(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await register(do)
        made = await do("team invite", user=ANN, email=BOB)
        # Ann sees the link of the invitation that names Bob, and uses it herself.
        given = {"invitation": token_of(made["link"]), "confirmed": False}
        done = await register(do, BOB, **given, prove=True)
        assert done["token"] is not None
        assert (await person(office, BOB)).verified_at is None
        await sessions(do, done["person"])
        # Bob, whom his provider vouches for, does not come into her account but she out of his.
        await do("person identify", **IDENTITY, email=BOB)
        assert (await person(office, BOB)).password_hash is None
        assert await living(office, done["person"]) == 0

    in_office(tmp_path, test)


def test_who_did_not_have_to_prove_an_address_did_not(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        made = await register(do, confirmed=False)
        assert (made["token"], made["verified"]) == (None, None)
        assert await balance(do, ANN) == "1.50"
        assert (await person(office, ANN)).verified_at is None

    in_office(tmp_path, test)
