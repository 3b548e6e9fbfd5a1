"""The model list is what each SDK parses, for the models and at the price of the key that asks."""

import json
from dataclasses import replace
from typing import Any

import pytest
from anthropic.pagination import SyncPage
from anthropic.types import ModelInfo
from openai.pagination import SyncPage as OpenAIPage
from openai.types import Model as OpenAIModel

from proxy.core.catalog import Catalog, build_catalog
from proxy.core.entities import Channel, Dialect, Group, Key, Model, Plan, User
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.urls import Endpoint
from proxy.edge import models
from proxy.edge.models import Page
from proxy.storage.price_tables import read_price

USD = 1_000_000_000
KEY = Key(id=1, user_id=1, digest=b"d", name="k", group="half-more", prefix="sk-", last4="0000")


def channel(number: int, dialect: Dialect, group: str, *names: str) -> Channel:
    return Channel(
        id=number,
        name=f"channel-{number}",
        dialect=dialect,
        base_url="https://upstream.example/v1",
        keys=(),
        models={name: f"real-{name}" for name in names},
        groups=frozenset({group}),
    )


PRICE = read_price(
    "", "gpt-4o", {"input": "2.50", "cache_read": "0.125", "output": "10", "image_input": "3"}
)


def catalog() -> Catalog:
    return build_catalog(
        1,
        users=[User(1, "ann", "plan")],
        plans=[Plan("plan")],
        groups=[Group("half-more", multiplier=1_500_000), Group("vip")],
        models=[
            Model("gpt-4o", 128_000, 16_384, price=PRICE),
            Model("claude", 200_000, 64_000, price=PRICE),
            Model("media", 1_000, 100, price=PRICE),
            Model("ratio", 1_000, 100, price=PRICE),
            Model("unpriced", 1_000, 100),
            Model("secret", 1_000, 100, price=PRICE),
        ],
        channels=[
            channel(1, Dialect.OPENAI, "half-more", "gpt-4o", "media", "ratio", "unpriced"),
            channel(2, Dialect.ANTHROPIC, "half-more", "claude", "gpt-4o"),
            channel(3, Dialect.OPENAI, "vip", "secret"),
        ],
        keys=[KEY],
    )


CATALOG = catalog()
CONVERSATIONS = {"/v1/chat/completions", "/v1/messages", "/v1/responses"}


def listed(key: Key = KEY) -> dict[str, dict[str, Any]]:
    rows = json.loads(models.openai_list(CATALOG, key))["data"]
    return {row["id"]: row for row in rows}


def test_openai_sdk_reads_the_list_and_a_model() -> None:
    body = json.loads(models.openai_list(CATALOG, KEY))
    page = OpenAIPage[OpenAIModel].model_validate(body, strict=True)
    assert [model.id for model in page.data] == ["claude", "gpt-4o", "media", "ratio", "unpriced"]
    one = OpenAIModel.model_validate(
        json.loads(models.openai_model(CATALOG, KEY, "gpt-4o")), strict=True
    )
    assert (one.id, one.object, one.owned_by) == ("gpt-4o", "model", "sluice")
    assert one == page.data[1]


def test_anthropic_sdk_reads_the_list_and_a_model() -> None:
    body = models.anthropic_list(CATALOG, KEY, Page())
    page = SyncPage[ModelInfo].model_validate_json(body, strict=True)
    assert [model.id for model in page.data] == ["claude", "gpt-4o", "media", "ratio", "unpriced"]
    assert (page.first_id, page.last_id, page.has_more) == ("claude", "unpriced", False)
    body = models.anthropic_model(CATALOG, KEY, "claude")
    one = ModelInfo.model_validate_json(body, strict=True)
    assert (one.type, one.display_name, one.lifecycle) == ("model", "claude", "active")
    assert (one.max_input_tokens, one.max_tokens) == (200_000, 64_000)
    assert one.created_at.timestamp() == 0


def test_facts_that_both_shapes_share() -> None:
    of_openai = json.loads(models.openai_model(CATALOG, KEY, "gpt-4o"))
    of_anthropic = json.loads(models.anthropic_model(CATALOG, KEY, "gpt-4o"))
    for row in (of_openai, of_anthropic):
        assert row["context_window"] == 128_000
        assert row["max_output_tokens"] == 16_384
        assert set(row["endpoints"]) >= CONVERSATIONS
        assert row["pricing"] == {
            "currency": "USD",
            "input": "3.75",
            "output": "15.00",
            "cache_read": "0.1875",
            "image_input": "4.50",
        }
    assert listed()["unpriced"]["pricing"] is None
    assert set(listed()["claude"]["endpoints"]) >= CONVERSATIONS, "but one by translation"
    assert set(listed()["media"]["endpoints"]) >= CONVERSATIONS


def test_a_model_says_what_it_is_for_and_a_channel_has_to_serve_that() -> None:
    drawn = Model("drawn", 1, 1, endpoints=frozenset({"images_generations"}))
    claude = Model("claude", 1, 1, endpoints=frozenset({"embeddings", "messages"}))
    by_dialect = [
        channel(1, Dialect.OPENAI, "vip", "drawn"),
        channel(2, Dialect.ANTHROPIC, "vip", "claude"),
    ]
    made = build_catalog(1, groups=[Group("vip")], models=[drawn, claude], channels=by_dialect)
    assert models.endpoints_of(made, "vip", drawn) == [Endpoint.IMAGES_GENERATIONS]
    assert models.endpoints_of(made, "vip", claude) == [Endpoint.MESSAGES]
    usual = replace(claude, endpoints=None)
    served = set(models.endpoints_of(made, "vip", usual))
    by_translation = {Endpoint.GEMINI_GENERATE, Endpoint.GEMINI_STREAM}
    assert served - by_translation == {
        Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.RESPONSES, Endpoint.COUNT_TOKENS,
    }  # fmt: skip


def test_an_allowlist_narrows_the_list() -> None:
    key = replace(KEY, models=frozenset({"claude", "secret", "gone"}))
    assert list(listed(key)) == ["claude"]
    with pytest.raises(RelayError) as caught:
        models.openai_model(CATALOG, key, "gpt-4o")
    assert caught.value.code is ErrorCode.MODEL_NOT_ALLOWED


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("secret", ErrorCode.MODEL_NOT_IN_GROUP, "not available in group `half-more`, but in: vip"),
        ("gpt4o", ErrorCode.MODEL_NOT_FOUND, "Did you mean `gpt-4o`"),
        ("zzz", ErrorCode.MODEL_NOT_FOUND, "GET /v1/models lists"),
        (
            "Acme/SECRET-2025-01-31",
            ErrorCode.MODEL_NOT_FOUND,
            "Did you mean `secret`\\? It is not available in group `half-more`, but in: vip",
        ),
    ],
)
def test_a_model_that_is_not_there(name: str, code: ErrorCode, words: str) -> None:
    for render in (models.openai_model, models.anthropic_model):
        with pytest.raises(RelayError, match=words) as caught:
            render(CATALOG, KEY, name)
        assert (caught.value.code, caught.value.param) == (code, "model")


def test_a_suggestion_never_names_what_the_key_may_not_use() -> None:
    key = replace(KEY, models=frozenset({"claude"}))
    with pytest.raises(RelayError, match=r"GET /v1/models lists") as caught:
        models.openai_model(CATALOG, key, "gpt4o")
    assert "gpt-4o" not in caught.value.message


@pytest.mark.parametrize(
    ("page", "names", "has_more"),
    [
        (Page(limit=2), ["claude", "gpt-4o"], True),
        (Page(limit=5), ["claude", "gpt-4o", "media", "ratio", "unpriced"], False),
        (Page(limit=2, after_id="gpt-4o"), ["media", "ratio"], True),
        (Page(limit=2, after_id="media"), ["ratio", "unpriced"], False),
        (Page(limit=2, after_id="unpriced"), [], False),
        (Page(limit=2, before_id="ratio"), ["gpt-4o", "media"], True),
        (Page(limit=3, before_id="ratio"), ["claude", "gpt-4o", "media"], False),
        (Page(limit=2, before_id="claude"), [], False),
    ],
)
def test_pages(page: Page, names: list[str], has_more: bool) -> None:
    body = json.loads(models.anthropic_list(CATALOG, KEY, page))
    assert [row["id"] for row in body["data"]] == names
    assert body["has_more"] is has_more
    assert body["first_id"] == (names[0] if names else None)
    assert body["last_id"] == (names[-1] if names else None)


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ({}, Page()),
        ({"limit": "1"}, Page(1)),
        ({"limit": "1000"}, Page(1000)),
        ({"after_id": "a"}, Page(after_id="a")),
        ({"before_id": "b", "limit": "7"}, Page(7, before_id="b")),
        ({"beta": "true"}, Page()),
    ],
)
def test_pages_are_read_from_the_query(query: dict[str, str], page: Page) -> None:
    assert models.page_of(query) == page


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "", "x", "1.0", "٣", "9" * 9_999, " 1"])
def test_an_odd_limit_is_refused(limit: str) -> None:
    with pytest.raises(RelayError) as caught:
        models.page_of({"limit": limit})
    assert (caught.value.code, caught.value.param) == (ErrorCode.INVALID_REQUEST, "limit")


def test_ids_of_pages_must_exist_and_not_contradict() -> None:
    with pytest.raises(RelayError, match="cannot be combined"):
        models.page_of({"after_id": "a", "before_id": "b"})
    for page, param in ((Page(after_id="x"), "after_id"), (Page(before_id="x"), "before_id")):
        with pytest.raises(RelayError) as caught:
            models.anthropic_list(CATALOG, KEY, page)
        assert caught.value.param == param
