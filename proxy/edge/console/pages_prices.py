"""Models and their prices: the list, one model with every version, forms, the published lists.

Rules: a price is never edited, a save is a new version; what an import would change is shown
before, line by line, and only what was chosen then is changed, unless it has moved since. What was
entered stays in the form. This module must not know how the catalog is stored.
"""

import asyncio
from typing import Any, Final
from urllib.parse import quote, urlencode

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.core.entities import ENDPOINTS, Tokenizer
from proxy.core.sentences import text_of
from proxy.edge.console.faults import WHOLE, Fault, fault_of
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.languages import Translator
from proxy.edge.console.price_texts import json_text, read_json
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit
from proxy.storage.edits import fingerprint

LIST: Final = "/operator/models"
ROWS: Final = 100
ROWS_SHOWN_MAX: Final = 800
"""Each is a field of the form, of which aiohttp reads 1,000."""
"""Differences shown at once."""
PRICES: Final = (
    "input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input",
    "audio_output", "image_input", "image_output", "cache_read_audio", "cache_read_image",
    "character", "call", "search", "image", "audio_minute", "audio_hour",
    "model_ratio", "completion_ratio", "cache_ratio",
)  # fmt: skip
PRICE_JSON: Final = ("tiers", "image_variants")
MODEL_FIELDS: Final = frozenset(
    {"name", "context_window", "output_tokens_max", "tokenizer", "hidden_output", "endpoints"}
)
NEW: Final[dict[str, Any]] = {
    "name": "", "context_window": "128000", "output_tokens_max": "16384", "tokenizer": "estimate",
    "hidden_output": False, "endpoints": [],
}  # fmt: skip


async def models(seen: Visit) -> web.StreamResponse:
    """Models by name, a page of them."""
    query = seen.request.query
    search, after = query.get("search", ""), query.get("after", "")
    unpriced = query.get("unpriced") == "1"
    found = await seen.do(
        "model list", search=search, after=after, rows_max=ROWS, unpriced=unpriced
    )
    last = found["models"][-1]["model"]["name"] if found["more"] else ""
    asked = {"search": search} | ({"unpriced": "1"} if unpriced else {})
    return seen.render(
        "operator/models.html",
        found=found,
        search=search,
        unpriced=unpriced,
        older=f"{LIST}?{urlencode(asked | {'after': last})}" if last else "",
        first=f"{LIST}?{urlencode(asked)}" if after else "",
        lists=seen.surroundings.price_lists is not None,
    )


async def show(seen: Visit) -> web.StreamResponse:
    """One model and every version of its price."""
    found = await seen.do("model show", name=seen.request.query.get("name", ""))
    return seen.render("operator/model.html", found=found, model=found["model"])


async def form(seen: Visit) -> web.StreamResponse:
    """The form of a new model, or of one that is there."""
    name = seen.request.query.get("name")
    if name is None:
        return _model_form(seen, dict(NEW), create=True, basis="")
    found = await seen.do("model show", name=name)
    values = {"endpoints": [], **found["model"]}
    return _model_form(seen, values, create=False, basis=found["basis"])


async def save(seen: Visit) -> web.StreamResponse:
    """Make or change a model with what the form says."""
    _, sent = seen.texts, await seen.form()
    create, basis = sent.get("create") == "1", str(sent.get("basis", ""))
    values: dict[str, Any] = {name: str(sent.get(name, "")).strip() for name in MODEL_FIELDS}
    values["hidden_output"] = sent.get("hidden_output") == "1"
    values["endpoints"] = [str(each) for each in sent.getall("endpoints", [])]
    name = values["name"]
    table: dict[str, Any] = {
        "tokenizer": values["tokenizer"],
        "hidden_output": values["hidden_output"],
        "endpoints": values["endpoints"] or None,
    }
    faults = {}
    for field in ("context_window", "output_tokens_max"):
        try:
            table[field] = int(values[field])
        except ValueError:
            faults[field] = _("Must be a number")
    fault = Fault(faults, "", moved=False)
    if not faults:
        try:
            base = {} if create else {"basis": basis}
            await seen.do("model set", name=name, set=table, create=create, **base)
        except Refused as refused:
            fault = fault_of(refused, MODEL_FIELDS)
        else:
            text = _("The model was made. Give it a price.") if create else _("Saved.")
            return seen.redirect(_url("show", name), text)
    if fault.moved:
        basis = (await seen.do("model show", name=name))["basis"]
    return _model_form(seen, values, create=create, basis=basis, fault=fault)


async def remove(seen: Visit) -> web.StreamResponse:
    """Remove a model that no channel serves."""
    _, name = seen.texts, str((await seen.form()).get("name", ""))
    try:
        await seen.do("model remove", name=name)
    except Refused as refused:
        return seen.redirect(_url("show", name), str(refused), "error")
    return seen.redirect(LIST, _("The model {name} was removed.", name=name))


async def price_form(seen: Visit) -> web.StreamResponse:
    """The form of a new version of a price."""
    found = await seen.do("model show", name=seen.request.query.get("name", ""))
    price = found["price"] or {}
    values = {name: price.get(name, "") for name in PRICES}
    values |= {name: json_text(price.get(name)) for name in PRICE_JSON}
    return _price_form(seen, found["model"]["name"], values, found["price_basis"])


async def save_price(seen: Visit) -> web.StreamResponse:
    """Give a model the price the form says: a new version."""
    _, sent = seen.texts, await seen.form()
    name, basis = str(sent.get("name", "")), str(sent.get("basis", ""))
    values = {field: str(sent.get(field, "")).strip() for field in (*PRICES, *PRICE_JSON)}
    table: dict[str, Any] = {field: values[field] for field in PRICES if values[field]}
    faults = {}
    for field in PRICE_JSON:
        try:
            found = read_json(values[field])
            table |= {} if found is None else {field: found}
        except ValueError as error:
            faults[field] = _("It {fault}", fault=seen.texts(text_of(error)))
    if not table and not faults:
        faults["input"] = _("Write at least one price; 0 is one.")
    fault = Fault(faults, "", moved=False)
    if not faults:
        try:
            changes = await seen.do("price set", model=name, price=table, basis=basis)
        except Refused as refused:
            fault = fault_of(refused, {*PRICES, *PRICE_JSON})
        else:
            text = _("The price is in force for calls that begin from now on.")
            return seen.redirect(_url("show", name), text if changes else _("Nothing changed."))
    if fault.moved:
        basis = (await seen.do("model show", name=name))["price_basis"]
    return _price_form(seen, name, values, basis, fault)


async def withdraw(seen: Visit) -> web.StreamResponse:
    """Take a model's price back."""
    _, sent = seen.texts, await seen.form()
    name, basis = str(sent.get("name", "")), str(sent.get("basis", ""))
    await seen.do("price withdraw", model=name, basis=basis)
    return seen.redirect(_url("show", name), _("The price was taken back: calls are refused."))


async def compare(seen: Visit) -> web.StreamResponse:
    """What the published lists would change: of what is there, or of some providers."""
    lists = seen.surroundings.price_lists
    if lists is None:
        return seen.problem(404)
    query = seen.request.query
    providers = [each for each in query.getall("provider", []) if each]
    patterns = query.get("models", "").split()
    everything = query.get("all") == "1"
    document = await seen.do("catalog export")
    plan, fault = None, ""
    try:
        # Reading the lists takes the interpreter for a while; other pages go on meanwhile.
        plan = await asyncio.to_thread(lists.plan, document, providers, patterns)
    except ValueError as error:
        fault = seen.texts(text_of(error))
    known = {each["name"]: each for each in document["model"]}
    rows = [
        {
            "row": row,
            "prices": {kind: text for kind, text in row.prices.items() if text},
            "basis": _price_basis(known.get(row.model)),
        }
        for row in (() if plan is None else plan.rows)
        if everything or row.status.value != "unchanged"
    ]
    return seen.render(
        "operator/prices_compare.html",
        rows=rows[:ROWS_SHOWN_MAX],
        left_out=max(0, len(rows) - ROWS_SHOWN_MAX),
        counts={} if plan is None else _counts(plan.rows),
        fault=fault,
        providers=await asyncio.to_thread(lists.providers),
        chosen=providers,
        models=" ".join(patterns),
        everything=everything,
        asked=seen.request.query_string,
    )


async def take_over(seen: Visit) -> web.StreamResponse:
    """Take over the models that were chosen, as they were shown."""
    _, lists, sent = seen.texts, seen.surroundings.price_lists, await seen.form()
    if lists is None:
        return seen.problem(404)
    chosen = {
        name: basis
        for each in sent.getall("take", [])
        for basis, _sign, name in [str(each).partition(" ")]
    }
    here = f"{LIST}/import?{sent.get('asked', '')}"
    if not chosen:
        return seen.redirect(here, _("Choose what to take over first."), "warning")
    providers = [str(each) for each in sent.getall("provider", [])]
    patterns = str(sent.get("models", "")).split()
    document = await seen.do("catalog export")
    try:
        plan = await asyncio.to_thread(lists.plan, document, providers, patterns)
    except ValueError as error:
        return seen.redirect(here, seen.texts(text_of(error)), "error")
    tables = [table for table in plan.tables if table["name"] in chosen]
    if not tables:
        return seen.redirect(here, _("None of these differ any more."), "warning")
    try:
        await seen.do(
            "price import",
            models=tables,
            bases={name: basis for name, basis in chosen.items() if basis},
        )
    except Refused as refused:
        return seen.redirect(here, str(refused), "error")
    return seen.redirect(
        LIST, _("{count} models were taken over as one change.", count=len(tables))
    )


def _price_basis(model: dict[str, Any] | None) -> str:
    return fingerprint(None if model is None else model.get("price"))


def _counts(rows: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status.value] = counts.get(row.status.value, 0) + 1
    return counts


def _model_form(
    seen: Visit, values: dict[str, Any], *, create: bool, basis: str, fault: Fault | None = None
) -> web.StreamResponse:
    return seen.render(
        "operator/model_form.html",
        status=422 if fault else 200,
        values=values,
        create=create,
        basis=basis,
        tokenizers=[(each.value, each.value) for each in Tokenizer],
        endpoints=[(name, name, "") for name in sorted(ENDPOINTS)],
        **_told(fault),
    )


def _price_form(
    seen: Visit, name: str, values: dict[str, Any], basis: str, fault: Fault | None = None
) -> web.StreamResponse:
    return seen.render(
        "operator/price_form.html",
        status=422 if fault else 200,
        name=name,
        values=values,
        basis=basis,
        labels=_labels(seen.texts),
        **_told(fault),
    )


def _told(fault: Fault | None) -> dict[str, Any]:
    if fault is None:
        return {"faults": {}, "remedy": "", "moved": False, "whole": ""}
    return {
        "faults": fault.fields,
        "remedy": fault.remedy,
        "moved": fault.moved,
        "whole": fault.fields.get(WHOLE, ""),
    }


def _labels(_: Translator) -> list[tuple[str, list[tuple[str, str]]]]:
    """Fields of the price form under their headings."""
    tokens = [
        ("input", _("Input")),
        ("output", _("Output")),
        ("cache_read", _("Read from cache")),
        ("cache_write_5m", _("Written to cache, 5 minutes")),
        ("cache_write_1h", _("Written to cache, 1 hour")),
    ]
    more = [
        ("audio_input", _("Audio in")),
        ("audio_output", _("Audio out")),
        ("image_input", _("Images in")),
        ("image_output", _("Images out")),
        ("cache_read_audio", _("Audio read from cache")),
        ("cache_read_image", _("Images read from cache")),
        ("character", _("Characters")),
    ]
    each = [
        ("call", _("Call")),
        ("search", _("Search")),
        ("image", _("Image")),
        ("audio_minute", _("Minute of audio")),
        ("audio_hour", _("Hour of audio")),
    ]
    ratios = [
        ("model_ratio", _("Model ratio")),
        ("completion_ratio", _("Completion ratio")),
        ("cache_ratio", _("Cache ratio")),
    ]
    return [
        (_("Tokens of text, USD per million"), tokens),
        (_("Other tokens and characters, USD per million"), more),
        (_("USD each"), each),
        (_("By ratios instead, where 1 is $2 per million tokens"), ratios),
    ]


def _url(page: str, name: str) -> str:
    return f"{LIST}/{page}?name={quote(name, safe='')}"


_OPERATOR: Final = Role.OPERATOR
ROUTES = (
    Route("GET", LIST, _OPERATOR, models),
    Route("GET", f"{LIST}/show", _OPERATOR, show),
    Route("GET", f"{LIST}/new", _OPERATOR, form),
    Route("GET", f"{LIST}/edit", _OPERATOR, form),
    Route("POST", f"{LIST}/save", _OPERATOR, save),
    Route("POST", f"{LIST}/remove", _OPERATOR, remove, step_up=True),
    Route("GET", f"{LIST}/price", _OPERATOR, price_form, step_up=True),
    Route("POST", f"{LIST}/price", _OPERATOR, save_price, step_up=True),
    Route("POST", f"{LIST}/withdraw", _OPERATOR, withdraw, step_up=True),
    Route("GET", f"{LIST}/import", _OPERATOR, compare, step_up=True),
    Route("POST", f"{LIST}/import", _OPERATOR, take_over, step_up=True),
)
