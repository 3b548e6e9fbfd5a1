"""Every action by its name."""

from collections.abc import Mapping
from typing import Final

from proxy.core.actions import (
    audit,
    catalog,
    channels,
    codes,
    groups,
    keys,
    ledger,
    models,
    notices,
    payments,
    people,
    plans,
    relay,
    reports,
    sign_ins,
    teams,
    tokens,
    usage,
    users,
    wallets,
)
from proxy.core.actions.action import Action

DOMAINS: Final[Mapping[str, tuple[Action, ...]]] = {
    domain.__name__.rpartition(".")[2]: domain.ACTIONS
    for domain in (
        audit,
        catalog,
        channels,
        codes,
        groups,
        keys,
        ledger,
        models,
        notices,
        payments,
        people,
        plans,
        relay,
        reports,
        sign_ins,
        teams,
        tokens,
        usage,
        users,
        wallets,
    )
}
"""Actions by what they are about."""
ACTIONS: Final[Mapping[str, Action]] = {
    action.name: action for actions in DOMAINS.values() for action in actions
}
DOMAIN_OF: Final[Mapping[str, str]] = {
    action.name: domain for domain, actions in DOMAINS.items() for action in actions
}
