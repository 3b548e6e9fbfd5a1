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
    assert "/v1/" in text or "/v1beta/" in text or "/openapi.json" in text
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
    text = urls.hint(path, urls.METHODS[endpoint][0])
    assert text.endswith(f"{path}.")


def test_every_endpoint_has_a_path_and_methods() -> None:
    assert set(urls.CANONICAL) == set(Endpoint) - {Endpoint.UNSUPPORTED}
    assert set(urls.METHODS) == set(Endpoint)
    assert all(urls.METHODS[endpoint] for endpoint in urls.CANONICAL)


def test_model_name_of_another_path_is_a_broken_assumption() -> None:
    with pytest.raises(AssertionError, match="not a model path"):
        urls.model_name("/v1/models")
    with pytest.raises(AssertionError, match="not the path of an answer"):
        urls.answer_id("/v1/responses")


@pytest.mark.parametrize("tail", ["", "/cancel", "/input_items", "/INPUT_ITEMS/"])
@pytest.mark.parametrize("base", ["/v1", "/v1/v1", "/v1/responses/v1", "/v1/responses/resp_1/v1"])
def test_the_id_of_a_kept_answer_keeps_its_case(base: str, tail: str) -> None:
    assert urls.answer_id(f"{base}/responses/resp_AbC{tail}") == "resp_AbC"


def test_hint_says_what_is_wrong() -> None:
    assert urls.hint("/v1/chat", "POST").startswith("Unknown URL POST /v1/chat. Use POST /v1/chat/")
    assert urls.hint("/", "GET").startswith("Unknown URL GET /. Use POST /v1/chat/completions or ")
    assert urls.hint("/v1/files?key=secret", "GET").startswith("/v1/files is not supported here")
    assert urls.hint("/v1/messages/", "GET") == (
        "/v1/messages/ does not answer GET. Use POST /v1/messages."
    )
    assert "secret" not in urls.hint("/hello?key=secret", "GET")
    assert "x" * 200 not in urls.hint("/" + "x" * 500, "M" * 500)


@pytest.mark.parametrize(
    ("path", "use"),
    [
        ("/v1/chat/completion", "POST /v1/chat/completions"),
        ("/v1/chats/completions", "POST /v1/chat/completions"),
        ("/v2/chat/completions", "POST /v1/chat/completions"),
        ("/v1/message", "POST /v1/messages"),
        ("/v1/model", "GET /v1/models"),
        ("/response", "POST /v1/responses"),
    ],
)
def test_an_unknown_path_names_the_right_one(path: str, use: str) -> None:
    assert urls.hint(path, "POST").startswith(f"Unknown URL POST {path}. Use {use}. The base URL")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/v1/files/file-1", "no files are kept"),
        ("/v1/batches", "no batches"),
        ("/v1/fine_tuning/jobs", "trained at their providers"),
        ("/v1/threads/t/runs", "no conversation is kept"),
        ("/v1/assistants", "no conversation is kept"),
        ("/v1/vector_stores", "nothing is kept"),
        ("/v1/organization/usage/completions", "in the console"),
        ("/v1/dashboard/billing/usage", "in the console"),
        ("/v1/responses/compact", "send the whole conversation"),
    ],
)
def test_an_unsupported_path_says_why(path: str, why: str) -> None:
    assert why in urls.hint(path, "POST").split(". Use POST")[0]


def test_bounds_of_a_path() -> None:
    longest = "/v1/models/" + "m" * (urls.PATH_CHARS_MAX - len("/v1/models/"))
    assert urls.resolve(longest) is Endpoint.MODEL
    assert urls.resolve(longest + "m") is None
    assert urls.resolve("/v1" * (urls.WORDS_MAX - 1) + "/models") is Endpoint.MODELS
    assert urls.resolve("/v1" * urls.WORDS_MAX + "/models") is None
    assert urls.resolve("/files" * urls.WORDS_MAX) is Endpoint.UNSUPPORTED


def test_gemini_paths() -> None:
    assert urls.resolve("/v1beta/openai/chat/completions") is Endpoint.CHAT
    assert urls.resolve("/v1beta/models/gemini-2.5-pro") is Endpoint.GEMINI_MODELS
    assert urls.resolve("/v1beta/models/:generateContent") is Endpoint.GEMINI_MODELS
    assert urls.model_name("/v1beta/models/m%3AgenerateContent") == "m"
    assert urls.resolve("/v1/models/m:predict") is Endpoint.UNSUPPORTED
    assert urls.model_name("/v1beta/models/x:generateContent/v1/models/m:countTokens") == "m"
    assert urls.model_name("/v1beta/models/org/v1:generateContent") == "org/v1"
    assert urls.model_name("/v1/models/m:latest") == "m:latest"


def test_model_path_whose_name_is_almost_an_endpoint() -> None:
    assert urls.model_name("/v1/models/openai/files") == "openai/files"
    assert urls.dialect_of("/v1/models/x/messages", anthropic_version=False) is Dialect.OPENAI
    assert urls.model_name("/v1/models/responses/x") == "responses/x"


@pytest.mark.parametrize(
    ("path", "endpoint", "name"),
    [
        ("/openai/deployments/gpt-x/chat/completions?api-version=v1", Endpoint.CHAT, "gpt-x"),
        ("/v1/openai/deployments/Org/gpt x/embeddings", Endpoint.EMBEDDINGS, "Org/gpt x"),
        ("/openai/deployments/a/openai/deployments/b/completions", Endpoint.COMPLETIONS, "b"),
        ("/openai/deployments/chat/chat/completions", Endpoint.CHAT, "chat"),
        ("/deployments/a/models", Endpoint.MODELS, ""),
        ("/openai/deployments/a/models/b", Endpoint.MODEL, ""),
        ("/openai/deployments/a/responses/resp_1", Endpoint.RESPONSE, ""),
        ("/openai/deployments/a", Endpoint.UNSUPPORTED, ""),
        ("/openai/deployments", Endpoint.UNSUPPORTED, ""),
        ("/v1/chat/completions", Endpoint.CHAT, ""),
        ("/v1/models/deployments", Endpoint.MODEL, ""),
        ("/nothing", None, ""),
    ],
)
def test_the_deployment_an_azure_client_names(
    path: str, endpoint: Endpoint | None, name: str
) -> None:
    assert urls.resolve(path) is endpoint
    assert urls.deployment_name(path) == name


def test_a_question_mark_inside_a_name_is_no_query() -> None:
    assert urls.model_name("/v1/models/a%3Fb?c=d") == "a?b"
    assert urls.deployment_name("/openai/deployments/a%3Fb/chat/completions?x") == "a?b"
    assert urls.answer_id("/v1/responses/resp%3F1") == "resp?1"


@pytest.mark.parametrize(
    ("path", "google_key", "dialect"),
    [
        ("/v1/models", True, Dialect.GEMINI),
        ("/v1/models/m", True, Dialect.GEMINI),
        ("/v1/models", False, Dialect.OPENAI),
        ("/v1/chat/completions", True, Dialect.OPENAI),
        ("/v1/models/m:generateContent", False, Dialect.GEMINI),
        ("/v1beta/nothing", False, Dialect.GEMINI),
        ("/v1beta/openai/nothing", False, Dialect.OPENAI),
    ],
)
def test_googles_header_decides_where_the_path_does_not(
    path: str, google_key: bool, dialect: Dialect
) -> None:
    assert urls.dialect_of(path, anthropic_version=False, google_key=google_key) is dialect


@pytest.mark.parametrize(
    ("line", "dialect"),
    [
        (b"POST /v1/messages HTTP/1.1", Dialect.ANTHROPIC),
        (b"POST /v1/messages/batches HTT", Dialect.ANTHROPIC),
        (b"POST /v1beta/models/m:generateContent?alt=sse HTTP/1.1", Dialect.GEMINI),
        (b"POST /v1/chat/completions HTTP/1.1", Dialect.OPENAI),
        (b"\xff\x00 \xfe", Dialect.OPENAI),
        (b"GET", Dialect.OPENAI),
        (b"", Dialect.OPENAI),
    ],
)
def test_what_a_broken_head_suggests(line: bytes, dialect: Dialect) -> None:
    assert urls.dialect_of_line(line) is dialect
