from pathlib import Path

import pytest

from proxy.app.commands import audit
from proxy.app.control import CommandError
from proxy.core.actions import audit as actions
from tests.edge.console.consoles import World, in_console


def test_changes_are_listed_with_who_and_how_they_ended(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.do("user add", name="ann")
        with pytest.raises(CommandError):
            await world.do("user add", name="ann")
        await world.do("channel key add", name="main", secret="sk-canary-of-the-upstream")
        rows = await world.do("audit list")
        assert [row["action"] for row in rows] == [
            "channel key add", "user add", "user add", "catalog apply",
        ]  # fmt: skip
        assert rows[0]["arguments"] == {"name": "main", "secret": "***"}
        refused = rows[1]
        assert refused | {"id": 3, "at": ""} == {
            "id": 3, "at": "", "actor": "command line", "via": "cli", "address": None,
            "action": "user add", "outcome": "refused", "reason": "there is a user 'ann' already",
            "arguments": {"name": "ann"},
        }  # fmt: skip
        assert refused["at"].endswith("Z")
        assert await world.do("audit list", outcome="refused", actor="COMMAND") == [refused]
        assert await world.do("audit list", rows_max=1, before=rows[0]["id"]) == [refused]
        assert await world.do("audit list", outcome="unfinished") == []
        day = refused["at"][:10]
        assert await world.do("audit list", since=day, until=day) == rows
        assert await world.do("audit list", since="1h") == rows
        assert await world.do("audit list", since="99999999d") == rows
        assert await world.do("audit list", until="1h") == []
        assert await world.do("audit list", since="2080-01-01T00:00:00+02:00") == []

    in_console(tmp_path, test)


def test_a_time_that_is_none_is_named(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        with pytest.raises(CommandError, match="'soon' is neither a span") as caught:
            await world.do("audit list", since="soon", until="0001-01-01")
        assert caught.value.fields.keys() == {"since", "until"}
        with pytest.raises(CommandError, match="'2026-01-01' is not after '2026-01-02'"):
            await world.do("audit list", since="2026-01-02", until="2026-01-01")

    in_console(tmp_path, test)


def test_every_action_of_the_domain_has_its_report() -> None:
    assert audit.REPORTS.keys() == {action.name for action in actions.ACTIONS}
