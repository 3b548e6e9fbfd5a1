"""The first page, and the choices that hold for every page: language, colours, wallet."""

from typing import Final

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.edge.console import languages, market_view, visit
from proxy.edge.console.overview import overview
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit, local_path
from proxy.storage.reports import market

OFFERS: Final = 8
"""Of the marketplace, on the first page."""


async def front(seen: Visit) -> web.StreamResponse:
    """The overview for who is signed in, else what this place is and, if told, what it costs."""
    if seen.person is not None:
        return await overview(seen)
    offers: list[market_view.Offer] = []
    if seen.surroundings.options.public_marketplace:
        reader, known = await seen.reader(), seen.surroundings.market
        catalog = await known.catalog(reader)
        hour = await known.health(reader, market.HOUR)
        day = await known.health(reader, market.DAY)
        offers = market_view.offers(catalog, hour, day)
    return seen.render("landing.html", offers=offers[:OFFERS], more=len(offers) > OFFERS)


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
