"""Actions on wallets' owners, as the catalog knows them."""

from proxy.core.actions.action import Action, Arguments


class UserAdd(Arguments, frozen=True):
    name: str
    plan: str | None = None
    credit: str | None = None


class UserSet(Arguments, frozen=True):
    """What is None stays. A user that is not enabled has no key that works."""

    user: str
    plan: str | None = None
    enabled: bool | None = None


ACTIONS = (
    Action(
        "user add", UserAdd, "Add a user; with `credit`, top the wallet up at once.", step_up=True
    ),
    Action(
        "user set",
        UserSet,
        "Give a user another plan, whose month begins and is paid, or let them in or not.",
    ),
    Action("user list", Arguments, "All users with their balances.", audited=False),
)
