"""The OpenAPI 3.1 document of what is served, as JSON bytes.

Rules: paths and methods come from core/urls.py, errors from core/errors.py, bodies from schemas.py;
nothing is said here that they do not say. What has no handler yet is left out. This module must not
know who asks.

Source: the OpenAPI Specification 3.1.1.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import orjson

from proxy.core.asks import CACHE_SECONDS_MAX, CacheMode
from proxy.core.errors import ErrorCode
from proxy.core.examples.sample import ENDPOINTS, sample
from proxy.core.openapi.operations import EVENTS, JSON, OPERATIONS, Operation
from proxy.core.openapi.schemas import (
    ANSWERS,
    BINARY,
    MODEL,
    REQUESTS,
    TEXT,
    Json,
    errors,
    ref,
)
from proxy.core.urls import CANONICAL, Endpoint

MODEL_SHOWN: Final = "gpt-4o"
"""In examples."""
_READ_STATUSES: Final = (400, 401, 403, 404, 405, 429, 500, 503)
"""What reading may be refused with; calls may be with everything."""
_PASSED_STATUS: Final = 422
"""An upstream's that passes on, and is no status of ours."""
_KEYLESS_STATUSES: Final = (405, 500)

ANSWER_HEADERS: Final[Mapping[str, str]] = {
    "x-request-id": "The call's id (OpenAI and Gemini).",
    "request-id": "The call's id (Anthropic).",
    "retry-after": "Seconds after which to try again.",
    "retry-after-ms": "The same in milliseconds.",
    "x-should-retry": "`true` or `false`: whether trying again can help.",
    "x-ratelimit-limit-requests": "Requests a minute.",
    "x-ratelimit-remaining-requests": "Those left.",
    "x-ratelimit-reset-requests": "Until all are there again: `120ms`, `6m0s`.",
    "x-ratelimit-limit-tokens": "Tokens a minute.",
    "x-ratelimit-remaining-tokens": "Those left.",
    "x-ratelimit-reset-tokens": "Until all are there again: `120ms`, `6m0s`.",
    "anthropic-ratelimit-requests-limit": "Requests a minute.",
    "anthropic-ratelimit-requests-remaining": "Those left.",
    "anthropic-ratelimit-requests-reset": "When all are there again, RFC 3339.",
    "anthropic-ratelimit-tokens-limit": "Tokens a minute.",
    "anthropic-ratelimit-tokens-remaining": "Those left.",
    "anthropic-ratelimit-tokens-reset": "When all are there again, RFC 3339.",
    "x-sluice-channel": "Who answered.",
    "x-sluice-model": "The name the model has there.",
    "x-sluice-max-tokens": "The token limit that was put into the request.",
    "x-sluice-estimate": "`true`: tokens counted here, because no channel of the model counts.",
    "x-sluice-left-out": "What of the request its upstream could not be told.",
    "x-sluice-verdict": "How the call ended.",
    "x-sluice-cost": "What it costs, nano-USD.",
    "x-sluice-cost-usd": "The same in USD.",
    "x-sluice-balance": "The wallet as the call was admitted, less that cost, nano-USD.",
    "x-sluice-dry-run": "`true` where no call was made.",
    "x-sluice-cache": "Whether a kept answer was used.",
    "age": "How old a kept answer is, seconds.",
    "openai-version": "As the upstream said it, where it did.",
    "openai-processing-ms": "How long the upstream worked on it, as it said, ms.",
}
"""Every header of an answer that a caller may read, by its name."""
REQUEST_HEADERS: Final[Mapping[str, tuple[str, Mapping[str, Json]]]] = {
    "x-max-cost": (
        "What the call may cost at most: USD, or nano-USD as `50000 nano`.",
        {"type": "string", "pattern": r"^(\$?[0-9]{1,6}\.[0-9]{0,8}[1-9]|[1-9][0-9]{0,8} nano)$"},
    ),
    "x-dry-run": (
        "`true`: make no call, but say what it would hold and cost.",
        {"enum": ["true", "false", "1", "0"]},
    ),
    "x-sluice-usage": ("Put the cost into the answer's usage.", {"enum": ["include"]}),
    "x-sluice-cache": ("What to do with kept answers.", {"enum": [*CacheMode]}),
    "x-sluice-cache-ttl": (
        "How long this answer may be kept, seconds.",
        {"type": "integer", "minimum": 1, "maximum": CACHE_SECONDS_MAX},
    ),
}
"""What a caller may ask of the relay itself, by header."""
_PLAIN_HEADERS: Final = ("retry-after", "retry-after-ms", "x-should-retry")
_SECURITY: Final[Mapping[str, Mapping[str, Json]]] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "xApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "api-key"},
    "googleApiKey": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
}
_TAGS: Final[Mapping[str, str]] = {
    "Conversations": "A model answers; every model answers in every form.",
    "Images": "Pictures made and changed.",
    "Audio": "Speech read and spoken.",
    "Services": "Answers that are no conversation.",
    "Models": "What there is, and what it cost.",
}
_PLACE: Final = re.compile(r"\{(\w+)\}")


def document(version: str) -> bytes:
    """Return the document; `version` is the relay's."""
    paths: dict[str, dict[str, Json]] = {}
    for (endpoint, method), row in OPERATIONS.items():
        paths.setdefault(CANONICAL[endpoint], {})[method.lower()] = _operation(endpoint, row)
    tags = dict.fromkeys(row.tag for row in OPERATIONS.values())
    whole: dict[str, Json] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Sluice",
            "version": version,
            "description": "A relay for LLM APIs: the SDKs of OpenAI, Anthropic and Google, with "
            "another base URL and key. A base URL may be this host, /v1 or a whole endpoint; the "
            "key is taken from any of the headers below.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": _TAGS[tag]} for tag in tags],
        "security": [{name: []} for name in _SECURITY],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "headers": {
                name: {"description": says, "schema": TEXT} for name, says in ANSWER_HEADERS.items()
            },
            "parameters": {
                name: _parameter(name, "header", says, schema)
                for name, (says, schema) in REQUEST_HEADERS.items()
            },
            "responses": _refusals(OPERATIONS.values()),
            "securitySchemes": _SECURITY,
        },
    }
    return orjson.dumps(whole)


def _schemas() -> dict[str, Json]:
    codes = [row.code for row in ErrorCode]
    reasons = [row.name for row in ErrorCode]
    return {**REQUESTS, **ANSWERS, **errors(codes, reasons)}


def _body(endpoint: Endpoint, media: str, name: str) -> dict[str, Json]:
    """The schema of a body, with the one that the example programs send."""
    found: dict[str, Json] = {"schema": ref(name)}
    if endpoint in ENDPOINTS and media == JSON:
        body = sample(endpoint, base_url="", model=MODEL_SHOWN).body
        found |= {} if body is None else {"example": body}
    return found


def _operation(endpoint: Endpoint, row: Operation) -> dict[str, Json]:
    path = CANONICAL[endpoint]
    found: dict[str, Json] = {
        "operationId": row.name,
        "summary": row.summary,
        "tags": [row.tag],
        "responses": _responses(row),
    }
    parameters = _parameters(path, row)
    if parameters:
        found["parameters"] = parameters
    if row.takes is not None:
        found["requestBody"] = {
            "required": True,
            "content": {media: _body(endpoint, media, name) for media, name in row.takes.items()},
        }
    if row.keyless:
        found["security"] = []
    return found


def _parameters(path: str, row: Operation) -> list[Json]:
    found: list[Json] = []
    for name in _PLACE.findall(path):
        schema = MODEL if name == "model" else {**TEXT, "minLength": 1}
        place: dict[str, Json] = {"name": name, "in": "path", "required": True}
        found.append({**place, "schema": schema})
    for name, says in (row.query or {}).items():
        found.append({**_parameter(name, "query", says), "required": name in row.needed})
    if row.is_call:
        found.extend({"$ref": f"#/components/parameters/{name}"} for name in REQUEST_HEADERS)
    if "Anthropic" in row.dialects:
        says = "The version of Anthropic's API; on /v1/models it asks for Anthropic's form."
        found.append(_parameter("anthropic-version", "header", says))
    return found


def _parameter(
    name: str, place: str, says: str, schema: Mapping[str, Json] = TEXT
) -> dict[str, Json]:
    return {"name": name, "in": place, "description": says, "schema": schema}


def _responses(row: Operation) -> dict[str, Json]:
    found: dict[str, Json] = {}
    if row.answers is None:
        found["101"] = {"description": "The WebSocket is open."}
    else:
        content: dict[str, Json] = {}
        rehearsal: dict[str, str | None] = {JSON: "DryRun"} if row.is_call else {}
        for media, name in {**rehearsal, **row.answers}.items():
            # Events have no schema before OpenAPI 3.2: one of each would be needed, not of all.
            events = media == EVENTS
            content[media] = {} if events else _answer(media, name, is_call=row.is_call)
        found["200"] = {
            "description": "The answer.",
            "headers": _headers(name for name in ANSWER_HEADERS if name not in _PLAIN_HEADERS),
            "content": content,
        }
    for status in _statuses(row):
        found[str(status)] = {"$ref": f"#/components/responses/{_refusal_name(row, status)}"}
    return found


def _answer(media: str, name: str | None, *, is_call: bool) -> dict[str, Json]:
    if name is None:
        return {"schema": TEXT if media.startswith("text/") else BINARY}
    if is_call and media == JSON and name != "DryRun":
        return {"schema": {"anyOf": [ref(name), ref("DryRun")]}}
    return {"schema": ref(name)}


def _statuses(row: Operation) -> tuple[int, ...]:
    if row.keyless:
        return _KEYLESS_STATUSES
    if not row.is_call:
        return _READ_STATUSES
    return tuple(sorted({code.status for code in ErrorCode} | {_PASSED_STATUS}))


def _refusal_name(row: Operation, status: int) -> str:
    return f"{''.join(row.dialects)}{status}"


def _refusals(rows: Iterable[Operation]) -> dict[str, Json]:
    """Every status in every dialect it is told in, once, with the codes it may have."""
    found: dict[str, Json] = {}
    for row in rows:
        shapes: list[Json] = [ref(f"{dialect}Error") for dialect in row.dialects]
        for status in _statuses(row):
            codes = [code.code for code in ErrorCode if code.status == status]
            found[_refusal_name(row, status)] = {
                "description": ", ".join(f"`{code}`" for code in codes) or "`invalid_request`",
                "headers": _headers(ANSWER_HEADERS),
                "content": {JSON: {"schema": shapes[0] if len(shapes) == 1 else {"oneOf": shapes}}},
            }
    return found


def _headers(names: Iterable[str]) -> dict[str, Json]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
