"""The pages of client keys: the list, the form, a secret once, and what can be done with a key.

Rules: a member sees and changes the keys they made, an owner all of the wallet; a key of others
is a page that does not exist. A secret is in the answer to the form that made it and in no other.
"""

from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.core.examples.programs import LANGUAGES, render
from proxy.core.money import format_multiplier
from proxy.edge.console import key_form
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.key_form import KeyForm
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit
from proxy.storage.keys import KeyRow, spent_now
from proxy.storage.people import OWNER
from proxy.storage.reports import keys as report
from proxy.storage.reports.memberships import Wallet

PAGE_KEYS: Final = 50
EXAMPLE_MODEL: Final = "gpt-4o"
"""What the examples ask for where a key's group has no model yet."""
STATES: Final = ("active", "disabled", "expired", "spent")
GRACES: Final = ("0", "1h", "1d", "7d")


async def listing(seen: Visit) -> web.StreamResponse:
    """The keys of the wallet in use."""
    wallet = seen.wallet
    if wallet is None:
        return _no_wallet(seen)
    reader, now = await seen.reader(), seen.now
    words = seen.request.query.get("q", "").strip()[:200]
    state = seen.request.query.get("status", "")
    offset = _number(seen.request.query.get("from")) or 0
    rows = await report.keys(reader, wallet.id, _maker(seen, wallet))
    wanted = [
        row
        for row in rows
        if (not state or state_of(row, now) == state) and _fits(row, words.lower())
    ]
    shown = wanted[offset : offset + PAGE_KEYS]
    asked = {"q": words, "status": state}
    return seen.render(
        "keys/list.html",
        keys=[_told(row, now) for row in shown],
        uses=await report.uses(reader, wallet.id, now),
        any_keys=bool(rows),
        words=words,
        state=state if state in STATES else "",
        older=_page(asked, offset + PAGE_KEYS) if len(wanted) > offset + PAGE_KEYS else "",
        newer=_page(asked, max(0, offset - PAGE_KEYS)) if offset else "",
        found=len(wanted),
    )


async def new(seen: Visit) -> web.StreamResponse:
    """An empty form."""
    wallet = seen.wallet
    if wallet is None:
        return _no_wallet(seen)
    reader = await seen.reader()
    groups = await report.groups(reader, wallet.id)
    taken = {row.name for row in await report.keys(reader, wallet.id)}
    name = next(name for n in range(1, len(taken) + 2) if (name := f"key-{n}") not in taken)
    usual = next((one.name for one in groups if one.name == "default"), "")
    form = key_form.empty(name, usual or (groups[0].name if groups else ""))
    return await _new_page(seen, wallet, form)


async def create(seen: Visit) -> web.StreamResponse:
    """Make a key, and show its secret in this answer alone."""
    wallet = seen.wallet
    if wallet is None:
        return _no_wallet(seen)
    models = await report.models(await seen.reader())
    form, arguments = key_form.read(await seen.form(), seen.texts, seen.now, models)
    if not form.errors:
        try:
            made = await seen.do("key add", user=wallet.name, **arguments)
            return await _shown(seen, wallet, made, rotated=False)
        except Refused as refused:
            form.refuse(refused.message, refused.remedy, refused.fields)
    return await _new_page(seen, wallet, form, 422)


async def one(seen: Visit) -> web.StreamResponse:
    """A key, and the form that changes it."""
    found = await _find(seen)
    if found is None:
        return seen.problem(404)
    wallet, row = found
    return await _key_page(seen, wallet, row, key_form.of_key(row))


async def change(seen: Visit) -> web.StreamResponse:
    """Change what the form says otherwise than before."""
    found = await _find(seen)
    if found is None:
        return seen.problem(404)
    (wallet, row), _ = found, seen.texts
    models = await report.models(await seen.reader())
    form, arguments = key_form.read(await seen.form(), _, seen.now, models)
    changes = key_form.changed(arguments, form, key_form.of_key(row))
    form.errors = {name: said for name, said in form.errors.items() if _moved(name, changes)}
    if not form.errors:
        try:
            await seen.do("key set", user=wallet.name, key=str(row.id), **changes)
            return seen.redirect(f"/keys/{row.id}", _("Saved. It holds from now on."))
        except Refused as refused:
            form.refuse(refused.message, refused.remedy, refused.fields)
    return await _key_page(seen, wallet, row, form, 422)


async def disable(seen: Visit) -> web.StreamResponse:
    """Switch a key off; its streams are cut."""
    _ = seen.texts
    return await _do(seen, "key disable", _("The key is disabled; running calls were cut."))


async def enable(seen: Visit) -> web.StreamResponse:
    """Switch a key on again."""
    _ = seen.texts
    return await _do(seen, "key enable", _("The key works again."))


async def remove(seen: Visit) -> web.StreamResponse:
    """Delete a key for good."""
    _ = seen.texts
    said = _("The key is deleted. Its calls stay in your usage log.")
    return await _do(seen, "key remove", said, "/keys")


async def rotate(seen: Visit) -> web.StreamResponse:
    """Give a key a new secret, and show it in this answer alone."""
    found = await _find(seen)
    if found is None:
        return seen.problem(404)
    wallet, row = found
    grace = str((await seen.form()).get("grace", "0"))
    made = await seen.do("key rotate", user=wallet.name, key=str(row.id), grace=grace)
    return await _shown(seen, wallet, {**made, "group": row.group}, rotated=True)


def state_of(row: KeyRow, now: float) -> str:
    """What a key is good for now, one of `STATES`."""
    if not row.enabled:
        return "disabled"
    if row.expires_at is not None and row.expires_at <= now:
        return "expired"
    if row.budget is not None and spent_now(row, now) >= row.budget:
        return "spent"
    return "active"


async def _do(seen: Visit, action: str, said: str, then: str = "") -> web.StreamResponse:
    found = await _find(seen)
    if found is None:
        return seen.problem(404)
    wallet, row = found
    await seen.do(action, user=wallet.name, key=str(row.id))
    return seen.redirect(then or f"/keys/{row.id}", said)


async def _find(seen: Visit) -> tuple[Wallet, KeyRow] | None:
    """The key of the path, if the reader may see it."""
    wallet, number = seen.wallet, _number(seen.request.match_info["key"])
    if wallet is None or number is None:
        return None
    row = await report.key(await seen.reader(), wallet.id, number, _maker(seen, wallet))
    return None if row is None else (wallet, row)


def _maker(seen: Visit, wallet: Wallet) -> int | None:
    """The person whose keys alone the reader may see; None: all of the wallet."""
    person = seen.person
    if person is None or person.role is not Role.USER or wallet.role == OWNER:
        return None
    return person.id


async def _new_page(
    seen: Visit, wallet: Wallet, form: KeyForm, status: int = 200
) -> web.StreamResponse:
    groups = await report.groups(await seen.reader(), wallet.id)
    return seen.render("keys/new.html", status=status, form=form, groups=_choices(groups))


async def _key_page(
    seen: Visit, wallet: Wallet, row: KeyRow, form: KeyForm, status: int = 200
) -> web.StreamResponse:
    reader = await seen.reader()
    groups = await report.groups(reader, wallet.id, row.group)
    return seen.render(
        "keys/key.html",
        status=status,
        one=_told(row, seen.now),
        form=form,
        groups=_choices(groups),
        uses=await report.uses(reader, wallet.id, seen.now),
        graces=GRACES,
    )


async def _shown(
    seen: Visit, wallet: Wallet, made: dict[str, Any], *, rotated: bool
) -> web.StreamResponse:
    reader = await seen.reader()
    groups = {one.name: one.models for one in await report.groups(reader, wallet.id)}
    row = await report.key(reader, wallet.id, made["id"])
    allowed = row.models if row is not None else None
    served = [one for one in groups.get(made["group"], ()) if allowed is None or one in allowed]
    model = served[0] if served else next(iter(allowed or ()), EXAMPLE_MODEL)
    base = seen.surroundings.options.public_url
    examples = [
        (one.title, one.run, render("chat", name, base_url=base, model=model))
        for name, one in LANGUAGES.items()
    ]
    return seen.render(
        "keys/shown.html",
        made=made,
        rotated=rotated,
        old_until=None if row is None else row.grace_until,
        base_url=base,
        model=model,
        examples=examples,
    )


def _told(row: KeyRow, now: float) -> dict[str, object]:
    """A key as templates show it."""
    spent = spent_now(row, now)
    return {
        "row": row,
        "state": state_of(row, now),
        "spent": spent,
        "left": None if row.budget is None else max(0, row.budget - spent),
        "grace_until": row.grace_until if (row.grace_until or 0) > now else None,
    }


def _choices(groups: list[report.Group]) -> list[dict[str, object]]:
    """Groups as the form offers them."""
    return [
        {
            "name": one.name,
            "multiplier": format_multiplier(one.multiplier),
            "models": len(one.models),
        }
        for one in groups
    ]


def _fits(row: KeyRow, words: str) -> bool:
    text = f"{row.name} {row.shown} {row.group} {row.person or ''}".lower()
    return all(word in text for word in words.split())


def _moved(field: str, changes: dict[str, object]) -> bool:
    """Whether a field with an error is one that is to change: what was there may stay."""
    return field == "name" or field.removesuffix("_on") in changes


def _no_wallet(seen: Visit) -> web.StreamResponse:
    _ = seen.texts
    return seen.problem(404, _("You belong to no wallet."), _("Ask its owner to add you."))


def _page(asked: dict[str, str], offset: int) -> str:
    given = {name: value for name, value in asked.items() if value}
    return "/keys?" + urlencode({**given, "from": offset})


def _number(text: str | None) -> int | None:
    plain = text is not None and text.isascii() and text.isdigit() and len(text) < 19
    return int(text) if text is not None and plain else None


ROUTES = (
    Route("GET", "/keys", Role.USER, listing),
    Route("POST", "/keys", Role.USER, create),
    Route("GET", "/keys/new", Role.USER, new),
    Route("GET", "/keys/{key}", Role.USER, one),
    Route("POST", "/keys/{key}", Role.USER, change),
    Route("POST", "/keys/{key}/disable", Role.USER, disable),
    Route("POST", "/keys/{key}/enable", Role.USER, enable),
    Route("POST", "/keys/{key}/rotate", Role.USER, rotate),
    Route("POST", "/keys/{key}/remove", Role.USER, remove),
)
