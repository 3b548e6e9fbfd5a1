"""The operator's routes, joined: what is under `/operator`."""

from typing import Final

from proxy.edge.console import (
    pages_audit,
    pages_channels,
    pages_groups,
    pages_money,
    pages_operator,
    pages_prices,
    pages_reconcile,
    pages_users,
)
from proxy.edge.console.routes import Route

ROUTES: Final[tuple[Route, ...]] = (
    *pages_audit.ROUTES,
    *pages_channels.ROUTES,
    *pages_groups.ROUTES,
    *pages_money.ROUTES,
    *pages_operator.ROUTES,
    *pages_prices.ROUTES,
    *pages_reconcile.ROUTES,
    *pages_users.ROUTES,
)
