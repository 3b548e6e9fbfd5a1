"""Commands on channels and their pools of keys."""

import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from proxy.app.commands.editing import check_editable, edited, keys_stay
from proxy.app.commands.shapes import Handler
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.app.trial import try_channel
from proxy.core.actions.action import Actor, Arguments
from proxy.core.actions.channels import (
    ChannelAdd,
    ChannelKeyAdd,
    ChannelKeyRemove,
    ChannelName,
    ChannelSet,
    ChannelSwitch,
    ChannelTest,
)
from proxy.core.entities import DIALECT_ENDPOINTS, Channel
from proxy.core.sentences import Sentence
from proxy.storage import edits, imports
from proxy.storage.edits import SEALED_PREFIX, Table

SECRET_CHARS_MAX: Final = 4_096
KEYS_MAX: Final = 1_000


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
        raise CommandError(
            Sentence("there is no channel {name!r}", name=a.name), "sluice channel list"
        )
    model = a.model or min(channel.models, default="")
    return asdict(await try_channel(channel, model))


async def channel_add(office: Office, actor: Actor, a: ChannelAdd) -> object:
    """Add a channel, or change the one of that name."""
    master, now, stay = office.secrets.master, office.clock(), keys_stay(actor)
    changes = await office.change(
        lambda c: imports.set_channel(c, a.table, master=master, now=now, keys_stay=stay)
    )
    return [change._asdict() for change in changes]


async def channel_show(office: Office, _actor: Actor, a: ChannelName) -> object:
    """One channel as a `[[channel]]` of the catalog document, and what an edit is based on."""
    channel = _channel(office, a.name)
    master = office.secrets.master

    def read(connection: sqlite3.Connection) -> tuple[Table, list[tuple[int, str]]]:
        document = imports.export_catalog(connection, master)
        table = next((each for each in document["channel"] if each["name"] == a.name), None)
        if table is None:
            raise edits.missing("channel", a.name)
        rows = connection.execute(
            "SELECT id, last4 FROM channel_key WHERE channel_id = ? ORDER BY id", (channel.id,)
        )
        return table, [(int(key), str(last4)) for key, last4 in rows]

    table, keys = await office.read(read)
    del table["keys"]
    return {
        "id": channel.id,
        "channel": table,
        "keys": [{"id": key, "last4": last4} for key, last4 in keys],
        "basis": edits.basis_of("channel", table),
        "read_only": office.catalog_file or None,
    }


async def channel_set(office: Office, actor: Actor, a: ChannelSet) -> object:
    """Change some of a channel, or make one; its keys stay as they are, and where they are."""
    values = dict(a.set)
    if a.proxy is not None:
        values["proxy"] = a.proxy or None
    return await edited(
        office,
        edits.setting("channel", a.name, values, create=a.create, basis=a.basis),
        actor=actor,
    )


async def channel_switch(office: Office, _actor: Actor, a: ChannelSwitch) -> object:
    """Let a channel serve, or serve no longer; calls under way are finished."""

    def switch(found: edits.Table | None) -> edits.Table:
        if found is None:
            raise edits.missing("channel", a.name)
        return {**found, "enabled": a.enabled}

    return await edited(office, edits.Edit("channel", a.name, switch))


async def channel_remove(office: Office, _actor: Actor, a: ChannelName) -> object:
    """Remove a channel and its keys; what it cost stays in the ledger."""
    return await edited(office, edits.removing("channel", a.name))


async def channel_key_add(office: Office, _actor: Actor, a: ChannelKeyAdd) -> object:
    """Put an upstream key into a channel's pool; nothing shows it again but its last four."""
    secret = a.secret.strip()
    if not secret or len(secret) > SECRET_CHARS_MAX or secret.startswith(SEALED_PREFIX):
        raise CommandError("this is not an upstream key", "write the provider's key itself")
    check_editable(office)
    if any(key.secret == secret for key in _channel(office, a.name).keys):
        raise CommandError(Sentence("channel {name!r} has this key already", name=a.name))

    def add(found: Table | None) -> Table:
        if found is None:
            raise edits.missing("channel", a.name)
        keys = [*found.get("keys", []), secret]
        if len(keys) > KEYS_MAX:
            raise ValueError(
                Sentence(
                    "channel {name!r} has {most:,} keys: remove one first",
                    name=a.name,
                    most=KEYS_MAX,
                )
            )
        return {**found, "keys": keys}

    await edited(office, edits.Edit("channel", a.name, add))
    newest = max(key.id for key in _channel(office, a.name).keys)
    return {"name": a.name, "key": newest, "keys": len(_channel(office, a.name).keys)}


async def channel_key_remove(office: Office, _actor: Actor, a: ChannelKeyRemove) -> object:
    """Take an upstream key out of a pool; calls that use it are finished."""
    mark = f"{SEALED_PREFIX}{a.key}"

    def remove(found: Table | None) -> Table:
        if found is None:
            raise edits.missing("channel", a.name)
        if mark not in found.get("keys", []):
            raise ValueError(
                Sentence("channel {name!r} has no key {key}: see its keys", name=a.name, key=a.key)
            )
        return {**found, "keys": [key for key in found["keys"] if key != mark]}

    return await edited(office, edits.Edit("channel", a.name, remove))


def _channel(office: Office, name: str) -> Channel:
    channels = office.keeper.catalog.channels.values()
    found = next((channel for channel in channels if channel.name == name), None)
    if found is None:
        raise CommandError(
            Sentence("there is no channel {name!r}", name=name), "see the list of channels"
        )
    return found


HANDLERS: Mapping[str, Handler] = {
    "channel list": channel_list,
    "channel test": channel_test,
    "channel add": channel_add,
    "channel show": channel_show,
    "channel set": channel_set,
    "channel switch": channel_switch,
    "channel remove": channel_remove,
    "channel key add": channel_key_add,
    "channel key remove": channel_key_remove,
}
