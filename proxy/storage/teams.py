"""Teams: wallets that several people belong to. Plain functions on the writer's connection.

Rules: as storage/accounts.py. A wallet with members has an owner at all times. Who leaves takes
nothing along: their keys of that wallet are disabled in the same transaction. This module must not
know who asks.
"""

import sqlite3
from typing import Final, NamedTuple

from proxy.core.sentences import Sentence
from proxy.storage.accounts import add_user, touch_catalog
from proxy.storage.people import OWNER, Wallet, add_member

MEMBERS_MAX: Final = 200
NAME_CHARS_MAX: Final = 60
NOT_IN_NAMES: Final = frozenset("@/\\:")
WALLETS_MAX: Final = 20
"""Wallets one person may belong to."""


class Member(NamedTuple):
    """Somebody who may use a wallet."""

    person_id: int
    email: str
    role: str
    enabled: bool
    created_at: float


def add_team(connection: sqlite3.Connection, name: str, person_id: int, now: float) -> Wallet:
    """Add a wallet that this person owns, on the plan of their own one. Raises ValueError."""
    if len(name) > NAME_CHARS_MAX or NOT_IN_NAMES & {*name}:
        # With an @ it is the wallet of whoever registers with that address; with the others it
        # could be a link in a mail that we send to whom its owner invites.
        raise ValueError("a team's name has at most 60 characters, and none of @ / : among them")
    if connection.execute("SELECT 1 FROM user WHERE name = ?", (name,)).fetchone() is not None:
        raise ValueError("this name is taken already")
    row = connection.execute(
        "SELECT plan FROM person JOIN user ON user.id = wallet_id WHERE person.id = ?",
        (person_id,),
    ).fetchone()
    if row is None:
        raise ValueError("a team takes the plan of your own wallet, and you have none")
    _room_for(connection, person_id)
    wallet = Wallet(add_user(connection, name, str(row[0]), now), name, OWNER)
    add_member(connection, person_id, wallet.id, OWNER, now)
    return wallet


def members_of(connection: sqlite3.Connection, wallet_id: int) -> list[Member]:
    """Who may use a wallet, the oldest membership first."""
    rows = connection.execute(
        "SELECT person.id, email, membership.role, enabled, membership.created_at "
        "FROM membership JOIN person ON person.id = person_id WHERE user_id = ? "
        "ORDER BY membership.created_at, person.id",
        (wallet_id,),
    )
    return [Member(row[0], row[1], row[2], bool(row[3]), row[4]) for row in rows]


def join(
    connection: sqlite3.Connection, person_id: int, wallet_id: int, role: str, now: float
) -> bool:
    """Let a person use a wallet; False if they may already. Raises ValueError if there are many."""
    if len(members_of(connection, wallet_id)) >= MEMBERS_MAX:
        raise ValueError(Sentence("a team has at most {most} members", most=MEMBERS_MAX))
    _room_for(connection, person_id)
    return add_member(connection, person_id, wallet_id, role, now)


def set_member_role(
    connection: sqlite3.Connection, wallet_id: int, email: str, role: str
) -> Member:
    """Make a member an owner or the other way round; returns who they were.

    Raises ValueError for the last owner.
    """
    member = _member(connection, wallet_id, email)
    if role != OWNER:
        _keep_an_owner(connection, wallet_id, member)
    connection.execute(
        "UPDATE membership SET role = ? WHERE user_id = ? AND person_id = ?",
        (role, wallet_id, member.person_id),
    )
    return member


def remove_member(connection: sqlite3.Connection, wallet_id: int, email: str) -> Member:
    """Take a member out, and their keys out of service. Raises ValueError for the last owner."""
    member = _member(connection, wallet_id, email)
    _keep_an_owner(connection, wallet_id, member)
    connection.execute(
        "DELETE FROM membership WHERE user_id = ? AND person_id = ?", (wallet_id, member.person_id)
    )
    rows = connection.execute(
        "UPDATE key SET enabled = 0 WHERE user_id = ? AND person_id = ? RETURNING id",
        (wallet_id, member.person_id),
    )
    touch_catalog(connection, keys=[row[0] for row in rows.fetchall()], users=(wallet_id,))
    return member


def _member(connection: sqlite3.Connection, wallet_id: int, email: str) -> Member:
    for member in members_of(connection, wallet_id):
        if member.email == email:
            return member
    raise ValueError(Sentence("{email!r} is no member of this team", email=email))


def _keep_an_owner(connection: sqlite3.Connection, wallet_id: int, leaving: Member) -> None:
    owners = [m for m in members_of(connection, wallet_id) if m.role == OWNER]
    if leaving in owners and len(owners) == 1:
        raise ValueError("this is the last owner; make another member one first")


def _room_for(connection: sqlite3.Connection, person_id: int) -> None:
    (found,) = connection.execute(
        "SELECT count(*) FROM membership WHERE person_id = ?", (person_id,)
    ).fetchone()
    if found >= WALLETS_MAX:
        raise ValueError(Sentence("one person belongs to at most {most} wallets", most=WALLETS_MAX))
