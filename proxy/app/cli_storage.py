"""Commands that look after the database file: copy it, put a copy back, slim it, examine it.

Rules: a backup only reads, so it runs beside the relay or without it; a restore needs the lock, so
it runs only while the relay is stopped. A bar on a terminal, nothing on a pipe. This module must
not know how a copy is made.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import time

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn
from rich.progress import Progress as Bar

from proxy.app import show
from proxy.app.control import CommandError
from proxy.app.doctor import Doctor
from proxy.app.office import load_secrets
from proxy.app.selftest import Check, Outcome
from proxy.app.target import CONFIG_OPTION, DATA_OPTION, Target, targeted
from proxy.core.money import format_usd
from proxy.storage import backup as copies
from proxy.storage.fingerprints import check_pepper
from proxy.storage.secrets import SecretError
from proxy.storage.snapshots import load_catalog
from proxy.storage.sqlite import Durability, open_writer
from proxy.storage.verify import Report

SECRETS_REMINDER = (
    "The secrets are not in it: keep pepper and master key as well, but somewhere else. Without "
    "the pepper no client key works, without the master key no upstream key opens."
)


@click.command()
@targeted
@click.argument("file", type=click.Path(path_type=Path))
def backup(target: Target, file: Path) -> None:
    """Write a consistent, verified copy of the database to FILE, while the relay runs or not."""
    database = target.directory.database
    if not database.exists():
        raise CommandError(f"there is no database in {target.directory.root}", "see --data")
    target.catch_up()
    with _bar("copying", "") as progress:
        made = copies.back_up(database, file, progress)
    target.show(
        {
            "file": str(made.path),
            "bytes": made.bytes,
            "schema": made.schema,
            **_books(made.report),
        }
    )
    if not target.json:
        click.echo(SECRETS_REMINDER, err=True)
    if not made.report.clean:
        show.problem(
            f"the copy is faithful, but the books do not add up: {made.report.problems[0]}",
            "run `sluice ledger verify`; README.md, Runbook, says what to do",
        )
        sys.exit(1)


@click.command()
@targeted
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(target: Target, file: Path, *, yes: bool) -> None:
    """Put the copy FILE in the place of the database of a stopped relay; keeps what was there."""
    directory = target.directory
    with directory.locked():
        if directory.database.exists() and not yes:
            if not sys.stdin.isatty():
                raise CommandError("nobody is there to confirm", "add --yes")
            question = f"Replace the database in {directory.root} by {file}? It is kept aside."
            click.confirm(question, abort=True, err=True)
        with _bar("copying", "checking and verifying") as progress:
            done = copies.restore(file, directory.database, time(), progress)
        unusable = _unusable(target)
    target.show(
        {
            "database": str(directory.database),
            "replaced": None if done.replaced is None else str(done.replaced),
            "schema_before": done.schema_before,
            "schema": done.schema,
            **_books(done.report),
        }
    )
    if unusable is not None:
        show.problem(f"the database is in place, but: {unusable.message}", unusable.remedy)
        sys.exit(1)


@click.command("rollup")
@targeted
@click.option("--days", type=int, help="Keep this many days; the setting detail_days if left out.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rollup(target: Target, *, days: int | None, yes: bool) -> None:
    """Let the detail of old calls leave now; their daily sums and all postings stay."""
    kept_days = target.settings.detail_days if days is None else days
    if kept_days < 1:
        raise CommandError(
            "detail_days is 0: detail is kept for ever", "name how many days with --days"
        )
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError("nobody is there to confirm", "add --yes")
        question = f"Keep only the sums of calls older than {kept_days} days?"
        click.confirm(question, abort=True, err=True)
    rolled_up, kept = 0, set[str]()
    console = Console(stderr=True)
    while True:
        found = target.do("ledger rollup", {"days": kept_days})
        rolled_up += found["rolled_up"]
        kept.update(found["kept"])
        if found["done"]:
            break
        if console.is_terminal:
            console.print(f"{rolled_up:,} calls so far", style="dim")
    target.show({"rolled_up": rolled_up, "kept": sorted(kept)})
    if kept:
        show.problem(
            f"{len(kept)} calls do not agree with their transfers or price and were kept",
            "run `sluice ledger verify`; README.md, Runbook, says what to do",
        )
        sys.exit(1)


@click.command()
@CONFIG_OPTION
@DATA_OPTION
@click.option("--offline", is_flag=True, help="Connect nowhere, not even to the upstreams.")
@click.option("--json", "as_json", is_flag=True, help="Write the result as JSON.")
def doctor(*, config: Path | None, data: str | None, offline: bool, as_json: bool) -> None:
    """Look at everything that could be wrong with this relay, and say what to do about it."""
    lines = asyncio.run(_examine(Doctor(config, data, offline=offline), quiet=as_json))
    if as_json:
        show.as_json([asdict(line) for line in lines], sys.stdout)
    else:
        counts = Counter(line.outcome for line in lines)
        click.echo(", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome))
    sys.exit(1 if any(line.outcome is Outcome.FAILURE for line in lines) else 0)


async def _examine(doctor: Doctor, *, quiet: bool) -> list[Check]:
    lines = []
    async for line in doctor.run():
        lines.append(line)
        if not quiet:
            show.check_line(line)
    return lines


def _unusable(target: Target) -> SecretError | None:
    """Why the keys in a restored database do not work with the secrets that are there, if so."""
    connection = open_writer(target.directory.database, Durability.POWER, time())
    try:
        secrets = load_secrets(target.directory, target.settings)
        load_catalog(connection, secrets.master)
        check_pepper(connection, secrets.pepper)
    except SecretError as error:
        return error
    finally:
        connection.close()
    return None


def _books(report: Report) -> dict[str, object]:
    return {
        "clean": report.clean,
        "calls": report.calls,
        "open_calls": report.open_calls,
        "wallets_usd": format_usd(report.wallets),
    }


@contextmanager
def _bar(doing: str, afterwards: str) -> Iterator[copies.Progress]:
    """A bar of pages on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), "pages")
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing, total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if afterwards and done == total:
                bar.update(task, description=afterwards)

        yield progress
