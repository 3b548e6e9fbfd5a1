"""Actions that ask how the relay's processes do."""

from proxy.core.actions.action import Action, Arguments

ACTIONS = (
    Action(
        "relay figures",
        Arguments,
        "Open calls, breakers and readiness of a relay of one process.",
        audited=False,
        exposed=False,
    ),
)
