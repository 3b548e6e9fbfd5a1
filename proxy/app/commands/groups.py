"""Commands on groups."""

from collections import Counter
from collections.abc import Mapping

from proxy.app.commands.editing import edited
from proxy.app.commands.shapes import Handler
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Arguments
from proxy.core.actions.groups import GroupName, GroupSet
from proxy.core.sentences import Sentence
from proxy.storage import edits, imports


async def group_list(office: Office, _actor: Actor, _a: Arguments) -> object:
    """All groups as `[[group]]` of the catalog document, with what is in each."""
    master, catalog = office.secrets.master, office.keeper.catalog
    document = await office.read(lambda c: imports.export_catalog(c, master))
    keys = Counter(key.group for key in catalog.keys_by_id.values())
    channels = Counter(name for channel in catalog.channels.values() for name in channel.groups)
    return [
        {
            "group": table,
            "keys": keys[table["name"]],
            "channels": channels[table["name"]],
            "models": len(catalog.models_for(table["name"])),
            "basis": edits.basis_of("group", table),
        }
        for table in document["group"]
    ]


async def group_set(office: Office, _actor: Actor, a: GroupSet) -> object:
    """Change some of a group, or make one."""
    return await edited(
        office, edits.setting("group", a.name, a.set, create=a.create, basis=a.basis)
    )


async def group_remove(office: Office, _actor: Actor, a: GroupName) -> object:
    """Remove a group that no key and no channel is in."""
    channels = office.keeper.catalog.channels.values()
    serving = sorted(channel.name for channel in channels if a.name in channel.groups)
    if serving:
        raise ValueError(
            Sentence(
                "group {name!r} is still that of channel {serving}: remove it there first",
                name=a.name,
                serving=", ".join(serving),
            )
        )
    return await edited(office, edits.removing("group", a.name))


HANDLERS: Mapping[str, Handler] = {
    "group list": group_list,
    "group set": group_set,
    "group remove": group_remove,
}
