"""`sluice person ...`: who signs in to the console.

Rules: as cli.py. A link that sets a password is printed whole, once, by the URL at which the
settings say the console is. This module must not know how a command is done.
"""

import sys
from typing import Any

import click

from proxy.app.addresses import shown_address
from proxy.app.control import CommandError
from proxy.app.settings import host_and_port
from proxy.app.target import Target, targeted
from proxy.core.actions.action import Role

ROLES = click.Choice([role.value for role in Role])


@click.group()
def person() -> None:
    """People who sign in to the console."""


@person.command("add")
@targeted
@click.argument("email")
@click.option("--role", type=ROLES, default=Role.USER.value, show_default=True)
@click.option("--plan", help="Plan of their wallet; the only one, or `default`, if left out.")
@click.option("--credit", metavar="USD", help="Starting credit.")
def add(target: Target, **options: Any) -> None:
    """Add a person with a wallet, and print the link that sets their password."""
    _show_link(target, target.do("person add", options))


@person.command("list")
@targeted
@click.option("--find", "text", default="", help="Part of an address.")
@click.option("--before", type=int, metavar="ID", help="Older than this person: the next page.")
@click.option("--rows", "rows_max", type=int, default=50, show_default=True)
def list_(target: Target, **options: Any) -> None:
    """List people, the newest first."""
    target.show(target.do("person list", options))


@person.command("link")
@targeted
@click.argument("email")
def link(target: Target, email: str) -> None:
    """Print a link by which a person sets a new password, once."""
    _show_link(target, target.do("person link", {"email": email}))


@person.command("role")
@targeted
@click.argument("email")
@click.argument("role", type=ROLES)
def role(target: Target, email: str, role: str) -> None:
    """Make a person a user, an operator or an administrator."""
    target.show(target.do("person role", {"email": email, "role": role}))


@person.command("disable")
@targeted
@click.argument("email")
def disable(target: Target, email: str) -> None:
    """Let a person sign in no more; sessions end, keys they made stop working."""
    target.show(target.do("person disable", {"email": email}))


@person.command("enable")
@targeted
@click.argument("email")
def enable(target: Target, email: str) -> None:
    """Let a person sign in again."""
    target.show(target.do("person enable", {"email": email}))


@person.command("delete")
@targeted
@click.argument("email")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(target: Target, email: str, *, yes: bool) -> None:
    """Delete an account: who it was is forgotten, what was paid and used stays in the books."""
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError("nobody is there to confirm", "add --yes")
        click.confirm(f"Delete the account of {email}? It cannot be undone.", abort=True, err=True)
    target.show(target.do("person delete", {"email": email}))


@person.command("invite")
@targeted
@click.argument("email", required=False)
@click.option("--days", type=int, default=7, show_default=True, help="How long it is open.")
def invite(target: Target, email: str | None, days: int) -> None:
    """Print a link to register by: for EMAIL alone, or for whoever has it."""
    _show_link(target, target.do("invitation add", {"email": email, "days": days}))


def _show_link(target: Target, made: dict[str, Any]) -> None:
    target.show({**made, "link": _console(target) + made["link"]})
    if not target.json:
        click.echo("The link is shown only now and is good once.", err=True)


def _console(target: Target) -> str:
    if target.elsewhere is not None:
        return target.elsewhere.url.rstrip("/")
    if target.told is not None:
        return target.told.console_url
    settings = target.settings
    if settings.console_url or not settings.console_listen:
        return settings.console_url
    return f"http://{shown_address(*host_and_port(settings.console_listen))}"
