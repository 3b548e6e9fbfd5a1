"""The model list in Gemini's shape, as Google's SDK parses it."""

import json
from typing import Any

import pytest
from google.genai import types

from proxy.core.entities import Key
from proxy.core.errors import ErrorCode, RelayError
from proxy.edge.google_models import google_list, google_model
from tests.edge.test_models import KEY, catalog


def listed(key: Key = KEY, **query: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(google_list(catalog(), key, query))
    return found


def names(found: dict[str, Any]) -> list[str]:
    return [row["name"] for row in found["models"]]


def test_every_model_the_key_may_call() -> None:
    found = listed()
    assert names(found) == [
        f"models/{n}" for n in ("claude", "gpt-4o", "media", "ratio", "unpriced")
    ]
    assert "nextPageToken" not in found
    claude = found["models"][0]
    assert (claude["inputTokenLimit"], claude["outputTokenLimit"]) == (200_000, 64_000)
    assert {"generateContent", "streamGenerateContent"} <= {*claude["supportedGenerationMethods"]}
    assert (
        claude["pricing"]["input"]
        == json.loads(google_model(catalog(), KEY, "claude"))["pricing"]["input"]
    )
    assert found["models"][4]["pricing"] is None
    types.Model.model_validate({"name": claude["name"], "display_name": claude["displayName"]})


def test_pages_follow_each_other() -> None:
    first = listed(pageSize="2")
    second = listed(page_size="2", pageToken=first["nextPageToken"])
    third = listed(pageSize="2", page_token=second["nextPageToken"])
    assert names(first) + names(second) + names(third) == names(listed())
    assert "nextPageToken" not in third
    assert names(listed(pageSize="0")) == names(listed(pageSize="999999999")) == names(listed())


@pytest.mark.parametrize(
    "query", [{"pageSize": "-1"}, {"pageSize": "many"}, {"pageSize": "9" * 10}, {"pageToken": "x"}]
)
def test_a_page_that_is_none_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(RelayError) as caught:
        google_list(catalog(), KEY, query)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert caught.value.param in query


def test_a_model_nobody_has_is_not_found() -> None:
    with pytest.raises(RelayError) as caught:
        google_model(catalog(), KEY, "nobody")
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND
