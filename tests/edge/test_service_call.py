"""Where an answer is not delivered whole: who pays, and what is passed on until then."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.edge.open_call import Notice
from proxy.edge.service_call import HEADER_CHARS_MAX, ServiceCall
from tests.edge.harness import ANN, Relay
from tests.edge.services import (
    EMBEDDINGS,
    IMAGES,
    SPEECH,
    asked,
    pictures,
    service_channel,
    service_relay,
    sound,
)
from tests.integration.raw_client import RawClient, request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import (
    AwaitGone,
    Flood,
    Pause,
    Script,
    Send,
    chunk,
    plain_script,
    response_head,
)

BODY = pictures(2, 100_000, usage={"input_tokens": 5, "output_tokens": 544, "total_tokens": 549})
HEAD = response_head(200, [("content-type", "application/json"),
                           ("content-length", str(len(BODY)))])  # fmt: skip
DRAW = request_bytes(IMAGES, asked("drawer", prompt="x", n=2), key=ANN)
SPEAK = request_bytes(SPEECH, asked("voice", input="hello", voice="x"), key=ANN)


def call_of(relay: Relay) -> ServiceCall:
    relay.until(lambda: len(relay.world.calls) == 1)
    (call,) = relay.world.calls
    assert isinstance(call, ServiceCall)
    return call


@pytest.mark.parametrize("disconnect", ["cancel", "drain"])
def test_who_leaves_in_the_middle_pays_for_what_was_made(tmp_path: Path, disconnect: str) -> None:
    """The rest is read on for a moment: the provider's figure comes at the end."""
    script: Script = [Send(HEAD + BODY[:150_000]), Pause("gone"), Send(BODY[150_000:])]
    with (
        ScriptedUpstream(script) as upstream,
        service_relay(
            tmp_path,
            service_channel(upstream.base_url),
            group={"disconnect": disconnect},
            usage_wait_ms=20_000,
        ) as relay,
        relay.client() as client,
    ):
        client.send(DRAW)
        client.read_until(lambda data: len(data) > 140_000)
        client.reset()
        relay.until(relay.handler.lost)
        upstream.release("gone")
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("client_gone", "reported")
        assert (call["images"], call["image_output"]) == (2, 544)
        assert call["charge"] == 5 * 5_000 + 544 * 40_000
        assert relay.world.metrics.counted.units == {("image", "other"): 2}


def test_what_passes_before_it_is_whole_has_its_cost_in_its_receipt(tmp_path: Path) -> None:
    script: Script = [Send(HEAD + BODY[:150_000]), Pause("rest"), Send(BODY[150_000:])]
    with (
        ScriptedUpstream(script) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(DRAW)
        client.read_until(lambda data: len(data) > 140_000)
        upstream.release("rest")
        response = client.read_response()
        assert (response.status, response.body) == (200, BODY)
        assert response.header("x-sluice-cost") is None
        receipt = relay.get(f"/v1/generation?id={response.header('x-request-id')}")
        assert json.loads(receipt.body)["data"]["charge_nano_usd"] == 5 * 5_000 + 544 * 40_000


def test_an_upstream_that_then_says_nothing_is_left(tmp_path: Path) -> None:
    script: Script = [Send(HEAD + BODY[:150_000]), AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url), usage_wait_ms=0) as relay,
        relay.client() as client,
    ):
        client.send(DRAW)
        client.read_until(lambda data: len(data) > 140_000)
        client.reset()
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("client_gone", "estimated")
        assert call["images"] == 2, "the second had begun"
        assert call["charge"] > 0


@pytest.mark.parametrize("script", [[AwaitGone()], [Send(HEAD + BODY[:50_000]), AwaitGone()]])
def test_nothing_delivered_nothing_charged(tmp_path: Path, script: Script) -> None:
    with (
        ScriptedUpstream(script) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(DRAW)
        upstream.wait_until(lambda seen: bool(seen.requests))
        client.reset()
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"], call["forgiven"]) == ("client_gone", 0, 0)


def test_a_client_that_leaves_while_the_upload_waits(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([AwaitGone()]) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        wire = request_bytes(EMBEDDINGS, asked(input="x" * 3_000_000), key=ANN)
        client.send(wire[:2_000_000])
        relay.until_begun(0)
        client.reset()
        relay.quiet()
        assert (relay.calls(), upstream.requests) == ([], [])
        assert relay.world.spool.used_bytes == 0


@pytest.mark.parametrize(
    ("notice", "verdict"),
    [(Notice.SHUTDOWN, "cut_by_shutdown"), (Notice.REVOKED, "cut_by_revocation")],
)
@pytest.mark.parametrize("shown", [True, False])
def test_what_we_break_off_is_not_charged(
    tmp_path: Path, notice: Notice, verdict: str, shown: bool
) -> None:
    script: Script = [Send(HEAD + BODY[:150_000]) if shown else Pause("never"), AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(DRAW)
        if shown:
            client.read_until(lambda data: len(data) > 140_000)
        upstream.wait_until(lambda seen: bool(seen.requests))
        call = call_of(relay)
        relay.do(lambda: call.cut(notice))
        response = client.read_response()
        assert response.whole is not shown
        (row,) = relay.calls()
        assert (row["verdict"], row["charge"]) == (verdict, 0)
        assert (row["forgiven"] > 0) is shown
        upstream.release("never")


def test_a_slow_client_stops_the_upstream(tmp_path: Path) -> None:
    """64 MB for a client that takes nothing: what waits in this process is bounded."""
    piece = b"A" * 65_536
    rows = [("content-type", "audio/mpeg"), ("transfer-encoding", "chunked")]
    script: Script = [
        Send(response_head(200, rows)), Flood(chunk(piece), 1_024), Send(b"0\r\n\r\n")
    ]  # fmt: skip
    with (
        ScriptedUpstream(script) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        RawClient(relay.port, receive_buffer_bytes=65_536) as client,
    ):
        client.send(SPEAK)
        call = call_of(relay)
        relay.until(lambda: call._paused_at is not None)

        def waiting() -> int:
            transport = call.client.connection.transport
            return 0 if transport is None else transport.get_write_buffer_size()

        assert relay.do(waiting) < 1_000_000
        assert upstream.exchanges[0].bytes_sent < 32 << 20
        taken = 0
        while not client.received.endswith(b"0\r\n\r\n") and client.read_once(1 << 20):
            taken += max(0, len(client.received) - 100)
            del client.received[:-100]
        assert taken >= 64 << 20
        (row,) = relay.calls()
        assert (row["verdict"], row["delivered_bytes"]) == ("complete", 64 << 20)


def test_a_client_that_takes_nothing_is_cut(tmp_path: Path) -> None:
    rows = [("content-type", "audio/mpeg"), ("transfer-encoding", "chunked")]
    script: Script = [Send(response_head(200, rows)), Flood(chunk(b"A" * 65_536), 1_024)]
    with (
        ScriptedUpstream(script) as upstream,
        service_relay(
            tmp_path, service_channel(upstream.base_url), write_stall_seconds_max=0.01
        ) as relay,
        RawClient(relay.port, receive_buffer_bytes=65_536) as client,
    ):
        client.send(SPEAK)
        upstream.wait_until(lambda seen: bool(seen.requests))
        (row,) = relay.calls()
        assert row["verdict"] == "client_gone"
        assert row["charge"] == 75_000, "it had begun to be spoken"


@pytest.mark.parametrize("idle", [True, False])
def test_an_upstream_that_falls_silent(tmp_path: Path, idle: bool) -> None:
    script: Script = [Send(HEAD + BODY[:150_000]) if idle else Pause("never"), AwaitGone()]
    times: dict[str, Any] = {"idle_seconds_max": 0.02} if idle else {"first_byte_seconds_max": 0.02}
    with (
        ScriptedUpstream(script) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url, **times)) as relay,
        relay.client() as client,
    ):
        client.send(DRAW)
        response = client.read_response()
        assert response.whole is not idle
        if not idle:
            assert response.status == 504
        (row,) = relay.calls()
        assert (row["verdict"], row["charge"]) == ("timeout", 0)
        upstream.release("never")


def test_headers_that_cannot_go_on_do_not(tmp_path: Path) -> None:
    long = "x" * (HEADER_CHARS_MAX + 1)
    rows = [("content-type", f"audio/{long}"), ("content-language", "de\xe9"),
            ("content-length", "3")]  # fmt: skip
    with (
        ScriptedUpstream([Send(response_head(200, rows) + b"abc")]) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(SPEAK)
        response = client.read_response()
        assert response.body == b"abc"
        assert response.header("content-type") == "application/octet-stream"
        assert response.header("content-language") is None


def test_a_revoked_key_and_a_spent_wallet_are_as_everywhere(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(sound(b"abc")) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url), credit=100_000) as relay,
    ):
        statuses = [relay.ask(asked("voice", input="hello"), SPEECH).status for _ in range(2)]
        assert statuses == [200, 402]
        assert [call["charge"] for call in relay.calls()] == [75_000]


def test_requests_ahead_on_one_connection_are_answered_in_order(tmp_path: Path) -> None:
    def answer(request: Any) -> Script:
        return plain_script(json.dumps({"data": [], "n": len(request.body)}).encode())

    with (
        ScriptedUpstream(answer) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        bodies = [asked(input="x" * size) for size in (400_000, 20)]
        client.send(b"".join(request_bytes(EMBEDDINGS, body, key=ANN) for body in bodies))
        first = client.read_response()
        client.received[:] = first.rest
        seen = [json.loads(one.body)["n"] for one in (first, client.read_response())]
        assert seen == [len(body) + 3 for body in bodies]
