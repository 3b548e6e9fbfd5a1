"""Actions that report on the whole relay, as the operator's pages do.

Rules: every figure is the one that the page of the same name shows; spans and pages are bounded.
"""

from typing import Annotated, Literal

from msgspec import Meta

from proxy.core.actions.action import Action, Arguments


class ReportMargin(Arguments, frozen=True):
    """`until`: the last of the `days`, such as 2026-01-31 (UTC); today, if it is left out.

    `skip`: how many names are passed over, which come the most charged first.
    """

    days: Annotated[int, Meta(ge=1, le=366)] = 7
    until: str | None = None
    by: Literal["channel", "model", "group"] = "channel"
    rows_max: Annotated[int, Meta(ge=1, le=1_000)] = 500
    skip: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class ReportTraffic(Arguments, frozen=True):
    """`minutes`: how far back; less far where there were too many calls to look at."""

    minutes: Annotated[int, Meta(ge=1, le=1_440)] = 60


class ReportErrors(Arguments, frozen=True):
    """`hours`: how far back; less far where there were too many calls to look at."""

    hours: Annotated[int, Meta(ge=1, le=168)] = 24


class ReportOverview(Arguments, frozen=True):
    """The state of the relay now."""


class ReportChannels(Arguments, frozen=True):
    """All channels, enabled or not."""


class ReportReconcile(Arguments, frozen=True):
    """`export`: the text of a provider's usage export, CSV or JSON. `channel`: what it is about.

    `since`, `until`: the first and the last day, where the export says no times, or less is wanted.
    `columns`: what a column means that is not known by its name, such as input=tokens_in.
    `state`, `reason`: of which rows; all are summed.
    """

    channel: str
    export: str
    since: str | None = None
    until: str | None = None
    columns: tuple[str, ...] = ()
    state: Literal["matched", "differing", "only_theirs", "only_ours"] | None = None
    reason: (
        Literal[
            "cut_short",
            "not_served",
            "cache",
            "tokens",
            "price",
            "no_cost",
            "not_ours",
            "no_id",
            "unbilled",
            "missing",
        ]
        | None
    ) = None
    rows_max: Annotated[int, Meta(ge=1, le=1_000)] = 100
    skip: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


ACTIONS = (
    Action(
        "report overview",
        ReportOverview,
        "The state of the relay: what is wrong, the last hour, today's margin, each channel.",
        audited=False,
        report=True,
    ),
    Action(
        "report traffic",
        ReportTraffic,
        "Calls by minute, by channel and model, with success and speed, and those that run now.",
        audited=False,
        report=True,
    ),
    Action(
        "report errors",
        ReportErrors,
        "Calls and attempts that failed, gathered by what went wrong, with examples.",
        audited=False,
        report=True,
    ),
    Action(
        "report channels",
        ReportChannels,
        "How each channel does: health, keys, calls of the last hour, today's cost and margin.",
        audited=False,
        report=True,
    ),
    Action(
        "report margin",
        ReportMargin,
        "What was charged, given back and owed upstream, by day and channel, model or group.",
        audited=False,
        report=True,
    ),
    Action(
        "report reconcile",
        ReportReconcile,
        "Compare a provider's usage export with a channel's attempts, and what explains it.",
        audited=False,
        report=True,
    ),
)
