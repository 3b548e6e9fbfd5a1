"""Keys that calls can be made with now, for pages that make calls.

Rules: only reads, a bounded number of rows; no secret is known here. This module must not know who
may see what.
"""

from typing import Final, NamedTuple

from proxy.storage.keys import KEY_ROWS, key_row
from proxy.storage.reader import Reader

KEYS_MAX: Final = 500
"""Keys of one wallet that are offered; the newest."""


class UsableKey(NamedTuple):
    """A key that is enabled and not expired. `models`: those it is limited to, None: any."""

    id: int
    name: str
    group: str
    shown: str
    models: tuple[str, ...] | None


async def usable_keys(
    reader: Reader, wallet: int, person: int | None, now: float
) -> list[UsableKey]:
    """The wallet's keys, or those one person made, newest first. Raises sqlite3.Error."""
    query = (
        f"{KEY_ROWS} AND user_id = ?1 AND (?2 IS NULL OR person_id = ?2) AND key.enabled "
        "AND (key.expires_at IS NULL OR key.expires_at > ?3) ORDER BY key.id DESC LIMIT ?4"
    )
    rows = await reader.rows(query, (wallet, person, now, KEYS_MAX))
    keys = [key_row(row) for row in rows]
    return [UsableKey(key.id, key.name, key.group, key.shown, key.models) for key in keys]
