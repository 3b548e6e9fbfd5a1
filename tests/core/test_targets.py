"""Paths and credentials as the providers' own references write them."""

from dataclasses import replace
from typing import cast

import pytest

from proxy.core.entities import Channel, Dialect
from proxy.core.targets import credential, target
from proxy.core.urls import Endpoint

OPENAI = Channel(
    id=1,
    name="main",
    dialect=Dialect.OPENAI,
    base_url="https://api.example.com/v1",
    keys=(),
    models={"m": "m"},
    groups=frozenset({"default"}),
)
ANTHROPIC = replace(OPENAI, dialect=Dialect.ANTHROPIC)
GEMINI = replace(OPENAI, dialect=cast("Dialect", "gemini"))
AZURE = replace(OPENAI, base_url="https://res.openai.azure.com", api_version="2024-10-21")


def path(channel: Channel, endpoint: str, model: str = "m", **more: object) -> str:
    stream = bool(more.get("stream"))
    item = str(more.get("item", ""))
    return target(channel, cast("Endpoint", endpoint), model, stream=stream, item=item)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("chat", "/chat/completions"),
        ("responses", "/responses"),
        ("completions", "/completions"),
        ("embeddings", "/embeddings"),
        ("images_edits", "/images/edits"),
        ("transcriptions", "/audio/transcriptions"),
        ("speech", "/audio/speech"),
        ("rerank", "/rerank"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_openai(endpoint: str, expected: str, *, stream: bool) -> None:
    assert path(OPENAI, endpoint, stream=stream) == expected


def test_anthropic() -> None:
    assert path(ANTHROPIC, "messages", stream=True) == "/messages"
    assert path(ANTHROPIC, "count_tokens") == "/messages/count_tokens"


def test_an_item_is_one_word_of_the_path() -> None:
    assert path(OPENAI, "response", item="resp_1/../x") == "/responses/resp_1%2F..%2Fx"
    assert path(OPENAI, "response_cancel", item="resp_1") == "/responses/resp_1/cancel"


def test_gemini_names_the_model_in_the_path() -> None:
    model = "gemini-x"
    assert path(GEMINI, "gemini_generate", model) == "/models/gemini-x:generateContent"
    streamed = "/models/gemini-x:streamGenerateContent?alt=sse"
    assert path(GEMINI, "gemini_generate", model, stream=True) == streamed
    assert path(GEMINI, "gemini_stream", model, stream=True) == streamed
    assert path(GEMINI, "gemini_count_tokens", model) == "/models/gemini-x:countTokens"
    tuned = "tunedModels/a b?c"
    assert path(GEMINI, "gemini_generate", tuned) == "/tunedModels/a%20b%3Fc:generateContent"


@pytest.mark.parametrize(
    ("version", "endpoint", "expected"),
    [
        ("2024-10-21", "chat", "/deployments/my%20gpt/chat/completions?api-version=2024-10-21"),
        ("2024-10-21", "embeddings", "/deployments/my%20gpt/embeddings?api-version=2024-10-21"),
        ("2025-04-01-preview", "responses", "/responses?api-version=2025-04-01-preview"),
        ("2024-10-21", "realtime", "/realtime?api-version=2024-10-21&deployment=my%20gpt"),
        ("v1", "chat", "/v1/chat/completions"),
        ("latest", "responses", "/v1/responses"),
        ("preview", "images_edits", "/v1/images/edits?api-version=preview"),
        ("a&b=c\r\n", "chat", "/deployments/my%20gpt/chat/completions?api-version=a%26b%3Dc%0D%0A"),
    ],
)
def test_azure(version: str, endpoint: str, expected: str) -> None:
    bare = replace(AZURE, api_version=version)
    assert path(bare, endpoint, "my gpt") == "/openai" + expected
    pasted = replace(bare, base_url=f"{AZURE.base_url}/openai/")
    assert path(pasted, endpoint, "my gpt") == expected


def test_azure_items() -> None:
    assert path(AZURE, "response", item="r1") == "/openai/responses/r1?api-version=2024-10-21"
    preview = replace(AZURE, api_version="preview")
    assert path(preview, "response", item="r1") == "/openai/v1/responses/r1?api-version=preview"


def test_each_shows_its_key_in_its_own_header() -> None:
    assert credential(OPENAI, "s") == ("authorization", "Bearer s")
    assert credential(ANTHROPIC, "s") == ("x-api-key", "s")
    assert credential(GEMINI, "s") == ("x-goog-api-key", "s")
    assert credential(AZURE, "s") == ("api-key", "s")
