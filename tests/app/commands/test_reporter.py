import asyncio
import sqlite3
from pathlib import Path

import pytest

from proxy.app.commands.reporter import HANDLERS, Reporter
from proxy.app.control import CommandError
from proxy.core.actions.action import Actor, Role, Via
from proxy.core.actions.table import ACTIONS
from proxy.edge.console.keeper_line import Refused
from tests.edge.console.consoles import World, in_console
from tests.integration.test_console_actions import required


def test_every_report_has_its_maker_and_a_sentence() -> None:
    assert HANDLERS.keys() == {name for name, action in ACTIONS.items() if action.report}
    for handler in HANDLERS.values():
        assert (handler.__doc__ or "").endswith(".")


def test_who_may_is_decided_as_for_any_action(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        make = world.reporter.make
        for role in (Role.OPERATOR, Role.ADMIN):
            assert await make("audit list", {}, Actor(role, "x", Via.API, scopes=("*:read",)))
        with pytest.raises(CommandError, match="for the role operator"):
            await make("audit list", {}, Actor(Role.USER, "x", Via.CONSOLE, person=1))
        with pytest.raises(CommandError, match="lacks the scope audit:read"):
            await make("audit list", {}, Actor(Role.ADMIN, "x", Via.API, scopes=("reports:read",)))
        with pytest.raises(CommandError, match="is no report"):
            await make("user list", {})
        with pytest.raises(CommandError, match="unknown command"):
            await make("nothing", {})

    in_console(tmp_path, test)


def test_the_keeper_makes_none(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        boss = Actor(Role.ADMIN, "x", Via.API)
        for name in HANDLERS:
            with pytest.raises(Refused, match="which the keeper does not make"):
                await world.surroundings.keeper.do(name, required(ACTIONS[name].arguments), boss)

    in_console(tmp_path, test)


def test_a_file_that_is_none_is_an_error_of_sqlites(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.Error):
        asyncio.run(Reporter(tmp_path / "none").make("audit list", {}))
