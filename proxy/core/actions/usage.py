"""Actions that tell what was used."""

from proxy.core.actions.action import Action, Arguments, Role


class UsageDaily(Arguments, frozen=True):
    user: str | None = None
    days: int = 31


class UsageList(Arguments, frozen=True):
    user: str | None = None
    before: str | None = None
    rows_max: int = 50


ACTIONS = (
    Action(
        "usage", UsageList, "Ended calls, latest first, with what each cost.", Role.USER,
        audited=False,
    ),
    Action(
        "usage daily", UsageDaily, "Sums per UTC day, user and model.", Role.USER, audited=False,
    ),
)  # fmt: skip
