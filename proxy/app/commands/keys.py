"""Commands on client keys."""

import os
from collections.abc import Mapping

from proxy.app.commands.shapes import Handler, iso, parse_time
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions.action import Actor
from proxy.core.actions.keys import KeyAdd, KeyDisable, KeyListing
from proxy.core.money import format_usd, parse_usd
from proxy.storage import accounts
from proxy.storage import secrets as sealing
from proxy.storage.accounts import KeyRow, NewKey

KEY_PREFIX_SHOWN = 8
KEY_LAST_SHOWN = 4


async def key_add(office: Office, _actor: Actor, a: KeyAdd) -> object:
    """Add a key; the answer holds its secret, which exists nowhere else."""
    secret = sealing.new_key(os.urandom(sealing.KEY_RANDOM_BYTES))
    new = NewKey(
        user=a.user,
        name=a.name,
        group=a.group,
        digest=sealing.key_digest(office.secrets.pepper, secret),
        prefix=secret[:KEY_PREFIX_SHOWN],
        last4=secret[-KEY_LAST_SHOWN:],
        expires_at=None if a.expires is None else parse_time(a.expires, office.clock()),
        budget=None if a.budget is None else parse_usd(a.budget),
        budget_period=a.budget_period,
        requests_per_minute=a.requests_per_minute,
        tokens_per_minute=a.tokens_per_minute,
        concurrency=a.concurrency,
        models=a.models,
        networks=a.networks,
        cache_seconds=a.cache_seconds,
    )
    now = office.clock()
    key_id = await office.change(lambda c: accounts.add_key(c, new, now))
    return {"id": key_id, "user": a.user, "name": a.name, "group": a.group, "key": secret}


async def key_list(office: Office, _actor: Actor, a: KeyListing) -> object:
    """Keys of a user or all, without their secrets."""
    rows = await office.read(lambda c: accounts.list_keys(c, a.user))
    return [_key(row) for row in rows]


async def key_disable(office: Office, _actor: Actor, a: KeyDisable) -> object:
    """Disable a key by id or name; its open streams are cut."""
    rows = await office.read(lambda c: accounts.list_keys(c, a.user))
    found = [row for row in rows if a.key in {str(row.id), row.name}]
    if not found:
        raise CommandError(f"there is no key {a.key!r}", "sluice key list")
    if len(found) > 1:
        ids = ", ".join(f"{row.id} of {row.user}" for row in found)
        raise CommandError(f"several keys are named {a.key!r}: {ids}", "name one by its id")
    (row,) = found
    await office.change(lambda c: accounts.set_key_enabled(c, row.id, enabled=False))
    return _key(row._replace(enabled=False))


def _key(row: KeyRow) -> dict[str, object]:
    return {
        "id": row.id,
        "user": row.user,
        "name": row.name,
        "group": row.group,
        "key": row.shown,
        "enabled": row.enabled,
        "expires": iso(row.expires_at),
        "budget_usd": None if row.budget is None else format_usd(row.budget),
        "period": row.budget_period,
        "spent_usd": format_usd(row.spent),
        "created": iso(row.created_at),
    }


HANDLERS: Mapping[str, Handler] = {
    "key add": key_add,
    "key list": key_list,
    "key disable": key_disable,
}
