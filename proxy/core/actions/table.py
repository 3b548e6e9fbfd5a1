"""Every action by its name."""

from collections.abc import Mapping
from typing import Final

from proxy.core.actions import (
    catalog,
    channels,
    codes,
    groups,
    keys,
    ledger,
    models,
    people,
    plans,
    relay,
    sign_ins,
    teams,
    usage,
    users,
    wallets,
)
from proxy.core.actions.action import Action

ACTIONS: Final[Mapping[str, Action]] = {
    action.name: action
    for domain in (
        catalog,
        channels,
        codes,
        groups,
        keys,
        ledger,
        models,
        people,
        plans,
        relay,
        sign_ins,
        teams,
        usage,
        users,
        wallets,
    )
    for action in domain.ACTIONS
}
