"""The pages of tokens of the admin API: one's own, and for an admin everybody's.

Rules: making a token asks for the password again; the token is in the answer to the form that made
it and in no other. This module must not know what a token may do.
"""

from typing import Any, Final

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.core.actions.scopes import Level
from proxy.core.actions.table import ACTIONS, DOMAIN_OF
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit
from proxy.storage.reports.tokens import tokens

PATH: Final = "/account/tokens"
EVERYBODYS: Final = "/operator/tokens"
DIGITS_MAX: Final = 15
SPANS: Final = ("7d", "30d", "90d", "365d", "")


async def listing(seen: Visit) -> web.StreamResponse:
    """The reader's tokens."""
    person = seen.person
    rows = await tokens(await seen.reader(), None if person is None else person.id)
    return seen.render("tokens/list.html", tokens=rows, now=seen.now, everybody=False)


async def everybodys(seen: Visit) -> web.StreamResponse:
    """All tokens there are."""
    rows = await tokens(await seen.reader(), None, everybody=True)
    return seen.render("tokens/list.html", tokens=rows, now=seen.now, everybody=True)


async def new(seen: Visit) -> web.StreamResponse:
    """An empty form."""
    values = {"name": "", "expires": "90d", "scopes": ["*:read"]}
    return _form(seen, values, {}, "")


async def create(seen: Visit) -> web.StreamResponse:
    """Make a token, and show it in this answer alone."""
    form, _ = await seen.form(), seen.texts
    name, expires = str(form.get("name", "")).strip(), str(form.get("expires", ""))
    scopes = [str(one) for one in form.getall("scopes", [])]
    errors: dict[str, str] = {}
    if not name:
        errors["name"] = _("Give the token a name, such as the program that uses it.")
    if not scopes:
        errors["scopes"] = _("Choose what the token is for.")
    message = ""
    if not errors:
        try:
            made = await seen.do("token add", name=name, scopes=scopes, expires=expires or None)
        except Refused as refused:
            errors = refused.fields
            message = "" if errors else refused.message
        else:
            base = seen.surroundings.options.console_url
            return seen.render("tokens/shown.html", made=made, base_url=base)
    values = {"name": name, "expires": expires, "scopes": scopes}
    return _form(seen, values, errors, message, 422)


async def revoke(seen: Visit) -> web.StreamResponse:
    """End one of the reader's tokens."""
    return await _revoke(seen, PATH)


async def revoke_any(seen: Visit) -> web.StreamResponse:
    """End anybody's token."""
    return await _revoke(seen, EVERYBODYS)


async def _revoke(seen: Visit, back: str) -> web.StreamResponse:
    number, _ = seen.request.match_info["number"], seen.texts
    if not (number.isascii() and number.isdigit() and len(number) <= DIGITS_MAX):
        return seen.problem(404)
    await seen.do("token revoke", number=int(number))
    return seen.redirect(back, _("The token is revoked: it opens nothing any more."))


def _form(
    seen: Visit, values: dict[str, Any], errors: dict[str, str], message: str, status: int = 200
) -> web.StreamResponse:
    role = seen.role or Role.USER
    domains = sorted(
        {
            DOMAIN_OF[action.name]
            for action in ACTIONS.values()
            if action.exposed and role.covers(action.role)
        }
    )
    return seen.render(
        "tokens/new.html",
        status=status,
        values=values,
        errors={"name": "", "scopes": "", "expires": ""} | errors,
        message=message,
        domains=domains,
        levels=[level.value for level in Level],
        spans=SPANS,
    )


ROUTES = (
    Route("GET", PATH, Role.USER, listing),
    Route("GET", PATH + "/new", Role.USER, new, step_up=True),
    Route("POST", PATH, Role.USER, create, step_up=True),
    Route("POST", PATH + "/{number}/revoke", Role.USER, revoke),
    Route("GET", EVERYBODYS, Role.ADMIN, everybodys),
    Route("POST", EVERYBODYS + "/{number}/revoke", Role.ADMIN, revoke_any),
)
