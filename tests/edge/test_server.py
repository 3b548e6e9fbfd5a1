"""The public listener: strictness, CORS, and exactly one status line whatever goes wrong."""

import asyncio
import types
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from proxy.core.urls import CANONICAL
from proxy.edge.client import ClientConnection
from proxy.edge.server import CORS_ALLOW_HEADERS, ROUTES, Server
from tests.edge.harness import (
    ANN,
    BOB,
    CHAT,
    MESSAGES,
    ROLE,
    STOP,
    Relay,
    answer,
    body,
    channel,
    error_of,
    text,
    usage,
)
from tests.integration.raw_client import RawClient, RawResponse, request_bytes, responses
from tests.integration.scripted import ReceivedRequest, ScriptedUpstream
from tests.integration.scripts import (
    LAST_CHUNK,
    Drip,
    Script,
    Send,
    chunk,
    stream_head,
    stream_script,
)

CANARIES = {ANN: "ann-canary-7f31", BOB: "bob-canary-c08d"}
DONE = b"data: [DONE]\n\n"


def echo(request: ReceivedRequest) -> Script:
    """Answer with the canary that is in the prompt."""
    word = next(word for word in CANARIES.values() if word.encode() in request.body)
    head = stream_head(("connection", "close"))
    events = [ROLE, text(word), text(word), STOP, usage(9, 7), DONE]
    return [Send(head), *[Drip(chunk(event), 0.002, 10_000) for event in events], Send(LAST_CHUNK)]


def ask(key: str) -> bytes:
    return request_bytes(CHAT, body(CANARIES[key]), key=key)


class Throwing:
    """Steps a handler and throws `error` into it where it suspends for the n-th time."""

    def __init__(self, handle: Any, number: int, error: type[BaseException]) -> None:
        self.fired = False
        self._handle, self._number, self._error = handle, number, error

    async def __call__(self, request: Any) -> Any:
        return await self._step(self._handle(request))

    @types.coroutine
    def _step(self, coroutine: Any) -> Generator[Any, Any, Any]:
        suspended, error = 0, None
        while True:
            try:
                waiting = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            suspended, error = suspended + 1, None
            if suspended == self._number and not self.fired:
                self.fired = True
                error = self._error("thrown by the test")
                continue
            try:
                yield waiting
            except BaseException as thrown:
                error = thrown


def both(relay: Relay, client: RawClient) -> bytes:
    """Read until two answers are whole or the relay hangs up; then leave."""
    client.read_until(lambda data: data.count(b"HTTP/1.1 ") == 2 and whole(data))
    relay.quiet()
    return bytes(client.received)


def whole(data: bytes) -> bool:
    return all(each.whole for each in responses(data))


def on_the_wire(received: bytes) -> list[RawResponse]:
    """The responses on one connection; fails if anything follows an unfinished one."""
    assert received.count(b"HTTP/1.1 ") <= 2
    found = list(responses(received))
    assert received.count(b"HTTP/1.1 ") == len(found)
    assert all(each.whole for each in found[:-1])
    for key, each in zip((ANN, BOB), found, strict=False):
        other = CANARIES[BOB if key == ANN else ANN]
        assert other.encode() not in each.body
    return found


@pytest.mark.parametrize(
    "error", [RuntimeError, ConnectionResetError, TimeoutError, asyncio.CancelledError]
)
def test_an_exception_at_any_await_leaves_one_status_line_and_no_foreign_byte(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with (
        ScriptedUpstream(echo) as upstream,
        Relay(tmp_path, channel(upstream.base_url), plan="free") as relay,
    ):
        handle, number, fired = relay.handler.handle, 0, True
        while fired:
            number += 1
            thrower = Throwing(handle, number, error)
            relay.handler.handle = thrower
            with relay.client() as client:
                before = relay.handler.begun
                client.send(ask(ANN)[:-5])
                relay.until_begun(before)
                client.send(ask(ANN)[-5:] + ask(BOB))
                received = both(relay, client)
            fired = thrower.fired
            found = on_the_wire(received)
            if fired and found and found[0].status == 200:
                assert not found[0].whole or b'"error"' in found[0].body or DONE in found[0].body
            relay.handler.handle = handle
            with relay.client() as second:
                answered = second.send(ask(BOB)).read_response()
                assert answered.whole
                assert answered.body.count(CANARIES[BOB].encode()) == 2
                assert CANARIES[ANN].encode() not in answered.body
        assert number >= 4, "the handler suspends in several places"
        for call in relay.calls():
            assert call["verdict"] in {"complete", "internal_error", "client_gone"}
        relay.complaints.clear()


class FaultyTransport(asyncio.Transport):
    """A client's transport whose n-th write raises after it has written."""

    left = 0

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self._inner = inner

    def write(self, data: Any) -> None:
        self._inner.write(data)
        FaultyTransport.left -= 1
        if FaultyTransport.left == 0:
            raise RuntimeError("raised by the test after a write")

    def __getattribute__(self, name: str) -> Any:
        if name in {"write", "_inner", "left", "__class__"}:
            return super().__getattribute__(name)
        return getattr(super().__getattribute__("_inner"), name)


def test_an_exception_after_any_write_leaves_one_status_line_and_no_foreign_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ClientConnection.connection_made
    monkeypatch.setattr(
        ClientConnection,
        "connection_made",
        lambda self, transport: made(self, FaultyTransport(transport)),
    )
    with (
        ScriptedUpstream(echo) as upstream,
        Relay(tmp_path, channel(upstream.base_url), plan="free") as relay,
    ):
        number = 0
        while True:
            number += 1
            FaultyTransport.left = number
            with relay.client() as client:
                client.send(ask(ANN) + ask(BOB))
                found = on_the_wire(both(relay, client))
            if FaultyTransport.left > 0:
                break
            with relay.client() as second:
                answered = second.send(ask(BOB)).read_response()
                assert answered.whole
                assert CANARIES[ANN].encode() not in answered.body
        assert number > 3
        assert [each.whole for each in found] == [True, True]
        relay.quiet()
        relay.complaints.clear()


def test_a_fault_of_our_own_before_any_byte_is_500_in_the_dialect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("sk-upstream-main-0001 inside")

    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        monkeypatch.setattr("proxy.edge.relay.parse_call", broken)
        for target in (CHAT, MESSAGES):
            response = relay.ask(body(max_tokens=5), target)
            told = error_of(response)
            assert (response.status, told["code"]) == (500, "internal_error")
            assert "sk-" not in str(told)
            assert "Zero" not in str(told)


# Strictness

REFUSED = {
    "HTTP/2.0": b"GET /v1/models HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "absolute form": b"GET http://evil.test/v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "underscore": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nx_api_key: a\r\n\r\n",
    "GET with a body at once": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi",
    "GET with a body to come": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n",
    "GET with chunks": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nhi\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_two_servers_could_read_differently_is_refused(tmp_path: Path, case: str) -> None:
    with Relay(tmp_path) as relay, relay.client() as client:
        client.send(REFUSED[case]).read_all()
        found = list(responses(bytes(client.received)))
        assert [each.status for each in found] == [400]
        assert error_of(found[0])["code"] == "invalid_request"
        relay.complaints.clear()


@pytest.mark.parametrize("path", [CHAT, MESSAGES, "/v1/models", "/", "/nowhere", "/v1/embeddings"])
def test_a_browser_may_ask_anywhere_without_a_key(tmp_path: Path, path: str) -> None:
    with Relay(tmp_path) as relay, relay.client() as client:
        origin = {"Origin": "https://app.test", "Access-Control-Request-Method": "POST"}
        client.send(request_bytes(path, method="OPTIONS", headers=origin))
        response = client.read_response("OPTIONS")
        assert response.status == 204
        assert response.body == b""
        assert response.header("access-control-allow-origin") == "*"
        assert response.header("access-control-allow-headers") == CORS_ALLOW_HEADERS
        assert "POST" in (response.header("access-control-allow-methods") or "")


def test_every_answer_is_counted_also_those_that_are_no_call(tmp_path: Path) -> None:
    with Relay(tmp_path, channel("http://127.0.0.1:9/v1")) as relay:
        for method, path, status in (
            ("GET", "/v1/models", 200), ("GET", "/v1/models/m", 200), ("HEAD", "/v1/models", 200),
            ("OPTIONS", CHAT, 204), ("GET", "/v1/models/nothing", 404), ("GET", "/nowhere", 404),
        ):  # fmt: skip
            with relay.client() as client:
                client.send(request_bytes(path, method=method, key=ANN))
                assert client.read_response(method).status == status
        relay.quiet()
        counted = relay.do(lambda: dict(relay.world.metrics.counted.requests))
        assert {(endpoint, code): count for (endpoint, _, _, code), count in counted.items()} == {
            ("models", "200"): 2, ("model", "200"): 1, ("model", "404"): 1,
            ("chat", "204"): 1, ("other", "404"): 1,
        }  # fmt: skip


@pytest.mark.parametrize("target", [CHAT, "/nowhere", "/v1/models"])
def test_cors_is_on_every_answer_to_a_browser_and_on_no_other(tmp_path: Path, target: str) -> None:
    with Relay(tmp_path) as relay:
        for key in (ANN, "sk-bad"):
            for origin in ("https://app.test", None):
                with relay.client() as client:
                    headers = {"Origin": origin} if origin else {}
                    client.send(request_bytes(target, b"{", key=key, headers=headers))
                    response = client.read_response()
                    assert response.status >= 400
                    allowed = response.header("access-control-allow-origin")
                    assert allowed == ("*" if origin else None)
                    exposed = response.header("access-control-expose-headers") or ""
                    assert ("x-ratelimit-limit-requests" in exposed) is bool(origin)


def test_cors_to_listed_origins_only(tmp_path: Path) -> None:
    with Relay(tmp_path, cors_allow_origins="https://a.test, https://b.test") as relay:
        for origin, told in (("https://b.test", "https://b.test"), ("https://c.test", None)):
            with relay.client() as client:
                client.send(request_bytes("/x", key=ANN, headers={"Origin": origin}))
                assert client.read_response().header("access-control-allow-origin") == told


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", CHAT, 405, "method_not_allowed"),
        ("PUT", MESSAGES, 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/nowhere", 404, "unknown_url"),
        ("POST", "/v1/files", 404, "unsupported_endpoint"),
        ("GET", "/v1/models/none", 404, "model_not_found"),
    ],
)
def test_what_still_fails_names_its_limits(
    tmp_path: Path, method: str, target: str, status: int, code: str
) -> None:
    with Relay(tmp_path) as relay, relay.client() as client:
        client.send(request_bytes(target, key=ANN, method=method))
        response = client.read_response()
        assert (response.status, error_of(response)["code"]) == (status, code)
        assert response.header("request-id" if target == MESSAGES else "x-request-id")
        assert response.header("x-ratelimit-limit-requests") == "600"
        assert (response.header("allow") is not None) is (status == 405)


def test_models_are_listed_in_both_shapes(tmp_path: Path) -> None:
    with Relay(tmp_path, channel("http://127.0.0.1:9/v1")) as relay:
        for headers, shape in (
            ({}, b'"object":"list"'),
            ({"anthropic-version": "x"}, b'"has_more"'),
        ):
            with relay.client() as client:
                client.send(request_bytes("/v1/models", key=ANN, method="GET", headers=headers))
                response = client.read_response("GET")
                assert response.status == 200
                assert shape in response.body


def test_the_peer_behind_a_trusted_proxy_is_who_it_says(tmp_path: Path) -> None:
    with Relay(tmp_path, trusted_proxies=("127.0.0.0/8",)) as relay:
        seen: list[str | None] = []
        server = Server(relay.world)

        async def look(request: Any) -> None:
            seen.append(server._peer_address(request))
            await handle(request)

        handle, relay.handler.handle = relay.handler.handle, look
        for forwarded in ("9.9.9.9", "1.1.1.1, 8.8.8.8", "nonsense", ""):
            with relay.client() as client:
                client.send(request_bytes("/x", headers={"X-Forwarded-For": forwarded}))
                client.read_response()
        relay.bound(trusted_proxies=())
        with relay.client() as client:
            client.send(request_bytes("/x", headers={"X-Forwarded-For": "9.9.9.9"}))
            client.read_response()
        assert seen == ["9.9.9.9", "8.8.8.8", "127.0.0.1", "127.0.0.1", "127.0.0.1"]
    assert "POST /v1/responses" in ROUTES
    assert len(ROUTES) == len(CANONICAL)
