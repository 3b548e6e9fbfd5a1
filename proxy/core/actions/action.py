"""What an action is: a named request to the keeper, and who may make it.

Rules: an action is said once, as data; command line, console and admin API offer the same ones
and nothing besides. Its arguments are a typed record, unknown ones are refused. Roles rise, and an
action names the least one. What a person without a role may do, they may do for wallets they
belong to, and for themselves. This module must not know how any action is done.
"""

from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct


class Role(StrEnum):
    """What somebody is to the relay, from the least to the most."""

    USER = "user"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, least: "Role") -> bool:
        """Whether who has this role may do what `least` may."""
        order = tuple(Role)
        return order.index(self) >= order.index(least)


class Via(StrEnum):
    """Through which door a request came."""

    CLI = "cli"
    CONSOLE = "console"
    API = "api"


class Arguments(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of an action; each has its own."""


class OfSelf(Arguments, frozen=True):
    """Arguments of an action about whoever asks."""


class Actor(Struct, frozen=True):
    """Who asks. `owner`: they may do anything with the wallet it is about, not only their own.

    `scopes`: what the token they ask with is for (scopes.py); None: they ask in person.
    """

    role: Role
    name: str
    via: Via
    person: int | None = None
    address: str | None = None
    owner: bool = True
    scopes: tuple[str, ...] | None = None


LOCAL = Actor(Role.ADMIN, "command line", Via.CLI)
"""Whoever may open the control socket or the data directory's lock on this machine."""


@dataclass(frozen=True, slots=True)
class Action:
    """One action. `secrets`: the arguments that no log may show.

    With Role.USER the arguments have a `user`, the wallet's name, or derive from `OfSelf`.
    `step_up`: people are asked for their password again. `exposed`: it is part of the admin API;
    what is not is for the console's process alone. `audited`: it changes something. `report`: it
    reads more than a few rows, so whoever is asked reads the file itself, and never the keeper.
    """

    name: str
    arguments: type[Arguments]
    summary: str
    role: Role = Role.OPERATOR
    audited: bool = True
    step_up: bool = False
    exposed: bool = True
    report: bool = False
    secrets: frozenset[str] = frozenset()
