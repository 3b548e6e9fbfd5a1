"""Exports the catalog as a document and applies an edited one as a single, reviewed change.

Rules: a document is the whole catalog, so what it leaves out is removed; it is refused if what it
holds has moved since its export (keys and users, which come and go all day, are not in it), unless
forced; a changed price is a new version, never an edit; what users, keys or the ledger still refer
to is not removed. Runs inside its caller's transaction (`Keeper.change`). This module must not know
files or terminals.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import orjson

from proxy.core.actions.refusals import KINDS
from proxy.core.catalog import Catalog
from proxy.core.entities import DIALECT_ENDPOINTS, Channel, Group, Model, Plan, Price
from proxy.core.ledger import AccountKind, account_id
from proxy.core.sentences import Sentence
from proxy.storage.accounts import check_limit, touch_catalog
from proxy.storage.batch import Value
from proxy.storage.documents import (
    SEALED_PREFIX,
    ChannelEntry,
    Document,
    read_document,
    write_document,
)
from proxy.storage.inserts import Row
from proxy.storage.price_tables import write_price
from proxy.storage.secrets import seal
from proxy.storage.snapshots import (
    PRICE_COLUMNS,
    load_catalog,
    only_accounts_changed,
    price_cells,
    price_to_json,
)

_CHANNEL_COLUMNS = (
    "dialect", "base_url", "models", "groups", "priority", "weight", "connect_seconds_max",
    "first_byte_seconds_max", "idle_seconds_max", "proxy", "allow_private", "usage_option",
    "terminal", "costs", "enabled", "removed", "endpoints", "api_version",
)  # fmt: skip
_SET_CHANNEL = ", ".join(f"{column} = ?" for column in _CHANNEL_COLUMNS)


class Change(NamedTuple):
    """One line of the diff."""

    action: str
    """`add`, `change` or `remove`."""
    what: str
    detail: str = ""


Record = TypeVar("Record", Plan, Group, Model)


def export_catalog(connection: sqlite3.Connection, master: bytes) -> dict[str, Any]:
    """Return the catalog as the mapping of a TOML file; keys are `sealed:<id>` placeholders."""
    catalog = load_catalog(connection, master)
    entries = [
        ChannelEntry(channel, tuple(f"{SEALED_PREFIX}{key.id}" for key in channel.keys))
        for channel in _by_name(catalog.channels.values())
    ]
    return write_document(
        Document(
            catalog.version,
            tuple(_by_name(catalog.plans.values())),
            tuple(_by_name(catalog.groups.values())),
            tuple(_by_name(catalog.models.values())),
            tuple(entries),
        )
    )


def apply_catalog(
    connection: sqlite3.Connection,
    document: Mapping[str, Any],
    *,
    master: bytes,
    now: float,
    force: bool = False,
    dry_run: bool = False,
    keys_stay: bool = False,
) -> list[Change]:
    """Make the catalog equal to `document`; returns the diff, empty if they were equal.

    `dry_run` only returns it; with `keys_stay` no key that is kept goes to another address.
    Raises ValueError: a fault in the document, a removal something still needs, or a catalog
    that moved since the export (unless `force`).
    """
    wanted = read_document(document)
    current = load_catalog(connection, master)
    exported = current.version if wanted.version is None else wanted.version
    if not force and not only_accounts_changed(connection, exported, current.version):
        raise ValueError(
            Sentence(
                "the catalog is at version {version}, this file was exported at {exported}: "
                "export again and repeat the edit, or force it",
                version=current.version,
                exported=exported,
            )
        )
    _check_references(wanted)
    session = _Session(connection, master, now, dry_run=dry_run, keys_stay=keys_stay)
    session.plans(current, wanted)
    session.groups(current, wanted)
    session.models(current, wanted)
    session.channels(current, wanted)
    if session.changes and not dry_run:
        touch_catalog(connection)
    return session.changes


def set_channel(
    connection: sqlite3.Connection,
    table: Mapping[str, Any],
    *,
    master: bytes,
    now: float,
    keys_stay: bool = False,
) -> list[Change]:
    """Add one channel, or change the one of that name; the rest of the catalog stays.

    `table` is a `[[channel]]` of the document; `keys_stay` as of `apply_catalog`. Raises
    ValueError.
    """
    document = export_catalog(connection, master)
    others = [entry for entry in document["channel"] if entry["name"] != table.get("name")]
    document["channel"] = [*others, dict(table)]
    return apply_catalog(connection, document, master=master, now=now, keys_stay=keys_stay)


class _Session:
    """One application: collects the diff and, unless dry, writes it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        master: bytes,
        now: float,
        *,
        dry_run: bool,
        keys_stay: bool,
    ) -> None:
        self.changes: list[Change] = []
        self._connection = connection
        self._master = master
        self._now = now
        self._dry_run = dry_run
        self._keys_stay = keys_stay

    def plans(self, current: Catalog, wanted: Document) -> None:
        for plan in wanted.plans:
            for what in ("requests_per_minute", "tokens_per_minute", "concurrency"):
                check_limit(what, getattr(plan, what))
            unknown = (plan.groups or frozenset()) - {group.name for group in wanted.groups}
            if unknown:
                raise ValueError(
                    Sentence(
                        "plan {name!r} is for the group {unknown!r}, which does not exist",
                        name=plan.name,
                        unknown=min(unknown),
                    )
                )
        for plan in self._differing("plan", current.plans, wanted.plans):
            self._write(
                "INSERT INTO plan (name, requests_per_minute, tokens_per_minute, concurrency, "
                "monthly_fee, monthly_credit, offered, groups) "
                "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) "
                "ON CONFLICT (name) DO UPDATE SET requests_per_minute = ?2, "
                "tokens_per_minute = ?3, concurrency = ?4, monthly_fee = ?5, "
                "monthly_credit = ?6, offered = ?7, groups = ?8",
                (
                    plan.name, plan.requests_per_minute, plan.tokens_per_minute,
                    plan.concurrency, plan.monthly_fee, plan.monthly_credit, int(plan.offered),
                    _json(plan.groups),
                ),
            )  # fmt: skip
        for name in self._missing("plan", current.plans, wanted.plans):
            self._unused("plan", name, "user", "plan")
            self._write("DELETE FROM plan WHERE name = ?", (name,))

    def groups(self, current: Catalog, wanted: Document) -> None:
        for group in self._differing("group", current.groups, wanted.groups):
            self._write(
                "INSERT INTO service_group VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) "
                "ON CONFLICT (name) DO UPDATE SET multiplier = ?2, disconnect = ?3, "
                "drain_seconds_max = ?4, retry_after_timeout = ?5, output_tokens_max = ?6, "
                "cache_scope = ?7, cache_multiplier = ?8",
                (
                    group.name, group.multiplier, group.disconnect.value, group.drain_seconds_max,
                    int(group.retry_after_timeout), group.output_tokens_max,
                    group.cache_scope.value, group.cache_multiplier,
                ),
            )  # fmt: skip
        for name in self._missing("group", current.groups, wanted.groups):
            self._unused("group", name, "key", "removed_at IS NULL AND group_name")
            self._write("DELETE FROM service_group WHERE name = ?", (name,))

    def models(self, current: Catalog, wanted: Document) -> None:
        bare = {name: replace(model, price=None) for name, model in current.models.items()}
        for model in self._differing(
            "model", bare, [replace(model, price=None) for model in wanted.models]
        ):
            self._write(
                "INSERT INTO model (name, context_window, output_tokens_max, tokenizer, "
                "hidden_output, endpoints) VALUES (?1, ?2, ?3, ?4, ?5, ?6) "
                "ON CONFLICT (name) DO UPDATE SET context_window = ?2, output_tokens_max = ?3, "
                "tokenizer = ?4, hidden_output = ?5, endpoints = ?6",
                (
                    model.name, model.context_window, model.output_tokens_max,
                    model.tokenizer.value, int(model.hidden_output), _json(model.endpoints),
                ),
            )  # fmt: skip
        for model in wanted.models:
            known = current.models.get(model.name)
            self._price(model.name, None if known is None else known.price, model.price)
        for name in self._missing("model", current.models, wanted.models):
            self._price(name, current.models[name].price, None)
            self._write("DELETE FROM model WHERE name = ?", (name,))

    def channels(self, current: Catalog, wanted: Document) -> None:
        by_name = {channel.name: channel for channel in current.channels.values()}
        for entry in wanted.channels:
            known = by_name.pop(entry.channel.name, None)
            if self._keys_stay and known is not None:
                _check_keys_stay(entry, known)
            secrets = _secrets(entry, known)
            if known is None:
                self.changes.append(Change("add", f"channel {entry.channel.name!r}"))
                self._add_channel(entry.channel, secrets)
                continue
            if replace(entry.channel, id=known.id, keys=known.keys) != known:
                detail = _difference(known, entry.channel)
                self.changes.append(Change("change", f"channel {known.name!r}", detail))
                self._write_channel(known.id, entry.channel)
            kept = [key.secret for key in known.keys]
            if set(secrets) != set(kept):
                detail = f"keys: {len(kept)} before, {len(secrets)} now"
                self.changes.append(Change("change", f"channel {known.name!r}", detail))
                self._write_keys(known, secrets)
        for name, channel in sorted(by_name.items()):
            self.changes.append(Change("remove", f"channel {name!r}"))
            # The row stays: past attempts and the cost accounts refer to its id.
            self._write("UPDATE channel SET removed = 1 WHERE id = ?", (channel.id,))
            self._write("DELETE FROM channel_key WHERE channel_id = ?", (channel.id,))

    def _differing(
        self, kind: str, current: Mapping[str, Record], wanted: Iterable[Record]
    ) -> list[Record]:
        found: list[Record] = []
        for record in wanted:
            known = current.get(record.name)
            if known != record:
                action = "add" if known is None else "change"
                detail = "" if known is None else _difference(known, record)
                self.changes.append(Change(action, f"{kind} {record.name!r}", detail))
                found.append(record)
        return found

    def _missing(
        self, kind: str, current: Mapping[str, Record], wanted: Iterable[Record]
    ) -> list[str]:
        gone = sorted(current.keys() - {record.name for record in wanted})
        self.changes.extend(Change("remove", f"{kind} {name!r}") for name in gone)
        return gone

    def _unused(self, kind: str, name: str, table: str, column: str) -> None:
        query = f"SELECT count(*) FROM {table} WHERE {column} = ?"  # noqa: S608 - constants
        users = self._connection.execute(query, (name,)).fetchone()[0]
        if users:
            raise ValueError(
                Sentence(
                    "{kind} {name!r} cannot be removed: {users} {table}(s) still use it",
                    kind=KINDS[kind],
                    name=name,
                    users=users,
                    table=table,
                )
            )

    def _price(self, model: str, known: Price | None, wanted: Price | None) -> None:
        if wanted is None and known is None:
            return
        if wanted and known and replace(wanted, version=known.version) == known:
            return
        written = "none" if wanted is None else _show(write_price(wanted))
        before = "none" if known is None else _show(write_price(known))
        action = "change" if known is not None else "add"
        self.changes.append(Change(action, f"price of {model!r}", f"{before} -> {written}"))
        price = wanted or known
        if price is None:
            raise AssertionError("one of the two is there")
        columns = ("model", "version", "withdrawn", "formula", *PRICE_COLUMNS, "created_at")
        marks = ", ".join("?" * (len(columns) - 2))
        self._write(
            f"INSERT INTO price ({', '.join(columns)}) VALUES (?, "  # noqa: S608 - constants
            f"(SELECT coalesce(max(version), 0) + 1 FROM price WHERE model = ?), {marks})",
            (
                model, model, int(wanted is None), price.formula.value,
                *price_cells(price), self._now,
            ),
        )  # fmt: skip

    def _add_channel(self, channel: Channel, secrets: list[str]) -> None:
        if self._dry_run:
            return
        row = self._connection.execute(
            "SELECT id FROM channel WHERE name = ?", (channel.name,)
        ).fetchone()
        if row is None:
            columns = ", ".join(("name", *_CHANNEL_COLUMNS))
            marks = ", ".join("?" * (1 + len(_CHANNEL_COLUMNS)))
            cursor = self._connection.execute(
                f"INSERT INTO channel ({columns}) VALUES ({marks})",  # noqa: S608 - constants
                (channel.name, *_channel_row(channel)),
            )
            channel_id = int(cursor.lastrowid or 0)
            for kind in (AccountKind.COST, AccountKind.PAYABLE):
                self._write("INSERT INTO account (id) VALUES (?)", (account_id(kind, channel_id),))
        else:
            channel_id = int(row[0])  # a removed one of that name comes back, with its accounts
            self._write_channel(channel_id, channel)
        self._write_keys(replace(channel, id=channel_id, keys=()), secrets)

    def _write_channel(self, channel_id: int, channel: Channel) -> None:
        self._write(
            f"UPDATE channel SET {_SET_CHANNEL} WHERE id = ?",  # noqa: S608 - constants
            (*_channel_row(channel), channel_id),
        )

    def _write_keys(self, channel: Channel, secrets: list[str]) -> None:
        kept = {key.secret for key in channel.keys} & set(secrets)
        for key in channel.keys:
            if key.secret not in kept:
                self._write("DELETE FROM channel_key WHERE id = ?", (key.id,))
        if self._dry_run:
            return
        for secret in secrets:
            if secret not in kept:
                # The id is associated data of the seal, so the row comes first.
                cursor = self._connection.execute(
                    "INSERT INTO channel_key (channel_id, sealed, last4) VALUES (?, ?, ?)",
                    (channel.id, b"", secret[-4:] if len(secret) >= 16 else ""),
                )
                key_id = int(cursor.lastrowid or 0)
                sealed = seal(self._master, key_id, secret)
                self._write("UPDATE channel_key SET sealed = ? WHERE id = ?", (sealed, key_id))

    def _write(self, statement: str, row: tuple[Value, ...]) -> None:
        if not self._dry_run:
            self._connection.execute(statement, row)


def _channel_row(channel: Channel) -> Row:
    costs = {model: price_to_json(price) for model, price in channel.costs.items()}
    return (
        channel.dialect.value, channel.base_url, orjson.dumps(dict(channel.models)).decode(),
        orjson.dumps(sorted(channel.groups)).decode(), channel.priority, channel.weight,
        channel.connect_seconds_max, channel.first_byte_seconds_max, channel.idle_seconds_max,
        channel.proxy, int(channel.allow_private), channel.usage_option.value,
        channel.terminal.value, orjson.dumps(costs).decode(), int(channel.enabled), 0,
        # Not what its dialect has anyway: a later release may know more of that.
        None if channel.endpoints == DIALECT_ENDPOINTS[channel.dialect]
        else _json(channel.endpoints),
        channel.api_version,
    )  # fmt: skip


def _json(names: frozenset[str] | None) -> str | None:
    return None if names is None else orjson.dumps(sorted(names)).decode()


def _secrets(entry: ChannelEntry, known: Channel | None) -> list[str]:
    """The channel's secrets in the clear; a placeholder keeps what the channel has."""
    sealed = {} if known is None else {key.id: key.secret for key in known.keys}
    found: list[str] = []
    for key in entry.keys:
        if not key.startswith(SEALED_PREFIX):
            found.append(key)
            continue
        number = key.removeprefix(SEALED_PREFIX)
        secret = sealed.get(int(number)) if number.isdecimal() else None
        if secret is None:
            raise ValueError(
                Sentence(
                    "channel {name!r}: {key!r} is no key of it; write the key itself",
                    name=entry.channel.name,
                    key=key,
                )
            )
        found.append(secret)
    return list(dict.fromkeys(found))


def _check_keys_stay(entry: ChannelEntry, known: Channel) -> None:
    """Raise ValueError if kept keys would be sent to somebody else.

    Nothing shows an upstream key; who names an address of their own would read it there.
    """
    if not any(key.startswith(SEALED_PREFIX) for key in entry.keys):
        return
    wanted = entry.channel
    if _place(wanted.base_url) != _place(known.base_url):
        name = "base_url"
    elif wanted.proxy != known.proxy and _place(known.base_url)[0] == "http":
        name = "proxy"  # no TLS goes through it to the provider
    else:
        return
    raise ValueError(
        Sentence(
            "{where}: {name} {what}",
            where=f"channel {known.name!r}",
            name=name,
            what=Sentence(
                "would send its keys to another place than they were given for: remove the keys "
                "first, and write them anew afterwards"
            ),
        )
    )


def _place(url: str) -> tuple[str, str]:
    """Who is asked at a URL: its scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _check_references(wanted: Document) -> None:
    groups = {group.name for group in wanted.groups}
    models = {model.name for model in wanted.models}
    for entry in wanted.channels:
        channel = entry.channel
        for kind, unknown in (
            ("group", channel.groups - groups),
            ("model", channel.models.keys() - models),
        ):
            if unknown:
                raise ValueError(
                    Sentence(
                        "channel {name!r} names {kind} {unknown!r}, which the catalog does not "
                        "have: add it first (in a file beside the channel, else by `sluice "
                        "models` or `sluice group`)",
                        name=channel.name,
                        kind=KINDS[kind],
                        unknown=min(unknown),
                    )
                )


def _difference(before: object, after: object) -> str:
    """The fields that differ, keys left out: secrets are in them."""
    names = [name for name in getattr(before, "__slots__", ()) if name not in {"id", "keys"}]
    return ", ".join(
        f"{name}: {_show(getattr(before, name))} -> {_show(getattr(after, name))}"
        for name in names
        if getattr(before, name) != getattr(after, name)
    )


def _show(value: object) -> str:
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_within(each)}" for name, each in value.items()) or "none"
    return "none" if value is None else str(value)


def _within(value: object) -> str:
    """A value inside another."""
    if isinstance(value, list):
        return "; ".join(f"({_show(each)})" for each in value)
    return f"({_show(value)})" if isinstance(value, Mapping) else str(value)


Named = TypeVar("Named", Plan, Group, Model, Channel)


def _by_name(records: Iterable[Named]) -> list[Named]:
    return sorted(records, key=lambda record: record.name)
