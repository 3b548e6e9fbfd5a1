"""Commands about the secrets of a relay.

Rules: they need the lock, so they run only while the relay is stopped; none of them shows a secret
or takes one as an argument. This module must not know where secrets come from.
"""

import sys
from time import time

import click

from proxy.app.control import CommandError
from proxy.app.office import load_secrets
from proxy.app.target import Target, targeted
from proxy.storage.fingerprints import accept_pepper
from proxy.storage.opening import open_ledger
from proxy.storage.sqlite import Durability


@click.group()
def pepper() -> None:
    """The secret the client keys are stored under."""


@pepper.command("accept")
@targeted
@click.option("--yes", is_flag=True, help="Do not ask.")
def accept(target: Target, *, yes: bool) -> None:
    """Take the pepper that is in place now; keys made under another one stop working for good."""
    directory = target.directory
    if not directory.database.exists():
        raise CommandError(f"there is no database in {directory.root}", "name it with --data")
    with directory.locked():
        found = load_secrets(directory, target.settings)
        if not yes:
            if not sys.stdin.isatty():
                raise CommandError("nobody is there to confirm", "add --yes")
            question = "Every key made under the pepper before will be lost for good. Go on?"
            click.confirm(question, abort=True, err=True)
        connection = open_ledger(directory.database, Durability.POWER, time())
        try:
            lost = accept_pepper(connection, found.pepper)
        finally:
            connection.close()
    target.show({"keys_lost": lost})
