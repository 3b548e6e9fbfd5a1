"""Runs a command, whoever asks: the running relay's socket or a command by itself.

Rules: what changes something is noted in the audit log before it is done and when it is, without
its secrets. A change goes through the keeper, which alone writes; a listing reads on a connection
of its own, off the event loop; a report is not made here at all (reporter.py). Results are plain
JSON values: money as exact decimal text in US dollars, times as ISO 8601 in UTC. A refusal is a
`CommandError` with its remedy. This module must not know what any command does.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final

from proxy.app.commands import (
    addresses,
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
from proxy.app.commands.asking import permit, refusing, too_large, understand
from proxy.app.commands.shapes import Handler
from proxy.app.control import CommandError
from proxy.app.office import CHANGES_MAX, Office
from proxy.core.actions.action import LOCAL, Action, Actor, Arguments, Role
from proxy.core.actions.table import DOMAIN_OF
from proxy.core.sentences import Sentence, text_of
from proxy.edge import log
from proxy.storage import audit
from proxy.storage.people import membership
from proxy.storage.ports import KeeperUnavailableError
from proxy.storage.work import ChangeFaultError

HANDLERS: Final[Mapping[str, Handler]] = {
    name: handler
    for domain in (
        addresses,
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


REMAKING: Final = frozenset({"keys", "teams", "plans"})
"""Domains in which people without a role make changes of the catalog."""


async def run(
    office: Office, command: str, arguments: Mapping[str, object], actor: Actor = LOCAL
) -> object:
    """Do one command by name. Raises CommandError."""
    action, given = understand(command, arguments, actor)
    try:
        with refusing(command):
            permitted = await permit(action, given, actor, partial(_belongs, office))
            if action.report:
                raise CommandError(
                    Sentence(
                        "{command} is a report, which the keeper does not make", command=command
                    ),
                    "ask the console's admin API, or the command line on this machine",
                )
            if not action.audited:
                return await HANDLERS[command](office, permitted, given)
            _count(office, action, permitted)
            return await _audited(office, action, given, permitted)
    except ChangeFaultError as fault:
        if isinstance(fault.__cause__, OverflowError):
            raise too_large(command) from None
        where = log.place_of(fault.__cause__ or fault)
        log.get().error("an action failed", reason=command, error=str(fault), where=where)
        raise CommandError(
            Sentence(
                "{command} met a fault of the relay, and nothing was changed", command=command
            ),
            "tell whoever runs it; its log says more",
        ) from None
    except KeeperUnavailableError as error:
        raise CommandError(
            Sentence("the ledger is not available: {error}", error=text_of(error)),
            "try again",
            unavailable=True,
        ) from None


async def _belongs(office: Office, person: int, wallet: str) -> str | None:
    return await office.read(lambda c: membership(c, person, wallet))


def _count(office: Office, action: Action, actor: Actor) -> None:
    """Let no single user keep the relay busy with their changes. Raises CommandError.

    Each is a commit and a new catalog in the process that serves calls, and waits for every worker.
    """
    if actor.role is not Role.USER or DOMAIN_OF[action.name] not in REMAKING:
        return
    wait = office.changes.take(str(actor.person), office.clock())
    if wait is not None:
        raise CommandError(
            Sentence("you changed too much within a minute: {most} are allowed", most=CHANGES_MAX),
            Sentence("wait {seconds} seconds, then go on", seconds=int(wait) + 1),
        )


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
