"""The catalog as a document: what a TOML file says, checked, and back again.

Rules: an unknown key, a wrong type or a float where money belongs is a ValueError that names the
entry and the remedy; what a document leaves out has one default, here; reading what `write_*`
wrote gives the same records. This module must not know the database or where a file came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlsplit

from proxy.core.entities import (
    MULTIPLIER_ONE,
    Channel,
    Dialect,
    DisconnectMode,
    Formula,
    Group,
    Model,
    Plan,
    Price,
    TerminalRule,
    Tokenizer,
    UsageOption,
)
from proxy.core.money import (
    MILLION,
    NANO,
    format_multiplier,
    format_usd,
    parse_multiplier,
    parse_usd,
)

ENTRIES_MAX = 10_000
SECONDS_MAX = 86_400.0
INTEGER_MAX = 1 << 53
AMOUNT_MAX = (1 << 63) - 1
PRICE_MAX = 100_000 * NANO
RATIO_MAX = 1_000 * MILLION
"""With `PRICE_MAX`: ten million tokens at both still cost less than a 64-bit amount."""
SEALED_PREFIX = "sealed:"

Choice = TypeVar("Choice", bound=StrEnum)

_RATIOS = ("model_ratio", "completion_ratio", "cache_ratio")
_DEFAULTS = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "input",
    "audio_input": "input",
    "audio_output": "output",
}
"""What an omitted price equals: never nothing, where something would be billed to us."""
_PLAIN = ("input", "output", "character", "call")


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


class Fields:
    """One table of a document, taken apart key by key; `done` refuses what is left."""

    def __init__(self, where: str, table: object) -> None:
        if not isinstance(table, dict):
            raise ValueError(f"{where} must be a table")
        self.where = where
        self._left: dict[str, Any] = dict(table)

    def take(self, name: str, default: object = None) -> Any:
        """Take a key of any type out of the table."""
        return self._left.pop(name, default)

    def has(self, name: str) -> bool:
        """Whether the key is there and not yet taken."""
        return name in self._left

    def text(self, name: str, default: str | None = None) -> str:
        """Take a non-empty string."""
        value = self.take(name, default)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self.fault(name, "must be text")
        return value

    def integer(self, name: str, default: int | None = None, least: int = 1) -> int:
        """Take a whole number."""
        value = self.take(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fault(name, "must be a whole number")
        if not least <= value <= INTEGER_MAX:
            raise self.fault(name, f"must be at least {least} and at most 2^53")
        return value

    def optional(self, name: str) -> int | None:
        """Take a whole number above zero, or None where the key is absent."""
        return self.integer(name) if name in self._left else None

    def seconds(self, name: str, default: float) -> float:
        """Take a duration in seconds, above zero and at most a day."""
        value = self.take(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.fault(name, "must be a number of seconds")
        if not 0 < value <= SECONDS_MAX:
            raise self.fault(name, f"must be above 0 and at most {SECONDS_MAX:.0f} seconds")
        return float(value)

    def flag(self, name: str, *, default: bool) -> bool:
        """Take true or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise self.fault(name, "must be true or false")
        return value

    def choice(self, name: str, kind: type[Choice], default: Choice | None = None) -> Choice:
        """Take one of a few words."""
        value = self.take(name, default)
        words = ", ".join(kind)
        if not isinstance(value, str) or value not in set(kind):
            raise self.fault(name, f"must be one of {words}")
        return kind(value)

    def names(self, name: str) -> tuple[str, ...]:
        """Take a list of distinct strings."""
        value = self.take(name, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.fault(name, "must be a list of texts")
        if len(set(value)) != len(value):
            raise self.fault(name, "names something twice")
        return tuple(value)

    def done(self) -> None:
        """Refuse keys nobody asked for."""
        if self._left:
            raise ValueError(f"{self.where}: unknown key {min(self._left)!r}; remove or correct it")

    def fault(self, name: str, what: str) -> ValueError:
        """The error for one key."""
        return ValueError(f"{self.where}: {name} {what}")


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


def read_price(where: str, model: str, table: object) -> Price:
    """Read a price table in USD (or ratios) as nano-USD. Raises ValueError."""
    fields = Fields(where, table)
    if isinstance(table, dict) and not table.keys().isdisjoint(_RATIOS):
        ratios: dict[str, Any] = {
            "model_ratio": _ratio(fields, "model_ratio", None),
            "completion_ratio": _ratio(fields, "completion_ratio", MULTIPLIER_ONE),
            "cache_ratio": _ratio(fields, "cache_ratio", MULTIPLIER_ONE),
        }
        price = Price(model, 0, Formula.RATIO, call=_amount(fields, "call", 0), **ratios)
    else:
        amounts: dict[str, Any] = {name: _amount(fields, name, 0) for name in _PLAIN}
        for name, other in _DEFAULTS.items():
            amounts[name] = _amount(fields, name, amounts[other])
        # Written as USD each, kept per 1,000,000 like the tokens.
        amounts["image"] = _amount(fields, "image", 0) * MILLION
        price = Price(model, 0, Formula.TOKENS, **amounts)
        if price.image > AMOUNT_MAX:
            raise fields.fault("image", "is too large")
    fields.done()
    return price


def write_price(price: Price) -> dict[str, str]:
    """The table `read_price` reads back to the same price, defaults left out."""
    if price.formula is Formula.RATIO:
        table = {name: format_multiplier(getattr(price, name)) for name in _RATIOS}
        if price.call:
            table["call"] = format_usd(price.call)
        return table
    table = {"input": format_usd(price.input), "output": format_usd(price.output)}
    for name, other in _DEFAULTS.items():
        if getattr(price, name) != getattr(price, other):
            table[name] = format_usd(getattr(price, name))
    for name in ("character", "call"):
        if getattr(price, name):
            table[name] = format_usd(getattr(price, name))
    if price.image:
        table["image"] = format_usd(price.image // MILLION)
    return table


def write_document(document: Document) -> dict[str, Any]:
    """The mapping `read_document` reads back to the same document."""
    return {
        "version": document.version,
        "plan": [_present(_plain(plan)) for plan in document.plans],
        "group": [_write_group(group) for group in document.groups],
        "model": [_write_model(model) for model in document.models],
        "channel": [_write_channel(entry) for entry in document.channels],
    }


def read_plan(fields: Fields) -> Plan:
    """Read one plan."""
    plan = Plan(
        name=fields.text("name"),
        requests_per_minute=fields.optional("requests_per_minute"),
        tokens_per_minute=fields.optional("tokens_per_minute"),
        concurrency=fields.optional("concurrency"),
    )
    fields.done()
    return plan


def _read_group(fields: Fields) -> Group:
    group = Group(
        name=fields.text("name"),
        multiplier=_ratio(fields, "multiplier", MULTIPLIER_ONE),
        disconnect=fields.choice("disconnect", DisconnectMode, DisconnectMode.CANCEL),
        drain_seconds_max=fields.seconds("drain_seconds_max", 30.0),
        retry_after_timeout=fields.flag("retry_after_timeout", default=False),
        output_tokens_max=fields.optional("output_tokens_max"),
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
        price=None if table is None else read_price(f"{fields.where} price", name, table),
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
    costs = Fields(f"{fields.where} costs", fields.take("costs", {}))
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
            model: read_price(f"{costs.where} {model!r}", model, costs.take(model))
            for model in models
            if costs.has(model)
        },
        enabled=fields.flag("enabled", default=True),
    )
    keys = fields.names("keys")
    if not all(key and key.isascii() and key.isprintable() for key in keys):
        raise fields.fault("keys", "must be printable ASCII without line ends")
    costs.done()
    fields.done()
    return ChannelEntry(channel, keys)


def _entries(top: Fields, kind: str) -> list[Fields]:
    tables = top.take(kind, [])
    if not isinstance(tables, list) or len(tables) > ENTRIES_MAX:
        raise ValueError(f"[[{kind}]] must be a list of at most {ENTRIES_MAX:,} tables")
    entries: list[Fields] = []
    seen: set[object] = set()
    for number, table in enumerate(tables, 1):
        name = table.get("name") if isinstance(table, dict) else None
        where = f"{kind} {name!r}" if isinstance(name, str) else f"{kind} number {number}"
        if isinstance(name, str) and name in seen:
            raise ValueError(f"{where} is there twice")
        seen.add(name if isinstance(name, str) else number)
        entries.append(Fields(where, table))
    return entries


def _amount(fields: Fields, name: str, default: int) -> int:
    value = fields.take(name)
    if value is None:
        return default
    try:
        amount = parse_usd(value)
    except ValueError as error:
        raise fields.fault(name, f"is not a price: {error}") from None
    if amount > PRICE_MAX:
        raise fields.fault(name, f"is not a price: at most {PRICE_MAX // NANO:,} USD")
    return amount


def _ratio(fields: Fields, name: str, default: int | None) -> int:
    value = fields.take(name)
    if value is None and default is not None:
        return default
    try:
        ratio = parse_multiplier(value)
    except ValueError as error:
        raise fields.fault(name, f"is not a ratio: {error}") from None
    if ratio > RATIO_MAX:
        raise fields.fault(name, f"is not a ratio: at most {RATIO_MAX // MILLION:,}")
    return ratio


def _url(fields: Fields, name: str, value: object) -> str:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not isinstance(value, str) or any(sign <= " " for sign in value):
        raise fields.fault(name, "must be an http:// or https:// URL")
    return value


def _plain(record: Plan) -> dict[str, Any]:
    return {
        "name": record.name,
        "requests_per_minute": record.requests_per_minute,
        "tokens_per_minute": record.tokens_per_minute,
        "concurrency": record.concurrency,
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
        }
    )


def _write_model(model: Model) -> dict[str, Any]:
    return _present(
        {
            "name": model.name,
            "context_window": model.context_window,
            "output_tokens_max": model.output_tokens_max,
            "tokenizer": model.tokenizer.value,
            "hidden_output": model.hidden_output,
            "price": None if model.price is None else write_price(model.price),
        }
    )


def _write_channel(entry: ChannelEntry) -> dict[str, Any]:
    channel = entry.channel
    return _present(
        {
            "name": channel.name,
            "dialect": channel.dialect.value,
            "base_url": channel.base_url,
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
