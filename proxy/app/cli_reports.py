"""`sluice report ...` and `sluice audit ...`: what the operator's pages report.

Rules: as cli.py; a table leaves out what is only for programs (`*_nano`). This module must not know
how a report is made.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from proxy.app import show
from proxy.app.target import Target, targeted


@click.group()
def report() -> None:
    """Reports on the whole relay, as the console's pages show them."""


@report.command("margin")
@targeted
@click.option("--days", type=click.IntRange(1, 366), default=7, show_default=True)
@click.option("--until", metavar="DAY", help="The last of the days; today, if left out.")
@click.option(
    "--by", type=click.Choice(["channel", "model", "group"]), default="channel", show_default=True
)
@click.option("--rows", "rows_max", type=click.IntRange(1, 1_000), default=500, show_default=True)
@click.option("--skip", type=click.IntRange(0, 1_000_000), default=0, help="Names to pass over.")
def margin(target: Target, **options: Any) -> None:
    """Sum what was charged, given back and owed upstream, by day and channel, model or group."""
    found = target.do("report margin", options)
    by, span = options["by"], f"{found['since']} to {found['until']}"
    _show(target, found, {f"total, {span}": "total", f"by {by}": "names", "by day": "days"})


@click.group()
def audit() -> None:
    """The log of who changed what."""


@audit.command("list")
@targeted
@click.option("--actor", default="", help="Part of who did it.")
@click.option("--action", default="", help="Part of what was done, such as `key add`.")
@click.option("--outcome", type=click.Choice(["done", "refused", "unfinished"]))
@click.option("--since", metavar="WHEN", help="A day, a time, or a span such as 7d.")
@click.option("--until", metavar="WHEN", help="The same; a day is included.")
@click.option("--before", type=click.IntRange(0), metavar="ID", help="Older than this entry.")
@click.option("--rows", "rows_max", type=click.IntRange(1, 500), default=50, show_default=True)
def audit_list(target: Target, **options: Any) -> None:
    """List who changed what, from where, and how it ended; the latest first."""
    target.show(target.do("audit list", options))


def _show(target: Target, found: Mapping[str, Any], parts: Mapping[str, str]) -> None:
    """Show a result as JSON, or each part that is named under its title."""
    if target.json:
        target.show(found)
        return
    for number, (title, name) in enumerate(parts.items()):
        click.echo(f"\n{title}" if number else title)
        show.as_table(_for_people(found[name]), sys.stdout)


def _for_people(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {name: value for name, value in part.items() if not name.endswith("_nano")}
    if isinstance(part, Sequence) and not isinstance(part, str):
        return [_for_people(row) for row in part]
    return part
