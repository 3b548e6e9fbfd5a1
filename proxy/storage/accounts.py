"""Users, wallets and usage: plain functions on the writer's connection.

Rules: each runs inside its caller's transaction (`Keeper.change`) and either does all of its work
or raises ValueError with a message for the operator and does none; names are unique; a secret
is never an argument, only its digest. Amounts are nano-USD. This module must not know who asks.
"""

import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

from proxy.core.ledger import AccountKind, account_id
from proxy.core.money import NANO, USD_MAX
from proxy.core.sentences import Sentence
from proxy.storage.batch import Value

NAME_CHARS_MAX = 200
USAGE_ROWS_MAX = 10_000
LIMIT_MAX = 10**12
CHANGES_KEPT = 1_000
"""Versions of the catalog of which it is known what they changed."""


class UserRow(NamedTuple):
    id: int
    name: str
    plan: str
    enabled: bool
    balance: int
    created_at: float


PROMPT_TOTAL = (
    "input_uncached + cache_read + cache_write_5m + cache_write_1h + audio_input + image_input "
    "+ cache_read_audio + cache_read_image"
)
COMPLETION_TOTAL = "output + audio_output + image_output"
"""The same sums as of `Usage`, over the columns of `call` and `rollup`."""


class UsageRow(NamedTuple):
    """One ended call for a listing; times Unix seconds, money nano-USD."""

    id: int
    user: str
    key: str
    model: str
    verdict: str
    source: str
    input_tokens: int
    output_tokens: int
    charge: int
    overrun: int
    forgiven: int
    balance_after: int
    status: int
    started_at: float
    duration_ms: float
    client_reference: str | None
    images: int
    characters: int
    audio_ms: int
    searches: int
    variant: str


class WalletRow(NamedTuple):
    """A wallet and where it came from. Nano-USD."""

    user_id: int
    user: str
    balance: int
    topped_up: int
    charged: int


def add_user(connection: sqlite3.Connection, name: str, plan: str, now: float) -> int:
    """Add a user with an empty wallet; returns the user's id. Raises ValueError."""
    check_name(Sentence("user"), name)
    if _one(connection, "SELECT 1 FROM user WHERE name = ?", name) is not None:
        raise ValueError(Sentence("there is a user {name!r} already", name=name))
    if _one(connection, "SELECT 1 FROM plan WHERE name = ?", plan) is None:
        raise ValueError(
            Sentence("there is no plan {plan!r}: add it with `sluice catalog apply`", plan=plan)
        )
    cursor = connection.execute(
        "INSERT INTO user (name, plan, created_at) VALUES (?, ?, ?)", (name, plan, now)
    )
    user_id = cursor.lastrowid
    if user_id is None:
        raise AssertionError("an insert has a row id")
    connection.execute(
        "INSERT INTO account (id) VALUES (?)", (account_id(AccountKind.WALLET, user_id),)
    )
    touch_catalog(connection, users=(user_id,))
    return user_id


def list_users(connection: sqlite3.Connection) -> list[UserRow]:
    """Every user with the stored balance, by id."""
    rows = connection.execute(
        "SELECT user.id, name, plan, enabled, balance, created_at FROM user "
        "JOIN account ON account.id = (user.id << 3 | ?) ORDER BY user.id",
        (int(AccountKind.WALLET),),
    )
    return [UserRow(row[0], row[1], row[2], bool(row[3]), row[4], row[5]) for row in rows]


def user_id_of(connection: sqlite3.Connection, name: str) -> int:
    """The id of the user with this name. Raises ValueError."""
    row = _one(connection, "SELECT id FROM user WHERE name = ?", name)
    if row is None:
        raise ValueError(Sentence("there is no user {name!r}: see `sluice user list`", name=name))
    return int(row[0])


def set_user_enabled(connection: sqlite3.Connection, name: str, *, enabled: bool) -> None:
    """Disable all of a user's keys at once, or enable the user again. Raises ValueError."""
    user_id = user_id_of(connection, name)
    connection.execute("UPDATE user SET enabled = ? WHERE id = ?", (1 if enabled else 0, user_id))
    touch_catalog(connection, users=(user_id,))


def show_wallet(connection: sqlite3.Connection, name: str) -> WalletRow:
    """A user's stored balance with the sums it comes from. Raises ValueError."""
    user_id = user_id_of(connection, name)
    wallet = account_id(AccountKind.WALLET, user_id)
    balance = connection.execute("SELECT balance FROM account WHERE id = ?", (wallet,)).fetchone()
    topped_up = connection.execute(
        "SELECT coalesce(sum(amount), 0) FROM top_up WHERE user_id = ?", (user_id,)
    ).fetchone()
    charged = connection.execute(
        "SELECT coalesce(sum(charge), 0) FROM (SELECT charge FROM call WHERE user_id = ?1 "
        "UNION ALL SELECT charge FROM rollup WHERE user_id = ?1)",
        (user_id,),
    ).fetchone()
    return WalletRow(user_id, name, int(balance[0]), int(topped_up[0]), int(charged[0]))


def list_usage(
    connection: sqlite3.Connection,
    user: str | None = None,
    *,
    before_id: int | None = None,
    rows_max: int = 50,
    person: int | None = None,
) -> list[UsageRow]:
    """Ended calls of one user, or all, latest first, below `before_id`. Raises ValueError.

    `person`: only calls of keys that this person made.
    """
    if not 0 < rows_max <= USAGE_ROWS_MAX:
        raise ValueError(
            Sentence("between 1 and {most:,} rows can be listed at once", most=USAGE_ROWS_MAX)
        )
    user_id = None if user is None else user_id_of(connection, user)
    where = "call.id < ?1" if user_id is None else "call.id < ?1 AND call.user_id = ?2"
    rows = connection.execute(
        "SELECT call.id, user.name, key.name, model, verdict, source, "  # noqa: S608 - constants
        f"{PROMPT_TOTAL}, {COMPLETION_TOTAL}, charge, overrun, "
        "forgiven, balance_after, status, started_at, duration_ms, client_reference, "
        "images, characters, audio_ms, searches, variant "
        "FROM call JOIN user ON user.id = call.user_id JOIN key ON key.id = call.key_id "
        f"WHERE {where} AND (?4 IS NULL OR key.person_id = ?4) ORDER BY call.id DESC LIMIT ?3",
        ((1 << 63) - 1 if before_id is None else before_id, user_id, rows_max, person),
    )
    return [UsageRow(*row) for row in rows]


def touch_catalog(
    connection: sqlite3.Connection, *, keys: Iterable[int] = (), users: Iterable[int] = ()
) -> None:
    """Count a change, so that an edit made against an older export is noticed.

    `keys`, `users`: ids of all that changed, where nothing else did; who knows an earlier version
    reads those alone (storage/snapshots.py). Without either anything may have changed.
    """
    connection.execute("UPDATE catalog SET version = version + 1")
    (version,) = connection.execute("SELECT version FROM catalog").fetchone()
    rows = [(version, key, None) for key in keys] + [(version, None, user) for user in users]
    connection.execute(
        "DELETE FROM catalog_change WHERE version <= ?",
        (version - CHANGES_KEPT if rows else version,),
    )
    connection.executemany("INSERT INTO catalog_change VALUES (?, ?, ?)", rows)


def check_limit(what: str, limit: int | None) -> None:
    """Raise ValueError unless `limit` is None or a sensible positive integer."""
    if limit is not None and not 0 < limit <= LIMIT_MAX:
        raise ValueError(
            Sentence("{what} must be a whole number above 0; leave it out for no limit", what=what)
        )


def check_name(what: str, name: str) -> None:
    """Raise ValueError unless `name` can be shown and told apart."""
    if not name or name != name.strip() or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise ValueError(
            Sentence(
                "a {what} must be 1 to {most} printable characters, without spaces at either end",
                what=what,
                most=NAME_CHARS_MAX,
            )
        )


def check_amount(what: str, amount: int | None) -> None:
    """Raise ValueError unless `amount` (nano-USD) is None or in range."""
    if amount is not None and not 0 <= amount <= USD_MAX * NANO:
        raise ValueError(
            Sentence("{what} must be between 0 and {most:,} USD", what=what, most=USD_MAX)
        )


def _one(connection: sqlite3.Connection, query: str, *values: Value) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = connection.execute(query, values).fetchone()
    return row
