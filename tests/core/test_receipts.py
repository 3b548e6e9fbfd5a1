"""The lines of a charge add up to it, and the printed program finds the same."""

import json
import math
import subprocess
import sys
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.entities import Formula, Price, Tier, Usage
from proxy.core.money import format_usd
from proxy.core.pricing import charge
from proxy.core.receipts import SCRIPT, account, usd_text
from tests.core.test_pricing import MULTIPLIERS, OTHER_PRICES, PRICES, RATIOS, USAGES, tiered

RATIO_PRICES = st.builds(
    Price,
    st.just("m"),
    st.just(1),
    st.just(Formula.RATIO),
    model_ratio=RATIOS,
    completion_ratio=RATIOS,
    cache_ratio=RATIOS,
    **OTHER_PRICES,
)
TIERED = Price(
    "m", 1, input=10**9, output=2 * 10**9, cache_read=10**8, tiers=(Tier(100, 3 * 10**9, output=5),)
)


def receipt(usage: Usage, price: Price, multiplier: int) -> dict[str, Any]:
    used = {name: value for name, value in msgspec.structs.asdict(usage).items() if value}
    return {
        "data": {
            "used": {"calls": 0, **used},
            "price_nano_usd": asdict(price),
            "multiplier_millionths": multiplier,
            "charge_nano_usd": charge(usage, price, multiplier),
            "overrun_nano_usd": 0,
            "forgiven_nano_usd": 0,
        }
    }


def run(path: Path, told: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    (path / "receipt.json").write_text(json.dumps(told))
    (path / "recompute.py").write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "-I", "recompute.py", "receipt.json"],
        cwd=path, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip


@given(usage=USAGES, price=st.one_of(tiered(), RATIO_PRICES), multiplier=MULTIPLIERS)
def test_the_lines_add_up_to_the_charge(usage: Usage, price: Price, multiplier: int) -> None:
    made = account(usage, price, multiplier)
    assert made.charge == charge(usage, price, multiplier)
    assert all(line.units for line in made.lines)


def test_a_line_says_what_was_used_at_which_price() -> None:
    made = account(
        Usage(input_uncached=90, cache_read=11, output=4, reasoning=3), TIERED, 2_000_000
    )
    assert [(line.kind, line.units, int(line.price)) for line in made.lines] == [
        ("input_uncached", 90, 3 * 10**9),
        ("cache_read", 11, 0),
        ("output", 4, 5),
    ]
    assert made.over == 100
    assert made.sum == Fraction(90 * 3000) + Fraction(20, 10**6)
    assert made.exact == 2 * made.sum
    assert made.charge == 540_001
    assert account(Usage(input_uncached=100), TIERED, 10**6).over is None


def test_a_ratio_knows_no_tiers_and_weighs_each_token() -> None:
    price = Price(
        "m", 1, Formula.RATIO, model_ratio=500_000, completion_ratio=3_000_000,
        cache_ratio=250_000, tiers=TIERED.tiers,
    )  # fmt: skip
    made = account(Usage(input_uncached=1000, cache_read=8, output=2, calls=0), price, 10**6)
    assert made.over is None
    assert [line.price for line in made.lines] == [10**9, 25 * 10**7, 3 * 10**9]


def test_other_kinds_have_their_own_measure() -> None:
    price = Price(
        "m", 1, image=5 * 10**12, character=10**6, call=7, audio_hour=36 * 10**8, search=9,
        image_variants={"hd": 8},
    )  # fmt: skip
    usage = Usage(images=2, characters=3, audio_ms=1500, searches=4, calls=1)
    made = account(usage, price, 10**6)
    assert {line.kind: line.amount for line in made.lines} == {
        "images": 10**7,
        "characters": 3,
        "audio_ms": 1_500_000,
        "searches": 36,
        "calls": 7,
    }
    (image, *_) = account(Usage(images=2, variant="hd", calls=0), price, 10**6).lines
    assert image.amount == 16
    (image, *_) = account(Usage(images=2, variant="odd", calls=0), price, 10**6).lines
    assert image.amount == 10**7


@pytest.mark.parametrize("price", [TIERED, Price("m", 1, image_variants={"hd": 3}, image=7, character=10**9, search=5, call=3, audio_hour=10**9, input=1), Price("m", 1, Formula.RATIO, model_ratio=333_333, completion_ratio=1_330_000, cache_ratio=0)])  # fmt: skip
def test_the_printed_program_finds_the_same(tmp_path: Path, price: Price) -> None:
    usage = Usage(
        input_uncached=90, cache_read=31, output=12, reasoning=3, images=1, variant="hd",
        characters=17, audio_ms=1234, searches=2, cache_write_1h=3,
    )  # fmt: skip
    told = receipt(usage, price, 1_250_000)
    found = run(tmp_path, told)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.endswith("equal\n")
    told["data"]["charge_nano_usd"] += 1
    found = run(tmp_path, told)
    assert (found.returncode, found.stdout.split()[-1]) == (1, "DIFFERENT")


@given(usage=USAGES, price=st.one_of(tiered(), RATIO_PRICES), multiplier=MULTIPLIERS)
def test_the_printed_program_agrees_with_any_charge(
    usage: Usage, price: Price, multiplier: int
) -> None:
    # The same text, run here: a process for each example would take minutes.
    body = SCRIPT.split("\n", 5)[5].rsplit("\n", 4)[0]
    assert body.startswith("used, price = ")
    scope: dict[str, Any] = {"math": math, "Fraction": Fraction}
    told = receipt(usage, price, multiplier)["data"]
    scope |= {"used": told["used"], "price": told["price_nano_usd"], "receipt": told}
    exec(body, scope)
    assert scope["due"] == told["charge_nano_usd"]


def test_the_program_is_short_and_needs_nothing_installed() -> None:
    assert len(SCRIPT.splitlines()) <= 40
    assert max(map(len, SCRIPT.splitlines())) <= 100
    imports = [line for line in SCRIPT.splitlines() if "import" in line]
    assert imports == ["import json, math, sys", "from fractions import Fraction"]


@given(PRICES)
def test_whole_amounts_are_written_as_everywhere(nano: int) -> None:
    assert usd_text(nano) == format_usd(nano)


def test_fractions_are_written_exactly_or_marked() -> None:
    assert usd_text(Fraction(1, 10**6)) == "0.000000000000001"
    assert usd_text(Fraction(10**9, 3)) == "0.333333333333333333…"
    assert usd_text(0) == "0.00"
