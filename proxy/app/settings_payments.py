"""The settings of payments: a part of `Settings`, in the console's table of README.md.

Rules: as in `settings.py`. A rate is the operator's own word and holds from the next payment on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from proxy.app.setting import About
from proxy.app.settings_accounts import AccountSettings
from proxy.core.money import parse_usd
from proxy.core.top_ups import read_rates


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentSettings(AccountSettings):
    """What `Settings` has for payments; empty texts mean what the help says."""

    stripe_key_file: Annotated[
        str, About("File of Stripe's secret key; empty: no cards are taken.", "path")
    ] = ""
    stripe_webhook_secret_file: Annotated[
        str,
        About("File of the secret that signs what Stripe sends to /webhooks/stripe.", "path"),
    ] = ""
    stripe_api_base: Annotated[
        str, About("Where Stripe answers, for tests; empty: Stripe.", "URL", check="url")
    ] = ""
    top_up_rates: Annotated[
        str,
        About(
            "Currencies that are taken and USD for one of each, as in `usd=1, eur=1.08`.",
            reloadable=True,
        ),
    ] = "usd=1"
    top_up_min: Annotated[
        str, About("Least that a card tops up.", "USD", reloadable=True, check="amount")
    ] = "5"
    top_up_max: Annotated[
        str, About("Most that a card tops up at once.", "USD", reloadable=True, check="amount")
    ] = "1000"


def faults_of(settings: PaymentSettings) -> Iterator[tuple[str, str, str]]:
    """What does not fit together: the setting, the reason, the remedy."""
    if bool(settings.stripe_key_file) != bool(settings.stripe_webhook_secret_file):
        yield (
            "stripe_key_file" if settings.stripe_key_file else "stripe_webhook_secret_file",
            "a key without the secret of what Stripe sends back credits nobody",
            "set stripe_key_file and stripe_webhook_secret_file, or neither",
        )
    try:
        rates = read_rates(settings.top_up_rates)
    except ValueError as error:
        yield "top_up_rates", str(error), "write it as usd=1, eur=1.08"
    else:
        if settings.stripe_key_file and not rates:
            yield "top_up_rates", "no currency is taken", "write it as usd=1, eur=1.08"
    if not 0 < parse_usd(settings.top_up_min) <= parse_usd(settings.top_up_max):
        yield "top_up_min", "must be above 0 and at most top_up_max", "correct one of them"
