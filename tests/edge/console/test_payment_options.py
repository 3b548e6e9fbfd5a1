import pytest

from proxy.edge.console.payment_options import PaymentOptions


def test_cards_are_taken_with_both_files() -> None:
    assert not PaymentOptions().takes_cards
    assert not PaymentOptions(stripe_key_file="k").takes_cards
    assert PaymentOptions(stripe_key_file="k", stripe_webhook_secret_file="s").takes_cards
    assert set(PaymentOptions(top_up_rates="usd=1,eur=1.1").currencies) == {"usd", "eur"}


@pytest.mark.parametrize(("usd", "taken"), [("4", False), ("5", True), ("9", True), ("10", False)])
def test_a_top_up_is_within_its_bounds(usd: str, taken: bool) -> None:
    options = PaymentOptions(top_up_min="5", top_up_max="9.5")
    assert (options.fault_of(int(usd) * 10**9) is None) is taken
