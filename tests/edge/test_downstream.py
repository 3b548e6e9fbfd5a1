"""The client's side of one request: bounded bodies in, one head and one end out."""

import json
from pathlib import Path

import pytest

from proxy.edge import downstream
from tests.edge.harness import (
    ANN,
    CHAT,
    MESSAGES,
    Relay,
    answer,
    body,
    channel,
    error_of,
)
from tests.integration.raw_client import request_bytes, responses
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import stream_script


def chunked(payload: bytes, size: int, target: str = CHAT) -> bytes:
    """A request whose body comes in chunks of `size`."""
    head = (
        f"POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ANN}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode()
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("target", [CHAT, MESSAGES])
@pytest.mark.parametrize("form", ["announced", "chunked", "whole"])
def test_a_body_that_is_too_large_is_413_in_the_dialect(
    tmp_path: Path, target: str, form: str
) -> None:
    large = body("x" * 5_000, max_tokens=5)
    with Relay(tmp_path, body_bytes_max=4_096) as relay, relay.client() as client:
        if form == "chunked":
            client.send(chunked(large, 1_000, target))
        else:
            sent = request_bytes(target, large, key=ANN)
            client.send(sent if form == "whole" else sent[:-1_000])
        response = client.read_response()
        assert response.status == 413
        assert error_of(response)["code"] == "request_too_large"
        assert ("type" in json.loads(response.body)) is (target == MESSAGES)
        assert response.header("x-ratelimit-limit-requests") == "600"
        if form == "announced":
            client.read_all()
        assert len(list(responses(bytes(client.received)))) == 1


def test_a_body_at_the_limit_passes(tmp_path: Path) -> None:
    exact = body("x" * 100)
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url), body_bytes_max=len(exact)) as relay,
    ):
        assert relay.ask(exact).status == 200
        assert relay.ask(exact + b" ").status == 413


@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_a_chunked_body_is_read_whole(tmp_path: Path, size: int) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(chunked(body(), size), write_bytes=50)
        assert client.read_response().whole
        assert b"Say hello." in upstream.requests[0].body


@pytest.mark.parametrize("target", [CHAT, MESSAGES])
def test_a_body_that_never_ends_is_408(tmp_path: Path, target: str) -> None:
    with Relay(tmp_path, body_seconds_max=0.05) as relay, relay.client() as client:
        client.send(request_bytes(target, body(), key=ANN)[:-1])
        response = client.read_response()
        assert response.status == 408
        assert error_of(response)["code"] == "request_timeout"
        client.read_all()
        assert not relay.calls()


def test_a_client_that_leaves_in_its_body_is_no_call(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        for leave in ("half_close", "reset"):
            with relay.client() as client:
                before = relay.handler.begun
                client.send(request_bytes(CHAT, body(), key=ANN)[:-1])
                relay.until_begun(before)
                getattr(client, leave)()
        assert not relay.calls()


def test_the_callers_own_id_is_kept_but_not_used(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(), key=ANN, headers={"X-Request-Id": "mine" * 100}))
        response = client.read_response()
        assert (response.header("x-request-id") or "").startswith("req_")
        (call,) = relay.calls()
        assert call["client_reference"] == ("mine" * 100)[: downstream.REFERENCE_CHARS_MAX]


def test_limits_are_on_a_stream_too(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body())
        for name in ("x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens",
                     "anthropic-ratelimit-tokens-reset"):  # fmt: skip
            assert response.header(name)
        assert response.header("cache-control") == "no-cache"
        assert response.header("x-accel-buffering") == "no"


@pytest.mark.parametrize("value", ["a\nset-cookie: b", "a\r\n\r\nb", "a\r", "\n"])
def test_a_line_break_never_reaches_a_head(value: str) -> None:
    client = downstream.Downstream.__new__(downstream.Downstream)
    client._lines = [""]
    with pytest.raises(AssertionError, match="line break"):
        client.add_headers([("x-good", "good"), ("x-bad", value)])
    assert client._lines == [""]
