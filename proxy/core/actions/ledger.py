"""Actions on the ledger's file."""

from proxy.core.actions.action import Action, Arguments, Role


class LedgerRollup(Arguments, frozen=True):
    """`seconds_max`: how long one answer may take; ask again while it says `done` is false."""

    days: int
    seconds_max: float = 30.0


ACTIONS = (
    Action(
        "ledger rollup", LedgerRollup, "Let old calls leave; their sums stay.", Role.ADMIN,
        step_up=True,
    ),
    Action(
        "ledger flush", Arguments, "Wait until the file has everything decided so far.",
        audited=False,
    ),
)  # fmt: skip
