"""`sluice models`: prices of models, from published lists.

Rules: what would change is shown first and applied only when confirmed, as one change of the
catalog; what was shown is what is applied. This module must not know where prices come from.
"""

import sys
from dataclasses import asdict
from typing import Any

import click

from proxy.app import show, toml
from proxy.app.control import CommandError
from proxy.app.models_import import Plan, Row, Status
from proxy.app.published_prices import PublishedPrices
from proxy.app.target import Target, targeted


@click.group()
def models() -> None:
    """Models and their prices."""


@models.command("import")
@targeted
@click.option("--provider", "providers", multiple=True, metavar="ID", help="Such as openai.")
@click.option("--model", "patterns", multiple=True, metavar="PATTERN", help="Such as 'gpt-4o*'.")
@click.option("--all", "everything", is_flag=True, help="Show unchanged models, too.")
@click.option("--toml", "as_toml", is_flag=True, help="Write [[model]] tables, apply nothing.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def models_import(
    target: Target,
    *,
    providers: tuple[str, ...],
    patterns: tuple[str, ...],
    everything: bool,
    as_toml: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Take published prices over (USD per 1M tokens), after showing the difference.

    Without --provider and --model only models of the catalog are looked up.
    """
    document: dict[str, Any] = target.do("catalog export", {})
    made = _planned(document, providers, patterns)
    if as_toml:
        click.echo(toml.dump({"model": made.tables}), nl=False)
        return
    rows = [row for row in made.rows if everything or row.status is not Status.UNCHANGED]
    applies = bool(made.tables) and not dry_run
    if not applies or not target.json:
        _show(target, rows, made)
    if not applies:
        return
    if target.elsewhere is None and target.settings.catalog_file:
        raise CommandError(
            f"the catalog comes from {target.settings.catalog_file}, which would undo this",
            "put what --toml prints into that file, then reload",
        )
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError("nobody is there to confirm", "add --yes or --dry-run")
        click.confirm(f"Import {len(made.tables)} prices?", abort=True, err=True)
    target.do("catalog apply", {"document": made.document})
    if target.json:
        target.show([asdict(row) for row in rows])


def _planned(
    document: dict[str, Any], providers: tuple[str, ...], patterns: tuple[str, ...]
) -> Plan:
    try:
        return PublishedPrices().plan(document, providers, patterns)
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        raise CommandError(what, remedy) from None


def _show(target: Target, rows: list[Row], made: Plan) -> None:
    if target.json:
        target.show([asdict(row) for row in rows])
        return
    columns = [
        key for key in (rows[0].prices if rows else {}) if any(r.prices.get(key) for r in rows)
    ]
    table = [
        {
            "": row.status.value,
            "model": row.model,
            "provider": row.provider,
            **{key: row.prices.get(key) or None for key in columns},
            "context": row.context_window or None,
            "notes": row.notes or None,
        }
        for row in rows
    ]
    show.as_table(table, sys.stdout)
    counts = ", ".join(
        f"{sum(row.status is status for row in made.rows)} {status}" for status in Status
    )
    click.echo(counts, err=True)
