"""Actions that tell what was used: in short by the keeper, at length as reports."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from proxy.core.actions.action import Action, Arguments, Role

Ending: TypeAlias = Literal[
    "failed",
    "complete",
    "client_gone",
    "upstream_truncated",
    "upstream_error",
    "timeout",
    "cut_for_balance",
    "cut_for_max_cost",
    "cut_by_shutdown",
    "cut_by_revocation",
    "rejected",
    "internal_error",
]
"""How a call ended; `failed` is everything but `complete`."""


class UsageDaily(Arguments, frozen=True):
    user: str | None = None
    days: int = 31


class UsageList(Arguments, frozen=True):
    user: str | None = None
    before: str | None = None
    rows_max: int = 50


class CallList(Arguments, frozen=True):
    """`key`: its id or name. `since`, `until`: a day, a time, or a span such as 7d.

    `before`: a request id; the page of those that are older. Calls that run are told with the
    first page.
    """

    user: str | None = None
    key: str | None = None
    model: str | None = None
    group: str | None = None
    verdict: Ending | None = None
    since: str | None = None
    until: str | None = None
    before: str | None = None
    rows_max: Annotated[int, Meta(ge=1, le=1_000)] = 50


class CallSums(Arguments, frozen=True):
    """`key`: its id or name.

    `until`: the last of the `days`, such as 2026-01-31 (UTC); today, if it is left out.
    """

    user: str
    key: str | None = None
    model: str | None = None
    group: str | None = None
    verdict: Ending | None = None
    days: Annotated[int, Meta(ge=1, le=366)] = 30
    until: str | None = None


class CallShow(Arguments, frozen=True):
    """`call`: its request id."""

    call: str
    user: str | None = None


ACTIONS = (
    Action(
        "call list",
        CallList,
        "Calls, latest first, by key, model, group, time and how they ended; and those that run.",
        Role.USER,
        audited=False,
        report=True,
    ),
    Action(
        "call sums",
        CallSums,
        "What a wallet's calls come to, by day, model and key.",
        Role.USER,
        audited=False,
        report=True,
    ),
    Action(
        "call show",
        CallShow,
        "One call's receipt: usage, price, charge, attempts, what was given back.",
        Role.USER,
        audited=False,
        report=True,
    ),
    Action(
        "usage", UsageList, "Ended calls, latest first, with what each cost.", Role.USER,
        audited=False,
    ),
    Action(
        "usage daily",
        UsageDaily,
        "Sums per UTC day, user and model.",
        Role.USER,
        audited=False,
        report=True,
    ),
)  # fmt: skip
