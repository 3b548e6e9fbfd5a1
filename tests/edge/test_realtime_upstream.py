"""Channels are tried until one opens a session, and what is no handshake opens none."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from websockets.http11 import Request

from proxy.core.websocket import accept_value
from proxy.edge import realtime_upstream
from tests.edge.harness import ANN, Relay, channel
from tests.edge.test_realtime import event, open_session, refusal, serving
from tests.integration.realtime_stand_in import RealtimeStandIn


class Canned:
    """An upstream that answers every connection with the same bytes, and closes if told."""

    def __init__(self, answer: bytes | Callable[[bytes], bytes], *, close: bool = True) -> None:
        self._answer = answer
        self._close = close
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._kept: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for one in self._kept:
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65_536)
            answer = self._answer if isinstance(self._answer, bytes) else self._answer(head)
            connection.sendall(answer)
            if self._close:
                connection.close()
            else:
                self._kept.append(connection)


def canned(upstream: Canned, name: str = "main", **changes: Any) -> dict[str, Any]:
    return channel(upstream.base_url, name, endpoints=["realtime"], **changes)


@pytest.mark.parametrize(
    ("answer", "status", "code", "recorded"),
    [
        (b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", 503, "upstream_unavailable", 401),
        (b"HTTP/1.1 429 No\r\ncontent-length: 0\r\nretry-after: 7\r\n\r\n", 429, None, 429),
        (
            b'HTTP/1.1 400 No\r\ncontent-length: 33\r\n\r\n{"error":{"message":"bad model"}}',
            400,
            "invalid_request",
            400,
        ),
        (b"HTTP/1.1 500 No\r\n\r\nclosed without a length", 502, "upstream_error", 500),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 502, "upstream_truncated", None),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 502, "upstream_truncated", None),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: wrong\r\n\r\n",
            502,
            "upstream_truncated",
            None,
        ),
        (b"HTTP/1.1 101", 502, "upstream_truncated", None),
        (b"", 502, "upstream_truncated", None),
        (b"x" * 20_000, 502, "upstream_truncated", None),
        (b"SSH-2.0-x\r\n\r\n", 502, "upstream_truncated", None),
        (b"HTTP/1.1 500 No\r\ncontent-length: x\r\n\r\n", 502, "upstream_truncated", None),
    ],
)
def test_what_opens_no_session_has_a_status(
    tmp_path: Path, answer: bytes, status: int, code: str | None, recorded: int | None
) -> None:
    with Canned(answer) as upstream, Relay(tmp_path, canned(upstream)) as relay:
        found, error = refusal(relay)
        assert found == status
        if code is not None:
            assert error["code"] == code
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("upstream_error", 0)
        (attempt,) = relay.attempts()
        assert attempt["status"] == recorded


def test_an_extension_that_was_not_asked_for_opens_none(tmp_path: Path) -> None:
    def answer(head: bytes) -> bytes:
        rows = [line.partition(b": ") for line in head.split(b"\r\n")]
        key = next(value for name, _, value in rows if name.lower() == b"sec-websocket-key")
        accept = accept_value(key.decode()).encode()
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: %b\r\n"
            b"sec-websocket-extensions: permessage-deflate\r\n\r\n" % accept
        )

    with Canned(answer) as upstream, Relay(tmp_path, canned(upstream)) as relay:
        assert refusal(relay)[0] == 502


def test_an_upstream_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    with (
        Canned(b"", close=False) as upstream,
        Relay(tmp_path, canned(upstream, first_byte_seconds_max=0.05)) as relay,
    ):
        assert refusal(relay)[0] == 502


def test_an_address_nobody_listens_at_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    with Relay(tmp_path, channel(url, endpoints=["realtime"])) as relay:
        assert refusal(relay)[0] == 502
        assert relay.calls()[0]["verdict"] == "upstream_error"


def test_the_next_channel_is_tried_and_both_attempts_are_kept(tmp_path: Path) -> None:
    with (
        RealtimeStandIn(refuse=lambda _: (503, b"{}")) as first,
        RealtimeStandIn() as second,
        Relay(
            tmp_path,
            serving(first, "first", priority=2),
            serving(second, "second", priority=1),
        ) as relay,
    ):
        with open_session(relay) as session:
            assert session.response is not None
            assert session.response.headers["x-sluice-channel"] == "second"
            event(session)
        relay.calls()
        assert [one["status"] for one in relay.attempts()] == [503, 101]


def test_another_key_of_a_channel_is_tried(tmp_path: Path) -> None:
    def refuse(request: Request) -> tuple[int, bytes] | None:
        return (401, b"{}") if request.headers["authorization"].endswith("-bad") else None

    with (
        RealtimeStandIn(refuse=refuse) as upstream,
        Relay(tmp_path, serving(upstream, keys=["sk-upstream-bad", "sk-upstream-good"])) as relay,
    ):
        for _ in range(2):
            with open_session(relay) as session:
                event(session)
        assert [one.headers["authorization"] for one in upstream.opened] == [
            "Bearer sk-upstream-bad",
            "Bearer sk-upstream-good",
            "Bearer sk-upstream-good",
        ]


def test_a_caller_who_leaves_meanwhile_is_not_connected(tmp_path: Path) -> None:
    with (
        Canned(b"", close=False) as upstream,
        Relay(tmp_path, canned(upstream)) as relay,
        relay.client() as client,
    ):
        client.send(
            b"GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\n"
            b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nx-api-key: "
            + ANN.encode()
            + b"\r\n\r\n"
        )
        relay.until(lambda: bool(relay.world.sessions))
        client.reset()
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"], call["status"]) == ("client_gone", 0, 499)
        (attempt,) = relay.attempts()
        assert (attempt["outcome"], attempt["status"]) == ("interrupted", None)
    assert realtime_upstream.HEAD_BYTES_MAX == 16_384


def test_azure_is_called_by_its_own_path_and_header(tmp_path: Path) -> None:
    with (
        RealtimeStandIn() as upstream,
        Relay(
            tmp_path,
            channel(
                upstream.base_url.removesuffix("/v1"),
                endpoints=["realtime"],
                api_version="2025-04-01-preview",
            ),
        ) as relay,
    ):
        with open_session(relay) as session:
            event(session)
        (request,) = upstream.opened
        assert request.path == "/openai/realtime?api-version=2025-04-01-preview&deployment=up-m"
        assert request.headers["api-key"] == "sk-upstream-main-0001"
