"""Actions on plans: limits, and what a month of one costs and gives."""

from proxy.core.actions.action import Action, Arguments, Role

Table = dict[str, object]


class PlanName(Arguments, frozen=True):
    name: str


class PlanSet(Arguments, frozen=True):
    """`set`: keys of a `[[plan]]`, null for what it is without one; `basis` as of `plan list`."""

    name: str
    set: Table
    create: bool = False
    basis: str | None = None


class PlanChoose(Arguments, frozen=True):
    user: str
    plan: str


ACTIONS = (
    Action("plan list", Arguments, "All plans, and how many wallets are on each.", audited=False),
    Action(
        "plan set", PlanSet, "Change some of a plan, its fee among it, or make one.", step_up=True
    ),
    Action("plan remove", PlanName, "Remove a plan that no wallet is on.", step_up=True),
    Action(
        "plan choose",
        PlanChoose,
        "Put a wallet on a plan and begin its month; people choose among those on offer.",
        Role.USER,
    ),
)
