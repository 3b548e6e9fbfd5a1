"""The self-test: whether the relay does what an SDK needs, run from here with a key of the reader.

Rules: what it may cost at most is shown before it is begun, from the price of the model chosen; it
calls the relay's public address, as a program of the reader would, with a secret that is lent for
it. This module must not know what is checked.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from proxy.core import pricing
from proxy.core.actions.action import Role
from proxy.core.catalog import Catalog
from proxy.edge.console.pages_playground import chat_models, chosen, own_keys, root_of
from proxy.edge.console.routes import Route
from proxy.edge.console.selftests import Job
from proxy.edge.console.visit import Visit
from proxy.storage.reports.usable_keys import UsableKey

LENT_SECONDS: Final = 900
CONCURRENCIES: Final = (2, 5, 10, 20)
TEXT_CHARS_MAX: Final = 300
STEPS: Final = 10
"""Checks of a whole run."""
REFRESH_SECONDS: Final = 2


async def selftest(seen: Visit) -> web.StreamResponse:
    """The form, and what the chosen run may cost."""
    return await _form(seen, seen.request.query.get("key", ""), seen.request.query)


async def start(seen: Visit) -> web.StreamResponse:
    """Begin a run, and go to where it can be watched."""
    _, jobs = seen.texts, seen.surroundings.selftests
    form = await seen.form()
    fields = {name: str(form.get(name, ""))[:TEXT_CHARS_MAX] for name in ("model", "concurrency")}
    wanted = str(form.get("key", ""))
    person, wallet, run = seen.person, seen.wallet, seen.surroundings.selftest
    if person is None or wallet is None or run is None:
        return await _form(seen, wanted, fields)
    busy = jobs.running(person.id)
    if busy is not None:
        return seen.redirect(f"/selftest/{busy.id}", _("A self-test of yours is running already."))
    if jobs.full:
        fault = _("Others are testing now; try again in a minute.")
        return await _form(seen, wanted, fields, fault, status=429)
    key = chosen(await own_keys(seen), wanted)
    catalog = await seen.surroundings.market.catalog(await seen.reader())
    if key is None or fields["model"] not in chat_models(catalog, key):
        fault = _("Choose a key and a model that it can chat with.")
        return await _form(seen, wanted, fields, fault, status=422)
    lent = await seen.do("key lend", key=str(key.id), user=wallet.name, seconds=LENT_SECONDS)
    job = jobs.start(
        run,
        root_of(seen.surroundings.options.public_url),
        lent["key"],
        person=person.id,
        wallet=wallet.id,
        key=key.name,
        model=fields["model"],
        concurrency=_concurrency(fields["concurrency"]),
        now=seen.now,
        steps=STEPS,
    )
    return seen.redirect(f"/selftest/{job.id}")


async def watch(seen: Visit) -> web.StreamResponse:
    """A run's lines so far; the page asks again until it has ended."""
    person = seen.person
    job: Job | None = None
    if person is not None:
        job = seen.surroundings.selftests.of(person.id, seen.request.match_info["job"])
    if job is None:
        return seen.problem(404)
    response = seen.render("selftest/report.html", job=job, say=seen.texts, now=seen.now)
    if not job.ended:
        response.headers["refresh"] = str(REFRESH_SECONDS)
    return response


async def _form(
    seen: Visit, wanted: str, fields: Mapping[str, str], fault: str = "", status: int = 200
) -> web.StreamResponse:
    run, person = seen.surroundings.selftest, seen.person
    if seen.wallet is None or person is None:
        return seen.render("usage/none.html")
    keys = await own_keys(seen)
    key = chosen(keys, wanted)
    catalog = await seen.surroundings.market.catalog(await seen.reader())
    names = [] if key is None else chat_models(catalog, key)
    asked = fields.get("model", "")
    model = asked if asked in names else next(iter(names), "")
    concurrency = _concurrency(fields.get("concurrency", ""))
    cost = None
    if key is not None and model and run is not None:
        cost = most(catalog, key, model, run.asked(concurrency))
    return seen.render(
        "selftest/form.html",
        status=status,
        there=run is not None,
        keys=keys,
        key=key,
        models=names,
        model=model,
        concurrency=concurrency,
        concurrencies=CONCURRENCIES,
        cost=cost,
        calls=0 if run is None else len(run.asked(concurrency)),
        jobs=seen.surroundings.selftests.recent(person.id),
        fault=fault,
        address=root_of(seen.surroundings.options.public_url),
    )


def most(
    catalog: Catalog, key: UsableKey, model: str, calls: Sequence[tuple[int, int]]
) -> int | None:
    """What calls of so many bytes of prompt and tokens of answer cost at most, nano-USD.

    A token is at least a byte. None where the model has no price.
    """
    price = catalog.models[model].price
    group = catalog.groups[key.group]
    if price is None:
        return None
    return sum(pricing.quote(price, group.multiplier, read, written) for read, written in calls)


def _concurrency(text: str) -> int:
    return int(text) if text in {str(one) for one in CONCURRENCIES} else CONCURRENCIES[1]


ROUTES: Final = (
    Route("GET", "/selftest", Role.USER, selftest),
    Route("POST", "/selftest", Role.USER, start),
    Route("GET", "/selftest/{job}", Role.USER, watch),
)
