"""The playground: a chat with a model from the browser, whose cost is seen as it grows.

Rules: the call goes from the browser to the relay's public address, as any program's would; the
console knows no key's secret, so a further one is lent for a few minutes and lives in the page's
memory alone. What is shown of the cost comes from the books, never from the page's own guess. Who
may use a key here may use it anywhere. This module must not know SQL.
"""

from typing import Final

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.core.catalog import Catalog
from proxy.core.ids import format_id, parse_id
from proxy.core.urls import Endpoint
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.render import usd
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit
from proxy.edge.models import endpoints_of
from proxy.storage.reports import usage_log
from proxy.storage.reports.usable_keys import UsableKey, usable_keys
from proxy.storage.reports.usage_log import Wanted

LENT_SECONDS: Final = 900
TEXT_CHARS_MAX: Final = 300


async def playground(seen: Visit) -> web.StreamResponse:
    """The form, with the models of the chosen key."""
    if seen.wallet is None:
        return seen.render("usage/none.html")
    keys = await own_keys(seen)
    key = chosen(keys, seen.request.query.get("key", ""))
    catalog = await seen.surroundings.market.catalog(await seen.reader())
    names = [] if key is None else chat_models(catalog, key)
    asked = seen.request.query.get("model", "")[:TEXT_CHARS_MAX]
    return seen.render(
        "playground/playground.html",
        keys=keys,
        key=key,
        models=names,
        model=asked if asked in names else next(iter(names), ""),
        missing=asked if asked and asked not in names else "",
        limits={name: catalog.models[name].output_tokens_max for name in names},
        relay=root_of(seen.surroundings.options.public_url),
    )


async def lend(seen: Visit) -> web.StreamResponse:
    """Give the page a secret of a key for a few minutes, as JSON."""
    _ = seen.texts
    if seen.wallet is None:
        return web.json_response({"error": _("You have no wallet yet")}, status=422)
    form = await seen.form()
    key = chosen(await own_keys(seen), str(form.get("key", "")))
    if key is None:
        return web.json_response({"error": _("There is no such key.")}, status=422)
    try:
        lent = await seen.do(
            "key lend", key=str(key.id), user=seen.wallet.name, seconds=LENT_SECONDS
        )
    except Refused as refused:
        return web.json_response({"error": f"{refused.message} {refused.remedy}"}, status=422)
    return web.json_response({"secret": lent["key"], "seconds": LENT_SECONDS})


async def progress(seen: Visit) -> web.StreamResponse:
    """How far a call is and what it costs until now, as JSON; texts are ready to be shown."""
    call_id = parse_id(seen.request.query.get("id", ""))
    if seen.wallet is None or seen.person is None or call_id is None:
        return web.json_response({"state": "unknown"}, status=404)
    own = None if seen.wallet.role == "owner" else seen.person.id
    wanted = Wanted(wallet=seen.wallet.id, person=own)
    reader = await seen.reader()
    ended = await usage_log.calls_named(reader, wanted, [call_id])
    if ended:
        call = ended[0]
        return web.json_response(
            {
                "state": "ended",
                "verdict": call.verdict,
                "cost": usd(call.charge),
                "balance": usd(call.balance_after),
                "read": call.usage.prompt_total,
                "written": call.usage.completion_total,
                "receipt": f"/usage/{format_id(call_id)}",
            }
        )
    running = [row for row in await usage_log.open_calls(reader, wanted) if row.id == call_id]
    if not running:
        return web.json_response({"state": "unknown"})
    used = running[0].usage
    return web.json_response(
        {
            "state": "running",
            "cost": usd(running[0].charge),
            "read": None if used is None else used.prompt_total,
            "written": None if used is None else used.completion_total,
        }
    )


async def own_keys(seen: Visit) -> list[UsableKey]:
    """The keys that the reader may call with."""
    wallet, person = seen.wallet, seen.person
    if wallet is None or person is None:
        return []
    own = None if wallet.role == "owner" else person.id
    return await usable_keys(await seen.reader(), wallet.id, own, seen.now)


def chosen(keys: list[UsableKey], wanted: str) -> UsableKey | None:
    """The key with this id; without a wish the newest; None if there is no such key."""
    if not wanted:
        return next(iter(keys), None)
    return next((key for key in keys if str(key.id) == wanted), None)


def chat_models(catalog: Catalog, key: UsableKey) -> list[str]:
    """Models that a key may chat with, by name."""
    if key.group not in catalog.groups:
        return []
    return [
        model.name
        for model in catalog.models_for(key.group)
        if model.price is not None
        and (key.models is None or model.name in key.models)
        and Endpoint.CHAT in endpoints_of(catalog, key.group, model)
    ]


def root_of(public_url: str) -> str:
    """The relay's address without `/v1`, as the examples have it."""
    return public_url.rstrip("/").removesuffix("/v1").rstrip("/")


ROUTES: Final = (
    Route("GET", "/playground", Role.USER, playground),
    Route("POST", "/playground/lend", Role.USER, lend),
    Route("GET", "/playground/progress", Role.USER, progress),
)
