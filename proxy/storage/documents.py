"""The catalog as a document: what a TOML file says, checked, and back again.

Rules: an unknown key, a wrong type or a float where money belongs is a ValueError that names the
entry and the remedy; what a document leaves out has one default, here; reading what `write_*`
wrote gives the same records. This module must not know the database or where a file came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from proxy.core.actions.refusals import KINDS
from proxy.core.deployments import azure_address
from proxy.core.entities import (
    DIALECT_ENDPOINTS,
    ENDPOINTS,
    MULTIPLIER_ONE,
    CacheScope,
    Channel,
    Dialect,
    DisconnectMode,
    Group,
    Model,
    Plan,
    TerminalRule,
    Tokenizer,
    UsageOption,
)
from proxy.core.money import format_multiplier, format_usd
from proxy.core.sentences import Sentence
from proxy.storage.fields import Fields
from proxy.storage.price_tables import read_price, write_price

ENTRIES_MAX = 10_000
SEALED_PREFIX = "sealed:"


@dataclass(frozen=True, slots=True)
class ChannelEntry:
    """A channel as a document has it: `channel` without keys, which may be sealed references."""

    channel: Channel
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole catalog; `version` is the one it was exported from, None if never exported."""

    version: int | None
    plans: tuple[Plan, ...]
    groups: tuple[Group, ...]
    models: tuple[Model, ...]
    channels: tuple[ChannelEntry, ...]


def read_document(document: Mapping[str, Any]) -> Document:
    """Check a parsed catalog file. Raises ValueError that names the entry and the remedy."""
    top = Fields("catalog", dict(document))
    version = top.optional("version")
    plans = [read_plan(fields) for fields in _entries(top, "plan")]
    groups = [_read_group(fields) for fields in _entries(top, "group")]
    models = [_read_model(fields) for fields in _entries(top, "model")]
    channels = [_read_channel(fields) for fields in _entries(top, "channel")]
    top.done()
    return Document(version, tuple(plans), tuple(groups), tuple(models), tuple(channels))


def write_document(document: Document) -> dict[str, Any]:
    """The mapping `read_document` reads back to the same document."""
    return {
        "version": document.version,
        "plan": [_present(_plain(plan)) for plan in document.plans],
        "group": [_write_group(group) for group in document.groups],
        "model": [write_model(model) for model in document.models],
        "channel": [_write_channel(entry) for entry in document.channels],
    }


def read_plan(fields: Fields) -> Plan:
    """Read one plan."""
    plan = Plan(
        name=fields.text("name"),
        requests_per_minute=fields.optional("requests_per_minute"),
        tokens_per_minute=fields.optional("tokens_per_minute"),
        concurrency=fields.optional("concurrency"),
        monthly_fee=fields.amount("monthly_fee", 0),
        monthly_credit=fields.amount("monthly_credit", 0),
        offered=fields.flag("offered", default=False),
        groups=frozenset(fields.names("groups")) if fields.has("groups") else None,
    )
    fields.done()
    return plan


def _read_group(fields: Fields) -> Group:
    group = Group(
        name=fields.text("name"),
        multiplier=fields.ratio("multiplier", MULTIPLIER_ONE),
        disconnect=fields.choice("disconnect", DisconnectMode, DisconnectMode.CANCEL),
        drain_seconds_max=fields.seconds("drain_seconds_max", 30.0),
        retry_after_timeout=fields.flag("retry_after_timeout", default=False),
        output_tokens_max=fields.optional("output_tokens_max"),
        cache_scope=fields.choice("cache_scope", CacheScope, CacheScope.KEY),
        cache_multiplier=fields.ratio("cache_multiplier", 0),
    )
    fields.done()
    return group


def _read_model(fields: Fields) -> Model:
    name = fields.text("name")
    table = fields.take("price")
    model = Model(
        name=name,
        context_window=fields.integer("context_window"),
        output_tokens_max=fields.integer("output_tokens_max"),
        tokenizer=fields.choice("tokenizer", Tokenizer, Tokenizer.ESTIMATE),
        hidden_output=fields.flag("hidden_output", default=False),
        price=None
        if table is None
        else read_price(Sentence("{where} price", where=fields.where), name, table),
        endpoints=_endpoints(fields),
    )
    fields.done()
    return model


def _read_channel(fields: Fields) -> ChannelEntry:
    models = fields.take("models", {})
    if isinstance(models, list):
        models = {name: name for name in models}
    if not isinstance(models, dict) or not all(
        isinstance(text, str) and text for pair in models.items() for text in pair
    ):
        raise fields.fault("models", "must map public model names to the upstream's own")
    costs = Fields(Sentence("{where} costs", where=fields.where), fields.take("costs", {}))
    proxy = fields.take("proxy")
    channel = Channel(
        id=0,
        name=fields.text("name"),
        dialect=fields.choice("dialect", Dialect),
        base_url=_url(fields, "base_url", fields.take("base_url")),
        keys=(),
        models=models,
        groups=frozenset(fields.names("groups")),
        priority=fields.integer("priority", 0, least=-1_000_000),
        weight=fields.integer("weight", 1),
        connect_seconds_max=fields.seconds("connect_seconds_max", 5.0),
        first_byte_seconds_max=fields.seconds("first_byte_seconds_max", 120.0),
        idle_seconds_max=fields.seconds("idle_seconds_max", 120.0),
        proxy=None if proxy is None else _url(fields, "proxy", proxy),
        allow_private=fields.flag("allow_private", default=False),
        usage_option=fields.choice("usage_option", UsageOption, UsageOption.SEND),
        terminal=fields.choice("terminal", TerminalRule, TerminalRule.DONE),
        costs={
            model: read_price(
                Sentence("{where} {model!r}", where=costs.where, model=model),
                model,
                costs.take(model),
            )
            for model in models
            if costs.has(model)
        },
        api_version=fields.text("api_version") if fields.has("api_version") else None,
        enabled=fields.flag("enabled", default=True),
        endpoints=_endpoints(fields) or frozenset(),
    )
    keys = fields.names("keys")
    if not all(key and key.isascii() and key.isprintable() for key in keys):
        raise fields.fault("keys", "must be printable ASCII without line ends")
    _check_azure(fields, channel)
    costs.done()
    fields.done()
    return ChannelEntry(channel, keys)


def _check_azure(fields: Fields, channel: Channel) -> None:
    if channel.api_version is None:
        return
    if channel.dialect is not Dialect.OPENAI:
        raise fields.fault("api_version", 'is for Azure OpenAI: set dialect = "openai"')
    base_url, _ = azure_address(channel.base_url)
    if channel.base_url.rstrip("/") not in {base_url, f"{base_url}/openai"}:
        raise fields.fault(
            "base_url",
            Sentence("must end before /openai where api_version is: {base_url}", base_url=base_url),
        )


def _entries(top: Fields, kind: str) -> list[Fields]:
    tables = top.take(kind, [])
    if not isinstance(tables, list) or len(tables) > ENTRIES_MAX:
        raise ValueError(
            Sentence(
                "[[{kind}]] must be a list of at most {most:,} tables", kind=kind, most=ENTRIES_MAX
            )
        )
    entries: list[Fields] = []
    seen: set[object] = set()
    for number, table in enumerate(tables, 1):
        name = table.get("name") if isinstance(table, dict) else None
        where = (
            Sentence("{kind} {name!r}", kind=KINDS[kind], name=name)
            if isinstance(name, str)
            else Sentence("{kind} number {number}", kind=KINDS[kind], number=number)
        )
        if isinstance(name, str) and name in seen:
            raise ValueError(Sentence("{where} is there twice", where=where))
        seen.add(name if isinstance(name, str) else number)
        entries.append(Fields(where, table))
    return entries


def _endpoints(fields: Fields) -> frozenset[str] | None:
    """What is named of `ENDPOINTS`; None where nothing is said."""
    if not fields.has("endpoints"):
        return None
    names = frozenset(fields.names("endpoints"))
    if not names or names - ENDPOINTS:
        raise fields.fault(
            "endpoints",
            Sentence("must be some of {endpoints}", endpoints=", ".join(sorted(ENDPOINTS))),
        )
    return names


def _url(fields: Fields, name: str, value: object) -> str:
    fault = fields.fault(name, "must be an http:// or https:// URL")
    if not isinstance(value, str) or any(sign <= " " for sign in value):
        raise fault
    try:
        parts = urlsplit(value)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise fault from None
    if not valid:
        raise fault
    if name == "base_url" and (parts.username or parts.query or parts.fragment):
        # Nobody would be asked there (edge/upstream.py), and everybody may read the address.
        raise fields.fault(
            name, "must hold no user name, query or fragment: add secrets as keys of the channel"
        )
    return value


def _plain(record: Plan) -> dict[str, Any]:
    return {
        "name": record.name,
        "requests_per_minute": record.requests_per_minute,
        "tokens_per_minute": record.tokens_per_minute,
        "concurrency": record.concurrency,
        "monthly_fee": format_usd(record.monthly_fee) if record.monthly_fee else None,
        "monthly_credit": format_usd(record.monthly_credit) if record.monthly_credit else None,
        "offered": True if record.offered else None,
        "groups": None if record.groups is None else sorted(record.groups),
    }


def _present(table: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if value is not None}


def _write_group(group: Group) -> dict[str, Any]:
    return _present(
        {
            "name": group.name,
            "multiplier": format_multiplier(group.multiplier),
            "disconnect": group.disconnect.value,
            "drain_seconds_max": group.drain_seconds_max,
            "retry_after_timeout": group.retry_after_timeout,
            "output_tokens_max": group.output_tokens_max,
            "cache_scope": group.cache_scope.value,
            "cache_multiplier": format_multiplier(group.cache_multiplier),
        }
    )


def write_model(model: Model) -> dict[str, Any]:
    """The table of one model."""
    return _present(
        {
            "name": model.name,
            "context_window": model.context_window,
            "output_tokens_max": model.output_tokens_max,
            "tokenizer": model.tokenizer.value,
            "hidden_output": model.hidden_output,
            "endpoints": None if model.endpoints is None else sorted(model.endpoints),
            "price": None if model.price is None else write_price(model.price),
        }
    )


def _write_channel(entry: ChannelEntry) -> dict[str, Any]:
    channel = entry.channel
    usual = channel.endpoints == DIALECT_ENDPOINTS[channel.dialect]
    return _present(
        {
            "name": channel.name,
            "dialect": channel.dialect.value,
            "base_url": channel.base_url,
            "api_version": channel.api_version,
            "endpoints": None if usual else sorted(channel.endpoints),
            "keys": list(entry.keys),
            "groups": sorted(channel.groups),
            "priority": channel.priority,
            "weight": channel.weight,
            "connect_seconds_max": channel.connect_seconds_max,
            "first_byte_seconds_max": channel.first_byte_seconds_max,
            "idle_seconds_max": channel.idle_seconds_max,
            "proxy": channel.proxy,
            "allow_private": channel.allow_private,
            "usage_option": channel.usage_option.value,
            "terminal": channel.terminal.value,
            "enabled": channel.enabled,
            "models": dict(channel.models),
            "costs": {model: write_price(price) for model, price in channel.costs.items()},
        }
    )
