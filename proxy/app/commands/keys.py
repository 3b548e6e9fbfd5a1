"""Commands on client keys."""

import os
import sqlite3
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET

from proxy.app.commands.shapes import Handler, iso, parse_span, parse_time
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Role
from proxy.core.actions.keys import KeyAdd, KeyLend, KeyListing, KeyNamed, KeyRotate, KeySet
from proxy.core.actions.unfit import Findings, UnfitError
from proxy.core.money import format_usd, parse_usd
from proxy.core.sentences import Sentence, text_of
from proxy.storage import keys
from proxy.storage import secrets as sealing
from proxy.storage.keys import KeyRow, NewKey, NewSecret

KEY_PREFIX_SHOWN = 8
KEY_LAST_SHOWN = 4
GRACE_SECONDS_MAX = 7 * 86_400
LENT_SECONDS_MAX = 3_600


async def key_add(office: Office, actor: Actor, a: KeyAdd) -> object:
    """Add a key; the answer holds its secret, which exists nowhere else."""
    now = office.clock()
    given = _read({name: getattr(a, name) for name in a.__struct_fields__ if name != "user"}, now)
    secret, kept = _new_secret(office)
    new = NewKey(user=a.user, **given, **kept._asdict(), person_id=actor.person)
    restricted = actor.role is Role.USER
    keys_max = office.keys_per_person_max if restricted else None
    key_id = await office.change(
        lambda c: keys.add_key(c, new, now, keys_max=keys_max, restricted=restricted)
    )
    return {"id": key_id, "user": a.user, "name": a.name, "group": a.group, "key": secret}


async def key_list(office: Office, actor: Actor, a: KeyListing) -> object:
    """Keys of a user or all, without their secrets."""
    rows = await office.read(lambda c: keys.list_keys(c, a.user, _maker(actor)))
    return [_key(row, office.clock()) for row in rows]


async def key_show(office: Office, actor: Actor, a: KeyNamed) -> object:
    """One key, without its secret."""
    return _whole(await _find(office, actor, a.key, a.user), office.clock())


async def key_set(office: Office, actor: Actor, a: KeySet) -> object:
    """Change what is given of a key; null clears."""
    now = office.clock()
    given = {name: getattr(a, name) for name in a.__struct_fields__ if name not in {"key", "user"}}
    changes = _read({name: value for name, value in given.items() if value is not UNSET}, now)
    key_id = (await _find(office, actor, a.key, a.user)).id
    restricted = actor.role is Role.USER
    await office.change(lambda c: keys.set_key(c, key_id, changes, now, restricted=restricted))
    return await _now(office, key_id)


async def key_disable(office: Office, actor: Actor, a: KeyNamed) -> object:
    """Disable a key by id or name; its open streams are cut."""
    row = await _find(office, actor, a.key, a.user)
    by = None
    if actor.role is not Role.USER:
        by = keys.OPERATOR
    elif row.person_id != actor.person:
        by = keys.OWNER
    await office.change(lambda c: keys.set_key_enabled(c, row.id, enabled=False, by=by))
    return await _now(office, row.id)


async def key_enable(office: Office, actor: Actor, a: KeyNamed) -> object:
    """Enable a key again, unless somebody above the caller disabled it."""

    # Judged where it is changed: it may be disabled while somebody looks.
    def enable(connection: sqlite3.Connection) -> int:
        row = keys.find_key(connection, a.key, a.user, _maker(actor))
        if actor.role is Role.USER:
            if row.disabled_by == keys.OPERATOR:
                raise ValueError(Sentence("an operator disabled this key; ask them to enable it"))
            if row.disabled_by == keys.OWNER and not actor.owner:
                raise ValueError(
                    Sentence("an owner of this wallet disabled this key; ask them to enable it")
                )
        keys.set_key_enabled(connection, row.id, enabled=True)
        return row.id

    return await _now(office, await office.change(enable))


async def key_rotate(office: Office, actor: Actor, a: KeyRotate) -> object:
    """Give a key a new secret; the answer holds it, and it exists nowhere else."""
    now = office.clock()
    try:
        grace = 0.0 if a.grace == "0" else parse_span(a.grace)
    except ValueError as error:
        raise UnfitError({"grace": text_of(error)}) from None
    if not 0 <= grace <= GRACE_SECONDS_MAX:
        raise UnfitError({"grace": "the old secret can stay for at most 7 days"})
    row = await _find(office, actor, a.key, a.user)
    secret, kept = _new_secret(office)
    await office.change(lambda c: keys.rotate_key(c, row.id, kept, now, grace))
    return {
        "id": row.id,
        "user": row.user,
        "name": row.name,
        "key": secret,
        "old_until": iso(now + grace) if grace else None,
    }


async def key_remove(office: Office, actor: Actor, a: KeyNamed) -> object:
    """Delete a key for good; its open streams are cut."""
    row = await _find(office, actor, a.key, a.user)
    await office.change(lambda c: keys.remove_key(c, row.id, office.clock()))
    return {"id": row.id, "user": row.user, "name": row.name, "removed": True}


async def key_lend(office: Office, actor: Actor, a: KeyLend) -> object:
    """Make a further secret that opens a key for a while; the answer alone holds it."""
    if not 0 < a.seconds <= LENT_SECONDS_MAX:
        raise UnfitError(
            {"seconds": Sentence("a key is lent for 1 to {most:,} seconds", most=LENT_SECONDS_MAX)}
        )
    now = office.clock()
    row = await _find(office, actor, a.key, a.user)
    secret, kept = _new_secret(office)
    await office.change(lambda c: keys.lend_key(c, row.id, kept, now, a.seconds))
    return {"id": row.id, "key": secret, "until": iso(now + a.seconds)}


def _maker(actor: Actor) -> int | None:
    """The person whose keys alone the actor may see; None: everybody's."""
    return None if actor.owner else actor.person


async def _find(office: Office, actor: Actor, named: str, user: str | None) -> KeyRow:
    return await office.read(lambda c: keys.find_key(c, named, user, _maker(actor)))


async def _now(office: Office, key_id: int) -> object:
    row = await office.read(lambda c: keys.find_key(c, str(key_id)))
    return _whole(row, office.clock())


def _new_secret(office: Office) -> tuple[str, NewSecret]:
    secret = sealing.new_key(os.urandom(sealing.KEY_RANDOM_BYTES))
    digest = sealing.key_digest(office.secrets.pepper, secret)
    return secret, NewSecret(digest, secret[:KEY_PREFIX_SHOWN], secret[-KEY_LAST_SHOWN:])


def _read(given: dict[str, Any], now: float) -> dict[str, Any]:
    """What is given, its amount and its moment read. Raises UnfitError."""
    findings = Findings()
    if given.get("budget") is not None:
        given["budget"] = findings.judge("budget", parse_usd, given["budget"])
    if "expires" in given:
        expires = given.pop("expires")
        given["expires_at"] = None
        if expires is not None:
            given["expires_at"] = findings.judge(
                "expires", lambda text: parse_time(text, now), expires
            )
    findings.tell()
    return given


def _key(row: KeyRow, now: float) -> dict[str, object]:
    """A key as a list has it."""
    spent = keys.spent_now(row, now)
    left = None if row.budget is None else max(0, row.budget - spent)
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
        "spent_usd": format_usd(spent),
        "left_usd": None if left is None else format_usd(left),
        "created": iso(row.created_at),
    }


def _whole(row: KeyRow, now: float) -> dict[str, object]:
    """A key with its limits."""
    limits = ("requests_per_minute", "tokens_per_minute", "concurrency", "cache_seconds")
    return {
        **_key(row, now),
        "person": row.person,
        "old_until": iso(row.grace_until) if (row.grace_until or 0) > now else None,
        "models": row.models,
        "networks": row.networks,
        **{name: getattr(row, name) for name in limits},
    }


HANDLERS: Mapping[str, Handler] = {
    "key add": key_add,
    "key list": key_list,
    "key show": key_show,
    "key set": key_set,
    "key disable": key_disable,
    "key enable": key_enable,
    "key rotate": key_rotate,
    "key remove": key_remove,
    "key lend": key_lend,
}
