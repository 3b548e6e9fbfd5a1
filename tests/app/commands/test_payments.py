from pathlib import Path

import pytest

from proxy.app.commands import payments
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions import payments as actions
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
        assert await do("payment said", **said) == {"outcome": "credited", "credited_usd": "10.80"}
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
