"""Channels as the operator's pages and reports need them beside the catalog: without any secret.

Rules: keys are counted and never read. This module must not know a page.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from proxy.core.catalog import Catalog
from proxy.core.entities import Channel
from proxy.storage.reader import Reader
from proxy.storage.snapshots import load_public_catalog
from proxy.storage.sqlite import open_reader


async def public_catalog(database: Path) -> Catalog:
    """The catalog as it is in the file now, without secrets and users. Raises sqlite3.Error."""
    return await asyncio.to_thread(_read, database)


async def key_counts(reader: Reader) -> dict[int, int]:
    """How many upstream keys each channel that has any has, by its id. Raises sqlite3.Error."""
    query = "SELECT channel_id, count(*) FROM channel_key GROUP BY channel_id"
    return {int(channel): int(keys) for channel, keys in await reader.rows(query, ())}


def in_order(catalog: Catalog) -> list[Channel]:
    """Channels in the order in which they are asked, equals by name."""
    return sorted(catalog.channels.values(), key=lambda one: (-one.priority, one.name))


def keyless(catalog: Catalog, keys: Mapping[int, int]) -> list[str]:
    """Enabled channels that ask without a key; one on a private address may mean to."""
    return [
        channel.name
        for channel in catalog.channels.values()
        if channel.enabled and not channel.allow_private and not keys.get(channel.id)
    ]


def unpriced(catalog: Catalog) -> list[str]:
    """Models that a channel serves and that have no price, so that calls of them are refused."""
    served = {name for channel in catalog.channels.values() for name in channel.models}
    return [name for name in served & catalog.models.keys() if not catalog.models[name].price]


def _read(database: Path) -> Catalog:
    connection = open_reader(database)
    try:
        return load_public_catalog(connection)
    finally:
        connection.close()
