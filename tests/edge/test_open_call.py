"""Any call while it is open: cuts, commits and reservations that wait, clients that do not."""

import asyncio
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.edge.attempt import AttemptEnd
from proxy.edge.call import Call
from proxy.edge.open_call import MARK_SECONDS, Notice, OpenCall
from proxy.storage.commits import Commit
from proxy.storage.keys import set_key_enabled
from tests.edge.harness import (
    ANN,
    CHAT,
    CONTENT,
    DONE,
    MESSAGE_START,
    MESSAGES,
    ROLE,
    SAID,
    STOP,
    WORDS,
    Relay,
    answer,
    body,
    channel,
    error_of,
    plain_answer,
    price_of,
    text,
    usage,
)
from tests.integration.raw_client import RawClient, RawResponse, request_bytes
from tests.integration.scripted import ScriptedUpstream, blackhole_port
from tests.integration.scripts import (
    LAST_CHUNK,
    AwaitGone,
    Flood,
    Pause,
    Send,
    chunk,
    plain_script,
    stream_head,
    stream_script,
)

HELD_TRIES_MAX = 20
ASK = request_bytes(CHAT, body(), key=ANN)
QUICK: dict[str, Any] = {"heartbeat_first_ms": 1, "heartbeat_ms": 1}
BEATS = {"openai": b": keep-alive\n\n", "anthropic": b'event: ping\ndata: {"type": "ping"}\n\n'}


def asked(dialect: str) -> bytes:
    target = CHAT if dialect == "openai" else MESSAGES
    return request_bytes(target, body(max_tokens=50), key=ANN)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_key_revoked_in_mid_stream(tmp_path: Path, dialect: str) -> None:
    events = (ROLE, *CONTENT) if dialect == "openai" else (MESSAGE_START, *SAID)
    script = [Send(stream_head()), *[Send(chunk(event)) for event in events], AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url, dialect=dialect)) as relay,
        relay.client() as client,
    ):
        client.send(asked(dialect)).read_until(events[-1])
        call_now = relay.call()

        async def revoke() -> None:
            await relay.keeper.change(lambda conn: set_key_enabled(conn, 1, enabled=False))
            call_now.cut(Notice.REVOKED)

        relay.run(revoke())
        response = client.read_response()
        assert response.whole
        assert error_of(response)["code"] == "key_disabled"
        upstream.wait_until(lambda up: up.visits[0].gone is not None)
        (call,) = relay.calls()
        assert (call["verdict"], call["output"]) == ("cut_by_revocation", len(WORDS))
        refused = relay.ask(body(), key=ANN)
        assert refused.status == 401
        assert error_of(refused)["code"] == "key_disabled"


@pytest.mark.parametrize("when", ["connecting", "waiting", "content"])
def test_a_shutdown_cuts_in_band_at_any_point(tmp_path: Path, when: str) -> None:
    script: list[Any] = [AwaitGone()]
    if when == "content":
        script = [Send(stream_head()), *[Send(chunk(event)) for event in CONTENT], AwaitGone()]
    with ScriptedUpstream(script) as upstream, blackhole_port() as silent:
        url = f"http://127.0.0.1:{silent}/v1" if when == "connecting" else upstream.base_url
        with (
            Relay(tmp_path, channel(url, connect_seconds_max=15.0)) as relay,
            relay.client() as client,
        ):
            client.send(ASK)
            call = relay.call()
            if when == "waiting":
                upstream.wait_until(lambda up: len(up.requests) == 1)
            elif when == "content":
                client.read_until(CONTENT[-1])
            relay.do(lambda: call.cut(Notice.SHUTDOWN))
            response = client.read_response()
            assert response.status == (200 if when == "content" else 503)
            assert error_of(response)["code"] == "server_restarting"
            (row,) = relay.calls()
            assert row["verdict"] == "cut_by_shutdown"
            assert row["output"] == (len(WORDS) if when == "content" else 0)


# Commits


@pytest.mark.parametrize("stream", [True, False])
def test_the_end_of_an_answer_waits_for_its_commit(
    tmp_path: Path, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = [Send(stream_head()), *[Send(chunk(event)) for event in (ROLE, *CONTENT)],
              Pause("rest"), Send(chunk(STOP + usage(9, 7) + DONE) + LAST_CHUNK)]  # fmt: skip
    late = [Pause("rest"), *plain_script(plain_answer())]
    with (
        ScriptedUpstream(script if stream else late) as upstream,
        Relay(tmp_path, channel(upstream.base_url), heartbeat_first_ms=1, heartbeat_ms=1) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(stream=stream, max_tokens=50), key=ANN))
        call = relay.call()
        if stream:
            client.read_until(CONTENT[-1])
        relay.until(call.admission.committed.done)
        held = relay.hold_commits(monkeypatch)
        upstream.release("rest")
        relay.until(lambda: call._commit_waiter is not None)
        if stream:
            seen = client.received.count(BEATS["openai"])
            client.read_until(lambda data: data.count(BEATS["openai"]) > seen + 2)
            assert DONE not in client.received
        else:
            assert not client.received
        held.set()
        response = client.read_response()
        assert response.status == 200
        assert response.whole
        assert (DONE in response.body) is stream
        assert [row["verdict"] for row in relay.calls()] == ["complete"]


def assert_no_end(response: RawResponse, *, stream: bool) -> None:
    """A stream says why in-band; a plain body has no place for it and is cut before its end."""
    assert response.whole is stream
    if stream:
        assert DONE not in response.body
        assert error_of(response)["code"] == "settlement_unavailable"
    else:
        assert response.body == plain_answer()[:-1]


@pytest.mark.parametrize("stream", [True, False])
def test_a_commit_that_takes_too_long_releases_no_end(
    tmp_path: Path, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = [Send(stream_head()), *[Send(chunk(event)) for event in (ROLE, *CONTENT)],
              Pause("rest"), Send(chunk(STOP + usage(9, 7) + DONE) + LAST_CHUNK)]  # fmt: skip
    late = [Pause("rest"), *plain_script(plain_answer())]
    with (
        ScriptedUpstream(script if stream else late) as upstream,
        Relay(tmp_path, channel(upstream.base_url), commit_wait_ms_max=20) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(stream=stream, max_tokens=50), key=ANN))
        upstream.wait_until(lambda up: len(up.requests) == 1)
        if stream:
            client.read_until(CONTENT[-1])
        relay.until(relay.call().admission.committed.done)
        held = relay.hold_commits(monkeypatch)
        upstream.release("rest")
        response = client.read_response()
        assert response.status == 200
        assert_no_end(response, stream=stream)
        held.set()
        relay.quiet()


def test_a_plain_answer_waits_for_its_open_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = [Pause("rest"), *plain_script(plain_answer())]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        held = relay.hold_commits(monkeypatch)
        try:
            client.send(request_bytes(CHAT, body(stream=False, max_tokens=50), key=ANN))
            call = relay.call()
            upstream.release("rest")
            relay.until(lambda: call.attempt is not None and call.attempt.over)
            assert not call.admission.committed.done()
            assert not call.client.begun
        finally:
            held.set()
        assert client.read_response().body == plain_answer()
        assert [row["verdict"] for row in relay.calls()] == ["complete"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_commit_that_fails_releases_no_end(
    tmp_path: Path, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = [Send(stream_head()), *[Send(chunk(event)) for event in (ROLE, *CONTENT)],
              Pause("rest"), Send(chunk(STOP + usage(9, 7) + DONE) + LAST_CHUNK)]  # fmt: skip
    late = [Pause("rest"), *plain_script(plain_answer())]
    with (
        ScriptedUpstream(script if stream else late) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(stream=stream, max_tokens=50), key=ANN))
        upstream.wait_until(lambda up: len(up.requests) == 1)
        if stream:
            client.read_until(CONTENT[-1])
        relay.until(relay.call().admission.committed.done)
        relay.fail_commits(monkeypatch)
        upstream.release("rest")
        assert_no_end(client.read_response(), stream=stream)
        relay.quiet()
        refused = relay.ask(body())
        assert refused.status == 503
        assert error_of(refused)["code"] == "service_unavailable"
        assert refused.header("retry-after")


def test_a_reservation_that_cannot_be_committed_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        relay.fail_commits(monkeypatch)
        response = relay.ask(body())
        assert response.status == 503
        assert error_of(response)["code"] == "service_unavailable"
        relay.quiet()


@pytest.mark.parametrize("stream", [True, False])
def test_a_reservation_that_takes_too_long_is_an_outage_before_the_first_byte(
    tmp_path: Path, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = stream_script(answer()) if stream else plain_script(plain_answer())
    with (
        ScriptedUpstream([Pause("begin"), *script]) as upstream,
        Relay(tmp_path, channel(upstream.base_url), commit_wait_ms_max=20) as relay,
        relay.client() as client,
    ):
        held = relay.hold_commits(monkeypatch)
        try:
            client.send(request_bytes(CHAT, body(stream=stream, max_tokens=50), key=ANN))
            call = relay.call()
            upstream.release("begin")
            response = client.read_response()
            assert not call.admission.committed.done()
        finally:
            held.set()
        assert response.status == 503
        assert error_of(response)["code"] == "service_unavailable"
        assert response.header("retry-after")
        (row,) = relay.calls()
        assert (row["charge"], row["status"]) == (0, 503)
        relay.quiet()


def test_the_first_byte_waits_for_the_reservation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url), **QUICK) as relay,
        relay.client() as client,
    ):
        held = relay.hold_commits(monkeypatch)
        client.send(ASK)
        call = relay.call()
        relay.until(lambda: call.attempt is not None and call.attempt.shown)
        assert not call.client.begun
        held.set()
        assert client.read_response().whole


def test_a_client_that_takes_nothing_is_cut(tmp_path: Path) -> None:
    script = [Send(stream_head()), Flood(chunk(CONTENT[0]), 1_000_000)]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(
            tmp_path, channel(upstream.base_url), credit=10**13, write_stall_seconds_max=0.05
        ) as relay,
        relay.client(receive_buffer_bytes=4_096) as client,
    ):
        client.send(ASK).read_until(CONTENT[0])
        upstream.wait_until(lambda up: up.visits[0].gone is not None)
        assert [call["verdict"] for call in relay.calls()] == ["client_gone"]


@pytest.mark.parametrize("reads", [True, False])
def test_nothing_is_settled_while_this_process_still_holds_content(
    tmp_path: Path, reads: bool
) -> None:
    long = [chunk(text(" word" * 2_000)) for _ in range(60)]
    script = [Send(stream_head()), *map(Send, long), Send(chunk(usage(9, 7) + DONE) + LAST_CHUNK)]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), credit=10**13) as relay,
    ):
        for number in range(HELD_TRIES_MAX):
            with relay.client(receive_buffer_bytes=4_096) as client:
                call, held = held_at_its_end(relay, upstream, client, number)
                if not held:
                    relay.quiet()
                    continue
                assert call.receipt is None
                if reads:
                    assert client.read_response().body.endswith(DONE)
                else:
                    client.reset()
            row = relay.calls()[-1]
            assert row["verdict"] == ("complete" if reads else "client_gone")
            assert not reads or row["charge"] == price_of(9, 7)
            return
    pytest.fail("the network took every answer before its end was known")


def held_at_its_end(
    relay: Relay, upstream: ScriptedUpstream, client: RawClient, number: int
) -> tuple[Call, bool]:
    """A call read until its end is known; and whether some of it is still in this process."""
    client.send(ASK)
    call = relay.call()
    # Else the client might have taken everything before the end was even said.
    upstream.wait_until(lambda up: len(up.exchanges) > number and up.exchanges[number].finished)
    # The kernel takes an unknown lot, which may be all; what comes after it waits in this process.
    while relay.do(lambda: call.client.connection._drained) is None:
        if relay.do(lambda: call.receipt) is not None:
            return call, False
        assert client.read_once(4_096)
    return call, True


def test_a_plain_answer_taken_but_for_its_last_byte_is_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ScriptedUpstream([Pause("rest"), *plain_script(plain_answer())]) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(stream=False, max_tokens=50), key=ANN))
        upstream.wait_until(lambda up: len(up.requests) == 1)
        relay.until(relay.call().admission.committed.done)
        held = relay.hold_commits(monkeypatch)
        upstream.release("rest")
        assert client.read_until(plain_answer()[:-1]).endswith(plain_answer()[:-1])
        client.leave()
        held.set()
        (row,) = relay.calls()
        assert row["charge"] == price_of(9, 2)


# Deadlines of a stream that flows


def test_a_stream_that_flows_is_not_looked_at_before_its_next_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = [Send(stream_head()), *[Send(chunk(event)) for event in CONTENT], AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(ASK).read_until(CONTENT[-1])
        call = relay.call()
        monkeypatch.setattr(call.world.sweep, "_members", set[Any]())  # ticks are ours now
        ways: list[str] = []

        def noted(name: str) -> None:
            way = getattr(OpenCall, name)

            def taken(call: OpenCall[Any], now: float) -> object:
                ways.append(name)
                return way(call, now)

            monkeypatch.setattr(OpenCall, name, taken)

        noted("_flows_on")
        noted("_look")

        def ticked(*times: float) -> list[tuple[float, str]]:
            """When the call is looked at, as the sweep asks it, and whether in short or closely."""
            found = []
            for now in times:
                ways.clear()
                if call.quiet_until <= now:
                    call.tick(now)
                    found.append((now, ways[-1]))
            return found

        def flows() -> None:
            call.quiet_until, call._progress = 0.0, -1
            call._marked_at = call._marked = 0

        def look() -> None:
            flows()
            assert ticked(0.1, 0.2, 0.8) == [(0.1, "_look")]
            assert (call.quiet_until, call._marked) == (MARK_SECONDS, 0)
            # Nothing has come since: a silence may have begun, so now each tick looks, and marks.
            assert ticked(1.0, 1.1, 1.2) == [(1.0, "_look"), (1.1, "_look"), (1.2, "_look")]
            assert (call._marked_at, call._marked > 0) == (1.0, True)
            call._progress = -1
            assert ticked(1.3, 1.9) == [(1.3, "_look")]
            assert call.quiet_until == 1.0 + MARK_SECONDS
            # Something has: it flows on, which is all there is to know before the next mark.
            call._progress = call._marked = -1
            assert ticked(2.0, 2.1, 2.9) == [(2.0, "_flows_on")]
            assert (call._marked_at, call._progress_at) == (2.0, 2.0)
            assert call._progress == call._marked > 0
            assert call.quiet_until == 2.0 + MARK_SECONDS

        def look_where_silence_means_more() -> None:
            flows()
            assert ticked(0.1, 0.2) == [(0.1, "_look"), (0.2, "_look")]

        def look_when_silence_has_come_to_mean_more() -> None:
            flows()
            call.quiet_until = 0.5
            assert ticked(0.6, 0.7) == [(0.6, "_flows_on"), (0.7, "_look")]

        def look_at_an_end() -> None:
            attempt = call.attempt
            assert attempt is not None
            flows()
            call.quiet_until = 0.5
            attempt.stop(AttemptEnd.CUT)
            assert ticked(0.6) == [(0.6, "_look")]
            assert call._marked == 0

        relay.do(look)
        relay.bound(heartbeat_ms=3_999)
        relay.do(look_where_silence_means_more)
        relay.do(look_when_silence_has_come_to_mean_more)
        relay.bound(heartbeat_ms=10_000)
        assert call.channel is not None
        call.channel = dataclasses.replace(call.channel, idle_seconds_max=3.9)
        relay.do(look_where_silence_means_more)
        relay.do(look_at_an_end)


def test_who_gets_another_deadline_is_looked_at_again(tmp_path: Path) -> None:
    script = [Send(stream_head()), *[Send(chunk(event)) for event in CONTENT], AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(
            tmp_path,
            channel(upstream.base_url),
            group={"disconnect": "drain", "drain_seconds_max": 10.0},
        ) as relay,
        relay.client() as client,
    ):
        client.send(ASK).read_until(CONTENT[-1])
        call = relay.call()

        def quiet_after(what: Callable[[], object]) -> float:
            call.quiet_until = math.inf
            what()
            return call.quiet_until

        async def waited() -> float:
            call.quiet_until = math.inf
            waiting = asyncio.ensure_future(call._wait(Commit(call.world.loop)))
            await asyncio.sleep(0)
            until = call.quiet_until
            waiting.cancel()
            return until

        assert relay.do(lambda: quiet_after(call.client_paused)) == 0
        assert relay.do(lambda: quiet_after(call.client_resumed)) == math.inf
        assert relay.run(waited()) == 0
        assert relay.do(lambda: quiet_after(lambda: call.client_lost(0))) == 0
        attempt, served = call.attempt, call.channel
        assert attempt is not None
        assert served is not None
        assert relay.do(lambda: quiet_after(lambda: call._begun(attempt, served, 0.0))) == 0
        relay.do(lambda: call.cut(Notice.SHUTDOWN))
        relay.quiet()
