import tomllib
from typing import Any

import pytest

from proxy.app.toml import dump

DOCUMENT: dict[str, Any] = {
    "version": 3,
    "plan": [{"name": "free", "requests_per_minute": 5}, {"name": 'tab\there "q" \\ é \x07'}],
    "model": [{"name": "m", "price": {"input": "2.50", "cache read": "1"}, "hidden": False}],
    "channel": [{"name": "c", "keys": ["a", "b"], "idle": 1.5, "models": {}, "weight": -1}],
}


def test_what_is_written_reads_back_the_same() -> None:
    assert tomllib.loads(dump(DOCUMENT)) == DOCUMENT


def test_absent_values_are_left_out() -> None:
    assert dump({"version": None, "plan": []}) == ""
    assert dump({"plan": [{"name": "p", "limit": None}]}) == '[[plan]]\nname = "p"\n'
    assert dump({"version": 1}) == "version = 1\n"


def test_a_value_no_catalog_holds_is_our_bug() -> None:
    with pytest.raises(AssertionError, match="bytes"):
        dump({"a": b"x"})
