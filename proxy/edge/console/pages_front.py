"""The first page, and the choices that hold for every page: language, colours, wallet."""

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.edge.console import languages, visit
from proxy.edge.console.overview import overview
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit, local_path


async def front(seen: Visit) -> web.StreamResponse:
    """The overview for who is signed in, else what this place is."""
    return seen.render("landing.html") if seen.person is None else await overview(seen)


async def preferences(seen: Visit) -> web.StreamResponse:
    """Remember a language or a theme, and go back to where it was chosen."""
    form = await seen.form()
    language, theme = form.get("language"), form.get("theme")
    if isinstance(language, str) and language in languages.LANGUAGES:
        seen.remember(visit.LANGUAGE, language, visit.PREFERENCE_SECONDS)
    if isinstance(theme, str) and theme in visit.THEMES:
        seen.remember(visit.THEME, theme, visit.PREFERENCE_SECONDS)
    return seen.redirect(local_path(str(form.get("next", "/"))))


async def choose_wallet(seen: Visit) -> web.StreamResponse:
    """Look at another wallet from now on; one that is not the reader's changes nothing."""
    form = await seen.form()
    wanted = form.get("wallet")
    if any(str(one.id) == wanted for one in seen.wallets):
        seen.remember(visit.WALLET, str(wanted), visit.PREFERENCE_SECONDS)
    return seen.redirect(local_path(str(form.get("next", "/"))))


ROUTES = (
    Route("GET", "/", None, front),
    Route("POST", "/preferences", None, preferences),
    Route("POST", "/wallet/choose", Role.USER, choose_wallet),
)
