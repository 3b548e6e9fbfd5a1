"""Another address for an account: asked for by its owner, proved by a link that was sent there.

Rules: as storage/one_time_links.py; of one person only the latest link is good. Until it is used
nothing changes. The wallet that is named by the old address takes the new one: the name is shown to
its people, and whoever registers with the old address next must find it free of somebody else's.
This module must not know how a link reaches anybody.
"""

import sqlite3
from typing import NamedTuple

from proxy.storage.accounts import touch_catalog
from proxy.storage.one_time_links import GONE, digest_of
from proxy.storage.people import (
    Person,
    check_address,
    find_person,
    free_name,
    is_named_by,
    person_of,
)
from proxy.storage.sign_ins import revoke_sessions


class Changed(NamedTuple):
    """A person with their new address, and the one before."""

    person: Person
    earlier: str


def ask(
    connection: sqlite3.Connection,
    token: str,
    person_id: int,
    email: str,
    now: float,
    expires_at: float,
) -> None:
    """Keep a link that gives a person the address `email`, in place of an earlier one.

    Raises ValueError for an address that nobody can have.
    """
    check_address(email)
    connection.execute(
        "INSERT INTO email_change VALUES (?, ?, ?, ?, ?) ON CONFLICT (person_id) DO UPDATE SET "
        "digest = excluded.digest, email = excluded.email, created_at = excluded.created_at, "
        "expires_at = excluded.expires_at",
        (person_id, digest_of(token), email, now, expires_at),
    )


def use(connection: sqlite3.Connection, token: str, now: float, keep: str | None) -> Changed:
    """Give the person the address; all their sessions end but `keep`. Raises ValueError.

    An address that somebody else has by now is refused as a link that is over.
    """
    row = connection.execute(
        "SELECT person_id, email_change.email FROM email_change "
        "JOIN person ON person.id = person_id AND enabled = 1 "
        "WHERE digest = ? AND expires_at > ?",
        (digest_of(token), now),
    ).fetchone()
    if row is None or find_person(connection, row[1]) is not None:
        raise ValueError(GONE)
    person = person_of(connection, int(row[0]))
    connection.execute(
        "UPDATE person SET email = ?, verified_at = ? WHERE id = ?", (row[1], now, person.id)
    )
    # What was sent to the old address, which may be somebody else's now, opens nothing any more.
    connection.execute("DELETE FROM mail_token WHERE person_id = ?", (person.id,))
    forget(connection, person.id)
    revoke_sessions(connection, person.id, now, keep)
    rename_own_wallet(connection, person, str(row[1]))
    return Changed(person_of(connection, person.id), person.email)


def forget(connection: sqlite3.Connection, person_id: int) -> None:
    """Let a link that was sent be good for nothing."""
    connection.execute("DELETE FROM email_change WHERE person_id = ?", (person_id,))


def rename_own_wallet(connection: sqlite3.Connection, person: Person, name: str) -> None:
    """Name the wallet that is named by a person's address by something else."""
    wallet = person.wallet_id
    row = connection.execute("SELECT name FROM user WHERE id = ?", (wallet,)).fetchone()
    if wallet is not None and row is not None and is_named_by(row[0], person.email):
        free = free_name(connection, name)
        connection.execute("UPDATE user SET name = ? WHERE id = ?", (free, wallet))
        touch_catalog(connection, users=(wallet,))
