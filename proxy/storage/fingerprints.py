"""Whether the pepper is the one that made the digests of the client keys.

Rules: the file keeps a fingerprint of the pepper, an HMAC of a constant, from which it cannot be
had any easier than from a key's digest. The first pepper seen is the right one, and so is any
while there is no key; after that another one is refused, until `accept_pepper` has said that all
keys may stop working. This module must not know where the pepper comes from.
"""

import hmac
import sqlite3

from proxy.storage.secrets import SecretError

_CONSTANT = b"sluice: the fingerprint of a pepper"
"""No client key: those begin with `sk-`, so this value is never anybody's digest."""


def check_pepper(connection: sqlite3.Connection, pepper: bytes) -> None:
    """Compare `pepper` with the one in use, or take it as such. Raises SecretError.

    Writes at most one row, inside the caller's transaction if there is one.
    """
    row = connection.execute("SELECT fingerprint FROM pepper_fingerprint").fetchone()
    if row is not None and hmac.compare_digest(row[0], fingerprint_of(pepper)):
        return
    keys = _keys(connection)
    if row is not None and keys:
        raise SecretError(
            f"the pepper is not the one that {keys} client keys were made with, "
            "so none of them would work",
            "restore it from the backup; if it is lost for good, `sluice pepper accept` "
            "takes this one, and every key must be made anew",
        )
    _store(connection, pepper)


def accept_pepper(connection: sqlite3.Connection, pepper: bytes) -> int:
    """Take `pepper` as the right one from now on; return how many keys stopped working by it."""
    row = connection.execute("SELECT fingerprint FROM pepper_fingerprint").fetchone()
    if row is not None and hmac.compare_digest(row[0], fingerprint_of(pepper)):
        return 0
    _store(connection, pepper)
    return 0 if row is None else _keys(connection)


def fingerprint_of(pepper: bytes) -> bytes:
    """HMAC-SHA256 of our constant, 32 bytes."""
    return hmac.digest(pepper, _CONSTANT, "sha256")


def _keys(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM key").fetchone()[0])


def _store(connection: sqlite3.Connection, pepper: bytes) -> None:
    connection.execute(
        "INSERT INTO pepper_fingerprint VALUES (1, ?) "
        "ON CONFLICT (only_row) DO UPDATE SET fingerprint = excluded.fingerprint",
        (fingerprint_of(pepper),),
    )
