"""What the commands that edit the catalog have in common.

Rules: an edit is one change, and answers with what it changed; where the catalog comes from a
file, no command edits it, since the next reload would undo that. This module must not know any
command.
"""

from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions.action import LOCAL, Actor, Via
from proxy.core.sentences import Sentence
from proxy.storage import edits


def check_editable(office: Office) -> None:
    """Raise CommandError where the catalog comes from a file."""
    if office.catalog_file:
        raise CommandError(
            Sentence("the catalog comes from a file, {file}", file=office.catalog_file),
            "edit that file, then reload the relay",
        )


def keys_stay(actor: Actor) -> bool:
    """Whether upstream keys that are kept may not go to another address.

    Upstream keys are write-only for whoever asks from elsewhere. Who may write to the relay's files
    on its machine could read them anyway.
    """
    return actor.via is not Via.CLI


async def edited(office: Office, *wanted: edits.Edit, actor: Actor = LOCAL) -> list[dict[str, str]]:
    """Do some edits as one change; returns what changed. Raises CommandError, ValueError.

    `actor` is asked for where an edit may be of a channel's address.
    """
    check_editable(office)
    master, now, stay = office.secrets.master, office.clock(), keys_stay(actor)
    changes = await office.change(
        lambda c: edits.edit(c, list(wanted), master=master, now=now, keys_stay=stay)
    )
    return [change._asdict() for change in changes]
