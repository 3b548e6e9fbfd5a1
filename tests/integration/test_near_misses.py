"""A wrong model name is answered with the right one, at every endpoint and in every dialect."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.core.urls import CANONICAL, Endpoint
from tests.edge.harness import ANN, Relay, channel
from tests.integration.raw_client import RawResponse, request_bytes

NAMES = ("gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro", "o3")
MODELS = tuple({"name": name, "price": {"input": "1", "output": "2"}} for name in NAMES)
MISSES = {
    "GPT-4O": "gpt-4o",
    "openai/gpt-4o": "gpt-4o",
    "gpt-4o-2024-08-06": "gpt-4o",
    "gtp-4o": "gpt-4o",
    "claude-sonnet-4.5": "claude-sonnet-4-5",
    "claude-sonnet-4-5-20250929": "claude-sonnet-4-5",
    "google/gemini-2-5-pro:free": "gemini-2.5-pro",
    "O3": "o3",
}
SAID = [{"role": "user", "content": "hi"}]
BODIES: dict[Endpoint, dict[str, Any]] = {
    Endpoint.CHAT: {"messages": SAID},
    Endpoint.MESSAGES: {"messages": SAID, "max_tokens": 5},
    Endpoint.RESPONSES: {"input": "hi"},
    Endpoint.COMPLETIONS: {"prompt": "hi"},
    Endpoint.EMBEDDINGS: {"input": "hi"},
    Endpoint.IMAGES_GENERATIONS: {"prompt": "hi"},
    Endpoint.SPEECH: {"input": "hi", "voice": "x"},
    Endpoint.MODERATIONS: {"input": "hi"},
    Endpoint.RERANK: {"query": "hi", "documents": ["a"]},
    Endpoint.COUNT_TOKENS: {"messages": SAID},
}
FORMS: dict[Endpoint, dict[str, str]] = {
    Endpoint.IMAGES_EDITS: {"prompt": "hi", "image": "\0"},
    Endpoint.IMAGES_VARIATIONS: {"image": "\0"},
    Endpoint.TRANSCRIPTIONS: {"file": "\0"},
    Endpoint.TRANSLATIONS: {"file": "\0"},
}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
BOUNDARY = "next"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    path: Path = tmp_path_factory.mktemp("near")
    served = channel("http://127.0.0.1:9", models={name: name for name in NAMES})
    with Relay(path, served, models=MODELS) as made:
        yield made


def form(model: str, fields: dict[str, str]) -> bytes:
    parts = [f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="model"\r\n\r\n{model}\r\n']
    for name, value in fields.items():
        kind = '; filename="a.bin"' if value == "\0" else ""
        parts.append(
            f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{kind}\r\n\r\n{value}\r\n'
        )
    return "".join([*parts, f"--{BOUNDARY}--\r\n"]).encode()


def ask(relay: Relay, endpoint: Endpoint, model: str, **headers: str) -> RawResponse:
    path = CANONICAL[endpoint].replace("{model}", model)
    with relay.client() as client:
        if endpoint is Endpoint.MODEL:
            client.send(request_bytes(path, key=ANN, method="GET", headers=headers))
        elif endpoint in FORMS:
            sent = request_bytes(path, form(model, FORMS[endpoint]), key=ANN)
            kind = f"multipart/form-data; boundary={BOUNDARY}".encode()
            client.send(sent.replace(b"application/json", kind, 1))
        else:
            fields = BODIES.get(endpoint)
            sent = json.dumps(GEMINI if fields is None else {"model": model} | fields).encode()
            client.send(request_bytes(path, sent, key=ANN, headers=headers))
        return client.read_response()


ENDPOINTS = [
    *BODIES, *FORMS, Endpoint.MODEL, Endpoint.GEMINI_GENERATE, Endpoint.GEMINI_STREAM,
    Endpoint.GEMINI_COUNT_TOKENS,
]  # fmt: skip


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(("wrong", "likely"), MISSES.items())
def test_a_near_miss_is_answered_with_what_was_meant(
    relay: Relay, endpoint: Endpoint, wrong: str, likely: str
) -> None:
    response = ask(relay, endpoint, wrong)
    assert response.status == 404, response.body
    error = json.loads(response.body)["error"]
    assert f"Did you mean `{likely}`" in error["message"]
    assert wrong in error["message"]
    if "code" in error and not isinstance(error["code"], int):
        assert error["code"] == "model_not_found"


def test_a_list_in_the_other_dialect_says_it_in_its_own_words(relay: Relay) -> None:
    response = ask(relay, Endpoint.MODEL, "GPT-4O", **{"anthropic-version": "2023-06-01"})
    found = json.loads(response.body)
    assert (found["type"], found["error"]["type"]) == ("error", "not_found_error")
    assert "Did you mean `gpt-4o`?" in found["error"]["message"]


def test_every_endpoint_that_names_a_model_is_tried() -> None:
    named = {*CANONICAL} - {
        Endpoint.MODELS, Endpoint.GENERATION, Endpoint.OPENAPI, Endpoint.GEMINI_MODELS,
        Endpoint.RESPONSE, Endpoint.RESPONSE_CANCEL, Endpoint.RESPONSE_INPUT_ITEMS,
        Endpoint.REALTIME,
    }  # fmt: skip
    assert named == set(ENDPOINTS)
