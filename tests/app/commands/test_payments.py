from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import payments
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions import payments as actions
from proxy.storage.till import ShortfallError
from tests.app.commands.office import Do, in_office

TERMS = {"user": "ann", "provider": "stripe", "currency": "eur", "minor": 1_000, "rate": "1.08"}


def test_a_payment_is_begun_opened_paid_and_listed(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann")
        begun = await do("payment begin", **TERMS)
        assert begun["amount_usd"] == "10.80"
        await do("payment open", payment=begun["payment"], session="cs_1")
        said = {
            "provider": "stripe", "said": "paid", "kind": "k", "reference": begun["reference"],
            "session": "cs_1", "currency": "eur", "minor": 1_000,
        }  # fmt: skip
        assert await do("payment said", **said) == {
            "outcome": "credited",
            "credited_usd": "10.80",
            "taken_usd": "0.00",
        }
        assert (await do("payment said", **said))["outcome"] == "repeated"
        assert office.keeper.balance(1) == 10_800_000_000
        assert [row["status"] for row in await do("payment list")] == ["paid"]
        with pytest.raises(CommandError, match="no user"):
            await do("payment list", user="bob")

    in_office(tmp_path, test)


@pytest.mark.parametrize(
    "change", [{"minor": 0}, {"minor": -5}, {"minor": 10**30}, {"rate": "0"}, {"currency": "kwd"}]
)
def test_a_payment_of_nothing_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    async def test(do: Do, _office: Office) -> None:
        await do("user add", name="ann")
        with pytest.raises(CommandError):
            await do("payment begin", **TERMS | change)

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert payments.HANDLERS.keys() == {action.name for action in actions.ACTIONS}


async def paid(do: Do) -> dict[str, object]:
    """Ann pays 10 EUR, which is 10.80 USD; returns what is said when some goes back."""
    await do("user add", name="ann")
    begun = await do("payment begin", **TERMS)
    await do("payment open", payment=begun["payment"], session="cs_1")
    said = {"provider": "stripe", "kind": "k", "currency": "eur", "intent": "pi_1"}
    await do(
        "payment said", **said, said="paid", reference=begun["reference"], session="cs_1",
        minor=1_000,
    )  # fmt: skip
    return {**said, "said": "refunded"}


def test_what_the_provider_gave_back_is_taken_as_far_as_it_is_there(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        said = await paid(do)
        assert (await do("payment said", **said, minor=250))["taken_usd"] == "2.70"
        await do("wallet adjust", user="ann", amount="-8.00", reason="spent")
        told = await do("payment said", **said, minor=1_000, message="m")
        assert (told["outcome"], told["taken_usd"]) == ("refunded", "0.10")
        assert office.keeper.balance(1) == 0
        (note,) = await do("payment notes")
        assert (note["payment"], note["outcome"]) == (1, "the wallet did not cover it")
        # Whatever is there when it is said again is taken, and no more than is due.
        await do("wallet credit", user="ann", amount="20")
        assert (await do("payment said", **said, minor=1_000, message="m"))["taken_usd"] == "8.00"
        assert (await do("payment said", **said, minor=1_000))["taken_usd"] == "0.00"
        (row,) = await do("payment list")
        assert (row["taken_usd"], office.keeper.balance(1)) == ("10.80", 12_000_000_000)

    in_office(tmp_path, test)


def test_a_wallet_that_shrinks_meanwhile_gives_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(do: Do, office: Office) -> None:
        said = await paid(do)
        whole, tried = type(office.keeper.till).move, []

        async def move(till: Any, function: Any, *, aside: Any = None, **more: Any) -> Any:
            if aside is not None:
                tried.append(aside.amount)
                raise ShortfallError("less again", aside.amount - 1)
            return await whole(till, function, aside=aside, **more)

        monkeypatch.setattr(type(office.keeper.till), "move", move)
        assert (await do("payment said", **said, minor=1_000))["taken_usd"] == "0.00"
        assert len(tried) == payments.TAKES_MAX
        monkeypatch.undo()
        assert (await do("payment said", **said, minor=1_000))["taken_usd"] == "10.80"

    in_office(tmp_path, test)
