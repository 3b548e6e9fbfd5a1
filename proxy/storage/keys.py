"""Client keys: plain functions on the writer's connection.

Rules: as storage/accounts.py; a wrong argument is an `UnfitError` that names it, all of them at
once. A deleted key stays for the books and is found by nobody. A key is named by its id or, where
no key has that id, by its name. This module must not know who asks: whose keys may be seen is an
argument.
"""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from typing import Any, Final, NamedTuple

import orjson

from proxy.core.actions.unfit import Findings
from proxy.core.entities import BudgetPeriod
from proxy.core.ledger import period_bounds
from proxy.core.names import CANDIDATES_MAX, similar
from proxy.core.sentences import Sentence
from proxy.storage.accounts import (
    check_amount,
    check_limit,
    check_name,
    touch_catalog,
    user_id_of,
)
from proxy.storage.batch import Value
from proxy.storage.inserts import Cell

MODELS_MAX: Final = 200
NETWORKS_MAX: Final = 100
GRACE_SECRETS_MAX: Final = 5
"""Earlier secrets of one key that are still valid; more than these, the oldest end."""
LENT_SECRETS_MAX: Final = 5
OWNER: Final = "owner"
OPERATOR: Final = "operator"
"""Who may have disabled a key of somebody else."""
_LIMITS: Final = ("requests_per_minute", "tokens_per_minute", "concurrency", "cache_seconds")
_COLUMNS: Final = {
    "name": "name", "group": "group_name", "expires_at": "expires_at", "budget": "budget",
    "budget_period": "budget_period", "models": "models", "networks": "networks",
    **{limit: limit for limit in _LIMITS},
}  # fmt: skip
"""What can be changed of a key, and where it is."""
KEY_ROWS: Final = (
    "SELECT key.id, user.name, key.name, group_name, prefix || '…' || key.last4, key.enabled, "
    "key.expires_at, budget, budget_period, coalesce(spent, 0), key.created_at, "
    "coalesce(key_spend.period, budget_period), coalesce(period_start, 0), "
    "requests_per_minute, tokens_per_minute, concurrency, cache_seconds, models, networks, "
    "person_id, email, (SELECT max(expires_at) FROM key_secret "
    "WHERE key_secret.key_id = key.id AND purpose = 'grace'), disabled_by "
    "FROM key JOIN user ON user.id = user_id LEFT JOIN key_spend ON key_spend.key_id = key.id "
    "LEFT JOIN person ON person.id = person_id WHERE removed_at IS NULL"
)
"""Columns for `key_row`; goes on with AND."""


class NewSecret(NamedTuple):
    """What is kept of a secret: its HMAC under the pepper, and what is shown of it."""

    digest: bytes
    prefix: str
    last4: str


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to add. `digest` is its HMAC under the pepper; `prefix` and `last4` are shown."""

    user: str
    name: str
    group: str
    digest: bytes
    prefix: str
    last4: str
    expires_at: float | None = None
    budget: int | None = None
    budget_period: BudgetPeriod = BudgetPeriod.TOTAL
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    models: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    cache_seconds: int | None = None
    person_id: int | None = None
    """Who makes it; None: the command line."""


class KeyRow(NamedTuple):
    """A key as it is listed; times Unix seconds, money nano-USD."""

    id: int
    user: str
    name: str
    group: str
    shown: str
    """Prefix and last four, which is all that is known of the secret."""
    enabled: bool
    expires_at: float | None
    budget: int | None
    budget_period: str
    spent: int
    """In the period of its last charge; `spent_now` knows whether that is over."""
    created_at: float
    spent_period: str
    spent_since: int
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrency: int | None
    cache_seconds: int | None
    models: tuple[str, ...] | None
    networks: tuple[str, ...] | None
    person_id: int | None
    person: str | None
    """E-mail address of who made it; None: the command line."""
    grace_until: float | None
    """An earlier secret is valid until then, if that is still to come."""
    disabled_by: str | None
    """OWNER or OPERATOR, who disabled it for somebody else; None: it is theirs to enable."""


def key_row(row: tuple[Any, ...]) -> KeyRow:
    """Build a listed key from a row of `KEY_ROWS`."""
    made = KeyRow(*row)
    return made._replace(
        enabled=bool(made.enabled), models=_names(row[17]), networks=_names(row[18])
    )


def spent_now(row: KeyRow, now: float) -> int:
    """What the key has spent in the budget period around `now`."""
    period = BudgetPeriod(row.budget_period)
    same = row.spent_period == row.budget_period
    return row.spent if same and row.spent_since >= period_bounds(period, now)[0] else 0


def add_key(
    connection: sqlite3.Connection,
    key: NewKey,
    now: float,
    *,
    keys_max: int | None = None,
    restricted: bool = False,
) -> int:
    """Add a key; returns its id. Raises ValueError, UnfitError.

    `keys_max`: how many the person may have in this wallet; `restricted`: only in the groups that
    the wallet's plan is for.
    """
    user_id = user_id_of(connection, key.user)
    given = {name: getattr(key, name) for name in _COLUMNS}
    cells = _cells(connection, user_id, given, now, restricted=restricted)
    if _one(connection, "SELECT 1 FROM key WHERE digest = ?", key.digest) is not None:
        raise ValueError("this secret belongs to a key already; make a new one")
    if keys_max is not None:
        query = (
            "SELECT count(*) FROM key WHERE user_id = ? AND person_id = ? AND removed_at IS NULL"
        )
        (count,) = connection.execute(query, (user_id, key.person_id)).fetchone()
        if count >= keys_max:
            raise ValueError(
                Sentence(
                    "you have {count} keys, and no more are allowed; remove one first", count=count
                )
            )
    columns = (*cells, "user_id", "digest", "prefix", "last4", "created_at", "person_id")
    values = (*cells.values(), user_id, key.digest, key.prefix, key.last4, now, key.person_id)
    marks = ", ".join("?" * len(columns))
    cursor = connection.execute(
        f"INSERT INTO key ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608 - constants
        values,
    )
    if cursor.lastrowid is None:
        raise AssertionError("an insert has a row id")
    touch_catalog(connection, keys=(cursor.lastrowid,))
    return cursor.lastrowid


def list_keys(
    connection: sqlite3.Connection, user: str | None = None, person: int | None = None
) -> list[KeyRow]:
    """Keys of one user, or all, by id; those that one person made, or all. Raises ValueError."""
    user_id = None if user is None else user_id_of(connection, user)
    query = (
        f"{KEY_ROWS} AND (?1 IS NULL OR user_id = ?1) "
        "AND (?2 IS NULL OR person_id = ?2) ORDER BY key.id"
    )
    return [key_row(row) for row in connection.execute(query, (user_id, person))]


def find_key(
    connection: sqlite3.Connection, named: str, user: str | None = None, person: int | None = None
) -> KeyRow:
    """The key of that id or name, of one user's or all, of one person's or all.

    Raises ValueError, with the same words for a key of others as for none.
    """
    query = f"{KEY_ROWS} AND (?1 IS NULL OR user.name = ?1) AND (?2 IS NULL OR person_id = ?2)"
    for column, value in (("key.id", _id(named)), ("key.name", named)):
        one = f"{query} AND {column} = ?3 LIMIT 10"
        found = connection.execute(one, (user, person, value)).fetchall()
        if len(found) > 1:
            ids = ", ".join(f"{row[0]} of {row[1]}" for row in found)
            raise ValueError(
                Sentence(
                    "several keys are named {named!r}: {ids}; name one by its id",
                    named=named,
                    ids=ids,
                )
            )
        if found:
            return key_row(found[0])
    raise ValueError(Sentence("there is no key {named!r}: see `sluice key list`", named=named))


def set_key(
    connection: sqlite3.Connection,
    key_id: int,
    changes: Mapping[str, Any],
    now: float,
    *,
    restricted: bool = False,
) -> None:
    """Change what is given of a key, by the names of `NewKey`; None clears. Raises ValueError."""
    user_id = _owner(connection, key_id)
    cells = _cells(connection, user_id, changes, now, key_id, restricted=restricted)
    if cells:
        terms = ", ".join(f"{column} = ?" for column in cells)
        connection.execute(
            f"UPDATE key SET {terms} WHERE id = ?",  # noqa: S608 - constants
            (*cells.values(), key_id),
        )
    _changed(connection, key_id, now)


def set_key_enabled(
    connection: sqlite3.Connection, key_id: int, *, enabled: bool, by: str | None = None
) -> None:
    """Disable a key (its open streams are cut by who sees the new catalog), or enable it.

    `by`: OWNER or OPERATOR who disables it for whoever made it; what an operator disabled stays so
    marked whoever disables it once more.
    """
    _owner(connection, key_id)
    if enabled:
        connection.execute("UPDATE key SET enabled = 1, disabled_by = NULL WHERE id = ?", (key_id,))
    else:
        connection.execute(
            "UPDATE key SET enabled = 0, disabled_by = CASE WHEN disabled_by = ?1 THEN ?1 "
            "ELSE coalesce(?2, disabled_by) END WHERE id = ?3",
            (OPERATOR, by, key_id),
        )
    touch_catalog(connection, keys=(key_id,))


def set_key_budget(
    connection: sqlite3.Connection, key_id: int, budget: int | None, period: BudgetPeriod
) -> None:
    """Set what a key may spend per period; another period starts anew. Raises ValueError."""
    set_key(connection, key_id, {"budget": budget, "budget_period": period}, 0.0)


def rotate_key(
    connection: sqlite3.Connection,
    key_id: int,
    secret: NewSecret,
    now: float,
    grace_seconds: float,
) -> None:
    """Give a key another secret; the one before is valid for `grace_seconds` more.

    Without grace every other secret ends too, lent ones included: it is what follows a leak.
    """
    _owner(connection, key_id)
    if grace_seconds > 0:
        connection.execute(
            "INSERT INTO key_secret SELECT digest, id, 'grace', last4, ?, ? FROM key WHERE id = ?",
            (now, now + grace_seconds, key_id),
        )
        _only_newest(connection, key_id, "grace", GRACE_SECRETS_MAX)
    else:
        connection.execute("DELETE FROM key_secret WHERE key_id = ?", (key_id,))
    connection.execute(
        "UPDATE key SET digest = ?, prefix = ?, last4 = ? WHERE id = ?", (*secret, key_id)
    )
    _changed(connection, key_id, now)


def lend_key(
    connection: sqlite3.Connection, key_id: int, secret: NewSecret, now: float, seconds: float
) -> None:
    """Add a secret that opens a key for so long; the newest few are kept."""
    _owner(connection, key_id)
    connection.execute(
        "INSERT INTO key_secret VALUES (?, ?, 'lent', ?, ?, ?)",
        (secret.digest, key_id, secret.last4, now, now + seconds),
    )
    _only_newest(connection, key_id, "lent", LENT_SECRETS_MAX)
    _changed(connection, key_id, now)


def remove_key(connection: sqlite3.Connection, key_id: int, now: float) -> None:
    """Delete a key for everybody but the books; its streams are cut, its name is free again."""
    _owner(connection, key_id)
    connection.execute("UPDATE key SET removed_at = ?, enabled = 0 WHERE id = ?", (now, key_id))
    connection.execute("DELETE FROM key_secret WHERE key_id = ?", (key_id,))
    _changed(connection, key_id, now)


def groups_open_to(connection: sqlite3.Connection, user_id: int) -> tuple[str, ...]:
    """Names of the groups that people may choose for keys of this wallet, sorted."""
    row = _one(
        connection, "SELECT groups FROM user JOIN plan ON plan.name = plan WHERE id = ?", user_id
    )
    every = [name for (name,) in connection.execute("SELECT name FROM service_group ORDER BY name")]
    allowed = _names(row[0]) if row else None
    return tuple([name for name in every if allowed is None or name in allowed])


def _cells(
    connection: sqlite3.Connection,
    user_id: int,
    given: Mapping[str, Any],
    now: float,
    own: int | None = None,
    *,
    restricted: bool,
) -> dict[str, Cell]:
    """The columns of what is given and may be. Raises UnfitError with all that may not."""
    checks: dict[str, Callable[[Any], object]] = {
        "name": lambda name: _check_free(connection, user_id, name, own),
        "group": lambda group: _check_group(connection, user_id, group, restricted=restricted),
        "expires_at": lambda moment: _check_expiry(moment, now, own),
        "budget": lambda amount: check_amount(Sentence("a budget"), amount),
        "models": lambda models: _check_models(connection, models),
        "networks": _check_networks,
        **{limit: partial(check_limit, limit) for limit in _LIMITS},
    }
    findings = Findings()
    for name in given.keys() & checks.keys():
        findings.judge("expires" if name == "expires_at" else name, checks[name], given[name])
    findings.tell()
    return {_COLUMNS[name]: _cell(name, value) for name, value in given.items()}


def _check_free(connection: sqlite3.Connection, user_id: int, name: str, own: int | None) -> None:
    check_name(Sentence("key"), name)
    query = "SELECT user.name FROM key JOIN user ON user.id = user_id WHERE user_id = ? "
    query += "AND key.name = ? AND key.id IS NOT ? AND removed_at IS NULL"
    taken = _one(connection, query, user_id, name, own)
    if taken is not None:
        raise ValueError(
            Sentence("user {taken!r} has a key {name!r} already", taken=taken[0], name=name)
        )


def _check_group(
    connection: sqlite3.Connection, user_id: int, group: str, *, restricted: bool
) -> None:
    if _one(connection, "SELECT 1 FROM service_group WHERE name = ?", group) is None:
        raise ValueError(
            Sentence("there is no group {group!r}: see `sluice catalog export`", group=group)
        )
    if restricted and group not in (allowed := groups_open_to(connection, user_id)):
        raise ValueError(
            Sentence(
                "your plan is not for the group {group!r}, but for {allowed}",
                group=group,
                allowed=", ".join(allowed),
            )
        )


def _check_expiry(expires_at: float | None, now: float, own: int | None) -> None:
    if expires_at is None or expires_at > now:
        return
    if own is None:
        raise ValueError("the expiry is in the past; leave it out for a key that does not expire")
    raise ValueError("the expiry is in the past; name a later one, or disable the key to end it")


def _check_models(connection: sqlite3.Connection, models: tuple[str, ...] | None) -> None:
    if models is None:
        return
    _check_list(Sentence("models"), models, MODELS_MAX)
    query = "SELECT 1 FROM model WHERE name = ?"
    for model in models:
        if _one(connection, query, model) is None:
            names = connection.execute("SELECT name FROM model LIMIT ?", (CANDIDATES_MAX,))
            alike = similar(model, [name for (name,) in names])
            if not alike:
                raise ValueError(
                    Sentence("there is no model {model!r}; see the list of models", model=model)
                )
            raise ValueError(
                Sentence(
                    "there is no model {model!r}; did you mean {alike}?",
                    model=model,
                    alike=" or ".join(alike),
                )
            )


def _check_networks(networks: tuple[str, ...] | None) -> None:
    if networks is None:
        return
    _check_list(Sentence("networks"), networks, NETWORKS_MAX)
    for text in networks:
        try:
            ip_network(text.strip(), strict=False)
        except ValueError:
            raise ValueError(
                Sentence("{text!r} is no network such as 192.0.2.0/24, nor an address", text=text)
            ) from None


def _check_list(what: str, names: tuple[str, ...], most: int) -> None:
    if not 0 < len(names) <= most:
        raise ValueError(
            Sentence(
                "name 1 to {most} {what}, or leave them out: then all are allowed",
                most=most,
                what=what,
            )
        )


def _cell(name: str, value: Any) -> Cell:
    if value is None:
        return None
    if name == "networks":
        value = tuple(dict.fromkeys(str(ip_network(one.strip(), strict=False)) for one in value))
    if isinstance(value, tuple):
        return orjson.dumps(value).decode()
    cell: Cell = value.value if isinstance(value, BudgetPeriod) else value
    return cell


def _names(stored: str | None) -> tuple[str, ...] | None:
    return None if stored is None else tuple(orjson.loads(stored))


def _id(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _owner(connection: sqlite3.Connection, key_id: int) -> int:
    row = _one(connection, "SELECT user_id FROM key WHERE id = ? AND removed_at IS NULL", key_id)
    if row is None:
        raise ValueError(Sentence("there is no key {key_id}: see `sluice key list`", key_id=key_id))
    return int(row[0])


def _only_newest(connection: sqlite3.Connection, key_id: int, purpose: str, most: int) -> None:
    connection.execute(
        "DELETE FROM key_secret WHERE key_id = ?1 AND purpose = ?2 AND digest NOT IN (SELECT "
        "digest FROM key_secret WHERE key_id = ?1 AND purpose = ?2 "
        "ORDER BY created_at DESC, expires_at DESC LIMIT ?3)",
        (key_id, purpose, most),
    )


def _changed(connection: sqlite3.Connection, key_id: int, now: float) -> None:
    """Count the change, and forget secrets that are over, of whatever key."""
    over = connection.execute(
        "DELETE FROM key_secret WHERE expires_at <= ? RETURNING key_id", (now,)
    )
    touch_catalog(connection, keys={key_id, *(row[0] for row in over.fetchall())})


def _one(connection: sqlite3.Connection, query: str, *values: Value) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = connection.execute(query, values).fetchone()
    return row
