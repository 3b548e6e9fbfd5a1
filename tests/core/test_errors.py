"""Golden bodies of every error in every dialect, plain and in-band."""

import json
import re

import pytest

from proxy.core.entities import Dialect
from proxy.core.errors import ErrorCode, RelayError, error_body, error_event

REQUEST_ID = "req_0123456789abc"

# The types SDKs and users match on (WIRE.md sections 4 and 5), with every status they go with.
ANTHROPIC_TYPES = {
    "invalid_request_error": {400, 405},
    "authentication_error": {401},
    "billing_error": {402},
    "permission_error": {403},
    "not_found_error": {404},
    "request_too_large": {413},
    "rate_limit_error": {429},
    "api_error": {500, 502, 503},
    "timeout_error": {408, 504},
    "overloaded_error": {529},
}
# `google.rpc.Code`, and the statuses its HTTP mapping goes with or stands nearest to.
GOOGLE_CODES = {
    400: {"INVALID_ARGUMENT"},
    401: {"UNAUTHENTICATED"},
    402: {"FAILED_PRECONDITION"},
    403: {"PERMISSION_DENIED"},
    404: {"NOT_FOUND"},
    405: {"INVALID_ARGUMENT"},
    408: {"DEADLINE_EXCEEDED"},
    413: {"INVALID_ARGUMENT"},
    429: {"RESOURCE_EXHAUSTED"},
    500: {"INTERNAL"},
    502: {"INTERNAL"},
    503: {"UNAVAILABLE"},
    504: {"DEADLINE_EXCEEDED"},
    529: {"UNAVAILABLE"},
}
# Stable: a client may have them in its code. Taking one out or moving it is a breaking change.
PUBLISHED = {
    "invalid_request": 400,
    "invalid_api_key": 401,
    "insufficient_quota": 402,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "upstream_error": 502,
    "service_unavailable": 503,
}


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.code)
def test_each_row_is_well_formed(code: ErrorCode) -> None:
    assert code.code == code.name.lower()
    assert re.fullmatch(r"[a-z][a-z_]+", code.code)
    assert code.status in ANTHROPIC_TYPES[code.value.anthropic_type]
    assert code.value.openai_type


def test_codes_are_unique_and_the_published_ones_stay() -> None:
    codes = {code.code: code.status for code in ErrorCode}
    assert len(codes) == len(ErrorCode)
    assert PUBLISHED.items() <= codes.items()


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.code)
def test_the_openai_body_has_its_four_fields(code: ErrorCode) -> None:
    error = RelayError(code, 'say "why"', param="model")
    assert json.loads(error_body(error, Dialect.OPENAI, REQUEST_ID)) == {
        "error": {
            "message": 'say "why"',
            "type": code.value.openai_type,
            "param": "model",
            "code": code.code,
        }
    }


def test_the_openai_body_says_null_for_no_param() -> None:
    body = error_body(RelayError(ErrorCode.UNKNOWN_URL, "x"), Dialect.OPENAI, REQUEST_ID)
    assert body == (
        b'{"error":{"message":"x","type":"invalid_request_error","param":null,"code":"unknown_url"}}'
    )


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.code)
def test_the_anthropic_body_names_type_and_request(code: ErrorCode) -> None:
    error = RelayError(code, "why", param="model")
    assert json.loads(error_body(error, Dialect.ANTHROPIC, REQUEST_ID)) == {
        "type": "error",
        "error": {"type": code.value.anthropic_type, "message": "why", "code": code.code},
        "request_id": REQUEST_ID,
    }


def test_details_are_for_sdks_of_anthropic_alone() -> None:
    details = {"error_code": "thread_unsupported_request"}
    error = RelayError(ErrorCode.INVALID_REQUEST, "why", details=details)
    told = json.loads(error_body(error, Dialect.ANTHROPIC, REQUEST_ID))["error"]
    assert told["details"] == details
    assert b"details" not in error_body(error, Dialect.OPENAI, REQUEST_ID)


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.code)
def test_the_gemini_body_has_a_google_status_and_our_code_as_its_reason(code: ErrorCode) -> None:
    error = RelayError(code, "why", param="model")
    told = json.loads(error_body(error, Dialect.GEMINI, REQUEST_ID))["error"]
    assert told.pop("status") in GOOGLE_CODES[code.status]
    assert told == {
        "code": code.status,
        "message": "why",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": code.code.upper(),
                "domain": "sluice",
            }
        ],
    }


def test_an_upstream_body_passes_as_it_came_but_never_in_band() -> None:
    upstream = b'{"error": {"message": "theirs"}}'
    error = RelayError(ErrorCode.INVALID_REQUEST, "theirs", status=422, body=upstream)
    assert error_body(error, Dialect.OPENAI, REQUEST_ID) is upstream
    assert error_body(error, Dialect.ANTHROPIC, REQUEST_ID) is upstream
    assert upstream not in error_event(error, Dialect.OPENAI, REQUEST_ID)


def test_an_event_is_one_whole_event_of_its_dialect() -> None:
    error = RelayError(ErrorCode.UPSTREAM_TRUNCATED, "line one\nline two")
    openai = error_event(error, Dialect.OPENAI, REQUEST_ID)
    assert openai == b"data: " + error_body(error, Dialect.OPENAI, REQUEST_ID) + b"\n\n"
    anthropic = error_event(error, Dialect.ANTHROPIC, REQUEST_ID)
    body = error_body(error, Dialect.ANTHROPIC, REQUEST_ID)
    assert anthropic == b"event: error\ndata: " + body + b"\n\n"
    gemini = error_event(error, Dialect.GEMINI, REQUEST_ID)
    assert gemini == b"data: " + error_body(error, Dialect.GEMINI, REQUEST_ID) + b"\n\n"
    assert b"\n" not in body, "a line break inside the message must not end the event"


def test_an_error_carries_what_its_response_needs() -> None:
    plain = RelayError(ErrorCode.TOKEN_LIMIT_EXCEEDED, "slow down", retry_after=1.5)
    assert (plain.status, plain.retry_after, plain.should_retry) == (429, 1.5, None)
    assert str(plain) == "slow down"
    assert repr(plain) == "RelayError(TOKEN_LIMIT_EXCEEDED, 'slow down')"
    assert RelayError(ErrorCode.INVALID_API_KEY, "").should_retry is False
    assert RelayError(ErrorCode.MODEL_NOT_ALLOWED, "").should_retry is False
    assert RelayError(ErrorCode.INVALID_API_KEY, "", should_retry=True).should_retry is True
    told = RelayError(ErrorCode.INSUFFICIENT_QUOTA, "empty", status=429, should_retry=False)
    assert (told.status, told.code.status, told.should_retry) == (429, 402, False)
