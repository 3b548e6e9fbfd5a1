"""Commands on the catalog as a whole."""

import sqlite3
from collections.abc import Mapping

from proxy.app.commands.editing import keys_stay
from proxy.app.commands.shapes import Handler
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Arguments
from proxy.core.actions.catalog import CatalogApply
from proxy.storage import imports


async def catalog_apply(office: Office, actor: Actor, a: CatalogApply) -> object:
    """Make the catalog equal to a document; the answer is the difference."""
    master, now, stay = office.secrets.master, office.clock(), keys_stay(actor)

    def apply(connection: sqlite3.Connection, *, dry_run: bool) -> list[imports.Change]:
        return imports.apply_catalog(
            connection,
            a.document,
            master=master,
            now=now,
            force=a.force,
            dry_run=dry_run,
            keys_stay=stay,
        )

    version = office.keeper.catalog.version
    if a.dry_run:
        changes = await office.read(lambda c: apply(c, dry_run=True))
    else:
        changes = await office.change(lambda c: apply(c, dry_run=False))
    return {"version": version, "changes": [change._asdict() for change in changes]}


async def catalog_export(office: Office, _actor: Actor, _a: Arguments) -> object:
    """The whole catalog as a document; upstream keys are placeholders."""
    master = office.secrets.master
    return await office.read(lambda c: imports.export_catalog(c, master))


HANDLERS: Mapping[str, Handler] = {
    "catalog apply": catalog_apply,
    "catalog export": catalog_export,
}
