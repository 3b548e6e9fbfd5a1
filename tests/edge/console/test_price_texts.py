from typing import Any

import pytest

from proxy.edge.console import price_texts
from proxy.edge.console.price_texts import (
    json_text,
    models_text,
    prices_text,
    read_json,
    read_models,
    read_prices,
)

PRICES: list[dict[str, dict[str, Any]]] = [
    {},
    {"m": {"input": "2.50", "output": "10"}, "maker/n:free": {"input": "0"}},
    {"m: x": {"input": "1", "output": "2", "tiers": [{"over": 5, "input": "2", "output": "3"}]}},
]


@pytest.mark.parametrize("prices", PRICES)
def test_prices_come_back_as_they_went(prices: dict[str, dict[str, Any]]) -> None:
    assert read_prices(prices_text(prices)) == prices


def test_models_come_back_as_they_went() -> None:
    models = {"a": "a", "b": "maker/b-2", "c:free": "c"}
    assert models_text(models) == "a\nb = maker/b-2\nc:free = c"
    assert read_models(models_text(models)) == models
    assert read_models("\n a \r\n\n b=c ") == {"a": "a", "b": "c"}


@pytest.mark.parametrize("text", ["= b", "a =", "a\na"])
def test_a_line_of_models_that_is_not_understood_is_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="is not understood"):
        read_models(text)


@pytest.mark.parametrize(
    "text", ["m", ": input 1", "m: input", "m: input 1 2", "m: input 1, input 2", "m: i 1\nm: i 1"]
)
def test_a_line_of_prices_that_is_not_understood_is_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="is not understood"):
        read_prices(text)


def test_json_is_read_or_refused() -> None:
    assert read_json(json_text([{"over": 1}])) == [{"over": 1}]
    assert (json_text({}), read_json(" ")) == ("", None)
    for read, text in ((read_json, "[1"), (read_prices, "m: {")):
        with pytest.raises(ValueError, match="is no JSON"):
            read(text)


def test_texts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_texts, "TEXT_CHARS_MAX", 3)
    with pytest.raises(ValueError, match="more than 3 characters"):
        read_models("abcd")
