"""Who has had a starting credit: a person once in their life, and an address once.

Rules: as storage/accounts.py. An account that is deleted or takes another address leaves a digest
of the old one, keyed with the pepper, so that nothing of the address can be read from it; without
it, whoever deletes their account and registers again would be given money each time. This module
must not know what makes a credit due.
"""

import hashlib
import hmac
import sqlite3

_PURPOSE = b"starting credit "


def reference(person_id: int) -> str:
    """What the top-up of a person's starting credit is called."""
    return f"start-person-{person_id}"


def digest_of(pepper: bytes, email: str) -> bytes:
    """What is kept of an address, 32 bytes."""
    return hmac.digest(pepper, _PURPOSE + email.lower().encode(), hashlib.sha256)


def leave(connection: sqlite3.Connection, digest: bytes, person_id: int) -> None:
    """Remember the address that a person gives up, if they had their starting credit."""
    connection.execute(
        "INSERT OR IGNORE INTO starting_credit_given SELECT ? FROM top_up WHERE reference = ?",
        (digest, reference(person_id)),
    )


def is_had(connection: sqlite3.Connection, digest: bytes) -> bool:
    """Whether an earlier account of this address had its starting credit."""
    query = "SELECT 1 FROM starting_credit_given WHERE digest = ?"
    return connection.execute(query, (digest,)).fetchone() is not None
