from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import groups
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions import groups as actions
from tests.app.commands.office import Do, in_office, refusal


def test_a_group_is_made_changed_and_removed(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann")
        await do("key add", user="ann", name="k")
        await do("group set", name="fast", set={"multiplier": "2.5"}, create=True)
        first, second = await do("group list")
        assert (first["group"]["name"], first["keys"], first["channels"], first["models"]) == (
            "default",
            1,
            1,
            1,
        )
        assert second["group"]["multiplier"] == "2.5"
        basis = second["basis"]
        await do("group set", name="fast", set={"multiplier": "3"}, basis=basis)
        assert office.keeper.catalog.groups["fast"].multiplier == 3_000_000
        with pytest.raises(CommandError, match="was changed since"):
            await do("group set", name="fast", set={"multiplier": "4"}, basis=basis)
        await do("group remove", name="fast")
        assert [each["group"]["name"] for each in await do("group list")] == ["default"]

    in_office(tmp_path, test)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("group set", {"name": "x", "set": {}}, "there is no group 'x'"),
    ("group set", {"name": "default", "set": {"multiplier": "-1"}}, "multiplier is not a ratio"),
    ("group set", {"name": "default", "set": {"multiplier": 1.5}}, "multiplier is not a ratio"),
    ("group remove", {"name": "x"}, "there is no group 'x'"),
    ("group remove", {"name": "default"}, "still that of channel main"),
]


@pytest.mark.parametrize(("command", "arguments", "message"), REFUSED)
def test_what_is_wrong_is_said(
    tmp_path: Path, command: str, arguments: dict[str, Any], message: str
) -> None:
    assert message in refusal(tmp_path, command, **arguments)[0]


def test_a_group_that_keys_are_in_stays(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        await do("user add", name="ann")
        await do("key add", user="ann", name="k")
        await do("channel set", name="main", set={"groups": []})
        with pytest.raises(CommandError, match=r"1 key\(s\) still use it"):
            await do("group remove", name="default")

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert groups.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
