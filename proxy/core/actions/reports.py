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


ACTIONS = (
    Action(
        "report margin",
        ReportMargin,
        "What was charged, given back and owed upstream, by day and channel, model or group.",
        audited=False,
        report=True,
    ),
)
