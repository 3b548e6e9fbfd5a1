"""The OpenAPI 3.1 document of the admin API, made from the table of actions.

Rules: an action is one path, its name with dashes; what it takes is the schema of its arguments;
what it needs, role and scope, is in words and as `x-sluice-role` and `x-sluice-scope`. Nothing is
said here that the table does not say. This module must not know how an action is done, nor who
asks.

Source: the OpenAPI Specification 3.1.1.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
import orjson

from proxy.core.actions.action import Action
from proxy.core.actions.scopes import scope_of
from proxy.core.actions.table import ACTIONS, DOMAIN_OF
from proxy.core.openapi.schemas import Json

PREFIX: Final = "/api/v1/actions/"
JSON: Final = "application/json"
ACTIONS_BY_PATH: Final[Mapping[str, Action]] = {
    name.replace(" ", "-"): action for name, action in ACTIONS.items() if action.exposed
}
"""The last part of an action's path."""
_REFUSALS: Final[Mapping[int, str]] = {
    400: "`not_json`: the body is no JSON.",
    401: "`invalid_token`: no token, or one that is not good.",
    403: "`role_too_low` or `scope_missing`.",
    404: "`unknown_action`.",
    405: "`method_not_allowed`: what changes something is asked for by POST.",
    408: "`too_slow`: the body did not arrive within a minute.",
    413: "`too_large`: the body is above 16 MiB.",
    422: "`invalid_arguments`, or `refused`: `fields` says what of which argument.",
    429: "`too_many_requests`: wait as `Retry-After` says.",
    503: "`unavailable`: the relay does not take it now; it may have happened.",
}
_ERROR: Final[Mapping[str, Json]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "remedy"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "remedy": {"type": "string", "description": "What to do; may be empty."},
                "fields": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "description": "What is wrong with single arguments.",
                },
            },
        }
    },
}
_RESULT: Final[Mapping[str, Json]] = {
    "type": "object",
    "required": ["result"],
    "properties": {
        "result": {
            "description": "Amounts are exact decimal text in US dollars, times ISO 8601 in UTC."
        }
    },
}


def document(version: str) -> bytes:
    """Return the document; `version` is the relay's."""
    arguments = {action.arguments for action in ACTIONS_BY_PATH.values()}
    ordered = sorted(arguments, key=lambda one: one.__name__)
    _, schemas = msgspec.json.schema_components(
        ordered, schema_hook=_anything, ref_template="#/components/schemas/{name}"
    )
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Sluice admin API",
            "version": version,
            "description": "The actions of the console and of the command line. Tokens are made "
            "under Account, Tokens, or with `sluice token add`; each has a role and scopes.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": domain} for domain in sorted({*_domains()})],
        "security": [{"token": []}],
        "paths": {
            PREFIX + path: _methods(path, action) for path, action in ACTIONS_BY_PATH.items()
        },
        "components": {
            "schemas": {**schemas, "Error": _ERROR, "Result": _RESULT},
            "responses": {
                str(status): {
                    "description": says,
                    "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
                }
                for status, says in _REFUSALS.items()
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    return orjson.dumps(whole)


def _anything(_kind: type) -> dict[str, Json]:
    """The schema of an argument that may be any JSON, such as a part of a catalog."""
    return {"description": "Any JSON."}


def _domains() -> list[str]:
    return [DOMAIN_OF[action.name] for action in ACTIONS_BY_PATH.values()]


def _methods(path: str, action: Action) -> dict[str, Json]:
    says: dict[str, Json] = {
        "summary": action.summary,
        "description": f"Role {action.role.value}, scope `{scope_of(action)}`.",
        "tags": [DOMAIN_OF[action.name]],
        "x-sluice-role": action.role.value,
        "x-sluice-scope": scope_of(action),
        "responses": {
            "200": {
                "description": "It is done.",
                "content": {JSON: {"schema": {"$ref": "#/components/schemas/Result"}}},
            },
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in _REFUSALS},
        },
    }
    schema = {"$ref": f"#/components/schemas/{action.arguments.__name__}"}
    body: Json = {"required": _needs(action), "content": {JSON: {"schema": schema}}}
    found: dict[str, Json] = {"post": {**says, "operationId": path, "requestBody": body}}
    if not action.audited:
        query: dict[str, Json] = {
            "operationId": f"{path}-by-query",
            "parameters": _parameters(action),
        }
        found["get"] = {**says, **query}
    return found


def _needs(action: Action) -> bool:
    return any(field.required for field in msgspec.structs.fields(action.arguments))


def _parameters(action: Action) -> list[Json]:
    """The arguments of an action that only looks, as a query."""
    found: list[Json] = []
    for field in msgspec.structs.fields(action.arguments):
        schema = msgspec.json.schema(field.type, schema_hook=_anything)
        # A query has no null: what may be left out is left out.
        kinds = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
        plain = kinds[0] if len(kinds) == 1 else schema
        found.append(
            {"name": field.name, "in": "query", "required": field.required, "schema": plain}
        )
    return found
