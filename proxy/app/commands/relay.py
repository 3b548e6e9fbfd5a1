"""Commands that ask how the relay's processes do, and by which settings."""

from collections.abc import Mapping

from proxy.app.commands.shapes import Handler
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Arguments


async def relay_figures(office: Office, _actor: Actor, _a: Arguments) -> object:
    """The gauges of this process; with several, the console asks all of them by the port."""
    if office.gauges is None:
        raise CommandError("this process serves no calls")
    gauges, statistics = office.gauges(), office.keeper.statistics()
    return {
        "streams": gauges.streams,
        "breakers": dict(gauges.breakers),
        "resting": dict(gauges.resting),
        "unready": gauges.unready,
        "holds_open": statistics.holds_open,
        "held_nano": statistics.held,
        "imbalance_nano": statistics.imbalance,
    }


async def relay_settings(office: Office, _actor: Actor, _a: Arguments) -> object:
    """What this relay runs with, for commands that know neither its file nor its flags."""
    if office.in_force is None:
        raise CommandError("no relay runs here")
    return office.in_force.told()


HANDLERS: Mapping[str, Handler] = {
    "relay figures": relay_figures,
    "relay settings": relay_settings,
}
