"""Commands on the ledger's file."""

from collections.abc import Mapping

from proxy.app.commands.shapes import Handler
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Arguments
from proxy.core.actions.ledger import LedgerRollup
from proxy.core.ids import format_id

ROLLUP_SECONDS_MAX = 60.0
"""Half of what a command may take before its client is told that it took too long."""


async def ledger_rollup(office: Office, _actor: Actor, a: LedgerRollup) -> object:
    """Let calls older than `days` whole days leave; their sums stay."""
    done = await office.keeper.upkeep.roll_up(a.days, min(a.seconds_max, ROLLUP_SECONDS_MAX))
    return {
        "rolled_up": done.calls,
        "kept": [format_id(call_id) for call_id in done.kept],
        "done": done.done,
    }


async def ledger_flush(office: Office, _actor: Actor, _a: Arguments) -> object:
    """Wait until the database file has everything decided so far; a backup asks for it."""
    await office.keeper.upkeep.flush()
    return {"flushed": True}


HANDLERS: Mapping[str, Handler] = {"ledger rollup": ledger_rollup, "ledger flush": ledger_flush}
