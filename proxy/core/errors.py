"""One error type for everything a caller may be told, rendered in the caller's dialect.

Rules: `code` is stable and documented in README.md; messages say what to do and never contain
our internals or an upstream secret. Raising code picks a row of `ErrorCode`; nobody else writes
an HTTP status. This module must not know about sockets or response objects.

Sources: OpenAI's four-field error body and Anthropic's typed one, WIRE.md sections 4 and 5;
Google's error model with `google.rpc.ErrorInfo` (AIP-193).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

import orjson

from proxy.core.entities import Dialect


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One stable error: HTTP status, code, and the type names of the two dialects."""

    status: int
    code: str
    openai_type: str
    anthropic_type: str


_GOOGLE_STATUS: Final = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED", 404: "NOT_FOUND", 405: "INVALID_ARGUMENT", 408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED", 529: "UNAVAILABLE",
}  # fmt: skip
"""`google.rpc.Code` by HTTP status; others are INTERNAL."""


class ErrorCode(Enum):
    """Every error Sluice can answer with; the table in README.md is checked against it."""

    INVALID_REQUEST = ErrorRow(
        400, "invalid_request", "invalid_request_error", "invalid_request_error"
    )
    INVALID_JSON = ErrorRow(400, "invalid_json", "invalid_request_error", "invalid_request_error")
    MODEL_ENDPOINT_MISMATCH = ErrorRow(
        400, "model_endpoint_mismatch", "invalid_request_error", "invalid_request_error"
    )
    MAX_COST_EXCEEDED = ErrorRow(
        400, "max_cost_exceeded", "invalid_request_error", "invalid_request_error"
    )
    INVALID_API_KEY = ErrorRow(
        401, "invalid_api_key", "invalid_request_error", "authentication_error"
    )
    KEY_EXPIRED = ErrorRow(401, "key_expired", "invalid_request_error", "authentication_error")
    KEY_DISABLED = ErrorRow(401, "key_disabled", "invalid_request_error", "authentication_error")
    INSUFFICIENT_QUOTA = ErrorRow(402, "insufficient_quota", "insufficient_quota", "billing_error")
    KEY_BUDGET_EXCEEDED = ErrorRow(
        402, "key_budget_exceeded", "insufficient_quota", "billing_error"
    )
    MODEL_NOT_ALLOWED = ErrorRow(
        403, "model_not_allowed", "invalid_request_error", "permission_error"
    )
    ADDRESS_NOT_ALLOWED = ErrorRow(
        403, "address_not_allowed", "invalid_request_error", "permission_error"
    )
    MODEL_NOT_FOUND = ErrorRow(404, "model_not_found", "invalid_request_error", "not_found_error")
    MODEL_NOT_PRICED = ErrorRow(404, "model_not_priced", "invalid_request_error", "not_found_error")
    MODEL_NOT_IN_GROUP = ErrorRow(
        404, "model_not_in_group", "invalid_request_error", "not_found_error"
    )
    GENERATION_NOT_FOUND = ErrorRow(
        404, "generation_not_found", "invalid_request_error", "not_found_error"
    )
    RESPONSE_NOT_FOUND = ErrorRow(
        404, "response_not_found", "invalid_request_error", "not_found_error"
    )
    PREVIOUS_RESPONSE_NOT_FOUND = ErrorRow(
        400, "previous_response_not_found", "invalid_request_error", "invalid_request_error"
    )
    UNKNOWN_URL = ErrorRow(404, "unknown_url", "invalid_request_error", "not_found_error")
    UNSUPPORTED_ENDPOINT = ErrorRow(
        404, "unsupported_endpoint", "invalid_request_error", "not_found_error"
    )
    METHOD_NOT_ALLOWED = ErrorRow(
        405, "method_not_allowed", "invalid_request_error", "invalid_request_error"
    )
    REQUEST_TIMEOUT = ErrorRow(408, "request_timeout", "invalid_request_error", "timeout_error")
    REQUEST_TOO_LARGE = ErrorRow(
        413, "request_too_large", "invalid_request_error", "request_too_large"
    )
    RATE_LIMIT_EXCEEDED = ErrorRow(429, "rate_limit_exceeded", "requests", "rate_limit_error")
    TOKEN_LIMIT_EXCEEDED = ErrorRow(429, "token_limit_exceeded", "tokens", "rate_limit_error")
    CONCURRENCY_LIMIT_EXCEEDED = ErrorRow(
        429, "concurrency_limit_exceeded", "requests", "rate_limit_error"
    )
    UPSTREAM_RATE_LIMITED = ErrorRow(429, "upstream_rate_limited", "requests", "rate_limit_error")
    INTERNAL_ERROR = ErrorRow(500, "internal_error", "server_error", "api_error")
    UPSTREAM_ERROR = ErrorRow(502, "upstream_error", "upstream_error", "api_error")
    UPSTREAM_TRUNCATED = ErrorRow(502, "upstream_truncated", "upstream_error", "api_error")
    UPSTREAM_UNAVAILABLE = ErrorRow(503, "upstream_unavailable", "upstream_error", "api_error")
    SERVICE_UNAVAILABLE = ErrorRow(503, "service_unavailable", "server_error", "api_error")
    SETTLEMENT_UNAVAILABLE = ErrorRow(503, "settlement_unavailable", "server_error", "api_error")
    SERVER_RESTARTING = ErrorRow(503, "server_restarting", "server_error", "api_error")
    UPSTREAM_TIMEOUT = ErrorRow(504, "upstream_timeout", "upstream_error", "timeout_error")
    UPSTREAM_OVERLOADED = ErrorRow(529, "upstream_overloaded", "upstream_error", "overloaded_error")

    @property
    def status(self) -> int:
        """The HTTP status of a response that carries this error."""
        return self.value.status

    @property
    def code(self) -> str:
        """The stable machine-readable code."""
        return self.value.code


FINAL_STATUSES = (401, 403)
"""Clients are told not to try again: of itself Claude Code does so for minutes on a bad key."""


class RelayError(Exception):
    """An outcome the caller is told about; carries everything its response needs.

    `retry_after` is seconds (0 < s <= 60: SDKs ignore more, WIRE.md section 4); `param` names
    the request field at fault; `status` overrides the row's for upstream errors passed on.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        status: int | None = None,
        body: bytes | None = None,
        should_retry: bool | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.status = code.status if status is None else status
        self.body = body
        """An upstream's own error body to pass on (already redacted); None renders ours."""
        if should_retry is None and self.status in FINAL_STATUSES:
            should_retry = False
        self.should_retry = should_retry
        self.details = details
        """What Anthropic's SDKs read from `error.details`; no other dialect has it."""

    def __repr__(self) -> str:
        return f"RelayError({self.code.name}, {self.message!r})"


def error_body(error: RelayError, dialect: Dialect, request_id: str) -> bytes:
    """Render `error` as a JSON response body in `dialect`, or the upstream's own body."""
    if error.body is not None:
        return error.body
    return orjson.dumps(_error_object(error, dialect, request_id))


def error_event(error: RelayError, dialect: Dialect, request_id: str) -> bytes:
    """Render `error` as one in-band SSE event, for a stream whose 200 has already gone out.

    OpenAI and Gemini SDKs raise on a truthy `error` key in any data object; Anthropic's need an
    `event: error` line (WIRE.md sections 1 and 5).
    """
    payload = orjson.dumps(_error_object(error, dialect, request_id))
    if dialect is Dialect.ANTHROPIC:
        return b"event: error\ndata: " + payload + b"\n\n"
    return b"data: " + payload + b"\n\n"


def _error_object(error: RelayError, dialect: Dialect, request_id: str) -> dict[str, object]:
    row = error.code.value
    if dialect is Dialect.ANTHROPIC:
        told: dict[str, object] = {
            "type": row.anthropic_type,
            "message": error.message,
            "code": row.code,
        }
        if error.details is not None:
            told["details"] = error.details
        return {"type": "error", "error": told, "request_id": request_id}
    if dialect is Dialect.GEMINI:
        return {
            "error": {
                "code": error.status,
                "message": error.message,
                "status": _GOOGLE_STATUS.get(error.status, "INTERNAL"),
                "details": [
                    {
                        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                        "reason": error.code.name,
                        "domain": "sluice",
                    }
                ],
            }
        }
    return {
        "error": {
            "message": error.message,
            "type": row.openai_type,
            "param": error.param,
            "code": row.code,
        }
    }
