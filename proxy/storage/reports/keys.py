"""Keys as their people see them: the list, one key, when each was used, what it may be made for.

Rules: only reads, a bounded number of rows. When a key was last used is read from the newest calls
of its wallet, so that no call pays for it: of a key that is not among those, only the day is known,
or that it was not used since. Amounts are nano-USD, times Unix seconds. This module must not know
who may see what.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from proxy.core.ledger import DAY_SECONDS
from proxy.storage.keys import KEY_ROWS, KeyRow, key_row
from proxy.storage.reader import Reader
from proxy.storage.reports import usage_log
from proxy.storage.reports.usage_log import Wanted

KEYS_MAX: Final = 2_000
"""Keys of one wallet that are looked at; the newest."""
CALLS_MAX: Final = 10_000
"""Newest calls of a wallet in which the last use of its keys is looked for."""
DAYS_MAX: Final = 10_000
"""Rows of daily sums that are looked at besides."""


class Group(NamedTuple):
    """A group that a key may be made for; `multiplier` in millionths, its models by name."""

    name: str
    multiplier: int
    models: tuple[str, ...]


@dataclass(slots=True)
class Uses:
    """When and for how much the keys of a wallet were used, by key id."""

    last: dict[int, float] = field(default_factory=dict)
    today: dict[int, int] = field(default_factory=dict)
    """Charged since midnight, UTC."""
    since: float | None = None
    """Of keys that are not in `last`, calls since then would be known; None: any call."""


async def keys(reader: Reader, wallet: int, person: int | None = None) -> list[KeyRow]:
    """The keys of a wallet, or those that one person made, newest first. Raises sqlite3.Error."""
    query = (
        f"{KEY_ROWS} AND user_id = ?1 AND (?2 IS NULL OR person_id = ?2) "
        "ORDER BY key.id DESC LIMIT ?3"
    )
    return [key_row(row) for row in await reader.rows(query, (wallet, person, KEYS_MAX))]


async def key(reader: Reader, wallet: int, key_id: int, person: int | None = None) -> KeyRow | None:
    """One key of a wallet, if it is there and the person made it. Raises sqlite3.Error."""
    query = f"{KEY_ROWS} AND user_id = ?1 AND (?2 IS NULL OR person_id = ?2) AND key.id = ?3"
    rows = await reader.rows(query, (wallet, person, key_id))
    return key_row(rows[0]) if rows else None


async def uses(reader: Reader, wallet: int, now: float) -> Uses:
    """When the keys of a wallet were last used, and for how much today. Raises sqlite3.Error."""
    found = Uses()
    summed = await reader.rows(
        "SELECT key_id, max(day) FROM (SELECT key_id, day FROM rollup WHERE user_id = ? "
        "ORDER BY day DESC LIMIT ?) GROUP BY key_id",
        (wallet, DAYS_MAX),
    )
    found.last = {key_id: day * DAY_SECONDS for key_id, day in summed}
    newest = await reader.rows(
        "SELECT key_id, max(started_at), count(*), min(started_at) FROM (SELECT key_id, "
        "started_at FROM call WHERE user_id = ? ORDER BY id DESC LIMIT ?) GROUP BY key_id",
        (wallet, CALLS_MAX),
    )
    found.last |= {key_id: at for key_id, at, _, _ in newest}
    if sum(calls for _, _, calls, _ in newest) >= CALLS_MAX:
        found.since = min(at for _, _, _, at in newest)
    running = await reader.rows(
        "SELECT key_id, max(started_at) FROM open_call WHERE user_id = ? GROUP BY key_id",
        (wallet,),
    )
    found.last |= {key_id: max(at, found.last.get(key_id, 0.0)) for key_id, at in running}
    midnight = now // DAY_SECONDS * DAY_SECONDS
    sums = await usage_log.sums(reader, Wanted(wallet=wallet, since=midnight))
    found.today = {key_id: one.charge for key_id, one in sums.by_key.items()}
    return found


async def groups(reader: Reader, wallet: int, also: str = "") -> list[Group]:
    """The groups that the wallet's plan is for, by name, and what each has.

    `also`: one that is there whatever the plan says. Raises sqlite3.Error.
    """
    rows = await reader.rows(
        "SELECT groups FROM user JOIN plan ON plan.name = plan WHERE id = ?", (wallet,)
    )
    allowed = orjson.loads(rows[0][0]) if rows and rows[0][0] is not None else None
    priced = {name for (name,) in await reader.rows("SELECT name FROM model", ())}
    served: dict[str, set[str]] = {}
    channels = "SELECT models, groups FROM channel WHERE enabled AND NOT removed"
    for models, names in await reader.rows(channels, ()):
        for name in orjson.loads(names):
            served.setdefault(name, set()).update(priced & orjson.loads(models).keys())
    found = await reader.rows("SELECT name, multiplier FROM service_group ORDER BY name", ())
    return [
        Group(name, multiplier, tuple(sorted(served.get(name, ()))))
        for name, multiplier in found
        if allowed is None or name in allowed or name == also
    ]


async def models(reader: Reader) -> list[str]:
    """The names of all models. Raises sqlite3.Error."""
    return [name for (name,) in await reader.rows("SELECT name FROM model ORDER BY name", ())]
