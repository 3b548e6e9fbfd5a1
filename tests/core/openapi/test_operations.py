from collections import Counter

from proxy.core.openapi.operations import OPERATIONS
from proxy.core.openapi.schemas import ANSWERS, REQUESTS
from proxy.core.urls import CANONICAL, METHODS


def test_every_method_of_every_endpoint_has_its_row() -> None:
    assert set(OPERATIONS) == {
        (endpoint, method)
        for endpoint in CANONICAL
        for method in METHODS[endpoint]
        if method != "HEAD"
    }


def test_names_are_unique() -> None:
    assert set(Counter(row.name for row in OPERATIONS.values()).values()) == {1}


def test_every_schema_that_is_named_is_there() -> None:
    for (_, method), row in OPERATIONS.items():
        assert set((row.takes or {}).values()) <= set(REQUESTS)
        assert {name for name in (row.answers or {}).values() if name} <= set(ANSWERS)
        assert method == "POST" or row.takes is None
        assert set(row.needed) <= set(row.query or {})
        assert set(row.dialects) <= {"OpenAI", "Anthropic", "Gemini"}
