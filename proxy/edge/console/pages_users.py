"""Users: the wallets of the relay, whose they are, on which plan, and whether they may call.

Rules: money is changed on pages of its own; a wallet that is shut out keeps everything it has. This
module must not know how limits are enforced.
"""

from typing import Final
from urllib.parse import quote, urlencode

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit
from proxy.storage.reports import wallets

LIST: Final = "/operator/users"
ROWS: Final = 50


async def users(seen: Visit) -> web.StreamResponse:
    """Wallets by name, a page of them."""
    query = seen.request.query
    search, after = query.get("search", "").strip(), query.get("after", "")
    found, count = await wallets.wallets(await seen.reader(), search, after, ROWS + 1)
    shown = found[:ROWS]
    asked = {"search": search}
    more = len(found) > ROWS
    return seen.render(
        "operator/users.html",
        users=shown,
        found=count,
        search=search,
        older=f"{LIST}?{urlencode(asked | {'after': shown[-1].name})}" if more else "",
        newer=f"{LIST}?{urlencode(asked)}" if after else "",
    )


async def show(seen: Visit) -> web.StreamResponse:
    """One wallet: its people, its keys, its plan, what it spent."""
    return await _show(seen, seen.request.query.get("name", ""))


async def add_form(seen: Visit) -> web.StreamResponse:
    """The form of a new wallet."""
    return _add_form(seen, {"name": "", "plan": "", "credit": ""}, await _plans(seen))


async def add(seen: Visit) -> web.StreamResponse:
    """Make a wallet, with a starting credit if one is said."""
    _, sent = seen.texts, await seen.form()
    values = {name: str(sent.get(name, "")).strip() for name in ("name", "plan", "credit")}
    said = {"plan": values["plan"] or None, "credit": values["credit"] or None}
    try:
        await seen.do("user add", name=values["name"], **said)
    except Refused as refused:
        return _add_form(seen, values, await _plans(seen), refused)
    return seen.redirect(
        _url(values["name"]), _("The wallet {name} was made.", name=values["name"])
    )


async def save(seen: Visit) -> web.StreamResponse:
    """Put a wallet on another plan, or let it in or not."""
    _, sent = seen.texts, await seen.form()
    name = str(sent.get("name", ""))
    try:
        if "plan" in sent:
            await seen.do("user set", user=name, plan=str(sent["plan"]))
        else:
            await seen.do("user set", user=name, enabled=sent.get("enabled") == "1")
    except Refused as refused:
        return seen.redirect(_url(name), str(refused), "error")
    return seen.redirect(_url(name), _("Saved."))


async def _show(seen: Visit, name: str) -> web.StreamResponse:
    reader = await seen.reader()
    found = await wallets.wallet(reader, name)
    if found is None:
        return seen.problem(404)
    return seen.render(
        "operator/user.html",
        user=found,
        people=await wallets.members(reader, found.id),
        keys=await seen.do("key list", user=name),
        spent=await wallets.spent(reader, found.id, seen.now),
        plans=[(plan, plan) for plan in await _plans(seen)],
    )


async def _plans(seen: Visit) -> list[str]:
    document = await seen.do("catalog export")
    return sorted(str(plan["name"]) for plan in document["plan"])


def _add_form(
    seen: Visit, values: dict[str, str], plans: list[str], refused: Refused | None = None
) -> web.StreamResponse:
    return seen.render(
        "operator/user_form.html",
        status=422 if refused else 200,
        values=values,
        plans=[(plan, plan) for plan in plans],
        message="" if refused is None else refused.message,
        remedy="" if refused is None else refused.remedy,
    )


def _url(name: str) -> str:
    return f"{LIST}/show?name={quote(name, safe='')}"


ROUTES = (
    Route("GET", LIST, Role.OPERATOR, users),
    Route("GET", f"{LIST}/show", Role.OPERATOR, show),
    Route("GET", f"{LIST}/new", Role.OPERATOR, add_form, step_up=True),
    Route("POST", f"{LIST}/new", Role.OPERATOR, add, step_up=True),
    Route("POST", f"{LIST}/save", Role.OPERATOR, save),
)
