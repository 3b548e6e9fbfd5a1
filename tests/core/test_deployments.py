import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.deployments import azure_address, azure_deployment, with_model

BODIES = st.dictionaries(st.text(max_size=5), st.none() | st.text() | st.integers(0, 9), max_size=4)
TOO_DEEP = b'{"x":' + b"[" * 100_000


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"messages":[]}', b'{"model":"a\\"b","messages":[]}'),
        (b' \n{ "messages" : [] } ', b' \n{"model":"a\\"b", "messages" : [] } '),
        (b"{}", b'{"model":"a\\"b"}'),
        (b'{"model":"c"}', b'{"model":"c"}'),
        (b'{"model":null}', b'{"model":null}'),
        (b'{"m\\u006fdel":"c"}', b'{"m\\u006fdel":"c"}'),
        (b'{"x":{"model":"c"}}', b'{"model":"a\\"b","x":{"model":"c"}}'),
        (b"[]", b"[]"),
        (b"{", b"{"),
        (b"", b""),
        (b'{"\xff":1}', b'{"\xff":1}'),
        (TOO_DEEP, TOO_DEEP),
    ],
)
def test_a_body_without_a_model_gets_the_one_of_the_path(body: bytes, expected: bytes) -> None:
    assert with_model(body, 'a"b') == expected


@given(BODIES, st.text())
def test_nothing_else_changes(body: dict[str, str | int | None], model: str) -> None:
    written = json.loads(with_model(json.dumps(body).encode(), model))
    assert written == {"model": model} | body


@pytest.mark.parametrize(
    ("pasted", "base_url", "version"),
    [
        ("https://r.openai.azure.com", "https://r.openai.azure.com", None),
        ("https://r.openai.azure.com/ ", "https://r.openai.azure.com", None),
        ("https://r.openai.azure.com/openai", "https://r.openai.azure.com", None),
        ("https://r.openai.azure.com/openai/v1/", "https://r.openai.azure.com", None),
        (
            "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
            "https://r.openai.azure.com",
            "2024-10-21",
        ),
        (
            "https://gate.example/llm/openai/responses?x=1&api-version=preview",
            "https://gate.example/llm",
            "preview",
        ),
        ("http://127.0.0.1:8000/llm/", "http://127.0.0.1:8000/llm", None),
    ],
)
def test_an_address_of_azure(pasted: str, base_url: str, version: str | None) -> None:
    assert azure_address(pasted) == (base_url, version)


@pytest.mark.parametrize(
    ("pasted", "deployment"),
    [
        ("https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=v", "d"),
        ("https://r.openai.azure.com/openai/deployments/my%20own ", "my own"),
        ("https://r.openai.azure.com/openai/deployments/", None),
        ("https://r.openai.azure.com/openai/v1/chat/completions", None),
        ("https://r.openai.azure.com", None),
    ],
)
def test_a_pasted_address_may_name_a_deployment(pasted: str, deployment: str | None) -> None:
    assert azure_deployment(pasted) == deployment
