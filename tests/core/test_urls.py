"""Every base URL that people paste reaches its endpoint, and every other gets a remedy."""

import pytest

from proxy.core import urls
from proxy.core.entities import Dialect
from proxy.core.urls import Endpoint
from tests import corpora


@pytest.mark.parametrize("case", corpora.urls(), ids=lambda case: case.name)
def test_every_form_of_url(case: corpora.UrlCase) -> None:
    endpoint = urls.resolve(case.path)
    assert endpoint == (None if case.endpoint is None else Endpoint(case.endpoint))
    assert urls.dialect_of(case.path, anthropic_version=case.anthropic_version) is case.dialect
    if case.model is not None:
        assert urls.model_name(case.path) == case.model
    if endpoint is None:
        assert case.code == "unknown_url"
    elif endpoint is Endpoint.UNSUPPORTED:
        assert case.code == "unsupported_endpoint"
    else:
        is_answered = case.method in urls.METHODS[endpoint]
        assert case.code == (None if is_answered else "method_not_allowed")


@pytest.mark.parametrize("case", corpora.urls(), ids=lambda case: case.name)
def test_every_hint_names_a_url_to_use(case: corpora.UrlCase) -> None:
    text = urls.hint(case.path, case.method)
    assert "/v1/" in text
    assert text.isprintable()
    assert len(text) < 500


def test_corpus_is_large_and_its_names_unique() -> None:
    names = [case.name for case in corpora.urls()]
    assert len(names) >= 200
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("endpoint", urls.CANONICAL)
def test_canonical_paths_resolve_to_themselves(endpoint: Endpoint) -> None:
    path = urls.CANONICAL[endpoint]
    assert urls.resolve(path) is endpoint
    assert urls.hint(path, urls.METHODS[endpoint][0]).endswith(f"{path}.")


def test_model_name_of_another_path_is_a_broken_assumption() -> None:
    with pytest.raises(AssertionError, match="not a model path"):
        urls.model_name("/v1/models")


def test_hint_says_what_is_wrong() -> None:
    assert urls.hint("/v1/chat", "POST").startswith("Unknown URL POST /v1/chat. Use POST /v1/chat/")
    assert urls.hint("/v1/files?key=secret", "GET").startswith("/v1/files is not supported here.")
    assert urls.hint("/v1/messages/", "GET") == (
        "/v1/messages/ does not answer GET. Use POST /v1/messages."
    )
    assert urls.hint("/v1/responses/resp_1", "GET") == (
        "/v1/responses/resp_1 is not supported here: answers are not kept, so none can be fetched, "
        "cancelled or gone on from. Use POST /v1/responses with the whole conversation."
    )
    assert "secret" not in urls.hint("/hello?key=secret", "GET")
    assert "x" * 200 not in urls.hint("/" + "x" * 500, "M" * 500)


def test_bounds_of_a_path() -> None:
    longest = "/v1/models/" + "m" * (urls.PATH_CHARS_MAX - len("/v1/models/"))
    assert urls.resolve(longest) is Endpoint.MODEL
    assert urls.resolve(longest + "m") is None
    assert urls.resolve("/v1" * (urls.WORDS_MAX - 1) + "/models") is Endpoint.MODELS
    assert urls.resolve("/v1" * urls.WORDS_MAX + "/models") is None
    assert urls.resolve("/files" * urls.WORDS_MAX) is Endpoint.UNSUPPORTED


def test_gemini_paths() -> None:
    assert urls.resolve("/v1beta/openai/chat/completions") is Endpoint.CHAT
    assert urls.resolve("/v1beta/models/gemini-2.5-pro") is Endpoint.UNSUPPORTED


def test_model_path_whose_name_is_almost_an_endpoint() -> None:
    assert urls.model_name("/v1/models/openai/files") == "openai/files"
    assert urls.dialect_of("/v1/models/x/messages", anthropic_version=False) is Dialect.OPENAI
    assert urls.model_name("/v1/models/responses/x") == "responses/x"
