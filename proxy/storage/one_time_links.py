"""Links that are good once: to confirm an address, to set a password, to be let in.

Rules: as storage/accounts.py. A secret of 178 random bits is told once and kept as SHA-256; nothing
that long can be guessed, so no pepper is needed. What was used, is over or was taken back is the
same as what never was. This module must not know how a link reaches anybody.
"""

import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from proxy.core.sentences import Sentence
from proxy.storage.secrets import KEY_PREFIX, new_key

TOKENS_MAX: Final = 5
"""Unused links of one kind that a person may have at once: more mails say no more."""
INVITATIONS_MAX: Final = 200
"""Open invitations of one wallet, or of the relay itself."""
ROWS_MAX: Final = 200
GONE: Final = Sentence("this link is not good any more")
_FIELDS: Final = (
    "invitation.id, invitation.email, user_id, user.name, invitation.role, invitation.created_at, "
    "expires_at"
)


class Purpose(StrEnum):
    """What a link of mail is for."""

    VERIFY = "verify"
    PASSWORD = "password"  # noqa: S105 - a kind of link


@dataclass(frozen=True, slots=True)
class Invitation:
    """An open invitation. `wallet` is None where it is to the relay alone."""

    id: int
    email: str | None
    wallet_id: int | None
    wallet: str | None
    role: str
    created_at: float
    expires_at: float


def new_token(random_bytes: bytes) -> str:
    """The secret of a link, of `secrets.KEY_RANDOM_BYTES` random bytes."""
    return new_key(random_bytes).removeprefix(KEY_PREFIX)


def digest_of(token: str) -> bytes:
    """What is kept of a token."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def add_token(
    connection: sqlite3.Connection,
    token: str,
    purpose: Purpose,
    person_id: int,
    now: float,
    expires_at: float,
) -> bool:
    """Keep a link; False, and nothing is kept, while the person has enough of them."""
    connection.execute(
        "DELETE FROM mail_token WHERE person_id = ? AND (expires_at < ? OR used_at < ?)",
        (person_id, now, now),
    )
    (found,) = connection.execute(
        "SELECT count(*) FROM mail_token WHERE person_id = ? AND purpose = ? AND used_at IS NULL",
        (person_id, purpose.value),
    ).fetchone()
    if found >= TOKENS_MAX:
        return False
    connection.execute(
        "INSERT INTO mail_token VALUES (?, ?, ?, ?, ?, NULL)",
        (digest_of(token), purpose.value, person_id, now, expires_at),
    )
    return True


def find_token(
    connection: sqlite3.Connection, token: str, purpose: Purpose, now: float
) -> int | None:
    """The person whose link this is, if it is still good."""
    row = connection.execute(
        "SELECT person_id FROM mail_token "
        "WHERE digest = ? AND purpose = ? AND used_at IS NULL AND expires_at > ?",
        (digest_of(token), purpose.value, now),
    ).fetchone()
    return None if row is None else int(row[0])


def use_token(connection: sqlite3.Connection, token: str, purpose: Purpose, now: float) -> int:
    """Use a link up; returns whose it is. Raises ValueError for one that is not good."""
    person_id = find_token(connection, token, purpose, now)
    if person_id is None:
        raise ValueError(GONE)
    connection.execute(
        "UPDATE mail_token SET used_at = ? WHERE digest = ?", (now, digest_of(token))
    )
    return person_id


def add_invitation(
    connection: sqlite3.Connection,
    token: str,
    *,
    email: str | None,
    wallet_id: int | None,
    role: str,
    invited_by: int | None,
    now: float,
    expires_at: float,
) -> int:
    """Keep an invitation; returns its id. Raises ValueError when there are too many."""
    (found,) = connection.execute(
        "SELECT count(*) FROM invitation WHERE user_id IS ? AND used_at IS NULL "
        "AND revoked_at IS NULL AND expires_at > ?",
        (wallet_id, now),
    ).fetchone()
    if found >= INVITATIONS_MAX:
        raise ValueError(
            Sentence("there are {found} open invitations already; remove some first", found=found)
        )
    cursor = connection.execute(
        "INSERT INTO invitation (digest, email, user_id, role, invited_by, created_at, expires_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (digest_of(token), email, wallet_id, role, invited_by, now, expires_at),
    )
    if cursor.lastrowid is None:
        raise AssertionError("an insert has a row id")
    return cursor.lastrowid


def find_invitation(connection: sqlite3.Connection, token: str, now: float) -> Invitation | None:
    """The invitation of this link, if it is still open."""
    row = connection.execute(
        f"SELECT {_FIELDS} FROM invitation LEFT JOIN user ON user.id = user_id "  # noqa: S608 - constants
        "WHERE digest = ? AND used_at IS NULL AND revoked_at IS NULL AND expires_at > ?",
        (digest_of(token), now),
    ).fetchone()
    return None if row is None else _invitation(row)


def use_invitation(
    connection: sqlite3.Connection, token: str, email: str, person_id: int, now: float
) -> Invitation:
    """Use an invitation up for whoever has this address. Raises ValueError."""
    found = find_invitation(connection, token, now)
    if found is None or (found.email is not None and found.email != email):
        raise ValueError(GONE)
    connection.execute(
        "UPDATE invitation SET used_at = ?, used_by = ? WHERE id = ?", (now, person_id, found.id)
    )
    return found


def invited_to_team(connection: sqlite3.Connection, person_id: int) -> bool:
    """Whether a person has used an invitation to somebody's wallet."""
    row = connection.execute(
        "SELECT 1 FROM invitation WHERE used_by = ? AND user_id IS NOT NULL LIMIT 1", (person_id,)
    ).fetchone()
    return row is not None


def list_invitations(
    connection: sqlite3.Connection, wallet_id: int | None, now: float
) -> list[Invitation]:
    """Open invitations to a wallet, or to the relay alone, the newest first."""
    rows = connection.execute(
        f"SELECT {_FIELDS} FROM invitation LEFT JOIN user ON user.id = user_id "  # noqa: S608 - constants
        "WHERE user_id IS ? AND used_at IS NULL AND revoked_at IS NULL AND expires_at > ? "
        "ORDER BY invitation.id DESC LIMIT ?",
        (wallet_id, now, ROWS_MAX),
    )
    return [_invitation(row) for row in rows]


def revoke_invitation(
    connection: sqlite3.Connection, invitation_id: int, wallet_id: int | None, now: float
) -> None:
    """Take an invitation to this wallet back. Raises ValueError if it is none of its open ones."""
    cursor = connection.execute(
        "UPDATE invitation SET revoked_at = ? WHERE id = ? AND user_id IS ? AND used_at IS NULL "
        "AND revoked_at IS NULL",
        (now, invitation_id, wallet_id),
    )
    if cursor.rowcount == 0:
        raise ValueError(
            Sentence("there is no open invitation {invitation_id}", invitation_id=invitation_id)
        )


def revoke_invitations_of(
    connection: sqlite3.Connection,
    person_id: int,
    now: float,
    *,
    wallet_id: int | None = None,
    relay: bool = False,
) -> int:
    """Take back what a person has let others (or themselves) in by; returns how many.

    Those to one wallet, those to the relay alone, or all that are open. Who may invite no more must
    not come back by a link they kept.
    """
    cursor = connection.execute(
        "UPDATE invitation SET revoked_at = ?1 WHERE invited_by = ?2 AND used_at IS NULL "
        "AND revoked_at IS NULL AND (?3 IS NULL OR user_id = ?3) AND (?4 = 0 OR user_id IS NULL)",
        (now, person_id, wallet_id, int(relay)),
    )
    return cursor.rowcount


def _invitation(row: tuple[Any, ...]) -> Invitation:
    return Invitation(*row)
