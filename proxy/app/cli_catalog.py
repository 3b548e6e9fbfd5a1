"""`sluice channel`, `group`, `models`, `price`, `user set`: single entries of the catalog.

Rules: every command is one action; a value is JSON where it reads as JSON, else text; an upstream
key comes from a file or standard input, never as an argument that a process list shows. This module
must not know how the catalog is stored.
"""

import json
from typing import Any

import click

from proxy.app.cli_models import models
from proxy.app.control import CommandError
from proxy.app.target import Target, targeted

SETTING = click.option(
    "--set",
    "pairs",
    multiple=True,
    metavar="FIELD=VALUE",
    help="As in the catalog file; VALUE null: as without it. May be repeated.",
)


def values_of(pairs: tuple[str, ...]) -> dict[str, Any]:
    """What `--set` said. Raises CommandError."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise CommandError(f"{pair!r} is not FIELD=VALUE", "write for example --set weight=2")
        values[name] = _value(name, text)
    return values


def _value(name: str, text: str) -> object:
    """JSON, but for what has a point: amounts and ratios of the document are text, seconds not."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, float) and not name.endswith("_seconds_max") else value


@click.command("show")
@targeted
@click.argument("name")
def channel_show(target: Target, name: str) -> None:
    """Show one channel, its keys by their last four."""
    target.show(target.do("channel show", {"name": name}))


@click.command("set")
@targeted
@click.argument("name")
@SETTING
@click.option("--create", is_flag=True, help="Make a new channel.")
def channel_set(target: Target, name: str, *, pairs: tuple[str, ...], create: bool) -> None:
    """Change what is given of a channel, or make one."""
    arguments = {"name": name, "set": values_of(pairs), "create": create}
    target.show_changes(target.do("channel set", arguments))


@click.command("enable")
@targeted
@click.argument("name")
def channel_enable(target: Target, name: str) -> None:
    """Let a channel serve."""
    target.show_changes(target.do("channel switch", {"name": name, "enabled": True}))


@click.command("disable")
@targeted
@click.argument("name")
def channel_disable(target: Target, name: str) -> None:
    """Let a channel serve no more calls."""
    target.show_changes(target.do("channel switch", {"name": name, "enabled": False}))


@click.command("remove")
@targeted
@click.argument("name")
def channel_remove(target: Target, name: str) -> None:
    """Remove a channel; what it cost stays in the ledger."""
    target.show_changes(target.do("channel remove", {"name": name}))


@click.command("key-add")
@targeted
@click.argument("name")
@click.option("--file", "source", type=click.File("r"), default="-", help="Else standard input.")
def channel_key_add(target: Target, name: str, source: Any) -> None:
    """Put an upstream key into a channel's pool; it is read, never an argument."""
    secret = source.readline().strip()
    target.show(target.do("channel key add", {"name": name, "secret": secret}))


@click.command("key-remove")
@targeted
@click.argument("name")
@click.argument("key", type=int)
def channel_key_remove(target: Target, name: str, key: int) -> None:
    """Take an upstream key out of a pool by its number."""
    target.show_changes(target.do("channel key remove", {"name": name, "key": key}))


OF_CHANNELS = (
    channel_show,
    channel_set,
    channel_enable,
    channel_disable,
    channel_remove,
    channel_key_add,
    channel_key_remove,
)


@click.group()
def group() -> None:
    """Groups: classes of channels that keys belong to."""


@group.command("list")
@targeted
def groups(target: Target) -> None:
    """List groups, and what is in each."""
    told = target.do("group list", {})
    counted = ("keys", "channels", "models")
    flat = [
        {
            "name": row["group"]["name"],
            "multiplier": row["group"]["multiplier"],
            **{name: row[name] for name in counted},
        }
        for row in told
    ]
    target.show(told if target.json else flat)


@group.command("set")
@targeted
@click.argument("name")
@SETTING
@click.option("--create", is_flag=True, help="Make a new group.")
def group_set(target: Target, name: str, *, pairs: tuple[str, ...], create: bool) -> None:
    """Change what is given of a group, or make one."""
    arguments = {"name": name, "set": values_of(pairs), "create": create}
    target.show_changes(target.do("group set", arguments))


@group.command("remove")
@targeted
@click.argument("name")
def group_remove(target: Target, name: str) -> None:
    """Remove a group that no key and no channel is in."""
    target.show_changes(target.do("group remove", {"name": name}))


@models.command("list")
@targeted
@click.option("--search", default="", help="Part of a name.")
@click.option("--after", default="", help="Go on behind this name.")
@click.option("--unpriced", is_flag=True, help="Only those without a price.")
@click.option("--rows", "rows_max", type=int, default=100, show_default=True)
def models_list(target: Target, **options: Any) -> None:
    """List models with their prices, by name."""
    told = target.do("model list", options)
    flat = [
        {
            "name": row["model"]["name"],
            "price": row["price"],
            "version": row["version"],
            "groups": row["groups"],
            "channels": row["channels"],
        }
        for row in told["models"]
    ]
    target.show(told if target.json else flat)


@models.command("show")
@targeted
@click.argument("name")
def model_show(target: Target, name: str) -> None:
    """Show one model and every version of its price."""
    target.show(target.do("model show", {"name": name}))


@models.command("set")
@targeted
@click.argument("name")
@SETTING
@click.option("--create", is_flag=True, help="Make a new model, without a price.")
def model_set(target: Target, name: str, *, pairs: tuple[str, ...], create: bool) -> None:
    """Change what is given of a model, or make one."""
    arguments = {"name": name, "set": values_of(pairs), "create": create}
    target.show(target.do("model set", arguments))


@models.command("remove")
@targeted
@click.argument("name")
def model_remove(target: Target, name: str) -> None:
    """Remove a model that no channel serves."""
    target.show(target.do("model remove", {"name": name}))


@click.group()
def price() -> None:
    """Prices of models, each a version that stays."""


@price.command("set")
@targeted
@click.argument("model")
@click.option(
    "--price", "pairs", multiple=True, required=True, metavar="KIND=USD", help="May be repeated."
)
def price_set(target: Target, model: str, pairs: tuple[str, ...]) -> None:
    """Give a model a price: the whole of it, as a new version."""
    prices = {
        name: str(value) if isinstance(value, int) else value
        for name, value in values_of(pairs).items()
    }
    target.show_changes(target.do("price set", {"model": model, "price": prices}))


@price.command("withdraw")
@targeted
@click.argument("model")
def price_withdraw(target: Target, model: str) -> None:
    """Take a model's price back: it is listed and refused."""
    target.show_changes(target.do("price withdraw", {"model": model}))


@click.command("set")
@targeted
@click.argument("name")
@click.option("--plan", help="Its limits hold from the next call.")
@click.option("--enabled/--disabled", default=None, help="Whether its keys work.")
def user_set(target: Target, name: str, *, plan: str | None, enabled: bool | None) -> None:
    """Put a user on another plan, or let them in or not."""
    target.show(target.do("user set", {"user": name, "plan": plan, "enabled": enabled}))
