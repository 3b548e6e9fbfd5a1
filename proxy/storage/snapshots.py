"""Reads one immutable catalog out of the database.

Rules: a snapshot is read in one transaction and never changed; upstream keys are opened here and
live in the clear only in memory. This module must not write, and must not know who uses it.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final, NamedTuple

import orjson

from proxy.core.catalog import Catalog, build_catalog, renew_catalog
from proxy.core.entities import (
    BudgetPeriod,
    CacheScope,
    Channel,
    ChannelKey,
    Dialect,
    DisconnectMode,
    Formula,
    Group,
    Key,
    Model,
    Plan,
    Price,
    TerminalRule,
    Tier,
    Tokenizer,
    UsageOption,
    User,
)
from proxy.storage.inserts import Row
from proxy.storage.secrets import open_sealed

CHANGES_MAX: Final = 5_000
"""Keys and users read one by one; above it everything is read anew."""
PRICE_FIELDS: Final = tuple(
    field.name
    for field in fields(Price)
    if field.name not in {"model", "version", "formula", "image_variants", "tiers"}
)
"""The integer fields of a price, in the order of their columns."""
PRICE_COLUMNS: Final = (*PRICE_FIELDS, "image_variants", "tiers")
"""What `price_cells` makes."""
_TIER_FIELDS: Final = tuple(field.name for field in fields(Tier))
_ONCE_TEXT: Final = {
    "image_input": "input",
    "image_output": "output",
    "cache_read_audio": "cache_read",
    "cache_read_image": "cache_read",
}
"""Costs stored before these were apart say nothing of them: they cost what they did as text."""
_SELECTED = ", ".join(("model", "version", "formula", *PRICE_COLUMNS))


def load_catalog(
    connection: sqlite3.Connection, master: bytes, known: Catalog | None = None
) -> Catalog:
    """Read the catalog as of the connection's transaction. Raises SecretError, sqlite3.Error.

    `known`: an earlier one of the same file. If nothing but keys and users changed since, those
    are all that is read, and it costs by how many they are and not by how many there are.
    """
    version = int(connection.execute("SELECT version FROM catalog").fetchone()[0])
    changes = None if known is None else _changes_since(connection, known.version, version)
    if known is not None and changes is not None:
        key_ids, user_ids = changes
        return renew_catalog(
            known,
            version,
            users=_users(connection, user_ids),
            key_ids=key_ids,
            keys=(some := _keys(connection, key_ids)),
            secrets=_secrets(connection, some, key_ids),
        )
    return build_catalog(
        version,
        users=_users(connection),
        plans=_plans(connection),
        groups=_groups(connection),
        models=_models(connection),
        channels=_channels(connection, _channel_keys(connection, master)),
        keys=(keys := _keys(connection)),
        secrets=_secrets(connection, keys),
    )


def _changes_since(
    connection: sqlite3.Connection, before: int, version: int
) -> tuple[list[int], list[int]] | None:
    """The keys and users that differ from version `before`; None if more than those may.

    None, too, where no version says that anything changed: somebody may have forgotten to.
    """
    rows = connection.execute(
        "SELECT version, key_id, user_id FROM catalog_change WHERE version > ? LIMIT ?",
        (before, CHANGES_MAX + 1),
    ).fetchall()
    versions = {row[0] for row in rows}
    if not rows or len(rows) > CHANGES_MAX or len(versions) != version - before:
        return None
    keys = {row[1] for row in rows if row[1] is not None}
    return sorted(keys), sorted({row[2] for row in rows if row[2] is not None})


def only_accounts_changed(connection: sqlite3.Connection, before: int, version: int) -> bool:
    """Whether nothing but keys and users changed from version `before` to `version`.

    False also where that is not remembered any more.
    """
    query = "SELECT count(DISTINCT version) FROM catalog_change WHERE version > ?"
    return bool(connection.execute(query, (before,)).fetchone()[0] == version - before)


def load_public_catalog(connection: sqlite3.Connection) -> Catalog:
    """Read what is on offer: groups, models, and channels without keys. Raises sqlite3.Error.

    For who has no master key; nobody's users, limits and keys are in it.
    """
    version = int(connection.execute("SELECT version FROM catalog").fetchone()[0])
    return build_catalog(
        version,
        groups=_groups(connection),
        models=_models(connection),
        channels=_channels(connection, {}),
    )


def price_from_row(row: tuple[object, ...]) -> Price:
    """Build a price from (model, version, formula, *PRICE_COLUMNS)."""
    model, version, formula, *cells, variants, tiers = row
    amounts: dict[str, Any] = dict(zip(PRICE_FIELDS, map(_integer, cells), strict=True))
    return Price(
        str(model),
        _integer(version),
        Formula(str(formula)),
        **amounts,
        image_variants=_variants(orjson.loads(str(variants))),
        tiers=_tiers(orjson.loads(str(tiers))),
    )


def price_cells(price: Price) -> Row:
    """The cells of a row of `price`, in the order of `PRICE_COLUMNS`."""
    return (
        *(getattr(price, name) for name in PRICE_FIELDS),
        orjson.dumps(dict(price.image_variants), option=orjson.OPT_SORT_KEYS).decode(),
        orjson.dumps([_tier_to_json(tier) for tier in price.tiers]).decode(),
    )


class PriceVersion(NamedTuple):
    """One version of a model's price; a withdrawn one says what was in force before it."""

    price: Price
    withdrawn: bool
    created_at: float


def price_versions(connection: sqlite3.Connection, model: str, rows_max: int) -> list[PriceVersion]:
    """Read the versions of one model's price, the latest first."""
    rows = connection.execute(
        f"SELECT {_SELECTED}, withdrawn, created_at FROM price WHERE model = ? "  # noqa: S608 - constants
        "ORDER BY version DESC LIMIT ?",
        (model, rows_max),
    )
    return [PriceVersion(price_from_row(row[:-2]), bool(row[-2]), row[-1]) for row in rows]


def load_prices(connection: sqlite3.Connection) -> dict[tuple[str, int], Price]:
    """Read every price version ever in force, withdrawn ones too, by (model, version)."""
    rows = connection.execute(f"SELECT {_SELECTED} FROM price")  # noqa: S608 - constants
    prices = [price_from_row(row) for row in rows]
    return {(price.model, price.version): price for price in prices}


def price_from_json(model: str, stored: dict[str, Any]) -> Price:
    """Build a channel's cost from the object `price_to_json` made."""
    amounts: dict[str, Any] = {name: _integer(stored.get(name, 0)) for name in PRICE_FIELDS}
    for name, other in _ONCE_TEXT.items():
        amounts[name] = _integer(stored.get(name, amounts[other]))
    return Price(
        model=model,
        version=_integer(stored["version"]),
        formula=Formula(str(stored["formula"])),
        **amounts,
        image_variants=_variants(stored.get("image_variants", {})),
        tiers=_tiers(stored.get("tiers", [])),
    )


def price_to_json(price: Price) -> dict[str, Any]:
    """Return a price as a JSON object, without the fields whose absence means zero."""
    stored: dict[str, Any] = {"version": price.version, "formula": price.formula.value}
    stored |= {name: getattr(price, name) for name in PRICE_FIELDS if getattr(price, name)}
    stored |= {name: getattr(price, name) for name in _ONCE_TEXT}
    if price.image_variants:
        stored["image_variants"] = dict(price.image_variants)
    if price.tiers:
        stored["tiers"] = [_tier_to_json(tier) for tier in price.tiers]
    return stored


def _tier_to_json(tier: Tier) -> dict[str, int]:
    return {name: getattr(tier, name) for name in _TIER_FIELDS}


def _tiers(stored: list[dict[str, object]]) -> tuple[Tier, ...]:
    return tuple(Tier(**{name: _integer(each[name]) for name in _TIER_FIELDS}) for each in stored)


def _variants(stored: dict[str, object]) -> dict[str, int]:
    return {name: _integer(amount) for name, amount in stored.items()}


def _plans(connection: sqlite3.Connection) -> list[Plan]:
    rows = connection.execute(
        "SELECT name, requests_per_minute, tokens_per_minute, concurrency, monthly_fee, "
        "monthly_credit, offered, groups FROM plan"
    )
    return [
        Plan(
            name, requests, tokens, concurrency, fee, credit, bool(offered),
            None if groups is None else frozenset(orjson.loads(groups)),
        )
        for name, requests, tokens, concurrency, fee, credit, offered, groups in rows
    ]  # fmt: skip


def _users(connection: sqlite3.Connection, ids: Sequence[int] | None = None) -> list[User]:
    rows = _some(connection, "SELECT id, name, plan, enabled FROM user WHERE 1", "id", ids)
    return [User(id_, name, plan, bool(enabled)) for id_, name, plan, enabled in rows]


def _groups(connection: sqlite3.Connection) -> list[Group]:
    rows = connection.execute(
        "SELECT name, multiplier, disconnect, drain_seconds_max, retry_after_timeout, "
        "output_tokens_max, cache_scope, cache_multiplier FROM service_group"
    )
    return [
        Group(
            name, multiplier, DisconnectMode(mode), seconds, bool(retry), output_max,
            CacheScope(scope), share,
        )
        for name, multiplier, mode, seconds, retry, output_max, scope, share in rows
    ]  # fmt: skip


def _models(connection: sqlite3.Connection) -> list[Model]:
    # Beside max() SQLite takes the other columns from the row that holds the maximum.
    newest = (
        f"SELECT withdrawn, max(version), {_SELECTED} "  # noqa: S608 - constants
        "FROM price GROUP BY model"
    )
    current = connection.execute(newest)
    prices = {row[2]: price_from_row(row[2:]) for row in current if not row[0]}
    rows = connection.execute(
        "SELECT name, context_window, output_tokens_max, tokenizer, hidden_output, endpoints "
        "FROM model"
    )
    return [
        Model(
            name, window, output_max, Tokenizer(table), bool(hidden), prices.get(name),
            None if endpoints is None else frozenset(orjson.loads(endpoints)),
        )
        for name, window, output_max, table, hidden, endpoints in rows
    ]  # fmt: skip


def _channel_keys(connection: sqlite3.Connection, master: bytes) -> dict[int, list[ChannelKey]]:
    keys: dict[int, list[ChannelKey]] = {}
    for key_id, channel_id, sealed in connection.execute(
        "SELECT id, channel_id, sealed FROM channel_key ORDER BY id"
    ):
        secret = open_sealed(master, key_id, sealed)
        keys.setdefault(channel_id, []).append(ChannelKey(key_id, secret))
    return keys


def _channels(
    connection: sqlite3.Connection, keys: Mapping[int, Sequence[ChannelKey]]
) -> list[Channel]:
    rows = connection.execute(
        "SELECT id, name, dialect, base_url, models, groups, priority, weight, "
        "connect_seconds_max, first_byte_seconds_max, idle_seconds_max, proxy, allow_private, "
        "usage_option, terminal, costs, enabled, endpoints, api_version FROM channel "
        "WHERE NOT removed"
    )
    return [
        Channel(
            id=row[0],
            name=row[1],
            dialect=Dialect(row[2]),
            base_url=row[3],
            keys=tuple(keys.get(row[0], ())),
            models=orjson.loads(row[4]),
            groups=frozenset(orjson.loads(row[5])),
            priority=row[6],
            weight=row[7],
            connect_seconds_max=row[8],
            first_byte_seconds_max=row[9],
            idle_seconds_max=row[10],
            proxy=row[11],
            allow_private=bool(row[12]),
            usage_option=UsageOption(row[13]),
            terminal=TerminalRule(row[14]),
            costs={
                model: price_from_json(model, stored)
                for model, stored in orjson.loads(row[15]).items()
            },
            enabled=bool(row[16]),
            endpoints=frozenset() if row[17] is None else frozenset(orjson.loads(row[17])),
            api_version=row[18],
        )
        for row in rows
    ]


def _keys(connection: sqlite3.Connection, ids: Sequence[int] | None = None) -> list[Key]:
    rows = _some(
        connection,
        "SELECT id, user_id, digest, name, group_name, prefix, last4, enabled, expires_at, "
        "budget, budget_period, requests_per_minute, tokens_per_minute, concurrency, models, "
        "networks, cache_seconds FROM key WHERE removed_at IS NULL",
        "id",
        ids,
    )
    return [
        Key(
            id=row[0],
            user_id=row[1],
            digest=row[2],
            name=row[3],
            group=row[4],
            prefix=row[5],
            last4=row[6],
            enabled=bool(row[7]),
            expires_at=row[8],
            budget=row[9],
            budget_period=BudgetPeriod(row[10]),
            requests_per_minute=row[11],
            tokens_per_minute=row[12],
            concurrency=row[13],
            models=None if row[14] is None else frozenset(orjson.loads(row[14])),
            networks=None if row[15] is None else tuple(orjson.loads(row[15])),
            cache_seconds=row[16],
        )
        for row in rows
    ]


def _secrets(
    connection: sqlite3.Connection, keys: list[Key], ids: Sequence[int] | None = None
) -> list[Key]:
    """Each key once more for every further secret it has, until the earlier of both ends."""
    known = {key.id: key for key in keys}
    query = "SELECT key_id, digest, last4, expires_at FROM key_secret WHERE 1"
    rows = _some(connection, query, "key_id", ids)
    return [
        replace(
            (key := known[key_id]),
            digest=digest,
            last4=last4,
            expires_at=until if key.expires_at is None else min(until, key.expires_at),
        )
        for key_id, digest, last4, until in rows
        if key_id in known
    ]


def _some(
    connection: sqlite3.Connection, query: str, column: str, ids: Sequence[int] | None
) -> sqlite3.Cursor:
    """The rows of a query, or those whose `column` is one of `ids`."""
    if ids is None:
        return connection.execute(query)
    only = f"{query} AND {column} IN (SELECT value FROM json_each(?))"  # noqa: S608 - constants
    return connection.execute(only, (orjson.dumps(ids).decode(),))


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise AssertionError(f"{value!r} was stored where an integer belongs")
    return value
