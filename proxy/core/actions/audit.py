"""Actions on the audit log: to look through it, for nobody can change it."""

from typing import Annotated, Final, Literal

from msgspec import Meta

from proxy.core.actions.action import Action, Arguments

ID_MAX: Final = (1 << 63) - 1
TEXT_CHARS_MAX: Final = 300


class AuditList(Arguments, frozen=True):
    """`actor` and `action`: parts of them. `since`, `until`: a day, a time, or a span such as 7d.

    `before`: the id of an entry; the page of those that are older.
    """

    actor: Annotated[str, Meta(max_length=TEXT_CHARS_MAX)] = ""
    action: Annotated[str, Meta(max_length=TEXT_CHARS_MAX)] = ""
    outcome: Literal["done", "refused", "unfinished"] | None = None
    since: str | None = None
    until: str | None = None
    before: Annotated[int, Meta(ge=0, le=ID_MAX)] | None = None
    rows_max: Annotated[int, Meta(ge=1, le=500)] = 50


ACTIONS = (
    Action(
        "audit list",
        AuditList,
        "Who changed what, from where, and how it ended; the latest first.",
        audited=False,
        report=True,
    ),
)
