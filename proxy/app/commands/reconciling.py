"""Reconciliation as a report: a provider's export against what a channel was asked for.

Rules: it is the comparison of the console's page, done at once and kept nowhere. This module must
not know how anything is compared.
"""

from collections.abc import Mapping, Sequence

from proxy.app.commands.shapes import DAY_SECONDS, Desk, Report, iso, money, parse_day
from proxy.core.actions.action import Actor
from proxy.core.actions.reports import ReportReconcile
from proxy.core.actions.unfit import Findings
from proxy.core.reconciliation.exports import KNOWN_NAMES
from proxy.core.reconciliation.records import MONEY, Row, plain
from proxy.core.sentences import Sentence
from proxy.edge.console.reconciliations import Job, carry_out, task_of
from proxy.storage.reports.channels import public_catalog


async def report_reconcile(desk: Desk, _actor: Actor, a: ReportReconcile) -> object:
    """Compare an export with a channel's attempts: sums by what explains them, and rows."""
    findings = Findings()
    told = findings.judge("columns", _columns, a.columns)
    span = _span(findings, a.since, a.until)
    catalog = await public_catalog(desk.database)
    channel = next((one for one in catalog.channels.values() if one.name == a.channel), None)
    if channel is None:
        findings.fields["channel"] = Sentence(
            "there is no channel {name!r}; see the list of channels", name=a.channel
        )
    findings.tell()
    if channel is None or told is None:
        raise AssertionError("what cannot be was not told")
    job = Job("", channel.name, "")
    await carry_out(job, desk.database, task_of(channel, "", a.export.encode(), told, span))
    export, found = job.export, job.comparison
    if export is None or found is None or job.span is None:
        raise AssertionError("a comparison that did not fail has no result")
    rows = found.picked(a.state or "", a.reason or "")
    return {
        "channel": channel.name,
        "since": iso(job.span[0]),
        "until": iso(job.span[1]),
        "by": "request" if found.by_request else "day and model",
        "lines": len(export.rows),
        "not_understood": export.left_out,
        "problems": [{"line": line, "problem": problem} for line, problem in export.problems],
        "columns": export.mapping,
        "unpriced_lines": found.unpriced,
        **money(theirs=found.theirs, ours=found.ours, difference=found.theirs - found.ours),
        "sums": [
            {"state": state.value, "reason": reason.value or None, "rows": one.rows}
            | money(theirs=one.theirs, ours=one.ours, difference=one.money)
            for (state, reason), one in found.explained()
        ],
        "rows": [_row(row) for row in rows[a.skip : a.skip + a.rows_max]],
        "more": len(rows) > a.skip + a.rows_max,
    }


def _row(row: Row) -> dict[str, object]:
    """A row's values, `differences` among them; amounts nobody knows are None."""
    found: dict[str, object] = {}
    for name, value in plain(row).items():
        if name not in MONEY:
            found[name] = value or None if name == "reason" else value
        elif isinstance(value, int):
            found |= money(**{name: value})
        else:
            found |= {f"{name}_usd": None, f"{name}_nano": None}
    return found | {"differences": row.differences}


def _columns(texts: Sequence[str]) -> dict[str, str]:
    """What columns mean, by what is meant. Raises ValueError."""
    found = {}
    for text in texts:
        field, _, column = (part.strip() for part in text.partition("="))
        if field not in KNOWN_NAMES or not column:
            known = ", ".join(KNOWN_NAMES)
            raise ValueError(
                Sentence(
                    "{text!r} is not like input=tokens_in, where a column can be {known}",
                    text=text,
                    known=known,
                )
            )
        found[field] = column
    return found


def _span(findings: Findings, since: str | None, until: str | None) -> tuple[float, float] | None:
    if since is None and until is None:
        return None
    if since is None or until is None:
        findings.fields["since" if since is None else "until"] = Sentence(
            "say both days, or neither"
        )
        return None
    first = findings.judge("since", parse_day, since)
    last = findings.judge("until", parse_day, until)
    if first is None or last is None:
        return None
    if last < first:
        findings.fields["until"] = Sentence(
            "{until!r} is before {since!r}", until=until, since=since
        )
    return float(first * DAY_SECONDS), float((last + 1) * DAY_SECONDS)


REPORTS: Mapping[str, Report] = {"report reconcile": report_reconcile}
