import pytest

from proxy.edge.console import rates
from proxy.edge.console.rates import Rates


def test_so_many_a_minute_and_then_the_seconds_to_wait() -> None:
    many = Rates(2)
    assert [many.take("a", 100.0 + at) for at in range(4)] == [None, None, 58.0, 57.0]
    assert many.take("b", 103.0) is None
    assert many.take("a", 160.0) is None, "a new minute"
    assert many.take("a", 10.0) is None, "a clock that was set back"


def test_who_is_one_of_too_many_shares_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "NAMES_MAX", 2)
    many = Rates(1)
    assert [many.take(name, 0.0) for name in "abc"] == [None] * 3
    assert [many.take(name, 1.0) for name in "bcd"] == [59.0] * 3
    assert many.take("e", 61.0) is None, "those of before are forgotten"
