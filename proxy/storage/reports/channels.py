"""Channels as the operator's pages need them beside the catalog: without any secret.

Rules: keys are counted and never read. This module must not know a page.
"""

import asyncio
from pathlib import Path

from proxy.core.catalog import Catalog
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


def _read(database: Path) -> Catalog:
    connection = open_reader(database)
    try:
        return load_public_catalog(connection)
    finally:
        connection.close()
