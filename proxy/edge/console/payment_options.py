"""What the operator set for payments, as the console's pages ask for it.

Rules: the fields are settings of the same names (app/settings_payments.py), so that a reload is a
new record; secrets are named by their files. This module must not know any page, nor the provider.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.core.money import parse_usd
from proxy.core.top_ups import Currency, read_rates
from proxy.edge.console.account_options import AccountOptions


@dataclass(frozen=True, slots=True)
class PaymentOptions(AccountOptions):
    """See app/settings_payments.py for what each means."""

    stripe_key_file: str = ""
    stripe_webhook_secret_file: str = ""
    stripe_api_base: str = ""
    top_up_rates: str = "usd=1"
    top_up_min: str = "5"
    top_up_max: str = "1000"

    @property
    def takes_cards(self) -> bool:
        """Whether wallets can be topped up by Stripe."""
        return bool(self.stripe_key_file and self.stripe_webhook_secret_file)

    @property
    def currencies(self) -> Mapping[str, Currency]:
        """What is taken, by code."""
        return read_rates(self.top_up_rates)

    def fault_of(self, amount: int) -> tuple[str, str] | None:
        """Why a top-up of so many nano-USD is not taken: least and most in USD; None if it is."""
        least, most = parse_usd(self.top_up_min), parse_usd(self.top_up_max)
        return None if least <= amount <= most else (self.top_up_min, self.top_up_max)
