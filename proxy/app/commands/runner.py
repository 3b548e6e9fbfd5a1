"""Runs a command, whoever asks: the running relay's socket or a command by itself.

Rules: here alone is decided whether the actor may do it, and it is noted in the audit log before
it is done and when it is, without its secrets. A change goes through the keeper, which alone
writes; a listing reads on a connection of its own, off the event loop. Results are plain JSON
values: money as exact decimal text in US dollars, times as ISO 8601 in UTC. A refusal is a
`CommandError` with its remedy. This module must not know what any command does.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from proxy.app.commands import (
    catalog,
    channels,
    codes,
    groups,
    keys,
    ledger,
    models,
    notices,
    payments,
    people,
    plans,
    relay,
    sign_ins,
    teams,
    tokens,
    usage,
    users,
    wallets,
)
from proxy.app.commands.shapes import Handler, split_remedy
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions.action import LOCAL, Action, Actor, Arguments, OfSelf, Role, Via
from proxy.core.actions.scopes import permits, scope_of
from proxy.core.actions.table import ACTIONS
from proxy.core.actions.unfit import UnfitError
from proxy.edge import log
from proxy.storage import audit
from proxy.storage.people import OWNER, membership
from proxy.storage.ports import KeeperUnavailableError
from proxy.storage.work import ChangeFaultError

HANDLERS: Final[Mapping[str, Handler]] = {
    name: handler
    for domain in (
        catalog,
        channels,
        codes,
        groups,
        keys,
        ledger,
        models,
        notices,
        payments,
        people,
        plans,
        relay,
        sign_ins,
        teams,
        tokens,
        usage,
        users,
        wallets,
    )
    for name, handler in domain.HANDLERS.items()
}


async def run(
    office: Office, command: str, arguments: Mapping[str, object], actor: Actor = LOCAL
) -> object:
    """Do one command by name. Raises CommandError."""
    action = ACTIONS.get(command)
    # What is the console's own does not exist for anybody who comes through the admin API.
    if action is None or (actor.via is Via.API and not action.exposed):
        raise CommandError(f"unknown command {command!r}", "sluice --help lists them")
    try:
        given = msgspec.convert(arguments, action.arguments)
    except msgspec.ValidationError as error:
        raise CommandError(f"{command}: {error}", f"sluice {command} --help") from None
    try:
        permitted = await _permit(office, action, given, actor)
        if not action.audited:
            return await HANDLERS[command](office, permitted, given)
        return await _audited(office, action, given, permitted)
    except UnfitError as error:
        raise CommandError(*split_remedy(str(error)), error.fields) from None
    except ValueError as error:
        raise CommandError(*split_remedy(str(error))) from None
    except OverflowError:  # of a number that no column holds
        raise _too_large(command) from None
    except ChangeFaultError as fault:
        if isinstance(fault.__cause__, OverflowError):
            raise _too_large(command) from None
        where = log.place_of(fault.__cause__ or fault)
        log.get().error("an action failed", reason=command, error=str(fault), where=where)
        raise CommandError(
            f"{command} met a fault of the relay, and nothing was changed",
            "tell whoever runs it; its log says more",
        ) from None
    except KeeperUnavailableError as error:
        raise CommandError(
            f"the ledger is not available: {error}", "try again", unavailable=True
        ) from None


def _too_large(command: str) -> CommandError:
    return CommandError(f"{command}: a number is too large", "name a smaller one")


async def _permit(office: Office, action: Action, given: Arguments, actor: Actor) -> Actor:
    """Return who asks, knowing whether the wallet is theirs. Raises CommandError."""
    if not actor.role.covers(action.role):
        raise CommandError(f"{action.name}: this is for the role {action.role.value}")
    if actor.scopes is not None and not permits(actor.scopes, action):
        raise CommandError(f"{action.name}: this token lacks the scope {scope_of(action)}")
    if actor.role is not Role.USER or isinstance(given, OfSelf):
        return actor
    wallet, person = getattr(given, "user", None), actor.person
    belongs = None
    if isinstance(wallet, str) and person is not None:
        belongs = await office.read(lambda c: membership(c, person, wallet))
    if belongs is None:
        # The same words for a wallet of others and for none, so that nobody learns of either.
        raise CommandError(f"there is no wallet {wallet!r} of yours")
    return msgspec.structs.replace(actor, owner=belongs == OWNER)


async def _audited(office: Office, action: Action, given: Arguments, actor: Actor) -> object:
    keeper = office.keeper
    entry = audit.entry(action, given, actor, office.clock())
    number = await keeper.note(lambda c: audit.begin(c, entry))
    try:
        result = await HANDLERS[action.name](office, actor, given)
    except (
        CommandError, ValueError, OverflowError, ChangeFaultError, KeeperUnavailableError,
    ) as error:  # fmt: skip
        reason = str(error)
        await keeper.note(lambda c: audit.end(c, number, audit.Outcome.REFUSED, reason))
        raise
    await keeper.note(lambda c: audit.end(c, number, audit.Outcome.DONE))
    return result
