"""The admin API: every action that the table exposes, over HTTP, for whoever bears a token.

Rules: a token in `Authorization: Bearer`, no cookie, and nothing for pages of other sites; the
table of actions alone says what there is, and the keeper, who is told the token's role and scopes,
decides; reports are made beside the pages, by the same rules. Answers are JSON, refusals too, each
with what to do. Asking is bounded: bodies, requests a minute by token, and by network for whoever
has no good one. This module must not know what any action does.
"""

import asyncio
import sqlite3
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web

import proxy
from proxy.core.actions.action import Action, Actor, Via
from proxy.core.actions.scopes import permits, scope_of
from proxy.core.attempts import network_of
from proxy.core.openapi.admin import ACTIONS_BY_PATH, document
from proxy.edge.console.keeper_line import KeeperGoneError, Refused
from proxy.edge.console.routes import Route
from proxy.edge.console.visit import BODY_SECONDS_MAX, Visit
from proxy.storage.reports.tokens import Bearer, find
from proxy.storage.secrets import api_token_digest

BODY_BYTES_MAX: Final = 16 << 20
"""What the keeper reads at once; a catalog of thousands of models is some megabytes."""
TOKEN_CHARS_MAX: Final = 200
RETRY_SECONDS: Final = 2
_NAME_CHARS_MAX: Final = 64
"""Of a name that is no action's, to compare it with those that are."""
_EXPOSED: Final = tuple(ACTIONS_BY_PATH)
_HOW: Final = "send `Authorization: Bearer sa-...` with a token of this console"


class _No(Exception):  # noqa: N818 - an answer
    """A refusal, as it is answered."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        remedy: str = "",
        *,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, object] = {"code": code, "message": message, "remedy": remedy}
        if fields:
            self.body["fields"] = dict(fields)
        self.headers = headers or {}


async def act(seen: Visit) -> web.StreamResponse:
    """Do an action and answer its result."""
    try:
        bearer = await _bearer(seen)
        action = _action(seen, bearer)
        actor = Actor(
            bearer.role,
            bearer.name,
            Via.API,
            bearer.person_id,
            seen.address,
            scopes=bearer.scopes,
        )
        given = await _arguments(seen, action)
        around = seen.surroundings
        # Without anybody who makes reports the keeper refuses to.
        doer = (around.reports if action.report else None) or around.keeper
        result = await doer.do(action.name, given, actor)
    except _No as no:
        return _refusal(no)
    except Refused as refused:
        words = (refused.message, refused.remedy)
        return _refusal(_No(422, "refused", *words, fields=refused.fields))
    except KeeperGoneError as gone:
        return _refusal(_away(str(gone), gone.remedy))
    except sqlite3.Error:
        await seen.surroundings.forget_reader()
        return _refusal(_away("the database cannot be read now", "try again in a moment"))
    return _json(200, {"result": result})


async def describe(_seen: Visit) -> web.StreamResponse:
    """What there is to ask for, as an OpenAPI document; for everybody."""
    return web.Response(
        body=document(proxy.__version__),
        content_type="application/json",
        headers={"access-control-allow-origin": "*"},
    )


async def nothing(_seen: Visit) -> web.StreamResponse:
    """There is nothing at this path, or not with this method."""
    return _refusal(_No(404, "not_found", "there is nothing here", "see /api/openapi.json"))


async def _bearer(seen: Visit) -> Bearer:
    """Who asks. Raises _No, sqlite3.Error."""
    now = seen.now
    scheme, _, token = seen.request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    bearer = None
    if scheme.lower() == "bearer" and 0 < len(token) <= TOKEN_CHARS_MAX:
        digest = api_token_digest(token.encode("utf-8", "replace").decode())
        bearer = await find(await seen.reader(), digest, now)
    if bearer is None:
        # A good token is never kept waiting for what others of its network send.
        wait = seen.surroundings.api.failures.take(network_of(seen.address), now)
        if wait is not None:
            raise _slower("too many requests without a good token from your network", wait)
        message = "this token is not known, has expired or was revoked"
        raise _No(
            401,
            "invalid_token",
            message if token else "no token was sent",
            _HOW,
            headers={"www-authenticate": 'Bearer realm="sluice"'},
        )
    wait = seen.surroundings.api.by_token.take(str(bearer.token), now)
    if wait is not None:
        raise _slower("too many requests with this token", wait)
    return bearer


def _action(seen: Visit, bearer: Bearer) -> Action:
    """The action of the path, if the bearer may do it. Raises _No."""
    action = ACTIONS_BY_PATH.get(seen.request.match_info["action"])
    if action is None:
        near = get_close_matches(seen.request.match_info["action"][:_NAME_CHARS_MAX], _EXPOSED, 1)
        like = f"did you mean {near[0]}? " if near else ""
        raise _No(404, "unknown_action", "there is no such action", like + "see /api/openapi.json")
    if seen.request.method == "GET" and action.audited:
        raise _No(
            405,
            "method_not_allowed",
            f"{action.name} changes something",
            "ask by POST",
            headers={"allow": "POST"},
        )
    if not bearer.role.covers(action.role):
        raise _No(
            403, "role_too_low", f"{action.name} is for the role {action.role.value}",
            "use a token of somebody with that role",
        )  # fmt: skip
    if not permits(bearer.scopes, action):
        raise _No(
            403,
            "scope_missing",
            f"{action.name} needs the scope {scope_of(action)}",
            "make a token with that scope",
        )
    return action


async def _arguments(seen: Visit, action: Action) -> Mapping[str, object]:
    """What was sent, as the action's arguments. Raises _No."""
    sent: Any
    if seen.request.method == "GET":
        sent, strict = _query(seen, action), False
    else:
        body = await _body(seen.request)
        try:
            sent, strict = orjson.loads(body or b"{}"), True
        except orjson.JSONDecodeError as error:
            raise _No(400, "not_json", f"the body is not JSON: {error}", "send an object") from None
    try:
        given = msgspec.convert(sent, action.arguments, strict=strict)
    except msgspec.ValidationError as error:
        raise _No(422, "invalid_arguments", str(error), "see /api/openapi.json") from None
    made: dict[str, object] = msgspec.to_builtins(given)
    return made


def _query(seen: Visit, action: Action) -> dict[str, object]:
    """Arguments of a query; what may be several is a list however often it is there."""
    query, found = seen.request.query, dict[str, object]()
    several = {
        field.name
        for field in msgspec.structs.fields(action.arguments)
        if "tuple" in str(field.type)
    }
    for name in query:
        values = query.getall(name)
        if len(values) > 1 and name not in several:
            raise _No(422, "invalid_arguments", f"{name!r} is there more than once", "send it once")
        found[name] = values if name in several else values[0]
    return found


async def _body(request: web.Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            async for part in request.content.iter_chunked(1 << 16):
                size += len(part)
                if size > BODY_BYTES_MAX:
                    raise _No(413, "too_large", "the body is above 16 MiB", "send it in parts")
                parts.append(part)
    except web.RequestPayloadError as error:
        raise _No(400, "not_json", f"the body cannot be read: {error}", "send an object") from None
    except TimeoutError:
        raise _No(408, "too_slow", "the body did not arrive in time", "send it again") from None
    return b"".join(parts)


def _slower(message: str, seconds: float) -> _No:
    wait = str(int(seconds) + 1)
    return _No(
        429, "too_many_requests", message, f"wait {wait} seconds", headers={"retry-after": wait}
    )


def _away(message: str, remedy: str) -> _No:
    headers = {"retry-after": str(RETRY_SECONDS)}
    return _No(503, "unavailable", message, remedy, headers=headers)


def _refusal(no: _No) -> web.Response:
    return _json(no.status, {"error": no.body}, no.headers)


def _json(
    status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(body), content_type="application/json", headers=headers
    )


ROUTES = (
    Route("GET", "/api/openapi.json", None, describe, foreign=True),
    Route("GET", "/api/v1/actions/{action}", None, act, foreign=True),
    Route("POST", "/api/v1/actions/{action}", None, act, foreign=True),
    Route("GET", "/api/{path:.*}", None, nothing, foreign=True),
    Route("POST", "/api/{path:.*}", None, nothing, foreign=True),
)
