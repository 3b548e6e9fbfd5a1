"""Every named body, credential and URL over a real socket: status, code, dialect, and no charge.

One relay and a connection that is kept alive as long as the relay keeps it: what one case leaves
behind would spoil the next one's answer. Framing and event streams have files of their own.
"""

import ipaddress
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Dialect
from proxy.edge.downstream import EXPOSED_HEADERS
from proxy.edge.server import CORS_ALLOW_HEADERS
from proxy.storage.accounts import add_user, set_user_enabled
from proxy.storage.imports import apply_catalog
from proxy.storage.keys import NewKey, add_key, set_key_enabled
from proxy.storage.secrets import KEY_RANDOM_BYTES, key_digest, new_key
from tests import corpora
from tests.edge.harness import (
    CHAT,
    MASTER,
    MESSAGES,
    NOW,
    PEPPER,
    USD,
    Relay,
    answer,
    anthropic_channel,
    body,
    channel,
    message,
    plain_answer,
)
from tests.integration.raw_client import RawClient, RawResponse
from tests.integration.scripted import ReceivedRequest, ScriptedUpstream
from tests.integration.scripts import Script, plain_script, stream_script

KEYS = {
    name: new_key(bytes([number + 1]) * KEY_RANDOM_BYTES)
    for number, name in enumerate(corpora.PLACEHOLDERS)
}
PLAIN_ENDPOINTS = ("chat", "messages", "responses", "models", "model", "openapi")
CREDIT = 10**6 * USD
"""More than the dearest accepted body could cost."""
LIMIT = 10**9
MODELS = sorted(
    {str(case.expect["model"]) for case in corpora.bodies() if case.expect}
    | {case.model for case in corpora.urls() if case.model}
    | {"m"}
)
PLAIN_MESSAGE = json.dumps(
    {"id": "msg_1", "type": "message", "role": "assistant", "model": "up",
     "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn",
     "usage": {"input_tokens": 9, "output_tokens": 2}}
).encode()  # fmt: skip
TARGETS = {Dialect.OPENAI: CHAT, Dialect.ANTHROPIC: MESSAGES}
GOOD = body(stream=False, max_tokens=5)
GOOD_INPUT = json.dumps({"model": "m", "input": "Say hello.", "max_output_tokens": 5}).encode()
HTTP = [("Host", "relay.test"), ("Content-Type", "application/json")]

URLS_OVER_HTTP: dict[str, tuple[int, str | None]] = {
    "unknown-empty": (400, "invalid_request"),
    "unknown-encoded-slash": (200, None),
    "unknown-encoded-letter": (200, None),
    "unknown-backslashes": (400, "invalid_request"),
    "unknown-star": (400, "invalid_request"),
    "unknown-authority": (400, "invalid_request"),
    "unknown-absolute": (400, "invalid_request"),
    "unknown-space": (400, "invalid_request"),
    "unknown-nul": (400, "invalid_request"),
    "unknown-fragment": (404, "unknown_url"),
    "unknown-unicode": (400, "invalid_request"),
}
"""Paths that do not arrive as they stand: decoded on the way, or no HTTP."""


def answering(request: ReceivedRequest) -> Script:
    """A whole answer in the dialect and manner asked for."""
    stream = json.loads(request.body).get("stream") is True
    if request.target.endswith("/messages"):
        return stream_script(message()) if stream else plain_script(PLAIN_MESSAGE)
    return stream_script(answer()) if stream else plain_script(plain_answer())


class CorpusRelay(Relay):
    """A relay that knows every key and model of the corpora."""

    def __init__(self, path: Path, url: str) -> None:
        super().__init__(path, credit=CREDIT, trusted_proxies=("127.0.0.0/8",))
        names = {name: f"up/{name}" for name in MODELS}
        size = {"context_window": 10**8, "output_tokens_max": 2_000, "tokenizer": "estimate"}
        self._catalog = {
            "plan": [{"name": "plan", "requests_per_minute": LIMIT, "tokens_per_minute": 10**12}],
            "group": [{"name": "default"}],
            "model": [
                {"name": name, "price": {"input": "1", "output": "2"}} | size for name in MODELS
            ],
            "channel": [
                channel(url, "openai", models=names),
                anthropic_channel(url, "anthropic", models=names),
            ],
        }

    def _seed(self, connection: sqlite3.Connection) -> None:
        apply_catalog(connection, self._catalog, master=MASTER, now=NOW)
        now = time.time()
        more: dict[str, dict[str, Any]] = {
            "expired": {"expires_at": now + 86_400},
            "fresh": {"expires_at": now + 86_400},
            "inside": {"networks": ("192.0.2.0/24", "2001:db8::/32")},
            "outside": {"networks": ("198.51.100.0/24",)},
        }
        for user in ("ann", "bob"):
            add_user(connection, user, "plan", NOW)
        for name, key in KEYS.items():
            if name == "unknown":
                continue
            user = "bob" if name == "suspended" else "ann"
            digest = key_digest(PEPPER, key)
            row = NewKey(user, name, "default", digest, key[:6], key[-4:], **more.get(name, {}))
            made = add_key(connection, row, now)
            if name == "disabled":
                set_key_enabled(connection, made, enabled=False)
            if name == "expired":  # nobody makes a key that has expired: its time goes by
                change = "UPDATE key SET expires_at = ? WHERE id = ?"
                connection.execute(change, (now - 1, made))
        set_user_enabled(connection, "bob", enabled=False)


@dataclass(slots=True)
class Line:
    """The relay, its upstream, and one connection to it, opened anew only when it was closed."""

    relay: Relay
    upstream: ScriptedUpstream
    served: int = 0
    connections: int = 0
    client: RawClient | None = field(default=None)

    def ask(
        self,
        target: str,
        content: bytes = b"",
        *headers: tuple[str, str],
        method: str = "POST",
    ) -> RawResponse:
        """Send one request and return its answer, which nothing may follow."""
        if self.client is None:
            self.client = RawClient(self.relay.port)
            self.connections += 1
        rows = [*HTTP, *headers]
        if content or method == "POST":
            rows.append(("Content-Length", str(len(content))))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in rows)]
        self.client.received.clear()
        self.client.send("\r\n".join([*lines, "", ""]).encode() + content)
        response = self.client.read_response(method)
        assert response.whole
        assert response.rest == b""
        if response.header("connection") == "close":
            self.client.read_all()
            self.close()
        return response

    def close(self) -> None:
        if self.client is not None:
            self.client.leave()
            self.client = None

    def ledger(self) -> tuple[int, int]:
        """How many calls were recorded, and how many reached the upstream."""
        (row,) = self.relay.rows("SELECT count(*) AS calls FROM call")
        return row["calls"], len(self.upstream.requests)

    def check_refused(self, response: RawResponse) -> None:
        """Nothing went on, nothing was recorded."""
        assert self.ledger() == (self.served, self.served), response.body[:300]

    def check_served(self, response: RawResponse, key: str = "key") -> None:
        """One more call went on and was recorded, of this key."""
        assert response.status == 200, response.body[:300]
        self.served += 1
        assert self.ledger() == (self.served, self.served)
        (row,) = self.relay.rows(
            "SELECT key.name, call.verdict FROM call JOIN key ON key.id = call.key_id"
            " ORDER BY call.id DESC LIMIT 1"
        )
        assert (row["name"], row["verdict"]) == (key, "complete")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with (
        ScriptedUpstream(answering) as upstream,
        CorpusRelay(tmp_path_factory.mktemp("bad-input"), upstream.base_url) as relay,
    ):
        made = Line(relay, upstream)
        yield made
        made.close()
        calls = relay.calls()
        assert len(calls) == made.served
        assert not relay.rows("SELECT * FROM open_call")
        (wallet,) = relay.rows("SELECT balance FROM account WHERE id = 1 << 3 | 1")
        assert wallet["balance"] == CREDIT - sum(call["charge"] for call in calls)


def error_in(response: RawResponse, dialect: Dialect, code: str) -> dict[str, Any]:
    """The error of a body that has the dialect's shape exactly, with this code."""
    told = json.loads(response.body)
    assert response.header("content-type") == "application/json"
    if dialect is Dialect.ANTHROPIC:
        assert set(told) == {"type", "error", "request_id"}
        assert told["type"] == "error"
        assert set(told["error"]) - {"details"} == {"type", "message", "code"}
        assert told["request_id"] == (response.header("request-id") or "")
    elif dialect is Dialect.GEMINI:
        assert set(told) == {"error"}
        assert set(told["error"]) == {"code", "message", "status", "details"}
        assert told["error"]["code"] == response.status
        told["error"]["code"] = told["error"]["details"][0]["reason"].lower()
    else:
        assert set(told) == {"error"}
        assert set(told["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = told["error"]
    assert error["code"] == code, error
    assert error["message"].endswith(".")
    return error


def check_limits(response: RawResponse, *, known: bool) -> None:
    """A known key is told its limits in both dialects' headers, whatever the answer; others none."""
    for name in ("x-ratelimit-limit-requests", "anthropic-ratelimit-requests-limit"):
        assert response.header(name) == (str(LIMIT) if known else None)
    for name in ("x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-remaining"):
        assert (response.header(name) is not None) is known


def bearer(name: str = "key") -> tuple[str, str]:
    return ("Authorization", f"Bearer {KEYS[name]}")


def test_there_are_as_many_cases_as_promised() -> None:
    assert len(corpora.bodies()) >= 300
    assert len(corpora.auth()) >= 200
    assert len(corpora.urls()) >= 40
    assert {case.name for case in corpora.urls() if not case.is_sendable} == set(URLS_OVER_HTTP)


@pytest.mark.parametrize("case", corpora.bodies(), ids=lambda case: case.name)
def test_every_body(case: corpora.BodyCase, line: Line) -> None:
    response = line.ask(TARGETS[case.dialect], case.body, bearer())
    check_limits(response, known=True)
    if case.status == 200:
        line.check_served(response)
        streams = (response.header("content-type") or "").startswith("text/event-stream")
        assert streams is case.expect["stream"]
        return
    assert response.status == case.status
    error = error_in(response, case.dialect, case.code or "")
    if case.dialect is Dialect.OPENAI:
        assert error["param"] == case.param
    line.check_refused(response)
    assert response.header("connection") is None, "a bad body leaves the connection usable"


@pytest.mark.parametrize("case", corpora.auth(), ids=lambda case: case.name)
def test_every_credential(case: corpora.AuthCase, line: Line) -> None:
    headers: Sequence[tuple[str, str]] = case.headers_with(KEYS)
    if is_address(case.peer):  # others are none that a proxy could have seen
        headers = [*headers, ("X-Forwarded-For", case.peer)]
    response = line.ask(case.path, GOOD, *headers)
    if not case.is_sendable:
        assert response.status == 400
        error_in(response, case.dialect, "invalid_request")
        assert response.header("connection") == "close"
        line.check_refused(response)
    elif case.status == 200:
        check_limits(response, known=True)
        line.check_served(response, case.principal or "")
    else:
        assert response.status == case.status, response.body
        error = error_in(response, case.dialect, case.code or "")
        assert not any(key[3:20] in error["message"] for key in KEYS.values())
        check_limits(response, known=False)
        line.check_refused(response)


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("case", corpora.urls(), ids=lambda case: case.name)
def test_every_url(case: corpora.UrlCase, line: Line) -> None:
    version = [("anthropic-version", "2023-06-01")] if case.anthropic_version else []
    content = GOOD if case.method in {"POST", "PUT", "PATCH"} else b""
    if case.endpoint == "responses" and content:
        content = GOOD_INPUT
    response = line.ask(case.path, content, bearer(), *version, method=case.method)
    status, code = URLS_OVER_HTTP.get(case.name, (case.status, case.code))
    if status == 200 and case.endpoint not in PLAIN_ENDPOINTS:
        # Another body is wanted there: what matters here is that the way leads to it.
        assert response.status != 405
        assert b"unknown_url" not in response.body
        assert b"unsupported_endpoint" not in response.body
        line.served = line.ledger()[0]  # some are served all the same: a count of tokens
        return
    assert response.status == status, response.body
    if case.endpoint in {"chat", "messages", "responses"} and status == 200:
        line.check_served(response)
    else:
        line.check_refused(response)
    if status == 400:
        error_in(response, case.dialect, code or "")
        assert response.header("connection") == "close"
        return
    check_limits(response, known=True)
    assert (response.header("allow") is not None) is (status == 405)
    if case.method == "HEAD":
        assert response.body == b""
    elif code is not None:
        message = error_in(response, case.dialect, code)["message"]
        assert "/v1/" in message or "/v1beta/" in message, "names a URL to use"
    elif case.endpoint == "model":
        assert json.loads(response.body)["id"] == case.model
    elif case.endpoint == "models":
        listed = json.loads(response.body)
        assert ("has_more" in listed) is (case.dialect is Dialect.ANTHROPIC)
        assert {one["id"] for one in listed["data"]} <= set(MODELS)


def test_a_browser_may_ask_about_every_url_without_a_key(line: Line) -> None:
    origin = ("Origin", "https://app.test")
    asked = ("Access-Control-Request-Method", "POST")
    paths = {case.path for case in corpora.urls() if URLS_OVER_HTTP.get(case.name, (0,))[0] != 400}
    assert len(paths) >= 40
    for path in sorted(paths):
        response = line.ask(path, b"", origin, asked, method="OPTIONS")
        assert (response.status, response.body) == (204, b""), path
        assert response.header("access-control-allow-origin") == "*"
        assert response.header("access-control-allow-headers") == CORS_ALLOW_HEADERS
        assert response.header("connection") is None
        line.check_refused(response)


@pytest.mark.parametrize("key", ["key", "unknown"])
@pytest.mark.parametrize("target", [CHAT, MESSAGES, "/v1/models", "/v1/embeddings", "/x"])
def test_every_header_of_ours_is_exposed_to_a_browser(key: str, target: str, line: Line) -> None:
    origin = ("Origin", "https://app.test")
    method = "GET" if target == "/v1/models" else "POST"
    for content in (b"{", GOOD) if method == "POST" else (b"",):
        response = line.ask(target, content, bearer(key), origin, method=method)
        exposed = (response.header("access-control-expose-headers") or "").split(", ")
        ours = {
            name.lower()
            for name, _ in response.headers
            if name.lower().startswith(("x-", "anthropic-", "request-id", "retry-after"))
        }
        assert ours
        assert ours <= set(exposed), ours - set(exposed)
        assert ", ".join(exposed) == EXPOSED_HEADERS
        if response.status == 200 and method == "POST":
            line.check_served(response)
        else:
            line.check_refused(response)


def test_the_connection_was_opened_anew_only_where_the_relay_closed_it(line: Line) -> None:
    """The cases before this one had to be answered each by itself on a connection kept alive."""
    before = line.connections
    for content in (b"{", b"[]", b'{"model":"nowhere","messages":[]}'):
        line.check_refused(line.ask(CHAT, content, bearer()))
    line.check_served(line.ask(CHAT, GOOD, bearer()))
    assert line.connections <= before + 1
