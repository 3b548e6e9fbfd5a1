"""Tokens of the admin API as the console looks them up: who bears one, and which there are.

Rules: only reads, a bounded number of rows; a token whose person is disabled opens nothing, and
none gives more than its person's role of now. This module must not know requests.
"""

from dataclasses import dataclass
from typing import Final

import orjson

from proxy.core.actions.action import Role
from proxy.storage.reader import Reader
from proxy.storage.tokens import ROWS, ROWS_MAX, TokenRow, token_row

_BEARER: Final = (
    "SELECT api_token.id, name, api_token.role, scopes, person_id, email, person.role "
    "FROM api_token LEFT JOIN person ON person.id = person_id "
    "WHERE digest = ? AND revoked_at IS NULL AND coalesce(expires_at > ?, 1) "
    "AND coalesce(enabled, person_id IS NULL)"
)


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who asks with a token. `name` is for the audit log."""

    token: int
    name: str
    role: Role
    scopes: tuple[str, ...]
    person_id: int | None


async def find(reader: Reader, digest: bytes, now: float) -> Bearer | None:
    """The bearer of the token with this SHA-256, if it is good now. Raises sqlite3.Error."""
    rows = await reader.rows(_BEARER, (digest, now))
    if not rows:
        return None
    number, name, role, scopes, person, email, of_person = rows[0]
    allowed = Role(role)
    if of_person is not None and not Role(of_person).covers(allowed):
        allowed = Role(of_person)
    said = f"token {number} ({name})" + ("" if email is None else f" of {email}")
    return Bearer(number, said, allowed, tuple(orjson.loads(scopes)), person)


async def tokens(reader: Reader, person: int | None, *, everybody: bool = False) -> list[TokenRow]:
    """Tokens of one person, or all, the newest first. Raises sqlite3.Error."""
    query = f"{ROWS} WHERE ?1 OR person_id IS ?2 ORDER BY api_token.id DESC LIMIT ?3"
    rows = await reader.rows(query, (int(everybody), person, ROWS_MAX))
    return [token_row(row) for row in rows]
