"""Who signs in and what they belong to: plain functions on the writer's connection.

Rules: as storage/accounts.py. Passwords arrive as argon2id hashes and are never seen here. This
module must not know cookies or pages.
"""

import sqlite3
from typing import Final

OWNER: Final = "owner"
MEMBER: Final = "member"


def membership(connection: sqlite3.Connection, person_id: int, wallet: str) -> str | None:
    """What an enabled person is to the wallet of that name: OWNER, MEMBER, or None."""
    row = connection.execute(
        "SELECT membership.role FROM membership JOIN user ON user.id = user_id "
        "JOIN person ON person.id = person_id AND person.enabled = 1 "
        "WHERE person_id = ? AND user.name = ?",
        (person_id, wallet),
    ).fetchone()
    return None if row is None else str(row[0])
