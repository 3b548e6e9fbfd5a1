"""`sluice token ...`: tokens of the admin API.

Rules: as cli.py. This module must not know how a command is done.
"""

from typing import Any

import click

from proxy.app.target import Target, targeted
from proxy.core.actions.action import Role


@click.group()
def token() -> None:
    """Tokens of the admin API."""


@token.command("add")
@targeted
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, required=True, help="Such as keys:write or *:read."
)
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    help="What it is to the relay at most.",
)
@click.option("--expires", metavar="WHEN", default="90d", show_default=True, help="Or none.")
def add(target: Target, **options: Any) -> None:
    """Make a token and print it, once."""
    options["expires"] = None if options["expires"] == "none" else options["expires"]
    target.show(target.do("token add", options))
    if not target.json:
        click.echo("The token is shown only now and stored nowhere; keep it.", err=True)


@token.command("list")
@targeted
@click.option("--everybody", is_flag=True, help="All tokens, not only one's own.")
def listing(target: Target, everybody: bool) -> None:  # noqa: FBT001 - an option
    """List tokens, without what opens them."""
    target.show(target.do("token list", {"everybody": everybody}))


@token.command("revoke")
@targeted
@click.argument("number", type=int)
def revoke(target: Target, number: int) -> None:
    """End a token at once, by its number."""
    target.show(target.do("token revoke", {"number": number}))
