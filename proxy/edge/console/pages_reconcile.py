"""Reconciliation: upload a provider's usage export, see what explains the difference.

Rules: an upload is bounded and stays in memory; while a job runs its page says how far it is and
asks again by itself; every row can be taken away as CSV. This module must not know how anything is
compared.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from aiohttp import web
from aiohttp.web_request import FileField

from proxy.core.actions.action import Role
from proxy.core.ids import format_id
from proxy.core.reconciliation.exports import (
    EXPORT_BYTES_MAX,
    KNOWN_NAMES,
    ExportError,
    read_moment,
)
from proxy.core.reconciliation.records import MONEY, Reason, Row, State, plain
from proxy.core.sentences import text_of
from proxy.core.spreadsheets import MARK, Cell, csv_line
from proxy.edge.console.languages import Translator
from proxy.edge.console.languages import later as _
from proxy.edge.console.reconciliations import DAY_SECONDS, Job, Stage, task_of
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import Visit
from proxy.storage.reports.channels import public_catalog

SAY_BOTH: Final = _("Say both days, the earlier one first")
LIST: Final = "/operator/reconcile"
FORM_BYTES: Final = 1 << 16
"""Room for everything else of the form."""
ROWS: Final = 100
ROWS_A_WRITE: Final = 1_000
FILE_CHARS_MAX: Final = 100
REFRESH_SECONDS: Final = 1
"""How often the page of a running job is asked for again."""


async def start_form(seen: Visit) -> web.StreamResponse:
    """The form, and what was compared lately."""
    return await _form(seen, {"channel": seen.request.query.get("channel", "")})


async def start(seen: Visit) -> web.StreamResponse:
    """Take an export and begin to compare it."""
    sent = await seen.form()
    files = [value for value in sent.values() if isinstance(value, FileField)]
    try:
        values = {name: value for name, value in sent.items() if isinstance(value, str)}
        return await _start(seen, values, files)
    finally:
        for file in files:
            file.file.close()


async def _start(
    seen: Visit, values: dict[str, str], files: Sequence[FileField]
) -> web.StreamResponse:
    _ = seen.texts
    catalog = await public_catalog(seen.surroundings.database)
    name = values.get("channel", "")
    channel = next((each for each in catalog.channels.values() if each.name == name), None)
    if channel is None:
        return await _form(seen, values, {"channel": _("Choose a channel.")})
    if not files:
        return await _form(seen, values, {"file": _("Choose the file to compare.")})
    try:
        span = _span(values)
    except ValueError as error:
        return await _form(seen, values, {"since": seen.texts(str(error))})
    body = await asyncio.to_thread(files[0].file.read)
    told = {
        field: values[f"column_{field}"].strip()
        for field in KNOWN_NAMES
        if values.get(f"column_{field}", "").strip()
    }
    task = task_of(channel, files[0].filename[:FILE_CHARS_MAX], body, told, span)
    try:
        job = seen.surroundings.reconciliations.start(seen.surroundings.database, task)
    except ExportError as error:
        return await _form(seen, values, {"": seen.texts(text_of(error))})
    return seen.redirect(f"{LIST}/{job.id}")


async def result(seen: Visit) -> web.StreamResponse:
    """How far a job is, or what came of it."""
    job = _job(seen)
    if job is None:
        return seen.problem(404)
    if job.comparison is None or job.export is None:
        stages = [Stage.READING, Stage.LOOKING_UP, Stage.COMPARING]
        done = stages.index(job.stage) if job.stage in stages else 0
        response = seen.render(
            "operator/reconcile_running.html", job=job, say=seen.texts, done=done, of=len(stages)
        )
        if not job.over:
            response.headers["refresh"] = str(REFRESH_SECONDS)
        return response
    found = job.comparison
    rows = found.picked(_asked(seen, "state"), _asked(seen, "reason"))
    page = seen.request.query.get("page", "0")
    at = int(page) * ROWS if page.isascii() and page.isdigit() and len(page) < 6 else 0
    query = f"state={_asked(seen, 'state')}&reason={_asked(seen, 'reason')}"
    return seen.render(
        "operator/reconcile_result.html",
        job=job,
        say=seen.texts,
        found=found,
        sums=found.explained(),
        rows=rows[at : at + ROWS],
        count=len(rows),
        at=at,
        older=f"{LIST}/{job.id}?{query}&page={at // ROWS + 1}" if len(rows) > at + ROWS else "",
        newer=f"{LIST}/{job.id}?{query}&page={at // ROWS - 1}" if at else "",
        query=query,
        state=_asked(seen, "state"),
        states=state_texts(seen.texts),
        reasons=reason_texts(seen.texts),
        format_id=format_id,
        day_seconds=DAY_SECONDS,
    )


async def as_csv(seen: Visit) -> web.StreamResponse:
    """Every row of a result, or of one state and reason."""
    job = _job(seen)
    if job is None or job.comparison is None:
        return seen.problem(404)
    response = web.StreamResponse(
        headers={
            "content-type": "text/csv; charset=utf-8",
            "content-disposition": 'attachment; filename="reconciliation.csv"',
        }
    )
    seen.take_leave(response)
    await response.prepare(seen.request)
    await response.write((MARK + csv_line(_COLUMNS)).encode())
    rows = job.comparison.picked(_asked(seen, "state"), _asked(seen, "reason"))
    for at in range(0, len(rows), ROWS_A_WRITE):
        lines = [csv_line(_cells(row)) for row in rows[at : at + ROWS_A_WRITE]]
        await response.write("".join(lines).encode())
    await response.write_eof()
    return response


# Whole nano-USD: a minus sign before a text would be taken for a formula, and a float is not exact.
_COLUMNS: Final = tuple(
    f"{name}_nano_usd" if name in MONEY else name
    for name in plain(Row(State.MATCHED, Reason.NONE, None, None, {}, None))
)


def _cells(row: Row) -> Iterable[Cell]:
    for value in plain(row).values():
        yield ("yes" if value else "no") if isinstance(value, bool) else value


def state_texts(_: Translator) -> dict[State, tuple[str, str]]:
    """Each state in words, and its colour."""
    return {
        State.MATCHED: (_("matches"), "good"),
        State.DIFFERING: (_("differs"), "warn"),
        State.ONLY_THEIRS: (_("only in the export"), "bad"),
        State.ONLY_OURS: (_("only here"), "warn"),
    }


def reason_texts(_: Translator) -> dict[Reason, str]:
    """What explains a difference, in a sentence."""
    return {
        Reason.NONE: _("Nothing to explain."),
        Reason.CUT_SHORT: _(
            "The stream ended before the provider told its usage; ours was counted."
        ),
        Reason.NOT_SERVED: _(
            "The attempt failed or was left and reported nothing; the provider bills it."
        ),
        Reason.CACHE: _("The same tokens, but another part of them from a cache."),
        Reason.TOKENS: _("The provider bills other counts than it reported with the answer."),
        Reason.PRICE: _("The same tokens at another price: check the costs of the channel."),
        Reason.NO_COST: _("The channel has no cost for this model, so nothing was booked."),
        Reason.NOT_OURS: _(
            "No attempt has this id: the key is used elsewhere, or its detail has left."
        ),
        Reason.NO_ID: _("No answer named a request id, so it cannot be found in the export."),
        Reason.UNBILLED: _("The attempt failed, and the provider does not bill it."),
        Reason.MISSING: _("It was served, and the export does not have it."),
    }


def _asked(seen: Visit, name: str) -> str:
    found = seen.request.query.get(name, "")
    words = {*State, *Reason}
    return found if found in words else ""


def _job(seen: Visit) -> Job | None:
    return seen.surroundings.reconciliations.jobs.get(seen.request.match_info["job"])


def _span(values: dict[str, str]) -> tuple[float, float] | None:
    since, until = (values.get(name, "").strip() for name in ("since", "until"))
    if not since and not until:
        return None
    first, last = read_moment(since), read_moment(until)
    if first is None or last is None or last < first:
        raise ValueError(SAY_BOTH)
    return first, last + DAY_SECONDS


async def _form(
    seen: Visit, values: dict[str, str], faults: dict[str, str] | None = None
) -> web.StreamResponse:
    catalog = await public_catalog(seen.surroundings.database)
    names = sorted(channel.name for channel in catalog.channels.values())
    return seen.render(
        "operator/reconcile.html",
        status=422 if faults else 200,
        values=values,
        faults=faults or {},
        channels=[(name, name) for name in names],
        fields=list(KNOWN_NAMES),
        jobs=list(seen.surroundings.reconciliations.jobs.values()),
        megabytes=EXPORT_BYTES_MAX >> 20,
    )


ROUTES = (
    Route("GET", LIST, Role.OPERATOR, start_form),
    Route("POST", LIST, Role.OPERATOR, start, bytes_max=EXPORT_BYTES_MAX + FORM_BYTES),
    Route("GET", f"{LIST}/{{job}}", Role.OPERATOR, result),
    Route("GET", f"{LIST}/{{job}}/rows.csv", Role.OPERATOR, as_csv),
)
