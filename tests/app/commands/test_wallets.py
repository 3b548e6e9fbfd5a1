import asyncio
import sqlite3
from pathlib import Path

import pytest

from proxy.app.commands import wallets
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions import wallets as actions
from proxy.core.ids import format_id
from proxy.core.ledger import REVENUE, Transfer
from proxy.storage.batch import post
from proxy.storage.verify import verify
from tests.app.commands.office import Do, in_office

CALL = 5 << 22


def charge(connection: sqlite3.Connection) -> None:
    """Ann's call was charged 2 USD; its detail is gone."""
    post(connection, [Transfer(CALL, 0, "charge", 9, REVENUE, 2 * 10**9, 1.0)])


def test_a_reference_credits_once(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        await do("user add", name="ann")
        first = await do("wallet credit", user="ann", amount="5", reference="invoice-1")
        assert (first["credited_usd"], first["repeated"]) == ("5.00", False)
        again = await do("wallet credit", user="ann", amount="5", reference="invoice-1")
        assert (again["credited_usd"], again["balance_usd"]) == ("0.00", "5.00")
        other = await do("wallet credit", user="ann", amount="0.000000001")
        assert other["balance_usd"] == "5.000000001"
        assert other["reference"] != first["reference"]

    in_office(tmp_path, test)


def test_a_call_is_given_back_once_in_whole_or_in_parts(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann", credit="5")
        await office.keeper.note(charge)
        call = format_id(CALL)
        part = await do("wallet refund", call=call, amount="0.5", reason="slow", reference="r1")
        assert (part["user"], part["changed_usd"]) == ("ann", "0.50")
        again = await do("wallet refund", call=call, amount="0.5", reason="slow", reference="r1")
        assert (again["changed_usd"], again["repeated"]) == ("0.00", True)
        rest = await do("wallet refund", call=call, reason="slow")
        assert rest["changed_usd"] == "1.50"
        for said, wrong in (
            ("not a request id", "x"),
            ("charged nothing", format_id(77)),
            (r"0\.00 are left", call),
        ):
            with pytest.raises(CommandError, match=said):
                await do("wallet refund", call=wrong, reason="slow")
        with pytest.raises(CommandError, match="a reason is needed"):
            await do("wallet refund", call=call, reason=" ")

    in_office(tmp_path, test)


def test_a_wallet_is_corrected_both_ways_and_never_below_nothing(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann", credit="5")
        up = await do("wallet adjust", user="ann", amount="1.5", reason="sorry")
        assert up["balance_usd"] == "6.50"
        with pytest.raises(CommandError, match=r"6\.50 USD that no open call holds"):
            await do("wallet adjust", user="ann", amount="-6.500000001", reason="typo")
        down = {"user": "ann", "amount": "-6.5", "reason": "typo", "reference": "a1"}
        first, again = await do("wallet adjust", **down), await do("wallet adjust", **down)
        assert (first["changed_usd"], first["balance_usd"]) == ("-6.50", "0.00")
        assert (again["changed_usd"], again["repeated"]) == ("0.00", True)
        with pytest.raises(CommandError, match=r"0\.00 USD"):
            await do("wallet adjust", **down | {"amount": "-7"})
        with pytest.raises(CommandError, match="the relay's own"):
            await do("wallet adjust", **down | {"reference": "sluice:code:1"})
        with pytest.raises(CommandError, match="must not be 0"):
            await do("wallet adjust", user="ann", amount="0", reason="why")
        assert verify(office.database).problems == ()

    in_office(tmp_path, test)


def test_a_hundred_corrections_at_once_take_what_there_is_and_no_more(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann", credit="5")

        async def take() -> bool:
            try:
                await do("wallet adjust", user="ann", amount="-0.7", reason="why")
            except CommandError:
                return False
            return True

        taken = await asyncio.gather(*(take() for _ in range(100)))
        assert sum(taken) == 7
        assert office.keeper.balance(1) == 100_000_000
        assert verify(office.database).problems == ()

    in_office(tmp_path, test)


def test_the_history_tells_where_the_balance_comes_from(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann", credit="5")
        await office.keeper.note(charge)
        await do("wallet adjust", user="ann", amount="-1", reason="typo", reference="a1")
        await do("wallet refund", call=format_id(CALL), reason="slow", reference="r1")
        told = await do("wallet history", user="ann")
        rows = [(row["kind"], row["amount_usd"], row["reason"]) for row in told["entries"]]
        assert rows == [
            ("refund", "2.00", "slow"),
            ("adjustment", "-1.00", "typo"),
            ("top_up", "5.00", "starting credit"),
        ]
        assert told["entries"][0]["request_id"] == format_id(CALL)
        assert (told["balance_usd"], told["held_usd"], told["older"]) == ("4.00", "0.00", None)
        earlier = await do("wallet history", user="ann", until="2020-01-01")
        assert earlier["entries"] == []
        for wrong in ({"until": "yesterday"}, {"days": 0}, {"days": 367}):
            with pytest.raises(CommandError):
                await do("wallet history", user="ann", **wrong)

    in_office(tmp_path, test)


def test_a_threshold_is_set_and_taken_away(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann")
        for below in ("2.5", "3", "0"):
            assert (await do("wallet threshold", user="ann", below=below))["user"] == "ann"
        query = "SELECT count(*) FROM wallet_threshold"
        assert await office.read(lambda c: c.execute(query).fetchone()) == (0,)

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert wallets.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
