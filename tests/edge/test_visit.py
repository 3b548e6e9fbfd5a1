"""What a head alone says of a request, whatever its body will be."""

import pytest

from proxy.core.entities import Dialect, Wire
from proxy.core.http1_request import HeadMemo
from proxy.core.urls import Endpoint
from proxy.edge.visit import REFERENCE_CHARS_MAX, Visit


def visit(line: str, *rows: str) -> Visit:
    block = "\r\n".join([f"{line} HTTP/1.1", "host: x", *rows]).encode("latin-1")
    return Visit(HeadMemo().parse(block)[0])


@pytest.mark.parametrize(
    ("line", "endpoint", "wire", "is_call", "is_service"),
    [
        ("POST /v1/chat/completions", Endpoint.CHAT, Wire.CHAT, True, False),
        ("POST /v1/messages", Endpoint.MESSAGES, Wire.MESSAGES, True, False),
        ("GET /v1/messages", Endpoint.MESSAGES, Wire.MESSAGES, False, False),
        ("POST /v1/embeddings", Endpoint.EMBEDDINGS, None, False, True),
        ("GET /v1/embeddings", Endpoint.EMBEDDINGS, None, False, False),
        ("GET /v1/models", Endpoint.MODELS, None, False, False),
        ("POST /nowhere", None, None, False, False),
    ],
)
def test_what_is_asked_for(
    line: str, endpoint: Endpoint | None, wire: Wire | None, is_call: bool, is_service: bool
) -> None:
    seen = visit(line)
    assert (seen.endpoint, seen.wire) == (endpoint, wire)
    assert (seen.is_call, seen.is_service) == (is_call, is_service)
    assert seen.endpoint_name == ("other" if endpoint is None else endpoint.value)


def test_who_asks_and_in_whose_dialect() -> None:
    plain = visit("POST /v1/chat/completions")
    assert (plain.dialect, plain.id_line) == (Dialect.OPENAI, "x-request-id: ")
    assert (plain.is_browsers, plain.is_passed_on, plain.asking) == (False, False, False)
    assert plain.reference is None
    other = visit(
        "POST /v1/messages",
        "anthropic-version: 2023-06-01",
        "origin: https://a.test",
        "x-forwarded-for: 192.0.2.1",
        "x-max-cost: 0.01",
        "x-request-id: " + "r" * (REFERENCE_CHARS_MAX + 1),
    )
    assert (other.dialect, other.id_line) == (Dialect.ANTHROPIC, "request-id: ")
    assert (other.is_browsers, other.is_passed_on, other.asking) == (True, True, True)
    assert other.reference == "r" * REFERENCE_CHARS_MAX


def test_a_path_may_name_the_model_and_say_whether_to_stream() -> None:
    one = visit("POST /v1beta/models/gemini-x:streamGenerateContent")
    assert (one.model, one.streams, one.wire) == ("gemini-x", True, Wire.GEMINI)
    other = visit("POST /v1beta/models/gemini-x:generateContent")
    assert (other.model, other.streams) == ("gemini-x", False)
    assert visit("POST /openai/deployments/mine/chat/completions").deployment == "mine"


def test_only_listed_headers_go_on_and_only_what_another_head_can_hold() -> None:
    seen = visit(
        "POST /v1/messages",
        "anthropic-version: 2023-06-01",
        "anthropic-beta: a,b",
        "openai-beta: \xe9",
        "authorization: Bearer secret",
        "cookie: secret",
    )
    assert seen.forwarded == (("anthropic-version", "2023-06-01"), ("anthropic-beta", "a,b"))
