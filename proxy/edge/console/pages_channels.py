"""Channels: the list with its health, one channel, its form, its pool of keys, its trial.

Rules: an upstream key goes in and is never shown; what was entered stays in the form whatever the
keeper says about it; an edit names what it is based on. This module must not know how the catalog
is stored.
"""

from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.core.entities import DIALECT_ENDPOINTS, ENDPOINTS, Dialect
from proxy.core.reconciliation.records import day_of
from proxy.core.sentences import text_of
from proxy.edge.console.faults import WHOLE, Fault, fault_of
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.languages import Translator
from proxy.edge.console.pages_operator import picture_of
from proxy.edge.console.price_texts import models_text, prices_text, read_models, read_prices
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit
from proxy.storage.reports.channels import in_order, key_counts, public_catalog
from proxy.storage.reports.margin import By, Margin, margin
from proxy.storage.reports.spans import Days
from proxy.storage.reports.traffic import traffic

CHOICES_MAX: Final = 200
LIST: Final = "/operator/channels"
TEXTS: Final = ("dialect", "base_url", "usage_option", "terminal")
OPTIONAL: Final = ("api_version",)
INTEGERS: Final = ("priority", "weight")
SECONDS: Final = ("connect_seconds_max", "first_byte_seconds_max", "idle_seconds_max")
FLAGS: Final = ("allow_private", "enabled")
FIELDS: Final = frozenset(
    {
        *("name", "groups", "endpoints", "models", "costs", "proxy"),
        *(*TEXTS, *OPTIONAL, *INTEGERS, *SECONDS, *FLAGS),
    }
)
NEW: Final[dict[str, Any]] = {
    "name": "", "dialect": "openai", "base_url": "", "usage_option": "send", "terminal": "done",
    "priority": 0, "weight": 1, "connect_seconds_max": 5.0, "first_byte_seconds_max": 120.0,
    "idle_seconds_max": 120.0, "allow_private": False, "enabled": True, "groups": ["default"],
}  # fmt: skip
"""What the form of a new channel says before anything is entered."""


async def channels(seen: Visit) -> web.StreamResponse:
    """All channels, how they do, and what they cost today."""
    reader = await seen.reader()
    catalog = await public_catalog(seen.surroundings.database)
    picture = await picture_of(seen.surroundings)
    today = Days(day_of(seen.now), day_of(seen.now))
    return seen.render(
        "operator/channels.html",
        channels=in_order(catalog),
        breakers={} if picture is None else picture.merged.breakers,
        resting={} if picture is None else picture.merged.resting,
        keys=await key_counts(reader),
        sums=(await traffic(reader, seen.now)).by_channel,
        costs=dict((await margin(reader, today, By.CHANNEL)).by_name()),
        nothing=Margin(),
    )


async def show(seen: Visit) -> web.StreamResponse:
    """One channel: what it is, how it does, its keys."""
    name = seen.request.query.get("name", "")
    found = await seen.do("channel show", name=name)
    models = sorted(found["channel"]["models"].items())
    picture = await picture_of(seen.surroundings)
    report = await traffic(await seen.reader(), seen.now)
    return seen.render(
        "operator/channel.html",
        found=found,
        channel=found["channel"],
        models=models,
        choices=[(public, public) for public, _theirs in models[:CHOICES_MAX]],
        breaker=None if picture is None else picture.merged.breakers.get(name),
        resting=0 if picture is None else picture.merged.resting.get(name, 0),
        parts_rows=[part for part in report.parts if part.channel == name],
    )


async def form(seen: Visit) -> web.StreamResponse:
    """The form of a new channel, or of one that is there."""
    name = seen.request.query.get("name")
    if name is None:
        groups = [each["group"]["name"] for each in await seen.do("group list")]
        # One that is not there could not be saved, and the reader had not chosen it.
        preset = groups if len(groups) == 1 else [one for one in NEW["groups"] if one in groups]
        return await _form(seen, {**NEW, "groups": preset}, create=True, basis="")
    found = await seen.do("channel show", name=name)
    values = _shown(found["channel"])
    return await _form(seen, values, create=False, basis=found["basis"])


async def save(seen: Visit) -> web.StreamResponse:
    """Make or change a channel with what the form says."""
    sent = await seen.form()
    create = sent.get("create") == "1"
    name, basis = str(sent.get("name", "")).strip(), str(sent.get("basis", ""))
    values: dict[str, Any] = {
        **{field: str(sent.get(field, "")) for field in FIELDS - {"groups", "endpoints"}},
        **{flag: sent.get(flag) == "1" for flag in FLAGS},
        "groups": [str(one) for one in sent.getall("groups", [])],
        "endpoints": [str(one) for one in sent.getall("endpoints", [])],
        "name": name,
    }
    table, faults = _table(values, seen.texts)
    proxy = {"proxy": values["proxy"].strip()} if values["proxy"].strip() else {}
    if sent.get("no_proxy") == "1":
        proxy = {"proxy": ""}
    fault = Fault(faults, "", moved=False)
    if not faults:
        try:
            base = {} if create else {"basis": basis}
            await seen.do("channel set", name=name, set=table, create=create, **base, **proxy)
        except Refused as refused:
            fault = fault_of(refused, FIELDS)
        else:
            _ = seen.texts
            text = _("The channel was made. Give it a key.") if create else _("Saved.")
            return seen.redirect(_url("show", name), text)
    if fault.moved:
        # What was entered is kept; sent once more it is an edit of what is there now.
        basis = (await seen.do("channel show", name=name))["basis"]
    return await _form(seen, values, create=create, basis=basis, fault=fault)


async def test(seen: Visit) -> web.StreamResponse:
    """Make one tiny real call to a channel and say how it went."""
    _, sent = seen.texts, await seen.form()
    name, model = str(sent.get("name", "")), str(sent.get("model", ""))
    try:
        trial = await seen.do("channel test", name=name, **({"model": model} if model else {}))
    except Refused as refused:
        return seen.redirect(_url("show", name), str(refused), "error")
    if not trial["ok"]:
        text = _(
            "The test of {model} failed: {answer}", model=trial["model"], answer=trial["answer"]
        )
        return seen.redirect(_url("show", name), text, "error")
    text = _(
        "{model} answered after {ms} ms: {answer}",
        model=trial["model"],
        ms=round(trial["total_ms"]),
        answer=trial["answer"],
    )
    return seen.redirect(_url("show", name), text)


async def switch(seen: Visit) -> web.StreamResponse:
    """Let a channel serve, or serve no longer."""
    _, sent = seen.texts, await seen.form()
    name, enabled = str(sent.get("name", "")), sent.get("enabled") == "1"
    await seen.do("channel switch", name=name, enabled=enabled)
    text = _("The channel serves.") if enabled else _("The channel serves no more calls.")
    return seen.redirect(_url("show", name), text)


async def remove(seen: Visit) -> web.StreamResponse:
    """Remove a channel."""
    name = str((await seen.form()).get("name", ""))
    await seen.do("channel remove", name=name)
    _ = seen.texts
    return seen.redirect(LIST, _("The channel {name} was removed.", name=name))


async def key_form(seen: Visit) -> web.StreamResponse:
    """The form of a new key of the pool."""
    name = seen.request.query.get("name", "")
    await seen.do("channel show", name=name)
    return seen.render("operator/channel_key.html", name=name, fault=None)


async def add_key(seen: Visit) -> web.StreamResponse:
    """Put a key into the pool; what was entered is not shown again."""
    _, sent = seen.texts, await seen.form()
    name = str(sent.get("name", ""))
    try:
        await seen.do("channel key add", name=name, secret=str(sent.get("secret", "")))
    except Refused as refused:
        return seen.render("operator/channel_key.html", status=422, name=name, fault=refused)
    return seen.redirect(_url("show", name), _("The key is in the pool."))


async def remove_key(seen: Visit) -> web.StreamResponse:
    """Take a key out of the pool."""
    _, sent = seen.texts, await seen.form()
    name, key = str(sent.get("name", "")), str(sent.get("key", ""))
    number = int(key) if key.isascii() and key.isdigit() and len(key) < 16 else 0
    await seen.do("channel key remove", name=name, key=number)
    return seen.redirect(_url("show", name), _("The key was taken out of the pool."))


async def _form(
    seen: Visit, values: dict[str, Any], *, create: bool, basis: str, fault: Fault | None = None
) -> web.StreamResponse:
    groups = [each["group"]["name"] for each in await seen.do("group list")]
    return seen.render(
        "operator/channel_form.html",
        status=422 if fault else 200,
        values=values,
        create=create,
        basis=basis,
        faults={} if fault is None else fault.fields,
        remedy="" if fault is None else fault.remedy,
        moved=fault is not None and fault.moved,
        whole="" if fault is None else fault.fields.get(WHOLE, ""),
        groups=[(name, name, "") for name in sorted({*groups, *values.get("groups", [])})],
        endpoints=[(name, name, "") for name in sorted(ENDPOINTS)],
        dialects=[(each.value, each.value) for each in Dialect],
    )


def _shown(table: dict[str, Any]) -> dict[str, Any]:
    """A channel as its form shows it; an outbound proxy may hold a password and is not shown."""
    return {
        **table,
        "endpoints": table.get("endpoints", sorted(DIALECT_ENDPOINTS[table["dialect"]])),
        "models": models_text(table["models"]),
        "costs": prices_text(table["costs"]),
        "proxy": "",
        "has_proxy": "proxy" in table,
    }


def _table(values: dict[str, Any], texts: Translator) -> tuple[dict[str, Any], dict[str, str]]:
    """What the form says as keys of a `[[channel]]`, and what is wrong by field."""
    _ = texts
    table: dict[str, Any] = {name: values[name].strip() for name in TEXTS}
    table |= {name: values[name].strip() or None for name in OPTIONAL}
    table |= {name: values[name] for name in FLAGS}
    faults: dict[str, str] = {}
    for names, kind in ((INTEGERS, int), (SECONDS, float)):
        for name in names:
            try:
                table[name] = kind(values[name]) if values[name].strip() else None
            except ValueError:
                faults[name] = _("Must be a number")
    for name, read in (("models", read_models), ("costs", read_prices)):
        try:
            table[name] = read(values[name])
        except ValueError as error:
            faults[name] = _("It {fault}", fault=texts(text_of(error)))
    table["groups"] = values["groups"]
    usual = DIALECT_ENDPOINTS.get(table["dialect"], frozenset())
    chosen = frozenset(values["endpoints"])
    table["endpoints"] = None if not chosen or chosen == usual else sorted(chosen)
    return table, faults


def _url(page: str, name: str) -> str:
    return f"{LIST}/{page}?name={quote(name, safe='')}"


_OPERATOR: Final = Role.OPERATOR
ROUTES = (
    Route("GET", LIST, _OPERATOR, channels),
    Route("GET", f"{LIST}/show", _OPERATOR, show),
    Route("GET", f"{LIST}/new", _OPERATOR, form, step_up=True),
    Route("GET", f"{LIST}/edit", _OPERATOR, form, step_up=True),
    Route("POST", f"{LIST}/save", _OPERATOR, save, step_up=True),
    Route("POST", f"{LIST}/test", _OPERATOR, test),
    Route("POST", f"{LIST}/switch", _OPERATOR, switch),
    Route("POST", f"{LIST}/remove", _OPERATOR, remove, step_up=True),
    Route("GET", f"{LIST}/keys/new", _OPERATOR, key_form, step_up=True),
    Route("POST", f"{LIST}/keys/add", _OPERATOR, add_key, step_up=True),
    Route("POST", f"{LIST}/keys/remove", _OPERATOR, remove_key, step_up=True),
)
