from pathlib import Path

from proxy.app.commands import wallets
from proxy.app.office import Office
from proxy.core.actions import wallets as actions
from tests.app.commands.office import Do, in_office


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


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert wallets.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
