"""Commands on channels and on the catalog as a whole."""

import sqlite3
from collections.abc import Mapping
from dataclasses import asdict

from proxy.app.commands.shapes import Handler
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.app.trial import try_channel
from proxy.core.actions.action import Actor, Arguments
from proxy.core.actions.catalog import CatalogApply, ChannelAdd, ChannelTest
from proxy.core.entities import DIALECT_ENDPOINTS
from proxy.storage import imports


async def channel_list(office: Office, _actor: Actor, _a: Arguments) -> object:
    """All channels, without their keys."""
    channels = sorted(office.keeper.catalog.channels.values(), key=lambda c: c.id)
    return [
        {
            "id": channel.id,
            "name": channel.name,
            "dialect": channel.dialect.value,
            "base_url": channel.base_url,
            "enabled": channel.enabled,
            "keys": len(channel.keys),
            "groups": sorted(channel.groups),
            "models": sorted(channel.models),
            "endpoints": None
            if channel.endpoints == DIALECT_ENDPOINTS[channel.dialect]
            else sorted(channel.endpoints),
            "priority": channel.priority,
            "weight": channel.weight,
        }
        for channel in channels
    ]


async def channel_test(office: Office, _actor: Actor, a: ChannelTest) -> object:
    """Make one tiny real call to a channel."""
    channels = {channel.name: channel for channel in office.keeper.catalog.channels.values()}
    channel = channels.get(a.name)
    if channel is None:
        raise CommandError(f"there is no channel {a.name!r}", "sluice channel list")
    model = a.model or min(channel.models, default="")
    return asdict(await try_channel(channel, model))


async def channel_add(office: Office, _actor: Actor, a: ChannelAdd) -> object:
    """Add a channel, or change the one of that name."""
    master, now = office.secrets.master, office.clock()
    changes = await office.change(lambda c: imports.set_channel(c, a.table, master=master, now=now))
    return [change._asdict() for change in changes]


async def catalog_apply(office: Office, _actor: Actor, a: CatalogApply) -> object:
    """Make the catalog equal to a document; the answer is the difference."""
    master, now = office.secrets.master, office.clock()

    def apply(connection: sqlite3.Connection, *, dry_run: bool) -> list[imports.Change]:
        return imports.apply_catalog(
            connection, a.document, master=master, now=now, force=a.force, dry_run=dry_run
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
    "channel list": channel_list,
    "channel test": channel_test,
    "channel add": channel_add,
    "catalog apply": catalog_apply,
    "catalog export": catalog_export,
}
