import pytest

from proxy.app.settings import Settings
from proxy.app.settings_payments import faults_of


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, []),
        ({"stripe_key_file": "k", "stripe_webhook_secret_file": "s"}, []),
        ({"stripe_key_file": "k"}, ["stripe_key_file"]),
        ({"stripe_webhook_secret_file": "s"}, ["stripe_webhook_secret_file"]),
        ({"top_up_rates": "euro"}, ["top_up_rates"]),
        ({"top_up_rates": ""}, []),
        ({"stripe_key_file": "k", "stripe_webhook_secret_file": "s", "top_up_rates": ""},
         ["top_up_rates"]),
        ({"top_up_min": "0"}, ["top_up_min"]),
        ({"top_up_min": "10", "top_up_max": "9"}, ["top_up_min"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_named(given: dict[str, str], named: list[str]) -> None:
    assert [name for name, _, _ in faults_of(Settings(**given))] == named  # type: ignore[arg-type]
