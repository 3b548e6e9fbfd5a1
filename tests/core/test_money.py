import json
from decimal import Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.money import (
    MILLION,
    MULTIPLIER_MAX,
    NANO,
    USD_MAX,
    ceil_div,
    format_multiplier,
    format_usd,
    parse_multiplier,
    parse_signed_usd,
    parse_usd,
)

CORPUS = Path(__file__).parents[1] / "corpora" / "amounts.jsonl"
AMOUNTS: list[dict[str, Any]] = [json.loads(line) for line in CORPUS.read_text().splitlines()]
WHOLE = st.integers(0, 10**30)


@given(WHOLE, st.integers(1, 10**24))
def test_ceil_div_rounds_up_exactly(numerator: int, denominator: int) -> None:
    assert ceil_div(numerator, denominator) == ceil(Fraction(numerator, denominator))


def test_ceil_div_by_zero_is_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        ceil_div(1, 0)


def test_nothing_below_zero_is_ever_rounded() -> None:
    with pytest.raises(AssertionError, match="never negative"):
        ceil_div(-1, 1)


@given(st.integers(0, USD_MAX * NANO))
def test_usd_survives_text(nano: int) -> None:
    assert parse_usd(format_usd(nano)) == nano
    assert parse_usd(Decimal(nano).scaleb(-9)) == nano


@given(st.integers(0, MULTIPLIER_MAX * MILLION))
def test_multiplier_survives_text(millionths: int) -> None:
    assert parse_multiplier(format_multiplier(millionths)) == millionths


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("12.50", 12_500_000_000),
        ("0", 0),
        (" 1 ", NANO),
        ("0.000000001", 1),
        ("0.0375", 37_500_000),
        ("007.5000000000000", 7_500_000_000),
        (5, 5 * NANO),
        (Decimal("1E+2"), 100 * NANO),
        (Decimal("2.50"), 2_500_000_000),
        (USD_MAX, USD_MAX * NANO),
    ],
)
def test_amounts_read_exactly(text: str | int | Decimal, nano: int) -> None:
    assert parse_usd(text) == nano


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "plain decimal number"),
        ("1e3", "plain decimal number"),
        ("1_000", "plain decimal number"),
        ("1,5", "plain decimal number"),
        ("$5", "plain decimal number"),
        (".5", "plain decimal number"),
        ("5.", "plain decimal number"),
        ("+5", "plain decimal number"),
        ("NaN", "plain decimal number"),
        ("٣", "plain decimal number"),
        ("1\n2", "plain decimal number"),
        ("9" * 5000, "plain decimal number"),
        (Decimal("NaN"), "plain decimal number"),
        (Decimal("Infinity"), "plain decimal number"),
        (Decimal("1E+999999999"), "plain decimal number"),
        (Decimal("1E-999999999"), "plain decimal number"),
        ("-1", "must not be negative"),
        ("-0", "must not be negative"),
        (Decimal("-0.5"), "must not be negative"),
        ("0.0000000001", "at most 9 decimals"),
        ("1000000000.000000001", "between 0 and 1,000,000,000, but is"),
        (-1, "between 0 and 1,000,000,000"),
        (USD_MAX + 1, "between 0 and 1,000,000,000"),
        (10**4000, "between 0 and 1,000,000,000"),
        (True, "must be text or a whole number, not bool"),
        (0.1, "must be text or a whole number, not float"),
        (None, "must be text or a whole number, not NoneType"),
    ],
)
def test_amounts_refused_say_why(value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_usd(value)


def test_a_multiplier_has_six_decimals() -> None:
    assert parse_multiplier("1.000001") == 1_000_001
    with pytest.raises(ValueError, match="a multiplier has at most 6 decimals"):
        parse_multiplier("1.0000001")
    with pytest.raises(ValueError, match="between 0 and 1,000,000"):
        parse_multiplier("1000000.5")


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0.00"), (1, "0.000000001"), (12_500_000_000, "12.50"), (-37_500, "-0.0000375")],
)
def test_amounts_are_written_exactly(nano: int, text: str) -> None:
    assert format_usd(nano) == text


def test_multipliers_are_written_exactly() -> None:
    assert format_multiplier(1_000_000) == "1.0"
    assert format_multiplier(250_000) == "0.25"


@pytest.mark.parametrize("case", AMOUNTS, ids=[case["name"] for case in AMOUNTS])
def test_an_amount_somebody_typed_is_read_exactly_or_refused(case: dict[str, Any]) -> None:
    for read, wanted in ((parse_usd, case["nano"]), (parse_signed_usd, case["signed"])):
        if wanted is None:
            with pytest.raises(ValueError, match="an amount in USD"):
                read(case["text"])
        else:
            assert read(case["text"]) == wanted


def test_the_amounts_somebody_may_type_are_many() -> None:
    assert len(AMOUNTS) >= 200
    assert len({case["text"] for case in AMOUNTS}) == len(AMOUNTS)
