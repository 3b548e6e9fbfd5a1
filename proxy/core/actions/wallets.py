"""Actions on wallets."""

from enum import StrEnum

from proxy.core.actions.action import Action, Arguments, Role


class NoticeKind(StrEnum):
    """What a wallet's people are told of."""

    LOW_BALANCE = "low_balance"
    PLAN_ENDED = "plan_ended"


class WalletCredit(Arguments, frozen=True):
    user: str
    amount: str
    reason: str = "top-up by the operator"
    reference: str | None = None


class WalletShow(Arguments, frozen=True):
    user: str


class WalletRefund(Arguments, frozen=True):
    """`call`: its request id. Without an amount: all that is left of its charge."""

    call: str
    reason: str
    amount: str | None = None
    reference: str | None = None


class WalletAdjust(Arguments, frozen=True):
    """`amount` in USD, below zero to take; never more than no open call holds."""

    user: str
    amount: str
    reason: str
    reference: str | None = None


class WalletHistory(Arguments, frozen=True):
    """`until`: the last day of `days` (UTC), as the answer before named it in `older`."""

    user: str
    until: str | None = None
    days: int = 31


class WalletThreshold(Arguments, frozen=True):
    """`below` in USD; 0: nobody wants to be told."""

    user: str
    below: str


class WalletNoticeRead(Arguments, frozen=True):
    user: str
    kind: NoticeKind


ACTIONS = (
    Action("wallet credit", WalletCredit, "Top a wallet up, once per reference.", step_up=True),
    Action(
        "wallet show",
        WalletShow,
        "A wallet, where its money came from and where it went.",
        Role.USER,
        audited=False,
    ),
    Action(
        "wallet refund",
        WalletRefund,
        "Give back what a call was charged, or part of it.",
        step_up=True,
    ),
    Action("wallet adjust", WalletAdjust, "Correct a wallet, up or down.", step_up=True),
    Action(
        "wallet history",
        WalletHistory,
        "What came into a wallet and left it, latest first.",
        Role.USER,
        audited=False,
    ),
    Action(
        "wallet threshold",
        WalletThreshold,
        "Say below which balance the wallet's people are told.",
        Role.USER,
    ),
    Action(
        "wallet notice read",
        WalletNoticeRead,
        "Do not show a notice of a wallet any more.",
        Role.USER,
    ),
)
