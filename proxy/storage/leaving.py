"""Deletes an account: who it was is forgotten, what it paid and used stays in the books.

Rules: as storage/accounts.py. The person's row stays without address, password, provider and
language; sessions, links and memberships leave. Their keys stop working, and so does every wallet
that has nobody else; its money stays in it until an operator has paid it back. A team keeps an
owner, the relay an administrator. This module must not know who asks.
"""

import sqlite3
from typing import Final, NamedTuple

from proxy.core.ledger import AccountKind, account_id
from proxy.core.sentences import Sentence
from proxy.storage.accounts import touch_catalog
from proxy.storage.email_changes import rename_own_wallet
from proxy.storage.one_time_links import revoke_invitations_of
from proxy.storage.people import NOBODYS, OWNER, disable_keys, keep_an_admin, person_of
from proxy.storage.tokens import revoke_tokens_of

NAME: Final = "deleted-{id}"
"""What a wallet is called that was named by the address of who left."""
ADDRESS: Final = NAME + NOBODYS
"""What stands where the address was."""


class LeftBehind(NamedTuple):
    """A wallet that nobody belongs to any more. `balance`: nano-USD."""

    id: int
    name: str
    balance: int


def delete_person(
    connection: sqlite3.Connection, person_id: int, now: float
) -> tuple[LeftBehind, ...]:
    """Delete an account; returns what it leaves behind. Raises ValueError."""
    person = person_of(connection, person_id)
    keep_an_admin(connection, person_id)
    alone = _wallets_alone(connection, person_id)
    disable_keys(connection, person_id)
    rename_own_wallet(connection, person, NAME.format(id=person_id))
    for wallet_id in alone:
        connection.execute("UPDATE user SET enabled = 0 WHERE id = ?", (wallet_id,))
        connection.execute(
            "UPDATE invitation SET revoked_at = ? WHERE user_id = ? AND used_at IS NULL "
            "AND revoked_at IS NULL",
            (now, wallet_id),
        )
    revoke_tokens_of(connection, person_id, now)
    revoke_invitations_of(connection, person_id, now)
    # Without an address an open invitation would be for whoever has the link.
    connection.execute(
        "UPDATE invitation SET email = NULL, revoked_at = coalesce(revoked_at, ?) WHERE email = ?",
        (now, person.email),
    )
    for table in ("session", "mail_token", "email_change", "person_identity", "membership"):
        connection.execute(
            f"DELETE FROM {table} WHERE person_id = ?",  # noqa: S608 - constants
            (person_id,),
        )
    connection.execute(
        "UPDATE person SET email = ?, password_hash = NULL, role = 'user', enabled = 0, "
        "language = NULL, verified_at = NULL, deleted_at = ? WHERE id = ?",
        (ADDRESS.format(id=person_id), now, person_id),
    )
    if alone:
        touch_catalog(connection, users=alone)
    return tuple(_left_behind(connection, wallet_id) for wallet_id in alone)


def _wallets_alone(connection: sqlite3.Connection, person_id: int) -> list[int]:
    """The wallets nobody else belongs to. Raises ValueError for a team without another owner."""
    rows = connection.execute(
        "SELECT user.id, user.name, own.role, "
        "(SELECT count(*) FROM membership WHERE user_id = user.id AND person_id <> ?1), "
        "(SELECT count(*) FROM membership JOIN person ON person.id = person_id AND enabled = 1 "
        "WHERE user_id = user.id AND person_id <> ?1 AND membership.role = ?2) "
        "FROM membership AS own JOIN user ON user.id = own.user_id WHERE own.person_id = ?1 "
        "ORDER BY user.id",
        (person_id, OWNER),
    ).fetchall()
    for _, name, role, others, owners in rows:
        if role == OWNER and others and not owners:
            raise ValueError(
                Sentence(
                    "the team {name!r} would have no owner; make another member one first",
                    name=name,
                )
            )
    return [wallet_id for wallet_id, _, _, others, _ in rows if not others]


def _left_behind(connection: sqlite3.Connection, wallet_id: int) -> LeftBehind:
    row = connection.execute(
        "SELECT user.id, name, balance FROM user JOIN account ON account.id = ? WHERE user.id = ?",
        (account_id(AccountKind.WALLET, wallet_id), wallet_id),
    ).fetchone()
    return LeftBehind(*row)
