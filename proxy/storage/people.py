"""Who signs in and what they belong to: plain functions on the writer's connection.

Rules: as storage/accounts.py. Passwords arrive as argon2id hashes and are never seen here. A person
is never removed, only disabled or made nobody (storage/leaving.py): the ledger and the audit log
name them. This module must not know cookies or pages.
"""

import sqlite3
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from proxy.core.actions.action import Role
from proxy.core.emails import NOT_AN_EMAIL
from proxy.core.sentences import Sentence
from proxy.storage.accounts import add_user, touch_catalog

OWNER: Final = "owner"
MEMBER: Final = "member"
NOBODYS: Final = "@deleted.invalid"
"""Ends what stands where the address of a deleted account was (RFC 2606 section 2)."""
LANGUAGES: Final = ("en", "zh")
WALLET_NAMES_MAX: Final = 100
"""How many wallets may be named by one address before that is taken for a mistake."""
PEOPLE_ROWS_MAX: Final = 200
_FIELDS: Final = (
    "id, email, password_hash, role, enabled, language, wallet_id, verified_at, created_at, "
    "deleted_at"
)

RANK: Final = (
    "SELECT membership.role FROM membership JOIN user ON user.id = user_id "
    "JOIN person ON person.id = person_id AND person.enabled = 1 "
    "WHERE person_id = ? AND user.name = ?"
)
"""SQL: what an enabled person is to the wallet of a name."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who signs in. `password_hash` is argon2id's text, None where there is no password."""

    id: int
    email: str
    password_hash: str | None
    role: Role
    enabled: bool
    language: str | None
    wallet_id: int | None
    verified_at: float | None
    created_at: float
    deleted_at: float | None = None


class Wallet(NamedTuple):
    """A wallet a person may use."""

    id: int
    name: str
    role: str


def membership(connection: sqlite3.Connection, person_id: int, wallet: str) -> str | None:
    """What an enabled person is to the wallet of that name: OWNER, MEMBER, or None."""
    row = connection.execute(RANK, (person_id, wallet)).fetchone()
    return None if row is None else str(row[0])


def wallets_of(connection: sqlite3.Connection, person_id: int) -> list[Wallet]:
    """The wallets a person may use, the oldest membership first."""
    rows = connection.execute(
        "SELECT user.id, user.name, membership.role FROM membership JOIN user ON user.id = user_id "
        "WHERE person_id = ? ORDER BY membership.created_at, user.id",
        (person_id,),
    )
    return [Wallet(*row) for row in rows]


def person_of(connection: sqlite3.Connection, person_id: int) -> Person:
    """The person with this id. Raises ValueError."""
    row = connection.execute(
        f"SELECT {_FIELDS} FROM person WHERE id = ?",  # noqa: S608 - constants
        (person_id,),
    ).fetchone()
    if row is None:
        raise ValueError(
            Sentence(
                "there is no person {person_id}: see `sluice person list`", person_id=person_id
            )
        )
    return _person(row)


def find_person(connection: sqlite3.Connection, email: str) -> Person | None:
    """The person who signs in with this address, which is in lower case."""
    row = connection.execute(
        f"SELECT {_FIELDS} FROM person WHERE email = ?",  # noqa: S608 - constants
        (email,),
    ).fetchone()
    return None if row is None else _person(row)


def person_named(connection: sqlite3.Connection, email: str) -> Person:
    """As `find_person`; raises ValueError if there is none, or they deleted their account."""
    found = find_person(connection, email)
    if found is None or found.deleted_at is not None:
        raise ValueError(
            Sentence("there is no person {email!r}: see `sluice person list`", email=email)
        )
    return found


def list_people(
    connection: sqlite3.Connection, text: str, before: int | None, rows_max: int
) -> list[Person]:
    """People whose address contains `text`, the newest first, below the id `before`."""
    if not 0 < rows_max <= PEOPLE_ROWS_MAX:
        raise ValueError(
            Sentence("between 1 and {most} people can be listed at once", most=PEOPLE_ROWS_MAX)
        )
    rows = connection.execute(
        f"SELECT {_FIELDS} FROM person "  # noqa: S608 - constants
        "WHERE id < ?1 AND instr(email, ?2) > 0 ORDER BY id DESC LIMIT ?3",
        ((1 << 63) - 1 if before is None else before, text.strip().lower(), rows_max),
    )
    return [_person(row) for row in rows]


def add_person(
    connection: sqlite3.Connection,
    email: str,
    password_hash: str | None,
    plan: str,
    now: float,
    *,
    role: Role = Role.USER,
    verified: bool = False,
    language: str | None = None,
) -> tuple[Person, Wallet]:
    """Add a person with a wallet of their own, named by the address. Raises ValueError."""
    check_address(email)
    if find_person(connection, email) is not None:
        raise ValueError("this address has an account already")
    cursor = connection.execute(
        "INSERT INTO person (email, password_hash, role, language, verified_at, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (email, password_hash, role.value, language, now if verified else None, now),
    )
    if cursor.lastrowid is None:
        raise AssertionError("an insert has a row id")
    # A wallet of that name may be anybody's whom an operator added: it is never handed over.
    name = free_name(connection, email)
    wallet = Wallet(add_user(connection, name, plan, now), name, OWNER)
    add_member(connection, cursor.lastrowid, wallet.id, OWNER, now)
    _update(connection, "wallet_id", wallet.id, cursor.lastrowid)
    return person_of(connection, cursor.lastrowid), wallet


def check_address(email: str) -> None:
    """Raise ValueError for an address that stands for nobody.

    Whoever had one could keep somebody else from deleting their account, who gets it then.
    """
    if email.endswith(NOBODYS):
        raise ValueError(NOT_AN_EMAIL)


def add_member(
    connection: sqlite3.Connection, person_id: int, wallet_id: int, role: str, now: float
) -> bool:
    """Let a person use a wallet; False if they may already, whose role stays as it is."""
    cursor = connection.execute(
        "INSERT INTO membership VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (person_id, wallet_id, role, now),
    )
    return cursor.rowcount == 1


def set_password(connection: sqlite3.Connection, person_id: int, password_hash: str) -> None:
    """Set a new password; links to set one are void from now on."""
    _update(connection, "password_hash", password_hash, person_id)
    connection.execute(
        "DELETE FROM mail_token WHERE person_id = ? AND purpose = 'password'", (person_id,)
    )
    # Whoever asked for another address may be whom this password locks out.
    connection.execute("DELETE FROM email_change WHERE person_id = ?", (person_id,))


def rehash_password(
    connection: sqlite3.Connection, person_id: int, earlier: str, password_hash: str
) -> bool:
    """Keep the same password by another hash; False if it was changed meanwhile."""
    cursor = connection.execute(
        "UPDATE person SET password_hash = ? WHERE id = ? AND password_hash = ?",
        (password_hash, person_id, earlier),
    )
    return cursor.rowcount == 1


def set_verified(connection: sqlite3.Connection, person_id: int, now: float) -> bool:
    """Note that the address is the person's; False if that was known."""
    cursor = connection.execute(
        "UPDATE person SET verified_at = ? WHERE id = ? AND verified_at IS NULL", (now, person_id)
    )
    return cursor.rowcount == 1


def forget_password(connection: sqlite3.Connection, person_id: int) -> None:
    """Let nobody sign in by a password until a new one is set."""
    _update(connection, "password_hash", None, person_id)


def set_language(connection: sqlite3.Connection, person_id: int, language: str | None) -> None:
    """Set the language of pages and mails; None: what the browser asks for. Raises ValueError."""
    if language is not None and language not in LANGUAGES:
        raise ValueError(
            Sentence(
                "{language!r} is no language of the console: {languages}",
                language=language,
                languages=" or ".join(LANGUAGES),
            )
        )
    _update(connection, "language", language, person_id)


def set_role(connection: sqlite3.Connection, person_id: int, role: Role) -> None:
    """Set what a person is to the relay. Raises ValueError for the last administrator."""
    if role is not Role.ADMIN:
        keep_an_admin(connection, person_id)
    _update(connection, "role", role.value, person_id)


def set_enabled(connection: sqlite3.Connection, person_id: int, *, enabled: bool) -> None:
    """Let a person sign in, or not any more. Raises ValueError for the last administrator."""
    if not enabled:
        keep_an_admin(connection, person_id)
    _update(connection, "enabled", 1 if enabled else 0, person_id)


def disable_keys(connection: sqlite3.Connection, person_id: int) -> None:
    """Take the keys a person made out of service, of whatever wallet; they stay so afterwards."""
    rows = connection.execute(
        "UPDATE key SET enabled = 0 WHERE person_id = ? RETURNING id", (person_id,)
    )
    if keys := [row[0] for row in rows.fetchall()]:
        touch_catalog(connection, keys=keys)


def identity(connection: sqlite3.Connection, issuer: str, subject: str) -> Person | None:
    """The person whom this provider knows by `subject`."""
    row = connection.execute(
        "SELECT person_id FROM person_identity WHERE issuer = ? AND subject = ?", (issuer, subject)
    ).fetchone()
    return None if row is None else person_of(connection, int(row[0]))


def add_identity(
    connection: sqlite3.Connection, issuer: str, subject: str, person_id: int, now: float
) -> None:
    """Remember by which name a provider knows a person."""
    connection.execute(
        "INSERT INTO person_identity VALUES (?, ?, ?, ?)", (issuer, subject, person_id, now)
    )


def keep_an_admin(connection: sqlite3.Connection, person_id: int) -> None:
    """Raise ValueError if without this person nobody would be an administrator."""
    others, own = connection.execute(
        "SELECT count(*) FILTER (WHERE id != ?1), count(*) FILTER (WHERE id = ?1) "
        "FROM person WHERE enabled = 1 AND role = 'admin'",
        (person_id,),
    ).fetchone()
    if own and not others:
        raise ValueError("this is the last administrator; make another one first")


def _update(
    connection: sqlite3.Connection, field: str, value: str | int | None, person_id: int
) -> None:
    cursor = connection.execute(
        f"UPDATE person SET {field} = ? WHERE id = ?",  # noqa: S608 - constants
        (value, person_id),
    )
    if cursor.rowcount == 0:
        raise ValueError(
            Sentence(
                "there is no person {person_id}: see `sluice person list`", person_id=person_id
            )
        )


def is_named_by(wallet: str, email: str) -> bool:
    """Whether a wallet has the name that `free_name` gave it."""
    return wallet == email or wallet.startswith(f"{email} (")


def free_name(connection: sqlite3.Connection, email: str) -> str:
    """A name for a wallet by an address, or what stands for it. Raises ValueError."""
    for number in range(1, WALLET_NAMES_MAX):
        name = email if number == 1 else f"{email} ({number})"
        if connection.execute("SELECT 1 FROM user WHERE name = ?", (name,)).fetchone() is None:
            return name
    raise ValueError(Sentence("there are too many wallets named {email!r}", email=email))


def _person(row: tuple[Any, ...]) -> Person:
    role, enabled = Role(row[3]), bool(row[4])
    return Person(row[0], row[1], row[2], role, enabled, *row[5:10])
