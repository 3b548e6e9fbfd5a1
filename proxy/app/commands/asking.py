"""What is asked, whether whoever asks may, and how they are told that it cannot be.

Rules: here alone is decided who may do an action: the role, a token's scopes, and for people
without a role that the wallet is theirs. A refusal is a `CommandError` with its remedy. This module
must not know what any action does, nor who does it.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

import msgspec

from proxy.app.control import CommandError
from proxy.core.actions.action import Action, Actor, Arguments, OfSelf, Role, Via
from proxy.core.actions.scopes import permits, scope_of
from proxy.core.actions.table import ACTIONS
from proxy.core.actions.unfit import UnfitError
from proxy.core.sentences import Sentence, split_remedy, text_of
from proxy.storage.people import OWNER

Belongs = Callable[[int, str], Awaitable[str | None]]
"""What a person is to the wallet of a name: OWNER, MEMBER, or None."""


def understand(
    command: str, arguments: Mapping[str, object], actor: Actor
) -> tuple[Action, Arguments]:
    """The action of a name and its arguments. Raises CommandError."""
    action = ACTIONS.get(command)
    # What is the console's own does not exist for anybody who comes through the admin API.
    if action is None or (actor.via is Via.API and not action.exposed):
        raise CommandError(
            Sentence("unknown command {command!r}", command=command), "sluice --help lists them"
        )
    try:
        return action, msgspec.convert(arguments, action.arguments)
    except msgspec.ValidationError as error:
        raise CommandError(
            Sentence("{command}: {error}", command=command, error=text_of(error)),
            Sentence("sluice {command} --help", command=command),
        ) from None


async def permit(action: Action, given: Arguments, actor: Actor, belongs: Belongs) -> Actor:
    """Return who asks, knowing whether the wallet is theirs. Raises CommandError."""
    if not actor.role.covers(action.role):
        raise CommandError(
            Sentence(
                "{name}: this is for the role {role}", name=action.name, role=action.role.value
            )
        )
    if actor.scopes is not None and not permits(actor.scopes, action):
        raise CommandError(
            Sentence(
                "{name}: this token lacks the scope {scope}",
                name=action.name,
                scope=scope_of(action),
            )
        )
    if actor.role is not Role.USER or isinstance(given, OfSelf):
        return actor
    wallet, person = getattr(given, "user", None), actor.person
    rank = None
    if isinstance(wallet, str) and person is not None:
        rank = await belongs(person, wallet)
    if rank is None:
        # The same words for a wallet of others and for none, so that nobody learns of either.
        raise CommandError(Sentence("there is no wallet {wallet!r} of yours", wallet=str(wallet)))
    return msgspec.structs.replace(actor, owner=rank == OWNER)


@contextmanager
def refusing(command: str) -> Iterator[None]:
    """Turn what handlers raise about arguments that cannot be into a CommandError."""
    try:
        yield
    except UnfitError as error:
        raise CommandError(*split_remedy(text_of(error)), error.fields) from None
    except ValueError as error:
        raise CommandError(*split_remedy(text_of(error))) from None
    except OverflowError:  # of a number that no column holds
        raise too_large(command) from None


def too_large(command: str) -> CommandError:
    """The refusal of a number that no column holds."""
    return CommandError(
        Sentence("{command}: a number is too large", command=command), "name a smaller one"
    )
