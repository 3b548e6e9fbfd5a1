import asyncio
from functools import partial
from pathlib import Path

from proxy.app.commands import runner
from proxy.app.console_figures import Figures, picture_of
from proxy.app.control import ControlServer
from proxy.app.directory import DataDirectory
from proxy.app.office import Gauges, Office
from proxy.app.settings import Settings
from proxy.edge.console.keeper_line import KeeperLine
from tests.app.commands.office import Do, in_office


def test_a_picture_is_made_of_what_the_relay_says_and_kept_for_a_moment(tmp_path: Path) -> None:
    async def test(_do: Do, office: Office) -> None:
        directory = DataDirectory(tmp_path)
        asked: list[int] = []

        def gauges() -> Gauges:
            asked.append(1)
            return Gauges(3, (("main", 2),), (("main", 1),), None)

        object.__setattr__(office, "gauges", gauges)
        control = ControlServer(directory.control, partial(runner.run, office))
        await control.start()
        line = KeeperLine(directory.control)
        figures = Figures(line, directory.database)
        made = await asyncio.gather(*(figures.picture() for _ in range(5)))
        assert len(asked) == 1
        picture = made[0]
        assert (picture.keeper_up, picture.ready, picture.merged.workers) == (True, True, 1)
        assert (picture.merged.streams, picture.merged.breakers) == (3, {"main": 2})
        assert picture.merged.resting == {"main": 1}
        assert picture.statistics is not None
        assert picture.storage is not None
        await line.close()
        await control.stop()

    in_office(tmp_path, test)


def test_a_relay_that_refuses_is_a_figure(tmp_path: Path) -> None:
    async def test(_do: Do, office: Office) -> None:
        directory = DataDirectory(tmp_path)
        control = ControlServer(directory.control, partial(runner.run, office))
        await control.start()
        line = KeeperLine(directory.control)
        picture = await Figures(line, directory.database).picture()
        assert (picture.keeper_up, picture.ready, picture.statistics) == (False, False, None)
        await line.close()
        await control.stop()

    in_office(tmp_path, test)


def test_who_asks_once_learns_how_a_relay_of_one_process_does(tmp_path: Path) -> None:
    async def test(_do: Do, office: Office) -> None:
        directory = DataDirectory(tmp_path)
        object.__setattr__(office, "gauges", lambda: Gauges(3, (("main", 2),), (), None))
        control = ControlServer(directory.control, partial(runner.run, office))
        await control.start()
        picture = await picture_of(directory, Settings())
        assert (picture.keeper_up, picture.merged.breakers) == (True, {"main": 2})
        object.__setattr__(office, "gauges", None)
        picture = await picture_of(directory, Settings())
        assert (picture.keeper_up, picture.merged.breakers) == (False, {}), "there is no port"
        await control.stop()

    in_office(tmp_path, test)
