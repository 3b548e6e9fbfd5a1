"""Actions on wallets."""

from proxy.core.actions.action import Action, Arguments, Role


class WalletCredit(Arguments, frozen=True):
    user: str
    amount: str
    reason: str = "top-up by the operator"
    reference: str | None = None


class WalletShow(Arguments, frozen=True):
    user: str


ACTIONS = (
    Action("wallet credit", WalletCredit, "Top a wallet up, once per reference.", step_up=True),
    Action(
        "wallet show",
        WalletShow,
        "A wallet, where its money came from and where it went.",
        Role.USER,
        audited=False,
    ),
)
