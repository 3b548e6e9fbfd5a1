"""Actions on notices of wallets, asked for by the console's process alone."""

from proxy.core.actions.action import Action, Arguments, Role


class NoticeMailed(Arguments, frozen=True):
    notice: int


ACTIONS = (
    Action(
        "notice watch",
        Arguments,
        "Raise and end notices of low balance by what wallets have now.",
        Role.ADMIN,
        exposed=False,
    ),
    Action(
        "notice mailed",
        NoticeMailed,
        "Note that a notice is about to be mailed; says whether it is the first time.",
        Role.ADMIN,
        exposed=False,
    ),
)
