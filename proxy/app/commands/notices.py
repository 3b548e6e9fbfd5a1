"""Commands on notices of wallets."""

from collections.abc import Mapping

from proxy.app.commands.shapes import Handler
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Arguments
from proxy.core.actions.notices import NoticeMailed
from proxy.storage import notices


async def notice_watch(office: Office, _actor: Actor, _a: Arguments) -> object:
    """Raise and end notices of low balance by what wallets have now."""
    now = office.clock()
    return {"changed": await office.keeper.note(lambda c: notices.watch_balances(c, now))}


async def notice_mailed(office: Office, _actor: Actor, a: NoticeMailed) -> object:
    """Note that a notice is about to be mailed."""
    now = office.clock()
    return {"first": await office.keeper.note(lambda c: notices.mark_mailed(c, a.notice, now))}


HANDLERS: Mapping[str, Handler] = {"notice watch": notice_watch, "notice mailed": notice_mailed}
