"""The marketplace: which models there are, in which group, at what price, and how well they do.

Rules: open to everybody where `public_marketplace` says so, else to who is signed in; of providers,
addresses and keys nothing is told. Lists are bounded and paged. This module must not know SQL.
"""

from typing import Final
from urllib.parse import quote

from aiohttp import web

from proxy.core.catalog import Catalog
from proxy.core.examples.programs import LANGUAGES, render
from proxy.core.examples.sample import ENDPOINTS, KEY_VARIABLE, STREAMED
from proxy.core.money import format_multiplier
from proxy.core.names import similar
from proxy.core.urls import CANONICAL, Endpoint
from proxy.edge.console import market_view
from proxy.edge.console.market_view import Offer
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit
from proxy.storage.reports import keys, market

ROWS: Final = 100
TEXT_CHARS_MAX: Final = 200
PAGES_MAX: Final = 1_000
NAME_CHARS_MAX: Final = 256


async def models(seen: Visit) -> web.StreamResponse:
    """Every model of every group, as far as they are meant."""
    closed = _closed(seen)
    if closed is not None:
        return closed
    query = seen.request.query
    asked = {name: query.get(name, "")[:TEXT_CHARS_MAX] for name in ("q", "group", "endpoint")}
    said = query.get("page", "1")
    page = int(said) if said.isascii() and said.isdigit() and len(said) < 5 else 1
    page = min(max(page, 1), PAGES_MAX)
    reader = await seen.reader()
    known = seen.surroundings.market
    catalog = await known.catalog(reader)
    hour = await known.health(reader, market.HOUR)
    day = await known.health(reader, market.DAY)
    found = market_view.offers(
        catalog, hour, day, words=asked["q"], group=asked["group"], endpoint=asked["endpoint"]
    )
    first = (page - 1) * ROWS
    return seen.render(
        "market/models.html",
        not_open=await _not_open(seen, catalog),
        asked=asked,
        offers=found[first : first + ROWS],
        total=len(found),
        groups=[
            (name, f"{name} × {format_multiplier(group.multiplier)}")
            for name, group in sorted(catalog.groups.items())
        ],
        endpoints=_endpoints(),
        whole=hour.whole and day.whole,
        page=page,
        more=len(found) > first + ROWS,
    )


async def model(seen: Visit) -> web.StreamResponse:
    """One model: what it costs in each group, how it is called, and how it does."""
    closed = _closed(seen)
    if closed is not None:
        return closed
    name = seen.request.match_info["name"][:NAME_CHARS_MAX]
    reader = await seen.reader()
    known = seen.surroundings.market
    catalog = await known.catalog(reader)
    hour = await known.health(reader, market.HOUR)
    day = await known.health(reader, market.DAY)
    wanted = catalog.models.get(name)
    groups = catalog.groups_with(name)
    if wanted is None or not groups:
        return _no_such_model(seen, catalog, name)
    offers = [
        market_view.offer(catalog, hour, day, wanted, catalog.groups[group]) for group in groups
    ]
    callable_at = [one for one in ENDPOINTS if one in {w.endpoint for o in offers for w in o.ways}]
    endpoint = seen.request.query.get("endpoint", "")
    if endpoint not in callable_at:
        endpoint = callable_at[0] if callable_at else ""
    stream = endpoint in STREAMED and seen.request.query.get("stream") == "1"
    return seen.render(
        "market/model.html",
        not_open=await _not_open(seen, catalog),
        model=wanted,
        offers=offers,
        ways=_ways(offers),
        callable_at=callable_at,
        endpoint=endpoint,
        stream=stream,
        streamed=endpoint in STREAMED,
        programs=_programs(seen, endpoint, name, stream=stream) if endpoint else [],
        key_variable=KEY_VARIABLE,
        whole=hour.whole and day.whole,
    )


def _closed(seen: Visit) -> web.Response | None:
    """Send away who is not signed in, where the marketplace is not for everybody."""
    if seen.person is not None or seen.surroundings.options.public_marketplace:
        return None
    return seen.redirect(f"/login?next={quote(seen.request.path_qs, safe='')}")


async def _not_open(seen: Visit, catalog: Catalog) -> frozenset[str]:
    """Groups that the plan of the wallet in use is not for."""
    if seen.wallet is None:
        return frozenset()
    allowed = await keys.groups(await seen.reader(), seen.wallet.id)
    return frozenset(catalog.groups.keys() - {group.name for group in allowed})


def _no_such_model(seen: Visit, catalog: Catalog, name: str) -> web.Response:
    """Say so, and what may have been meant."""
    _ = seen.texts
    close = similar(name, catalog.groups_by_model)
    remedy = _("Did you mean {models}?", models=", ".join(close)) if close else ""
    return seen.problem(404, _("There is no model {model} here.", model=name), remedy)


def _endpoints() -> list[tuple[str, str]]:
    """What can be filtered by: endpoints that are about a model, by their paths."""
    meant = (
        Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.RESPONSES, Endpoint.COMPLETIONS,
        Endpoint.GEMINI_GENERATE, Endpoint.EMBEDDINGS, Endpoint.IMAGES_GENERATIONS,
        Endpoint.IMAGES_EDITS, Endpoint.TRANSCRIPTIONS, Endpoint.SPEECH, Endpoint.MODERATIONS,
        Endpoint.RERANK, Endpoint.REALTIME,
    )  # fmt: skip
    return [(endpoint.value, CANONICAL[endpoint]) for endpoint in meant]


def _ways(offers: list[Offer]) -> list[tuple[market_view.Way, list[str], list[str]]]:
    """Each way to call the model, with the groups that serve it as it is, and translated."""
    found: dict[str, tuple[market_view.Way, list[str], list[str]]] = {}
    for one in offers:
        for way in one.ways:
            _, native, translated = found.setdefault(way.endpoint, (way, [], []))
            (translated if way.translated else native).append(one.group.name)
    return [*found.values()]


def _programs(
    seen: Visit, endpoint: str, name: str, *, stream: bool
) -> list[tuple[str, str, str, str]]:
    """(language, title, how to run it, program) in every language."""
    base = seen.surroundings.options.public_url
    return [
        (key, known.title, f"{known.file_name} · {known.run}",
         render(endpoint, key, base_url=base, model=name, stream=stream))
        for key, known in LANGUAGES.items()
    ]  # fmt: skip


ROUTES: Final = (
    Route("GET", "/models", None, models),
    Route("GET", "/models/{name:.+}", None, model),
)
