from pathlib import Path

from proxy.app.commands import notices
from proxy.app.office import Office
from proxy.core.actions import notices as actions
from tests.app.commands.office import Do, in_office


def test_a_crossing_is_noticed_once_and_mailed_once(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        await do("user add", name="ann", credit="1")
        await do("wallet threshold", user="ann", below="2")
        assert [await do("notice watch") for _ in range(2)] == [{"changed": 1}, {"changed": 0}]
        mailed = [await do("notice mailed", notice=1) for _ in range(2)]
        assert mailed == [{"first": True}, {"first": False}]

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert notices.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
