"""Groups: what is in each, its multiplier and its contract.

Rules: what was entered stays in the form whatever the keeper says; an edit names what it is based
on. This module must not know how the catalog is stored.
"""

from typing import Any, Final

from aiohttp import web

from proxy.core.actions.action import Role
from proxy.edge.console.faults import WHOLE, Fault, fault_of
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.languages import Translator
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit

LIST: Final = "/operator/groups"
TEXTS: Final = ("multiplier", "disconnect", "cache_scope", "cache_multiplier")
FIELDS: Final = frozenset(
    {"name", *TEXTS, "drain_seconds_max", "output_tokens_max", "retry_after_timeout"}
)
NEW: Final[dict[str, Any]] = {
    "name": "", "multiplier": "1.0", "disconnect": "cancel", "drain_seconds_max": 30.0,
    "retry_after_timeout": False, "output_tokens_max": "", "cache_scope": "key",
    "cache_multiplier": "0.0",
}  # fmt: skip


async def groups(seen: Visit) -> web.StreamResponse:
    """All groups, and what is in each."""
    return seen.render("operator/groups.html", groups=await seen.do("group list"))


async def form(seen: Visit) -> web.StreamResponse:
    """The form of a new group, or of one that is there."""
    name = seen.request.query.get("name")
    if name is None:
        return _form(seen, dict(NEW), create=True, basis="")
    found = await _find(seen, name)
    return _form(seen, found["group"], create=False, basis=found["basis"])


async def save(seen: Visit) -> web.StreamResponse:
    """Make or change a group with what the form says."""
    sent = await seen.form()
    create, basis = sent.get("create") == "1", str(sent.get("basis", ""))
    values: dict[str, Any] = {field: str(sent.get(field, "")).strip() for field in FIELDS}
    values["retry_after_timeout"] = sent.get("retry_after_timeout") == "1"
    name = values["name"]
    table, faults = _table(values, seen.texts)
    fault = Fault(faults, "", moved=False)
    if not faults:
        try:
            base = {} if create else {"basis": basis}
            await seen.do("group set", name=name, set=table, create=create, **base)
        except Refused as refused:
            fault = fault_of(refused, FIELDS)
        else:
            _ = seen.texts
            return seen.redirect(LIST, _("The group {name} was saved.", name=name))
    if fault.moved:
        basis = (await _find(seen, name))["basis"]
    return _form(seen, values, create=create, basis=basis, fault=fault)


async def remove(seen: Visit) -> web.StreamResponse:
    """Remove a group that nothing is in."""
    _, name = seen.texts, str((await seen.form()).get("name", ""))
    try:
        await seen.do("group remove", name=name)
    except Refused as refused:
        return seen.redirect(LIST, str(refused), "error")
    return seen.redirect(LIST, _("The group {name} was removed.", name=name))


async def _find(seen: Visit, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = await seen.do("group list")
    for each in found:
        if each["group"]["name"] == name:
            return each
    raise Refused(f"there is no group {name!r}", "see the list of groups")


def _form(
    seen: Visit, values: dict[str, Any], *, create: bool, basis: str, fault: Fault | None = None
) -> web.StreamResponse:
    return seen.render(
        "operator/group_form.html",
        status=422 if fault else 200,
        values=values,
        create=create,
        basis=basis,
        faults={} if fault is None else fault.fields,
        remedy="" if fault is None else fault.remedy,
        moved=fault is not None and fault.moved,
        whole="" if fault is None else fault.fields.get(WHOLE, ""),
    )


def _table(values: dict[str, Any], _: Translator) -> tuple[dict[str, Any], dict[str, str]]:
    """What the form says as keys of a `[[group]]`, and what is wrong by field."""
    table: dict[str, Any] = {name: values[name] or None for name in TEXTS}
    table["retry_after_timeout"] = values["retry_after_timeout"]
    faults: dict[str, str] = {}
    try:
        seconds = values["drain_seconds_max"]
        table["drain_seconds_max"] = float(seconds) if seconds else None
    except ValueError:
        faults["drain_seconds_max"] = _("Must be a number")
    try:
        tokens = values["output_tokens_max"]
        table["output_tokens_max"] = int(tokens) if tokens else None
    except ValueError:
        faults["output_tokens_max"] = _("Must be a number")
    return table, faults


ROUTES = (
    Route("GET", LIST, Role.OPERATOR, groups),
    Route("GET", f"{LIST}/new", Role.OPERATOR, form, step_up=True),
    Route("GET", f"{LIST}/edit", Role.OPERATOR, form, step_up=True),
    Route("POST", f"{LIST}/save", Role.OPERATOR, save, step_up=True),
    Route("POST", f"{LIST}/remove", Role.OPERATOR, remove, step_up=True),
)
