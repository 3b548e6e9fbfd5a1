"""Actions on groups, the classes of channels that keys belong to."""

from proxy.core.actions.action import Action, Arguments

Table = dict[str, object]


class GroupName(Arguments, frozen=True):
    name: str


class GroupSet(Arguments, frozen=True):
    """`set`: keys of a `[[group]]`, null for what it is without one; `basis` as of `group list`."""

    name: str
    set: Table
    create: bool = False
    basis: str | None = None


ACTIONS = (
    Action("group list", Arguments, "All groups, and what is in each.", audited=False),
    Action(
        "group set",
        GroupSet,
        "Change some of a group, its multiplier among it, or make one.",
        step_up=True,
    ),
    Action("group remove", GroupName, "Remove a group that no key is in.", step_up=True),
)
