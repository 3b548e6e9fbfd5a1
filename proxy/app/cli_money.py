"""`sluice wallet`, `code`, `plan` and `payment`: money that moves without a call.

Rules: as cli.py. Codes are printed once, and kept nowhere. This module must not know how a command
is done.
"""

from pathlib import Path
from typing import Any

import click

from proxy.app.cli_amounts import AmountCommand
from proxy.app.target import Target, targeted
from proxy.core.spreadsheets import csv_line

SHOWN_ONCE = "The codes are shown only now and stored nowhere; keep them."


@click.group()
def wallet() -> None:
    """Prepaid money of users."""


@wallet.command("credit", cls=AmountCommand)
@targeted
@click.argument("user")
@click.argument("amount", metavar="USD")
@click.option("--reason", default="top-up by the operator", show_default=True)
@click.option("--reference", help="Repeating a reference credits nothing twice.")
def credit(target: Target, **options: Any) -> None:
    """Top a wallet up."""
    target.show(target.do("wallet credit", options))


@wallet.command("show")
@targeted
@click.argument("user")
def show(target: Target, user: str) -> None:
    """Show a wallet's balance and sums."""
    target.show(target.do("wallet show", {"user": user}))


@wallet.command("refund")
@targeted
@click.argument("call", metavar="REQUEST_ID")
@click.option("--amount", metavar="USD", help="Less than all that is left of its charge.")
@click.option("--reason", required=True, help="Shown to whom the wallet belongs.")
@click.option("--reference", help="Repeating a reference gives nothing back twice.")
def refund(target: Target, **options: Any) -> None:
    """Give back what a call was charged."""
    target.show(target.do("wallet refund", options))


@wallet.command("adjust", cls=AmountCommand)
@targeted
@click.argument("user")
@click.argument("amount", metavar="USD")
@click.option("--reason", required=True, help="Shown to whom the wallet belongs.")
@click.option("--reference", help="Repeating a reference changes nothing twice.")
def adjust(target: Target, **options: Any) -> None:
    """Correct a wallet, up or (with a minus) down."""
    target.show(target.do("wallet adjust", options))


@wallet.command("history")
@targeted
@click.argument("user")
@click.option("--until", metavar="DATE", help="The last day; today if left out.")
@click.option("--days", type=int, default=31, show_default=True)
def history(target: Target, **options: Any) -> None:
    """List what came into a wallet and left it, latest first."""
    told = target.do("wallet history", options)
    target.show(told if target.json else told["entries"])
    if not target.json and told["older"]:
        click.echo(f"older: --until {told['older']}", err=True)


@wallet.command("threshold", cls=AmountCommand)
@targeted
@click.argument("user")
@click.argument("below", metavar="USD")
def threshold(target: Target, **options: Any) -> None:
    """Say below which balance the wallet's people are told; 0: never."""
    target.show(target.do("wallet threshold", options))


@click.group()
def code() -> None:
    """Redeem codes."""


@code.command("make", cls=AmountCommand)
@targeted
@click.argument("amount", metavar="USD")
@click.option("--count", type=int, default=1, show_default=True)
@click.option("--batch", help="A name for them together; the time if left out.")
@click.option("--note", default="")
@click.option("--expires", metavar="WHEN", help="A span such as 30d, or a date.")
@click.option(
    "--csv", "file", type=click.Path(path_type=Path), help="Write them to a new file instead."
)
def make(target: Target, file: Path | None, **options: Any) -> None:
    """Make codes and print them, once."""
    if file is None:
        told = target.do("code make", options)
        target.show(told if target.json else told["codes"])
        if not target.json:
            click.echo(SHOWN_ONCE, err=True)
        return
    # Opened first: codes that cannot be written would be lost.
    with file.open("x", encoding="utf-8", newline="") as out:
        file.chmod(0o600)
        told = target.do("code make", options)
        out.write(csv_line(("id", "code", "amount_usd", "batch", "expires")))
        for one in told["codes"]:
            shared = (told["amount_usd"], told["batch"], told["expires"] or "")
            out.write(csv_line((one["id"], one["code"], *shared)))
    click.echo(f"{len(told['codes'])} codes of the batch {told['batch']} are in {file}", err=True)


@code.command("list")
@targeted
@click.option("--batch", help="Only these.")
@click.option("--before", type=int, help="Go on below this id.")
@click.option("--rows", "rows_max", type=int, default=50, show_default=True)
def listing(target: Target, **options: Any) -> None:
    """List codes and what became of them, latest first."""
    target.show(target.do("code list", options))


@code.command("withdraw")
@targeted
@click.argument("id", type=int, required=False)
@click.option("--batch", help="All of these that nobody has redeemed.")
def withdraw(target: Target, **options: Any) -> None:
    """Make a code worthless, by its id, or what is left of a batch."""
    target.show(target.do("code withdraw", options))


@code.command("redeem")
@targeted
@click.argument("user")
@click.argument("code")
def redeem(target: Target, **options: Any) -> None:
    """Top a wallet up with a code."""
    target.show(target.do("code redeem", options))


@click.group()
def plan() -> None:
    """Plans: limits, and what a month of one costs and gives."""


@plan.command("list")
@targeted
def plans(target: Target) -> None:
    """List plans, and how many wallets are on each."""
    told = target.do("plan list", {})
    flat = [{**row["plan"], "wallets": row["wallets"]} for row in told]
    target.show(told if target.json else flat)


@plan.command("set")
@targeted
@click.argument("name")
@click.option("--create", is_flag=True, help="Make a new plan.")
@click.option("--fee", "monthly_fee", metavar="USD", help="What each month costs.")
@click.option("--credit", "monthly_credit", metavar="USD", help="What each month gives.")
@click.option("--requests-per-minute", type=int)
@click.option("--tokens-per-minute", type=int)
@click.option("--concurrency", type=int)
@click.option("--offered/--not-offered", default=None, help="Whether owners may choose it.")
def plan_set(target: Target, name: str, *, create: bool, **options: Any) -> None:
    """Change what is given of a plan, or make one."""
    given = {option: value for option, value in options.items() if value is not None}
    target.show_changes(target.do("plan set", {"name": name, "set": given, "create": create}))


@plan.command("remove")
@targeted
@click.argument("name")
def plan_remove(target: Target, name: str) -> None:
    """Remove a plan that no wallet is on."""
    target.show_changes(target.do("plan remove", {"name": name}))


@plan.command("choose")
@targeted
@click.argument("user")
@click.argument("plan")
def plan_choose(target: Target, **options: Any) -> None:
    """Put a wallet on a plan and begin its month."""
    target.show(target.do("plan choose", options))


@click.group()
def payment() -> None:
    """Payments by card."""


@payment.command("list")
@targeted
@click.option("--user", help="Only of this wallet.")
@click.option("--before", type=int, help="Go on below this id.")
@click.option("--rows", "rows_max", type=int, default=50, show_default=True)
def payments(target: Target, **options: Any) -> None:
    """List payments and what became of them, latest first."""
    target.show(target.do("payment list", options))


@payment.command("notes")
@targeted
@click.option("--rows", "rows_max", type=int, default=50, show_default=True)
def notes(target: Target, **options: Any) -> None:
    """List what a provider said that moved nothing: refunds there, disputes, what did not fit."""
    target.show(target.do("payment notes", options))
