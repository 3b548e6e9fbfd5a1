"""Tokens of the admin API: plain functions on the writer's connection.

Rules: as storage/accounts.py; a token is never removed, only revoked, for the audit log names it.
This module must not know who asks.
"""

import sqlite3
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from proxy.core.actions.action import Role
from proxy.core.sentences import Sentence
from proxy.storage.accounts import check_name

TOKENS_PER_PERSON_MAX: Final = 50
ROWS_MAX: Final = 1_000
ROWS: Final = (
    "SELECT api_token.id, name, last4, person_id, email, api_token.role, scopes, "
    "api_token.created_at, expires_at, revoked_at FROM api_token "
    "LEFT JOIN person ON person.id = person_id"
)
"""Columns for `token_row`."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to add. `digest` is SHA-256 of it; `person_id` None: the command line makes it."""

    name: str
    digest: bytes = field(repr=False)
    last4: str
    role: Role
    scopes: tuple[str, ...]
    person_id: int | None = None
    expires_at: float | None = None


class TokenRow(NamedTuple):
    """A token as it is listed; times Unix seconds."""

    id: int
    name: str
    last4: str
    person_id: int | None
    person: str | None
    role: Role
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    def good(self, now: float) -> bool:
        """Whether it can still be used, as far as it goes by itself."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def token_row(row: tuple[object, ...]) -> TokenRow:
    """Build a listed token from a row of `ROWS`."""
    made = TokenRow(*row)  # type: ignore[arg-type] # as the columns say
    return made._replace(role=Role(made.role), scopes=tuple(orjson.loads(str(row[6]))))


def add_token(connection: sqlite3.Connection, token: NewToken, now: float) -> int:
    """Add a token; returns its number. Raises ValueError."""
    check_name(Sentence("token"), token.name)
    if token.expires_at is not None and token.expires_at <= now:
        raise ValueError("the expiry is in the past; name a later one")
    query = (
        "SELECT count(*) FROM api_token WHERE person_id IS ? AND revoked_at IS NULL "
        "AND coalesce(expires_at > ?, 1)"
    )
    (count,) = connection.execute(query, (token.person_id, now)).fetchone()
    if count >= TOKENS_PER_PERSON_MAX:
        raise ValueError(
            Sentence(
                "there are {count} tokens, and no more are allowed; revoke one first", count=count
            )
        )
    cursor = connection.execute(
        "INSERT INTO api_token (digest, name, last4, person_id, role, scopes, created_at, "
        "expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            token.digest, token.name, token.last4, token.person_id, token.role.value,
            orjson.dumps(token.scopes).decode(), now, token.expires_at,
        ),
    )  # fmt: skip
    if cursor.lastrowid is None:
        raise AssertionError("an insert has a row id")
    return cursor.lastrowid


def list_tokens(
    connection: sqlite3.Connection, person_id: int | None, *, everybody: bool
) -> list[TokenRow]:
    """Tokens of one person, or all of them, the newest first."""
    query = f"{ROWS} WHERE ?1 OR person_id IS ?2 ORDER BY api_token.id DESC LIMIT ?3"
    rows = connection.execute(query, (int(everybody), person_id, ROWS_MAX))
    return [token_row(row) for row in rows]


def revoke_token(
    connection: sqlite3.Connection,
    token_id: int,
    person_id: int | None,
    now: float,
    *,
    anybodys: bool,
) -> None:
    """End a token of a person, or of anybody. Raises ValueError."""
    cursor = connection.execute(
        "UPDATE api_token SET revoked_at = coalesce(revoked_at, ?1) "
        "WHERE id = ?2 AND (?3 OR person_id IS ?4)",
        (now, token_id, int(anybodys), person_id),
    )
    if cursor.rowcount == 0:
        raise ValueError(
            Sentence("there is no token {token_id}: see `sluice token list`", token_id=token_id)
        )


def revoke_tokens_of(connection: sqlite3.Connection, person_id: int, now: float) -> None:
    """End all tokens of a person."""
    connection.execute(
        "UPDATE api_token SET revoked_at = ? WHERE person_id = ? AND revoked_at IS NULL",
        (now, person_id),
    )
