"""Actions that ask how the relay's processes do, and by which settings."""

from proxy.core.actions.action import Action, Arguments, Role

ACTIONS = (
    Action(
        "relay figures",
        Arguments,
        "Open calls, breakers and readiness of a relay of one process.",
        audited=False,
        exposed=False,
    ),
    Action(
        "relay settings",
        Arguments,
        "The settings the relay runs with, flags and reloads included.",
        role=Role.ADMIN,
        audited=False,
        exposed=False,
    ),
)
