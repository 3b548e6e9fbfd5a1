from pathlib import Path

from proxy.app.commands import ledger
from proxy.app.office import Office
from proxy.core.actions import ledger as actions
from tests.app.commands.office import Do, in_office


def test_a_young_ledger_has_nothing_to_roll_up(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        assert await do("ledger flush") == {"flushed": True}
        assert await do("ledger rollup", days=1) == {"rolled_up": 0, "kept": [], "done": True}

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert ledger.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
