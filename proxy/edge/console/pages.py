"""The table of every route of the console."""

from typing import Final

from proxy.edge.console import (
    pages_account,
    pages_api,
    pages_cards,
    pages_email,
    pages_front,
    pages_keys,
    pages_leave,
    pages_market,
    pages_of_operators,
    pages_password,
    pages_people,
    pages_playground,
    pages_provider,
    pages_register,
    pages_selftest,
    pages_sign_in,
    pages_team,
    pages_tokens,
    pages_usage,
    pages_wallet,
)
from proxy.edge.console.routes import Route

ROUTES: Final[tuple[Route, ...]] = (
    *pages_account.ROUTES,
    *pages_api.ROUTES,
    *pages_cards.ROUTES,
    *pages_email.ROUTES,
    *pages_front.ROUTES,
    *pages_keys.ROUTES,
    *pages_leave.ROUTES,
    *pages_market.ROUTES,
    *pages_of_operators.ROUTES,
    *pages_password.ROUTES,
    *pages_people.ROUTES,
    *pages_playground.ROUTES,
    *pages_provider.ROUTES,
    *pages_register.ROUTES,
    *pages_selftest.ROUTES,
    *pages_sign_in.ROUTES,
    *pages_team.ROUTES,
    *pages_tokens.ROUTES,
    *pages_usage.ROUTES,
    *pages_wallet.ROUTES,
)
