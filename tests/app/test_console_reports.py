import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.app import console_reports
from proxy.app.commands.reporter import Reporter
from proxy.app.console_reports import AT_ONCE_MAX, ConsoleReports
from proxy.core.actions.action import LOCAL, Actor, Role, Via
from proxy.edge.console import keeper_line
from proxy.edge.console.keeper_line import KeeperGoneError, Refused
from tests.edge.console.consoles import World, in_console


class Slow(Reporter):
    """Makes a report for as long as nobody says that it is done."""

    begun = 0

    async def make(
        self, command: str, arguments: Mapping[str, object], actor: Actor = LOCAL
    ) -> object:
        Slow.begun += 1
        await asyncio.Event().wait()
        return command, arguments, actor


def test_a_refusal_is_the_pages_kind_of_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        reports = ConsoleReports(world.reporter)
        assert await reports.do("audit list", {}, LOCAL)
        with pytest.raises(Refused, match="is no day") as caught:
            await reports.do("report margin", {"until": "x"}, LOCAL)
        assert caught.value.fields.keys() == {"until"}

    in_console(tmp_path, test)


def test_few_at_a_time_and_none_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_reports, "QUEUE_SECONDS_MAX", 0.02)
    monkeypatch.setattr(console_reports, "REPORT_SECONDS_MAX", 0.2)
    monkeypatch.setattr(Slow, "begun", 0)

    async def run() -> list[Any]:
        reports = ConsoleReports(Slow(Path("none")))
        asked = [reports.do("audit list", {}, LOCAL) for _ in range(AT_ONCE_MAX + 2)]
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(asyncio.wait_for(run(), 20))
    assert Slow.begun == AT_ONCE_MAX
    assert all(isinstance(one, KeeperGoneError) and not one.perhaps_done for one in answers)
    words = sorted(str(one) for one in answers)
    assert words == [keeper_line.BUSY] * 2 + [console_reports.TOO_LONG] * AT_ONCE_MAX


def test_one_person_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_reports, "QUEUE_SECONDS_MAX", 0.02)
    monkeypatch.setattr(console_reports, "REPORT_SECONDS_MAX", 0.2)
    monkeypatch.setattr(Slow, "begun", 0)
    ann, bob = (Actor(Role.USER, "x", Via.API, person=number) for number in (1, 2))

    async def run() -> list[str]:
        reports = ConsoleReports(Slow(Path("none")))
        who = [*[ann] * 5, bob, *[LOCAL] * AT_ONCE_MAX]
        asked = [reports.do("call list", {}, one) for one in who]
        said = [str(one) for one in await asyncio.gather(*asked, return_exceptions=True)]
        assert not reports._turns, "nothing is kept of who was here"
        return said

    said = asyncio.run(asyncio.wait_for(run(), 20))
    assert Slow.begun == 2 + AT_ONCE_MAX
    assert said[0] == said[5] == console_reports.TOO_LONG
    assert said[1:5] == [keeper_line.BUSY] * 4
