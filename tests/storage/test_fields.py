import pytest

from proxy.core.entities import Dialect
from proxy.storage.fields import Fields


def test_a_table_is_taken_apart_and_nothing_is_left() -> None:
    fields = Fields("x", {"a": "t", "n": 3, "d": "openai", "p": "0.5", "r": "1.25", "l": ["q"]})
    assert fields.has("a")
    assert fields.text("a") == "t"
    assert not fields.has("a")
    assert fields.integer("n") == 3
    assert fields.optional("n") is None
    assert fields.choice("d", Dialect) is Dialect.OPENAI
    assert fields.amount("p", 0) == 500_000_000
    assert fields.amount("p", 7) == 7
    assert fields.ratio("r", None) == 1_250_000
    assert fields.ratio("r", 9) == 9
    assert fields.names("l") == ("q",)
    fields.done()


def test_what_nobody_asked_for_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="x: unknown key 'b'; remove or correct it"):
        Fields("x", {"c": 1, "b": 2}).done()
    with pytest.raises(ValueError, match="x must be a table"):
        Fields("x", [1])


def test_tables_within_know_where_they_are() -> None:
    one, two = Fields("x", {"t": [{"a": 1}, {"a": "s"}]}).tables("t", 2)
    assert one.integer("a") == 1
    with pytest.raises(ValueError, match="x t 2: a must be a whole number"):
        two.integer("a")
    for value, most in (([{}], 0), ("s", 5)):
        with pytest.raises(ValueError, match=f"at most {most} tables"):
            Fields("x", {"t": value}).tables("t", most)
