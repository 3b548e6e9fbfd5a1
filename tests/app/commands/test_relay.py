from pathlib import Path

import pytest

from proxy.app.addresses import Bound
from proxy.app.commands import relay
from proxy.app.control import CommandError
from proxy.app.in_force import InForce
from proxy.app.office import Gauges, Office
from proxy.app.settings import Settings
from proxy.core.actions import relay as actions
from tests.app.commands.office import Do, in_office


def test_gauges_are_told_where_calls_are_served(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        with pytest.raises(CommandError, match="serves no calls"):
            await do("relay figures")
        gauges = Gauges(3, (("main", 2),), (("main", 1),), "draining")
        object.__setattr__(office, "gauges", lambda: gauges)
        assert await do("relay figures") == {
            "streams": 3,
            "breakers": {"main": 2},
            "resting": {"main": 1},
            "unready": "draining",
            "holds_open": 0,
            "held_nano": 0,
            "imbalance_nano": 0,
        }

    in_office(tmp_path, test)


def test_the_settings_are_told_by_a_relay_and_by_nothing_else(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        with pytest.raises(CommandError, match="no relay runs"):
            await do("relay settings")
        in_force = InForce(Settings(registration="open"), Bound("127.0.0.1:1"))
        object.__setattr__(office, "in_force", in_force)
        found = await do("relay settings")
        assert found == in_force.told()
        assert found["settings"]["registration"] == "open"

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert relay.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
