"""Who may sign in with what, and what pages show of accounts and teams.

Rules: only reads, a few rows each. Of passwords the hash alone is here, for the process that
compares it. This module must not know who shows what.
"""

from typing import Any, Final, NamedTuple

from proxy.core.ledger import AccountKind
from proxy.storage.one_time_links import Purpose, digest_of
from proxy.storage.reader import Reader

_CREDENTIALS: Final = (
    "SELECT id, email, password_hash, enabled, verified_at, language FROM person WHERE "
)
_SESSIONS: Final = (
    "SELECT id, created_at, expires_at, address, agent FROM session WHERE person_id = ? "
    "AND revoked_at IS NULL AND expires_at > ? ORDER BY created_at DESC LIMIT ?"
)
_MEMBERS: Final = (
    "SELECT person.id, email, membership.role, enabled, membership.created_at FROM membership "
    "JOIN person ON person.id = person_id WHERE user_id = ? "
    "ORDER BY membership.created_at, person.id LIMIT ?"
)
_INVITATIONS: Final = (
    "SELECT id, email, role, created_at, expires_at FROM invitation WHERE user_id IS ? "
    "AND used_at IS NULL AND revoked_at IS NULL AND expires_at > ? ORDER BY id DESC LIMIT ?"
)
_INVITED: Final = (
    "SELECT invitation.email, user.name, invitation.role, person.email FROM invitation "
    "LEFT JOIN user ON user.id = user_id LEFT JOIN person ON person.id = invited_by "
    "WHERE digest = ? AND used_at IS NULL AND revoked_at IS NULL AND expires_at > ?"
)
_BY_CHANGE: Final = "SELECT person_id, email FROM email_change WHERE digest = ? AND expires_at > ?"
_ALONE: Final = (
    "SELECT user.name, balance FROM membership AS own JOIN user ON user.id = own.user_id "
    "JOIN account ON account.id = (user.id << 3 | ?1) WHERE own.person_id = ?2 AND NOT EXISTS "
    "(SELECT 1 FROM membership WHERE user_id = user.id AND person_id <> ?2) "
    "ORDER BY user.id LIMIT ?3"
)
_PEOPLE: Final = (
    "SELECT person.id, email, role, person.enabled, verified_at, person.created_at, "
    "password_hash IS NOT NULL, user.name, "
    "(SELECT max(created_at) FROM session WHERE session.person_id = person.id), deleted_at "
    "FROM person LEFT JOIN user ON user.id = wallet_id "
    "WHERE person.id < ?1 AND instr(email, ?2) > 0 ORDER BY person.id DESC LIMIT ?3"
)
ROWS_MAX: Final = 200


class Credentials(NamedTuple):
    """Who somebody is and what they sign in with. Times Unix seconds."""

    id: int
    email: str
    password_hash: str | None
    enabled: bool
    verified_at: float | None
    language: str | None


class SignedIn(NamedTuple):
    """A living session. Times Unix seconds."""

    id: str
    created_at: float
    expires_at: float
    address: str | None
    agent: str | None


class Member(NamedTuple):
    """Who may use a wallet: `owner` or `member`."""

    person_id: int
    email: str
    role: str
    enabled: bool
    since: float


class Open(NamedTuple):
    """An open invitation; to whoever has its link if `email` is None."""

    id: int
    email: str | None
    role: str
    created_at: float
    expires_at: float


class Invited(NamedTuple):
    """What a link invites to: a wallet, or the relay alone."""

    email: str | None
    wallet: str | None
    role: str
    by: str | None


class PersonRow(NamedTuple):
    """A person for a list. `wallet` is their own; `seen_at`: when they last signed in."""

    id: int
    email: str
    role: str
    enabled: bool
    verified_at: float | None
    created_at: float
    has_password: bool
    wallet: str | None
    seen_at: float | None
    deleted_at: float | None


async def credentials(reader: Reader, email: str) -> Credentials | None:
    """Who signs in with this address. Raises sqlite3.Error, as do all below."""
    return _one(await reader.rows(_CREDENTIALS + "email = ?", (email,)))


async def credentials_of(reader: Reader, person_id: int) -> Credentials | None:
    """As `credentials`, by the person's id."""
    return _one(await reader.rows(_CREDENTIALS + "id = ?", (person_id,)))


async def credentials_by_link(
    reader: Reader, token: str, purpose: Purpose, now: float
) -> Credentials | None:
    """Whose link this is, if it is still good."""
    query = (
        "id = (SELECT person_id FROM mail_token "
        "WHERE digest = ? AND purpose = ? AND used_at IS NULL AND expires_at > ?)"
    )
    return _one(await reader.rows(_CREDENTIALS + query, (digest_of(token), purpose.value, now)))


async def change_by_link(reader: Reader, token: str, now: float) -> tuple[int, str] | None:
    """Whom a link gives which address, if it is still good."""
    rows = await reader.rows(_BY_CHANGE, (digest_of(token), now))
    return (int(rows[0][0]), str(rows[0][1])) if rows else None


async def alone(reader: Reader, person_id: int) -> list[tuple[str, int]]:
    """The wallets that nobody but this person belongs to, and what is in them, nano-USD."""
    values = (int(AccountKind.WALLET), person_id, ROWS_MAX)
    return [(str(name), int(balance)) for name, balance in await reader.rows(_ALONE, values)]


async def sessions(reader: Reader, person_id: int, now: float) -> list[SignedIn]:
    """The sessions by which a person is signed in, the latest first."""
    return [SignedIn(*row) for row in await reader.rows(_SESSIONS, (person_id, now, ROWS_MAX))]


async def members(reader: Reader, wallet_id: int) -> list[Member]:
    """Who may use a wallet, the oldest membership first."""
    rows = await reader.rows(_MEMBERS, (wallet_id, ROWS_MAX))
    return [Member(row[0], row[1], row[2], bool(row[3]), row[4]) for row in rows]


async def invitations(reader: Reader, wallet_id: int | None, now: float) -> list[Open]:
    """Open invitations to a wallet, or to the relay alone, the newest first."""
    return [Open(*row) for row in await reader.rows(_INVITATIONS, (wallet_id, now, ROWS_MAX))]


async def invited(reader: Reader, token: str, now: float) -> Invited | None:
    """What a link invites to, if it is still good."""
    rows = await reader.rows(_INVITED, (digest_of(token), now))
    return Invited(*rows[0]) if rows else None


async def people(reader: Reader, text: str, before: int | None, rows_max: int) -> list[PersonRow]:
    """People whose address contains `text`, the newest first, below the id `before`."""
    if not 0 < rows_max <= ROWS_MAX:
        raise AssertionError(f"between 1 and {ROWS_MAX} rows at once")
    first = (1 << 63) - 1 if before is None else before
    rows = await reader.rows(_PEOPLE, (first, text.strip().lower(), rows_max))
    return [
        PersonRow(
            row[0],
            row[1],
            row[2],
            bool(row[3]),
            row[4],
            row[5],
            bool(row[6]),
            row[7],
            row[8],
            row[9],
        )
        for row in rows
    ]


def _one(rows: list[tuple[Any, ...]]) -> Credentials | None:
    return Credentials(*rows[0])._replace(enabled=bool(rows[0][3])) if rows else None
