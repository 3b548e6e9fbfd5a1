"""`sluice key ...`: the keys that clients call with.

Rules: as cli.py. An option that is not given changes nothing; the word `none` clears what has no
other way to say so. This module must not know how a command is done.
"""

import sys
from collections.abc import Callable
from typing import Any, Final

import click

from proxy.app.control import CommandError
from proxy.app.target import Target, targeted
from proxy.core.entities import BudgetPeriod

NONE: Final = "none"
SHOWN_ONCE: Final = "The key is shown only now and stored nowhere; keep it."


@click.group()
def key() -> None:
    """API keys of users."""


@key.command("add")
@targeted
@click.argument("name")
@click.option("--user", required=True, help="Whose key it is.")
@click.option("--group", default="default", show_default=True, help="Resource group.")
@click.option("--expires", metavar="WHEN", help="A span such as 30d, or a date.")
@click.option("--budget", metavar="USD", help="What the key may spend per period.")
@click.option(
    "--budget-period",
    type=click.Choice([each.value for each in BudgetPeriod]),
    default=BudgetPeriod.TOTAL.value,
)
@click.option("--requests-per-minute", type=int)
@click.option("--tokens-per-minute", type=int)
@click.option("--concurrency", type=int)
@click.option("--model", "models", multiple=True, help="Allow only these models.")
@click.option("--network", "networks", multiple=True, metavar="CIDR", help="Allow only from here.")
@click.option("--cache-seconds", type=int, help="Keep its answers so long and give them again.")
def add(target: Target, **options: Any) -> None:
    """Make a key and print it, once."""
    for name in ("models", "networks"):
        options[name] = options[name] or None
    target.show(target.do("key add", options))
    if not target.json:
        click.echo(SHOWN_ONCE, err=True)


@key.command("list")
@targeted
@click.option("--user", help="Only this user's keys.")
def listing(target: Target, user: str | None) -> None:
    """List keys, without their secrets."""
    target.show(target.do("key list", {"user": user}))


def named(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the key it is about, and whose."""
    option = click.option("--user", help="Whose key, if several have the name.")
    return click.argument("key")(option(command))


@key.command("show")
@targeted
@named
def show(target: Target, **which: Any) -> None:
    """Show one key with its limits, without its secret."""
    target.show(target.do("key show", which))


@key.command("set")
@targeted
@named
@click.option("--name", help="Another name.")
@click.option("--group", help="Another resource group.")
@click.option("--expires", metavar="WHEN", help="A span such as 30d, a date, or none.")
@click.option("--budget", metavar="USD", help="What it may spend per period, or none.")
@click.option("--budget-period", type=click.Choice([each.value for each in BudgetPeriod]))
@click.option("--requests-per-minute", metavar="COUNT", help="A count, or none.")
@click.option("--tokens-per-minute", metavar="COUNT", help="A count, or none.")
@click.option("--concurrency", metavar="COUNT", help="A count, or none.")
@click.option("--model", "models", multiple=True, help="Allow only these models; none: any.")
@click.option(
    "--network", "networks", multiple=True, metavar="CIDR", help="Only from here; none: anywhere."
)
@click.option("--cache-seconds", metavar="COUNT", help="A count, or none.")
def change(target: Target, key: str, user: str | None, **options: Any) -> None:
    """Change what is given of a key; `none` takes a limit away."""
    given = {name: value for name, value in options.items() if value not in {None, ()}}
    cleared = {name for name, value in given.items() if value in {NONE, (NONE,)}}
    for name in ("requests_per_minute", "tokens_per_minute", "concurrency", "cache_seconds"):
        if name in given and name not in cleared:
            given[name] = _count(name, given[name])
    given |= dict.fromkeys(cleared - {"name", "group"})
    target.show(target.do("key set", {"key": key, "user": user, **given}))


@key.command("disable")
@targeted
@named
def disable(target: Target, **which: Any) -> None:
    """Disable a key by id or name; its open streams are cut."""
    target.show(target.do("key disable", which))


@key.command("enable")
@targeted
@named
def enable(target: Target, **which: Any) -> None:
    """Enable a key again."""
    target.show(target.do("key enable", which))


@key.command("rotate")
@targeted
@named
@click.option(
    "--grace",
    default="0",
    show_default=True,
    metavar="SPAN",
    help="How long the old secret stays valid, such as 1h, at most 7d; 0 ends it at once.",
)
def rotate(target: Target, **options: Any) -> None:
    """Give a key a new secret and print it, once."""
    target.show(target.do("key rotate", options))
    if not target.json:
        click.echo(SHOWN_ONCE, err=True)


@key.command("remove")
@targeted
@named
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(target: Target, *, yes: bool, **which: Any) -> None:
    """Delete a key for good; its open streams are cut."""
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError("nobody is there to confirm", "add --yes")
        click.confirm(f"Delete the key {which['key']!r} for good?", abort=True, err=True)
    target.show(target.do("key remove", which))


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        option = name.replace("_", "-")
        raise click.UsageError(f"--{option} takes a whole number or none, not {text!r}")
    return int(text)
