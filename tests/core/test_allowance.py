from hypothesis import given
from hypothesis import strategies as st

from proxy.core.allowance import COUNTED_BYTES_MIN, Allowance
from proxy.core.entities import Tokenizer
from proxy.core.metering import PENDING_BYTES_MAX, Meter
from proxy.core.tokenizers import exact_count

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=30)


def test_three_quarters_of_a_hold_pass_on_trust() -> None:
    meter = Meter(len)
    allowance = Allowance(meter, 100, int)
    assert allowance.room == 75
    assert allowance.covers(300, 75)
    assert not allowance.covers(300, 76)
    meter.add("x" * 60, 300)
    assert allowance.room == 15
    assert not allowance.covers(300, 16)
    assert allowance.count(100) == 60
    assert allowance.room == 30
    assert allowance.count(10) == 60
    assert allowance.room == 0


def test_a_denser_estimate_trusts_fewer_bytes() -> None:
    assert Allowance(Meter(len, density=4), 100, int).room == 18


def test_no_more_than_a_window_is_written_between_two_counts() -> None:
    meter = Meter(len)
    allowance = Allowance(meter, 1 << 40, int)
    assert allowance.covers(PENDING_BYTES_MAX, 1)
    assert not allowance.covers(PENDING_BYTES_MAX + 1, 1)
    meter.add("x", 10)
    assert not allowance.covers(PENDING_BYTES_MAX, 1)
    allowance.count(1 << 40)
    assert allowance.covers(PENDING_BYTES_MAX, 1)


def test_a_count_pays_once_enough_has_passed() -> None:
    meter = Meter(len)
    allowance = Allowance(meter, 10_000, int)
    meter.add("x" * (COUNTED_BYTES_MIN - 1), 300)
    assert not allowance.stale
    meter.add("x", 300)
    assert allowance.stale
    allowance.count(10_000)
    assert not allowance.stale


def test_what_was_written_but_not_sent_counts_too() -> None:
    meter = Meter(len)
    unsent = [300]
    allowance = Allowance(meter, 100, lambda: unsent[0])
    meter.add("x" * 20, 300)
    meter.add("y" * 30, 300)
    assert allowance.count(100) == 50
    assert meter.delivered == 20
    unsent[0] = 0
    assert allowance.count(100) == 50
    assert meter.delivered == 50


@given(texts=TEXTS, hold=st.integers(0, 400), table=st.sampled_from([
    Tokenizer.O200K, Tokenizer.CL100K,
]))  # fmt: skip
def test_what_passes_on_trust_is_never_more_than_the_hold(
    texts: list[str], hold: int, table: Tokenizer
) -> None:
    count = exact_count(table)
    meter = Meter(count)
    allowance = Allowance(meter, hold, int)
    passed = ""
    for text in texts:
        size = len(text.encode())
        if allowance.covers(size, size):
            meter.add(text, size)
            passed += text
    assert count(passed) <= hold
