"""One's own account: address, language, where one is signed in.

Rules: everything here is about the reader; what a form names of others is not theirs and changes
nothing. This module must not know how sessions are kept.
"""

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.core.browsers import browser_name
from proxy.edge.console import languages, visit
from proxy.edge.console.languages import later as _
from proxy.edge.console.routes import Route
from proxy.edge.console.sessions import Person
from proxy.edge.console.visit import Visit
from proxy.storage.reports import accounts

ENDED = _("The session has ended.")
ENDED_ALL = _("You are signed out everywhere.")
SAVED = _("Your language is saved.")


async def account(seen: Visit) -> web.StreamResponse:
    """The page of one's account."""
    reader, person = await seen.reader(), own(seen)
    known = await accounts.credentials_of(reader, person.id)
    sessions = await accounts.sessions(reader, person.id, seen.now)
    return seen.render(
        "account/account.html", known=known, sessions=sessions, browser_name=browser_name
    )


async def set_language(seen: Visit) -> web.StreamResponse:
    """Keep the language of pages and mails with the account; empty: what the browser asks for."""
    wanted = str((await seen.form()).get("language", ""))
    chosen = wanted if wanted in languages.LANGUAGES else None
    await seen.do("person language", language=chosen)
    seen.remember(visit.LANGUAGE, chosen or "", visit.PREFERENCE_SECONDS if chosen else 0)
    return seen.redirect(
        "/account", seen.surroundings.renderer.translator(chosen or seen.language)(SAVED)
    )


async def end_session(seen: Visit) -> web.StreamResponse:
    """End one of one's sessions; one's own is signing out."""
    session = str((await seen.form()).get("session", ""))
    await seen.do("session revoke", session=session)
    if session == own(seen).session:
        seen.remember(visit.SESSION, "", 0)
        return seen.redirect("/", seen.texts(ENDED))
    return seen.redirect("/account", seen.texts(ENDED))


async def end_all(seen: Visit) -> web.StreamResponse:
    """End all of one's sessions, this one too."""
    await seen.do("session revoke all")
    seen.remember(visit.SESSION, "", 0)
    return seen.redirect("/", seen.texts(ENDED_ALL))


def own(seen: Visit) -> Person:
    """Who reads a page that is for people who are signed in."""
    if seen.person is None:
        raise AssertionError("the route is for who is signed in")
    return seen.person


ROUTES = (
    Route("GET", "/account", Role.USER, account),
    Route("POST", "/account/language", Role.USER, set_language),
    Route("POST", "/account/sessions/end", Role.USER, end_session),
    Route("POST", "/account/sessions/end-all", Role.USER, end_all),
)
