from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.money import MILLION, NANO
from proxy.core.top_ups import Currency, read_rates

RATES = read_rates("usd=1, EUR = 1.08 ,jpy=0.0067")


def test_rates_are_read() -> None:
    assert {
        "usd": Currency("usd", MILLION, "1"),
        "eur": Currency("eur", 1_080_000, "1.08"),
        "jpy": Currency("jpy", 6_700, "0.0067"),
    } == RATES
    assert read_rates("") == read_rates("  ") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("usd", "written as"), ("usd=", "decimal"), ("=1", "written as"), ("euro=1", "written as"),
        ("€=1", "written as"), ("e1r=1", "written as"), ("eur=0", "above 0"),
        ("eur=-1", "negative"), ("eur=NaN", "decimal"), ("eur=1e3", "decimal"),
        ("eur=1.0000001", "6 decimals"), ("eur=1000001", "between"), ("eur=1,eur=2", "two rates"),
        ("eur=1,,usd=1", "written as"), ("kwd=3.2", "unusual"), ("isk=0.007", "unusual"),
        (",".join(f"{a}{b}a=1" for a in "abcdefg" for b in "abcdefg"), "at most 30"),
    ],
)  # fmt: skip
def test_rates_that_cannot_be_meant(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_rates(text)


@pytest.mark.parametrize(
    ("code", "typed", "minor", "worth"),
    [
        ("usd", "10", 1_000, 10 * NANO),
        ("usd", "0.01", 1, 10_000_000),
        ("eur", "12.50", 1_250, 13_500_000_000),
        ("eur", "0.01", 1, 10_800_000),
        ("jpy", "1000", 1_000, 6_700_000_000),
    ],
)
def test_what_an_amount_is_worth(code: str, typed: str, minor: int, worth: int) -> None:
    currency = RATES[code]
    assert currency.minor(typed) == minor
    assert currency.worth(minor) == worth
    assert currency.minor(currency.shown(minor)) == minor


@pytest.mark.parametrize(
    ("code", "typed", "said"),
    [
        ("usd", "0.001", "at most two decimals"), ("jpy", "0.5", "no decimals"),
        ("usd", "-1", "negative"), ("usd", "1e3", "plain"), ("usd", "", "plain"),
    ],
)  # fmt: skip
def test_amounts_that_do_not_exist(code: str, typed: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RATES[code].minor(typed)


@given(st.integers(1, 10**12), st.integers(1, 10**12))
def test_no_credit_is_above_what_was_paid(minor: int, rate: int) -> None:
    for code, units in (("eur", 100), ("jpy", 1)):
        exact = Fraction(minor, units) * Fraction(rate, MILLION) * NANO
        worth = Currency(code, rate, "").worth(minor)
        assert exact - 1 < worth <= exact
