"""Clients that leave, stall or never finish asking: seen at once, and the upstream cancelled."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.edge import client as client_module
from tests.edge.harness import (
    ANN,
    CHAT,
    CONTENT,
    ROLE,
    WORDS,
    Relay,
    answer,
    body,
    channel,
    error_of,
    plain_answer,
)
from tests.integration.raw_client import RawClient, request_bytes, responses
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import (
    AwaitGone,
    Flood,
    Pause,
    Send,
    chunk,
    plain_script,
    stream_head,
    stream_script,
)

Leaving = Callable[[RawClient], None]
LEAVE = {"fin": RawClient.leave, "rst": RawClient.reset, "half": RawClient.half_close}
ASK = request_bytes(CHAT, body(), key=ANN)


def gone(upstream: ScriptedUpstream) -> bool:
    """Whether the relay has hung up on the upstream."""
    return bool(upstream.visits) and upstream.visits[0].gone in {"fin", "rst"}


@pytest.mark.parametrize("how", LEAVE)
def test_leaving_before_the_first_byte_cancels_the_upstream(tmp_path: Path, how: str) -> None:
    with (
        ScriptedUpstream([AwaitGone()]) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(ASK)
        upstream.wait_until(lambda up: len(up.requests) == 1)
        LEAVE[how](client)
        upstream.wait_until(gone)
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"], call["status"]) == ("client_gone", 0, 499)


@pytest.mark.parametrize("how", LEAVE)
def test_leaving_in_mid_stream_cancels_the_upstream(tmp_path: Path, how: str) -> None:
    script = [Send(stream_head()), *[Send(chunk(event)) for event in (ROLE, *CONTENT)], AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(ASK).read_until(CONTENT[-1])
        LEAVE[how](client)
        upstream.wait_until(gone)
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("client_gone", "counted")
        assert call["output"] == len(WORDS)
        (attempt,) = relay.attempts()
        assert attempt["outcome"] == "interrupted", "it did not fail: its caller left"


@pytest.mark.parametrize("how", LEAVE)
@pytest.mark.parametrize("stream", [True, False])
def test_leaving_while_a_plain_answer_is_made(tmp_path: Path, how: str, stream: bool) -> None:
    with (
        ScriptedUpstream([AwaitGone()]) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(stream=stream), key=ANN))
        upstream.wait_until(lambda up: len(up.requests) == 1)
        LEAVE[how](client)
        upstream.wait_until(gone)
        assert [call["charge"] for call in relay.calls()] == [0]


@pytest.mark.parametrize("how", LEAVE)
def test_asking_and_leaving_at_once(tmp_path: Path, how: str) -> None:
    with (
        ScriptedUpstream([AwaitGone()]) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        for _ in range(20):
            with relay.client() as hasty:
                hasty.send(ASK)
                LEAVE[how](hasty)
        client.send(ASK)
        upstream.wait_until(lambda up: len(up.requests) >= 1)
        client.leave()
        assert {call["verdict"] for call in relay.calls()} == {"client_gone"}
        assert all(call["charge"] == 0 for call in relay.calls())


def test_a_client_lost_before_its_call_began_reaches_no_upstream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ScriptedUpstream([AwaitGone()]) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        decide, left = relay.keeper.decide, asyncio.Event()

        async def late(opening: Any) -> Any:
            left.set()
            while not relay.handler.lost():
                await asyncio.sleep(0)
            return decide(opening)

        monkeypatch.setattr(relay.keeper, "decide", lambda _: None)  # as if it were elsewhere
        monkeypatch.setattr(relay.keeper, "admit", late)
        client.send(ASK)
        relay.run(left.wait())
        client.reset()
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("client_gone", 0)
        assert not upstream.visits


def test_a_half_close_is_seen_behind_a_full_buffer(tmp_path: Path) -> None:
    script = [Send(stream_head()), Send(chunk(ROLE)), Flood(chunk(CONTENT[0]), 1_000_000)]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), credit=10**13) as relay,
        relay.client(receive_buffer_bytes=4_096) as client,
    ):
        client.send(ASK).read_until(CONTENT[0])
        call = relay.call()
        relay.until(lambda: call._paused_at is not None)
        client.half_close()
        upstream.wait_until(gone)
        assert [call["verdict"] for call in relay.calls()] == ["client_gone"]


@pytest.mark.parametrize("how", LEAVE)
def test_leaving_is_seen_though_requests_are_piled_up_behind(tmp_path: Path, how: str) -> None:
    script = [Send(stream_head()), Send(chunk(ROLE)), Send(chunk(CONTENT[0])), AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(ASK * 150).read_until(CONTENT[0])
        LEAVE[how](client)
        upstream.wait_until(gone)
        assert relay.calls()[0]["verdict"] == "client_gone"


def test_forty_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        one = request_bytes(CHAT, body(stream=False, max_tokens=5), key=ANN)
        client.send(one * 40)
        client.read_until(lambda data: data.count(plain_answer()) == 40)
        assert [each.status for each in responses(bytes(client.received))] == [200] * 40
        assert len(relay.calls()) == 40


@pytest.mark.parametrize("write_bytes", [None, 7, 100])
def test_heads_alike_but_for_length_key_or_path_are_each_taken_for_what_they_are(
    tmp_path: Path, write_bytes: int | None
) -> None:
    sizes = (1, 5, 900, 5, 12, 9_000, 5)
    asked = [
        request_bytes(CHAT, body(stream=False, max_tokens=5, user="u" * size), key=ANN)
        for size in sizes
    ]
    stranger = request_bytes(CHAT, body(stream=False, max_tokens=5), key=ANN[:-1] + "!")
    elsewhere = asked[1].replace(b"/completions", b"/nowhere", 1)
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(b"".join(asked[:3]), write_bytes)
        # In one piece: what is refused before its body has come is the connection's last.
        client.send(stranger + elsewhere)
        client.send(b"".join(asked[3:]), write_bytes)
        client.read_until(lambda data: data.count(plain_answer()) == len(sizes))
        statuses = [each.status for each in responses(bytes(client.received))]
        assert statuses == [200] * 3 + [401, 404] + [200] * 4
        sent = [len(json.loads(each.body)["user"]) for each in upstream.requests]
        assert sent == list(sizes)


def test_an_unfinished_head_is_closed_in_time(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay, relay.client() as slow, relay.client() as idle:
        slow.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        relay.do(lambda: None)
        until = relay.do(relay.world.loop.time)
        relay.do(lambda: relay.server.sweep(until, 10.0))
        relay.do(lambda: relay.server.sweep(until + 11.0, 10.0))
        assert slow.read_all() == b""
        assert idle.read_all() == b""


def test_what_is_not_http_is_answered_in_json_and_closed(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        for sent in (b"HELO relay\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n"):
            with relay.client() as client:
                client.send(sent)
                client.read_all()
                (response,) = responses(bytes(client.received))
                assert response.status == 400
                assert error_of(response)["code"] == "invalid_request"
        relay.complaints.clear()  # aiohttp logs what it could not parse


def test_a_call_after_a_lost_one_is_served_on_a_new_connection(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([Pause("go"), AwaitGone()], stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        with relay.client() as client:
            client.send(ASK)
            upstream.wait_until(lambda up: len(up.requests) == 1)
        upstream.wait_until(gone)
        assert relay.ask(body()).whole
        assert [call["verdict"] for call in relay.calls()] == ["client_gone", "complete"]
    assert client_module.KEEPALIVE_SECONDS_MAX > 60, "nginx gives up first"
