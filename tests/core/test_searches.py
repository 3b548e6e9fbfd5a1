import json

import msgspec
import pytest
from msgspec import Raw

from proxy.core.prompts import SEARCHED_BYTES_MAX
from proxy.core.searches import SEARCHES_MAX, searches_max

FUNCTION = {"type": "function", "name": "search_the_shop"}
CLAUDE = {"type": "web_search_20250305", "name": "web_search"}


def members(body: dict[str, object]) -> dict[str, Raw]:
    return msgspec.json.decode(json.dumps(body), type=dict[str, Raw])


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({}, 0),
        ({"tools": None}, 0),
        ({"tools": []}, 0),
        ({"tools": [FUNCTION, {"type": "file_search"}, {"name": "search"}]}, 0),
        ({"tools": [CLAUDE]}, None),
        ({"tools": [CLAUDE | {"max_uses": 3}]}, 3),
        ({"tools": [CLAUDE | {"max_uses": 3}, FUNCTION, CLAUDE | {"max_uses": 4}]}, 7),
        ({"tools": [CLAUDE | {"max_uses": 3}, CLAUDE]}, None),
        ({"tools": [CLAUDE | {"max_uses": -3}]}, 0),
        ({"tools": [CLAUDE | {"max_uses": 10**9}]}, SEARCHES_MAX),
        ({"tools": [{"type": "web_search_preview"}], "max_tool_calls": 2}, 2),
        ({"tools": [{"type": "web_search"}], "max_tool_calls": -2}, 0),
        ({"tools": [{"type": "web_search"}], "max_tool_calls": "2"}, None),
        ({"tools": [FUNCTION], "max_tool_calls": 2}, 0),
        ({"tools": [{"googleSearch": {}}]}, None),
        ({"tools": [{"google_search": {}}]}, None),
        ({"tools": [{"googleSearchRetrieval": {}}]}, None),
        ({"tools": [{"functionDeclarations": []}]}, 0),
        ({"tools": "web_search"}, None),
        ({"tools": [5]}, 0),
        ({"tools": " " * SEARCHED_BYTES_MAX}, None),
        ({"web_search_options": {}}, None),
        ({"web_search_options": None, "plugins": []}, 0),
        ({"plugins": [{"id": "web"}]}, None),
    ],
)
def test_how_often_a_body_lets_its_provider_search(
    body: dict[str, object], most: int | None
) -> None:
    assert searches_max(members(body)) == most
