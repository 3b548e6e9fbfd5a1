"""Actions on wallets' owners, as the catalog knows them."""

from proxy.core.actions.action import Action, Arguments


class UserAdd(Arguments, frozen=True):
    name: str
    plan: str | None = None
    credit: str | None = None


ACTIONS = (
    Action("user add", UserAdd, "Add a user; with `credit`, top the wallet up at once."),
    Action("user list", Arguments, "All users with their balances.", audited=False),
)
