import pytest

from proxy.app.models_import import Status
from proxy.app.published_prices import PublishedPrices

EMPTY: dict[str, list[object]] = {"model": [], "channel": []}


def test_providers_and_plans_come_from_the_lists() -> None:
    lists = PublishedPrices()
    assert ("openai", "OpenAI") in lists.providers()
    made = lists.plan(EMPTY, ["openai"], ["gpt-4o-mini"])
    (row,) = made.rows
    assert (row.status, row.model) == (Status.NEW, "gpt-4o-mini")
    assert made.tables[0]["price"].keys() >= {"input", "output"}
    with pytest.raises(ValueError, match="there is no provider 'nobody'"):
        lists.plan(EMPTY, ["nobody"], [])
