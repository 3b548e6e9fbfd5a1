"""Command lines with an amount of money among their arguments.

Rules: click takes `-5` for an option nobody knows; here it is an amount, so that the command itself
says what becomes of one below zero. This module must not know any command.
"""

import re
from typing import Final

import click

AMOUNT: Final = re.compile(r"-\d[\d.,_]*|-\.\d+")
"""What nobody means as an option."""


class AmountCommand(click.Command):
    """A command one of whose arguments is an amount."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let what looks like a negative amount pass as an argument."""
        if any(AMOUNT.fullmatch(given) for given in args):
            ctx.ignore_unknown_options = True
        return super().parse_args(ctx, args)
