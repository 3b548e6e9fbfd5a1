"""How a realtime session is opened, and what a caller is told where it is not."""

import json
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from proxy.core.websocket import TEXT, frame
from proxy.edge import realtime
from tests.edge.harness import ANN, BOB, Relay, channel
from tests.integration.realtime_stand_in import RealtimeStandIn


def serving(upstream: RealtimeStandIn, name: str = "main", **changes: Any) -> dict[str, Any]:
    return channel(upstream.base_url, name, endpoints=["realtime"], **changes)


def open_session(
    relay: Relay, query: str = "?model=m", key: str | None = ANN, **options: Any
) -> ClientConnection:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    headers |= options.pop("headers", {})
    url = f"ws://127.0.0.1:{relay.port}/v1/realtime{query}"
    return connect(url, additional_headers=headers, compression=None, **options)


def refusal(relay: Relay, *arguments: Any, **options: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as caught:
        open_session(relay, *arguments, **options)
    response = caught.value.response
    error: dict[str, Any] = json.loads(response.body or b"{}")["error"]
    return response.status_code, error


def event(session: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(session.recv(timeout=10))
    return found


def test_a_session_is_opened_with_the_upstreams_own_model_and_key(tmp_path: Path) -> None:
    with (
        RealtimeStandIn() as upstream,
        Relay(tmp_path, serving(upstream)) as relay,
    ):
        with open_session(relay) as session:
            assert session.response is not None
            headers = session.response.headers
            assert headers["x-sluice-model"] == "up-m"
            assert headers["x-ratelimit-limit-requests"] == "600"
            assert headers["x-request-id"]
            assert event(session)["type"] == "session.created"
        (request,) = upstream.opened
        assert request.path == "/v1/realtime?model=up-m"
        assert request.headers["authorization"] == "Bearer sk-upstream-main-0001"
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"], call["status"]) == ("complete", 0, 101)
        assert call["endpoint"] == "realtime"


def test_a_browser_shows_its_key_in_a_subprotocol(tmp_path: Path) -> None:
    with (
        RealtimeStandIn() as upstream,
        Relay(tmp_path, serving(upstream)) as relay,
    ):
        protocols = ["realtime", f"openai-insecure-api-key.{ANN}", "openai-beta.realtime-v1"]
        with open_session(relay, key=None, subprotocols=protocols) as session:
            assert session.subprotocol == "realtime"
            assert event(session)["type"] == "session.created"
        (request,) = upstream.opened
        assert request.headers["openai-beta"] == "realtime=v1"
        assert "sec-websocket-protocol" not in request.headers
        protocols = ["realtime", f"openai-insecure-api-key.{BOB}"]
        status, error = refusal(relay, key=ANN, subprotocols=protocols)
        assert (status, error["code"]) == (401, "invalid_api_key")


def test_the_earlier_protocol_may_be_asked_for_by_its_header(tmp_path: Path) -> None:
    with (
        RealtimeStandIn() as upstream,
        Relay(tmp_path, serving(upstream)) as relay,
    ):
        with open_session(relay, headers={"openai-beta": "realtime=v1"}) as session:
            event(session)
        assert upstream.opened[0].headers["openai-beta"] == "realtime=v1"


def test_what_is_no_websocket_is_told_so(tmp_path: Path) -> None:
    with RealtimeStandIn() as upstream, Relay(tmp_path, serving(upstream)) as relay:
        response = relay.get("/v1/realtime?model=m")
        assert response.status == 400
        assert "WebSocket" in json.loads(response.body)["error"]["message"]
        assert relay.get("/v1/realtime?model=m", upgrade="websocket").status == 400
        assert relay.ask(b"{}", "/v1/realtime").status == 405


@pytest.mark.parametrize(
    ("query", "key", "status", "code"),
    [
        ("?model=m", None, 401, "invalid_api_key"),
        ("?model=m", "sk-wrong", 401, "invalid_api_key"),
        ("", ANN, 400, "invalid_request"),
        ("?model=", ANN, 400, "invalid_request"),
        ("?model=m&call_id=rtc_1", ANN, 400, "invalid_request"),
        ("?model=unknown", ANN, 404, "model_not_found"),
    ],
)
def test_a_session_that_cannot_be_is_refused_with_its_true_status(
    tmp_path: Path, query: str, key: str | None, status: int, code: str
) -> None:
    with RealtimeStandIn() as upstream, Relay(tmp_path, serving(upstream)) as relay:
        found, error = refusal(relay, query, key)
        assert (found, error["code"]) == (status, code)
        assert not upstream.opened
        assert relay.calls() == []


def test_a_channel_that_does_not_declare_it_serves_no_session(tmp_path: Path) -> None:
    with RealtimeStandIn() as upstream, Relay(tmp_path, channel(upstream.base_url)) as relay:
        status, error = refusal(relay)
        assert (status, error["code"]) == (400, "model_endpoint_mismatch")


def test_without_money_there_is_no_session(tmp_path: Path) -> None:
    with RealtimeStandIn() as upstream, Relay(tmp_path, serving(upstream), credit=0) as relay:
        status, error = refusal(relay)
        assert (status, error["code"]) == (402, "insufficient_quota")
        assert not upstream.opened


def test_a_limit_below_any_response_is_told_before(tmp_path: Path) -> None:
    with RealtimeStandIn() as upstream, Relay(tmp_path, serving(upstream)) as relay:
        status, error = refusal(relay, headers={"x-max-cost": "5 nano"})
        assert (status, error["code"]) == (400, "max_cost_exceeded")
        assert not upstream.opened


def test_a_session_can_be_rehearsed(tmp_path: Path) -> None:
    with RealtimeStandIn() as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with pytest.raises(InvalidStatus) as caught:
            open_session(relay, headers={"x-dry-run": "true"})
        told = json.loads(caught.value.response.body or b"")
        assert caught.value.response.status_code == 200
        assert (told["object"], told["admitted"]) == ("dry_run", True)
        assert told["hold_nano_usd"] == 1_024 * 1_000 + 2_000 * 2_000
        assert not upstream.opened
        assert relay.calls() == []


def test_without_an_upstream_there_is_no_session_and_no_charge(tmp_path: Path) -> None:
    with (
        RealtimeStandIn(refuse=lambda _: (500, b"{}")) as upstream,
        Relay(tmp_path, serving(upstream)) as relay,
    ):
        status, error = refusal(relay)
        assert (status, error["code"]) == (502, "upstream_error")
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"], call["status"]) == ("upstream_error", 0, 502)
        (attempt,) = relay.attempts()
        assert (attempt["status"], attempt["outcome"]) == (500, "upstream_error")


def test_what_a_client_sends_ahead_of_the_answer_is_not_lost(tmp_path: Path) -> None:
    head = (
        "GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\n"
        "upgrade: websocket\r\nsec-websocket-version: 13\r\n"
        f"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {ANN}\r\n\r\n"
    )
    with (
        RealtimeStandIn() as upstream,
        Relay(tmp_path, serving(upstream)) as relay,
        relay.client() as client,
    ):
        client.send(head.encode() + frame(TEXT, b'{"type":"response.create"}', b"abcd"))
        relay.until(lambda: bool(upstream.sessions and upstream.sessions[0].received))
    assert realtime.PROTOCOL == "realtime"
