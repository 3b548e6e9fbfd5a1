"""What a token of the admin API may do: scopes such as `keys:write`, or `*:read` for every domain.

Rules: a domain is a module of actions; levels rise: `read` looks, `write` changes, `confirmed` does
what people are asked for their password for (money, prices, secrets, roles). A scope adds nothing
to what its bearer's role may. This module must not know tokens.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from proxy.core.actions.action import Action
from proxy.core.actions.table import DOMAIN_OF, DOMAINS
from proxy.core.sentences import Sentence

EVERY: Final = "*"
SCOPES_MAX: Final = 64


class Level(StrEnum):
    """How much may be done in a domain, from the least to the most."""

    READ = "read"
    WRITE = "write"
    CONFIRMED = "confirmed"


def level_of(action: Action) -> Level:
    """What an action asks of a scope."""
    if action.step_up:
        return Level.CONFIRMED
    return Level.WRITE if action.audited else Level.READ


def scope_of(action: Action) -> str:
    """The least scope that permits an action."""
    return f"{DOMAIN_OF[action.name]}:{level_of(action).value}"


def permits(scopes: Iterable[str], action: Action) -> bool:
    """Whether one of the scopes is enough for an action."""
    levels = tuple(Level)
    needed, domain = levels.index(level_of(action)), DOMAIN_OF[action.name]
    for scope in scopes:
        named, _, level = scope.partition(":")
        if named in {domain, EVERY} and level in levels and levels.index(Level(level)) >= needed:
            return True
    return False


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes, once each. Raises ValueError for one that there is not."""
    found = tuple(dict.fromkeys(scopes))
    if not 0 < len(found) <= SCOPES_MAX:
        raise ValueError(
            Sentence("name 1 to {most} scopes, such as keys:write or *:read", most=SCOPES_MAX)
        )
    for scope in found:
        domain, _, level = scope.partition(":")
        if domain not in {EVERY, *DOMAINS} or level not in set(Level):
            raise ValueError(
                Sentence(
                    "there is no scope {scope!r}: name a domain ({domains}, or {every}) "
                    "and one of {level}",
                    scope=scope,
                    domains=", ".join(DOMAINS),
                    every=EVERY,
                    level=", ".join(Level),
                )
            )
    return found
