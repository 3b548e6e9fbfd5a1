"""`sluice report ...`, `sluice call ...`, `sluice audit ...`: what the console's pages report.

Rules: as cli.py; a table leaves out what is only for programs (`*_nano`, parts of a millisecond).
This module must not know how a report is made.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, Final

import click

from proxy.app import show
from proxy.app.control import CommandError
from proxy.app.target import Target, targeted
from proxy.core.entities import Verdict
from proxy.core.reconciliation.exports import EXPORT_BYTES_MAX, ExportError, read_text
from proxy.core.reconciliation.records import Reason, State
from proxy.core.sentences import split_remedy


@click.group()
def report() -> None:
    """Reports on the whole relay, as the console's pages show them."""


@report.command("overview")
@targeted
def overview(target: Target) -> None:
    """Show the state of the relay: what is wrong, the last hour, today's margin, each channel."""
    found = target.do("report overview", {})
    parts = {"alerts": "alerts", "margin today": "today", "channels": "channels"}
    plain = {name: value for name, value in found.items() if name not in parts.values()}
    plain["relay"] = plain["relay"] or "nobody can be asked"
    _show(target, found, {f"relay at {found['at']}": plain, **parts})


@report.command("traffic")
@targeted
@click.option("--minutes", type=click.IntRange(1, 1_440), default=60, show_default=True)
def traffic(target: Target, minutes: int) -> None:
    """Sum the calls of the last minutes by channel and model, and those that run now."""
    found = target.do("report traffic", {"minutes": minutes})
    total = {f"since {found['since']}": "total"}
    _show(target, found, {**total, "by channel and model": "parts", "running now": "open"})


@report.command("errors")
@targeted
@click.option("--hours", type=click.IntRange(1, 168), default=24, show_default=True)
def errors(target: Target, hours: int) -> None:
    """List what failed in the last hours, gathered by what went wrong, with examples."""
    found = target.do("report errors", {"hours": hours})
    calls = f"calls that failed, of {found['looked_at']:,} since {found['since']}"
    _show(target, found, {calls: "calls", "attempts that failed": "attempts"})


@report.command("channels")
@targeted
def channels(target: Target) -> None:
    """List how each channel does: health, keys, the last hour, today's cost and margin."""
    found = target.do("report channels", {})
    _show(target, found, {f"calls since {found['since']}": "channels"})


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


@report.command("reconcile")
@targeted
@click.argument("channel")
@click.argument("file", type=click.File("rb"))
@click.option("--since", metavar="DAY", help="The first day, if the export says no times.")
@click.option("--until", metavar="DAY", help="The last day.")
@click.option(
    "--column", "columns", multiple=True, metavar="FIELD=NAME", help="What a column means."
)
@click.option("--state", type=click.Choice([each.value for each in State]), help="Of these rows.")
@click.option(
    "--reason", type=click.Choice([each.value for each in Reason if each]), help="Of these rows."
)
@click.option("--rows", "rows_max", type=click.IntRange(1, 1_000), default=100, show_default=True)
@click.option("--skip", type=click.IntRange(0, 1_000_000), default=0, help="Rows to pass over.")
def reconcile(target: Target, file: BinaryIO, **options: Any) -> None:
    """Compare a provider's usage export with a channel's attempts, and say what explains it."""
    options["columns"] = list(options["columns"])
    try:
        options["export"] = read_text(file.read(EXPORT_BYTES_MAX + 1))
    except ExportError as error:
        raise CommandError(*split_remedy(str(error))) from None
    found = target.do("report reconcile", options)
    sums = ("lines", "not_understood", "unpriced_lines", "theirs_usd", "ours_usd", "difference_usd")
    span = f"{found['channel']}, {found['since']} to {found['until']}, by {found['by']}"
    rows = [{name: row[name] for name in _OF_ROWS} for row in found["rows"]]
    parts: dict[str, Any] = {span: {name: found[name] for name in sums}, "sums": "sums"}
    if found["problems"]:
        parts["not understood"] = "problems"
    _show(target, found, parts | {"rows": rows})


_OF_ROWS: Final = (
    "state", "reason", "provider_request_id", "our_request_id", "model", "differences",
    "their_cost_usd", "our_cost_usd", "difference_usd",
)  # fmt: skip
"""What of a row a table has room for."""


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


VERDICTS: Final = click.Choice(["failed", *(verdict.value for verdict in Verdict)])


@click.group()
def call() -> None:
    """Calls, and what they come to."""


def of_calls(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that pick calls."""
    for option in (
        click.option("--verdict", type=VERDICTS, help="How they ended."),
        click.option("--group", help="Of this group."),
        click.option("--model", help="Of this model."),
        click.option("--key", metavar="KEY", help="Of this key, by id or name."),
    ):
        command = option(command)
    return command


@call.command("list")
@targeted
@click.option("--user", help="Of this wallet.")
@of_calls
@click.option("--since", metavar="WHEN", help="A day, a time, or a span such as 7d.")
@click.option("--until", metavar="WHEN", help="The same; a day is included.")
@click.option("--before", metavar="REQUEST_ID", help="Older than this call: the next page.")
@click.option("--rows", "rows_max", type=click.IntRange(1, 1_000), default=50, show_default=True)
def call_list(target: Target, **options: Any) -> None:
    """List ended calls, latest first, and those that run."""
    found = target.do("call list", options)
    calls = [{name: row[name] for name in _OF_CALLS} for row in found["calls"]]
    running = [{name: row[name] for name in _OF_RUNNING} for row in found["running"]]
    parts: dict[str, Any] = {"running": running} if running else {}
    _show(target, found, parts | {"ended": calls})
    if not target.json and found["older"]:
        click.echo(f"There are more: --before {found['older']}", err=True)


_OF_CALLS: Final = (
    "time", "request_id", "user", "key", "channel", "model", "group", "verdict", "status",
    "charge_usd", "first_token_ms", "duration_ms",
)  # fmt: skip
_OF_RUNNING: Final = (
    "time", "request_id", "user", "key", "channel", "model", "group", "charge_usd", "held_usd",
)  # fmt: skip
"""What of a call a table has room for."""


@call.command("sums")
@targeted
@click.argument("user")
@of_calls
@click.option("--days", type=click.IntRange(1, 366), default=30, show_default=True)
@click.option("--until", metavar="DAY", help="The last of the days; today, if left out.")
def call_sums(target: Target, **options: Any) -> None:
    """Sum what a wallet's calls come to, by day, model and key."""
    found = target.do("call sums", options)
    total = f"total, {found['since']} to {found['until']}"
    if found["back_to"]:
        total += f", only calls since {found['back_to']}: there are too many"
    parts = {total: "total", "by model": "models", "by key": "keys", "by day": "days"}
    _show(target, found, parts)


@call.command("show")
@targeted
@click.argument("call", metavar="REQUEST_ID")
@click.option("--user", help="Only if it is a call of this wallet.")
def call_show(target: Target, **options: Any) -> None:
    """Show one call's receipt: usage, price, charge, attempts, what was given back."""
    found = target.do("call show", options)
    parts: dict[str, Any] = {f"call {found['id']}": _receipt(found)}
    _show(target, found, parts | {"attempts": "attempts"})


def _receipt(found: Mapping[str, Any]) -> dict[str, Any]:
    """What of a receipt people look for; names of other relays' receipts say the same again."""
    names = (
        "created_at", "key", "model", "upstream_model", "channel", "group", "endpoint", "verdict",
        "status", "error_code", "finish_reason", "used", "source", "price_version",
        "multiplier_millionths", "charge_usd", "refunded_usd", "ttft_ms", "duration_ms",
        "client_reference", "anomalies",
    )  # fmt: skip
    return {name: found[name] for name in names}


def _show(target: Target, found: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    """Show a result as JSON, or each part, named or as it is to be shown, under its title."""
    if target.json:
        target.show(found)
        return
    for number, (title, part) in enumerate(parts.items()):
        click.echo(f"\n{title}" if number else title)
        show.as_table(_for_people(found[part] if isinstance(part, str) else part), sys.stdout)


def _for_people(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {
            name: round(value) if name.endswith("_ms") and isinstance(value, float) else value
            for name, value in part.items()
            if not name.endswith("_nano")
        }
    if isinstance(part, Sequence) and not isinstance(part, str):
        return [_for_people(row) for row in part]
    return part
