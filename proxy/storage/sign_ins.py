"""Sessions of people who are signed in: plain functions on the writer's connection.

Rules: as storage/accounts.py. A session ends when it is revoked or its time is over, whatever a
cookie says; it is renewed while it is used, up to a bound from when it began. What ended long ago
leaves. This module must not know cookies.
"""

import sqlite3
from typing import Final, NamedTuple

from proxy.core.sentences import Sentence

IDLE_SECONDS: Final = 14 * 86_400.0
"""A session nobody used for so long is over."""
LIFE_SECONDS_MAX: Final = 90 * 86_400.0
"""A session is over so long after it began, however much it is used."""
KEPT_SECONDS: Final = 30 * 86_400.0
"""What is over leaves so long after."""
SESSIONS_MAX: Final = 50
"""Living sessions of one person; the oldest is revoked when one more begins."""
_TEXT_CHARS_MAX: Final = 200


class SignIn(NamedTuple):
    """A living session of a person. Times Unix seconds."""

    id: str
    created_at: float
    confirmed_at: float
    expires_at: float
    address: str | None
    agent: str | None


def open_session(
    connection: sqlite3.Connection,
    session_id: str,
    person_id: int,
    now: float,
    address: str | None,
    agent: str | None,
    *,
    fresh: bool = True,
) -> float:
    """Begin a session of an enabled person; returns when it is over. Raises ValueError.

    `fresh`: they proved just now who they are.
    """
    person = connection.execute(
        "SELECT 1 FROM person WHERE id = ? AND enabled = 1", (person_id,)
    ).fetchone()
    if person is None:
        raise ValueError(Sentence("there is no enabled person {person_id}", person_id=person_id))
    connection.execute(
        "DELETE FROM session WHERE person_id = ? AND expires_at < ?",
        (person_id, now - KEPT_SECONDS),
    )
    connection.execute(
        "UPDATE session SET revoked_at = ?1 WHERE id IN (SELECT id FROM session "
        "WHERE person_id = ?2 AND revoked_at IS NULL AND expires_at > ?1 "
        "ORDER BY created_at DESC LIMIT -1 OFFSET ?3)",
        (now, person_id, SESSIONS_MAX - 1),
    )
    expires_at = now + IDLE_SECONDS
    connection.execute(
        "INSERT INTO session VALUES (?, ?, ?, ?, ?, NULL, ?, ?)",
        (
            session_id,
            person_id,
            now,
            now if fresh else 0.0,
            expires_at,
            _cut(address),
            _cut(agent),
        ),
    )
    return expires_at


def renew_session(connection: sqlite3.Connection, session_id: str, now: float) -> float:
    """Let a living session live on; returns when it is over. Raises ValueError."""
    row = connection.execute(
        "UPDATE session SET expires_at = min(?1 + ?2, created_at + ?3) "
        "WHERE id = ?4 AND revoked_at IS NULL AND expires_at > ?1 RETURNING expires_at",
        (now, IDLE_SECONDS, LIFE_SECONDS_MAX, session_id),
    ).fetchone()
    if row is None:
        raise ValueError("this session is over")
    return float(row[0])


def confirm_session(
    connection: sqlite3.Connection, session_id: str, person_id: int, now: float
) -> None:
    """Note that the password was given again now. Raises ValueError."""
    cursor = connection.execute(
        "UPDATE session SET confirmed_at = ?1 "
        "WHERE id = ?2 AND person_id = ?3 AND revoked_at IS NULL AND expires_at > ?1",
        (now, session_id, person_id),
    )
    if cursor.rowcount == 0:
        raise ValueError("this session is over")


def revoke_session(
    connection: sqlite3.Connection, session_id: str, person_id: int, now: float
) -> bool:
    """End a person's session at once; False if it is none of theirs, or was over."""
    cursor = connection.execute(
        "UPDATE session SET revoked_at = ? WHERE id = ? AND person_id = ? AND revoked_at IS NULL",
        (now, session_id, person_id),
    )
    return cursor.rowcount == 1


def revoke_sessions(
    connection: sqlite3.Connection, person_id: int, now: float, keep: str | None = None
) -> int:
    """End all of a person's sessions but `keep`; returns how many."""
    cursor = connection.execute(
        "UPDATE session SET revoked_at = ?1 WHERE person_id = ?2 AND revoked_at IS NULL "
        "AND expires_at > ?1 AND id IS NOT ?3",
        (now, person_id, keep),
    )
    return cursor.rowcount


def living_sessions(connection: sqlite3.Connection, person_id: int, now: float) -> list[SignIn]:
    """The sessions by which a person is signed in now, the latest first."""
    rows = connection.execute(
        "SELECT id, created_at, confirmed_at, expires_at, address, agent FROM session "
        "WHERE person_id = ? AND revoked_at IS NULL AND expires_at > ? "
        "ORDER BY created_at DESC LIMIT ?",
        (person_id, now, SESSIONS_MAX),
    )
    return [SignIn(*row) for row in rows]


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:_TEXT_CHARS_MAX]
