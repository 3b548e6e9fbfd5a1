"""What passes through a session, how it is billed as it goes, and every way it ends."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from proxy.core import websocket
from proxy.edge import realtime_session
from proxy.edge.open_call import Notice
from proxy.edge.realtime_session import RealtimeSession
from proxy.edge.realtime_upstream import UpstreamLine
from tests.edge.harness import Relay
from tests.edge.test_realtime import event, open_session, serving
from tests.integration.realtime_stand_in import (
    USAGE,
    RealtimeStandIn,
    Session,
)

PRICE = 22 * 1_000 + 8 * 1_000 + 10 * 2_000
"""Of USAGE: 1,000 nano-USD for a token read, also from a cache, 2,000 for one written."""


def ask(session: ClientConnection) -> list[dict[str, Any]]:
    """Ask for a response and return its events."""
    session.send(json.dumps({"type": "response.create"}))
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != "response.done":
        events.append(event(session))
    return events


def closing(session: ClientConnection) -> tuple[int | None, list[dict[str, Any]]]:
    """Read to the end; return the close code and the events before it."""
    events = []
    try:
        while True:
            events.append(event(session))
    except ConnectionClosed as closed:
        return (None if closed.rcvd is None else closed.rcvd.code), events


def the_session(relay: Relay) -> RealtimeSession:
    relay.until(lambda: len(relay.world.sessions) == 1)
    (session,) = relay.world.sessions
    return session


def test_every_response_is_a_call_of_its_own(tmp_path: Path) -> None:
    with RealtimeStandIn() as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            event(session)
            for _ in range(3):
                kinds = [one["type"] for one in ask(session)]
                assert kinds == [
                    "response.created",
                    "response.output_text.delta",
                    "response.output_text.delta",
                    "response.done",
                ]
        *calls, last = relay.calls()
        assert [call["charge"] for call in calls] == [PRICE] * 3
        assert {call["source"] for call in calls} == {"reported"}
        assert {call["finish_reason"] for call in calls} == {"completed"}
        assert (last["charge"], last["source"], last["verdict"]) == (0, "none", "complete")
        assert len({call["client_reference"] for call in relay.calls()}) == 1


def test_a_response_is_done_only_when_it_is_billed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        RealtimeStandIn() as upstream,
        Relay(tmp_path, serving(upstream)) as relay,
        open_session(relay) as session,
    ):
        event(session)
        held = relay.hold_commits(monkeypatch)
        session.send(json.dumps({"type": "response.create"}))
        for _ in range(3):
            event(session)
        one = the_session(relay)
        turn = one.account.turn
        relay.until(lambda: turn.receipt is not None)
        assert turn.receipt is not None
        assert not turn.receipt.committed.done()
        assert relay.do(lambda: one._waiting is not None)
        held.set()
        assert event(session)["type"] == "response.done"
        assert turn.receipt.committed.done()


def test_a_failed_response_that_said_nothing_is_not_charged(tmp_path: Path) -> None:
    async def fail(session: Session) -> None:
        await session.respond(words=(), status="failed")
        await session.respond(words=(), usage=None, status="cancelled")
        await session.connection.wait_closed()

    with RealtimeStandIn(fail) as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            for _ in range(4):
                event(session)
        first, second, _ = relay.calls()
        assert (first["charge"], first["forgiven"], first["source"]) == (0, PRICE, "reported")
        assert (second["charge"], second["forgiven"], second["source"]) == (0, 0, "none")


def test_large_messages_pass_as_they_are(tmp_path: Path) -> None:
    sound = "A" * 300_000

    async def speak(session: Session) -> None:
        await session.say("response.output_audio.delta", delta=sound)
        message = await session.connection.recv()
        session.received.append({"size": len(message)})
        await session.respond()
        await session.connection.wait_closed()

    with (
        RealtimeStandIn(speak) as upstream,
        Relay(tmp_path, serving(upstream), event_bytes_max=65_536) as relay,
    ):
        with open_session(relay, max_size=1 << 22) as session:
            assert event(session)["delta"] == sound
            session.send("x" * 2_000_000)
            while event(session)["type"] != "response.done":
                pass
        assert upstream.sessions[0].received == [{"size": 2_000_000}]


def test_pings_go_through_both_ways(tmp_path: Path) -> None:
    async def ping(session: Session) -> None:
        pong = await session.connection.ping(b"from upstream")
        await pong
        await session.say("heard")
        await session.connection.wait_closed()

    with (
        RealtimeStandIn(ping) as upstream,
        Relay(tmp_path, serving(upstream)) as relay,
        open_session(relay) as session,
    ):
        assert event(session)["type"] == "heard"
        assert session.ping(b"from client").wait(10)


def test_a_silent_client_is_asked_whether_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realtime_session, "PING_SECONDS", 0.02)
    with RealtimeStandIn() as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay, ping_interval=None) as session:
            event(session)
            one = the_session(relay)
            began = relay.do(lambda: one._client_heard)
            relay.until(lambda: one._client_heard > began and one._line_heard > began)
        # What answers our own questions stays here.
        assert not upstream.sessions[0].received


def test_a_side_that_is_silent_for_long_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realtime_session, "PING_SECONDS", 100.0)
    with RealtimeStandIn() as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            event(session)
            one = the_session(relay)
            relay.do(lambda: setattr(one, "_line_heard", -1_000.0))
            code, events = closing(session)
            assert code == websocket.INTERNAL_ERROR
            assert events[-1]["error"]["code"] == "upstream_timeout"
        with open_session(relay) as session:
            event(session)
            one = the_session(relay)
            relay.do(lambda: setattr(one, "_client_heard", -1_000.0))
            assert closing(session)[0] is None
        assert [call["verdict"] for call in relay.calls()] == ["timeout", "client_gone"]


@pytest.mark.parametrize(
    ("notice", "verdict", "code", "error"),
    [
        (Notice.REVOKED, "cut_by_revocation", 1008, "key_disabled"),
        (Notice.SHUTDOWN, "cut_by_shutdown", 1012, "server_restarting"),
        (Notice.UNBILLED, "cut_by_shutdown", 1012, "settlement_unavailable"),
        (Notice.BALANCE, "cut_for_balance", 1008, "insufficient_quota"),
        (Notice.MAX_COST, "cut_for_max_cost", 1008, "max_cost_exceeded"),
    ],
)
def test_we_cut_a_session_with_an_error_event_and_a_code(
    tmp_path: Path, notice: Notice, verdict: str, code: int, error: str
) -> None:
    with RealtimeStandIn() as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            event(session)
            one = the_session(relay)
            relay.do(lambda: one.cut(notice))
            relay.do(lambda: one.cut(notice))
            found, events = closing(session)
        assert found == code
        assert events[-1]["type"] == "error"
        assert events[-1]["error"]["code"] == error
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"], call["error_code"]) == (verdict, 0, error)
    assert upstream.closed[0][0] == 1000


def test_a_draining_server_ends_sessions_between_responses(tmp_path: Path) -> None:
    with (
        RealtimeStandIn() as upstream,
        Relay(tmp_path, serving(upstream)) as relay,
        open_session(relay) as session,
    ):
        event(session)
        the_session(relay)
        relay.do(lambda: setattr(relay.world, "draining", True))
        assert closing(session)[0] == 1012


def test_a_session_is_cut_when_the_balance_is_used_up_and_never_overdrawn(tmp_path: Path) -> None:
    async def flood(session: Session) -> None:
        await session.say("response.created", response={})
        for _ in range(10_000):
            await session.say("response.output_text.delta", delta="word " * 20)
        await session.connection.wait_closed()

    # What 1,024 tokens of context and some 900 of output cost; a slice is 200.
    credit = 1_024 * 1_000 + 900 * 2_000
    with (
        RealtimeStandIn(flood) as upstream,
        Relay(tmp_path, serving(upstream), credit=credit, slice_tokens=200) as relay,
    ):
        with open_session(relay) as session:
            code, events = closing(session)
        assert code == 1008
        assert events[-1]["error"]["code"] == "insufficient_quota"
        assert 5 <= len(events) <= 20
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("cut_for_balance", "estimated")
        assert 0 < call["charge"] <= credit
        assert call["overrun"] == 0


def test_a_response_is_cut_at_what_its_caller_will_pay(tmp_path: Path) -> None:
    async def flood(session: Session) -> None:
        await session.respond()
        for _ in range(1_000):
            await session.say("response.output_text.delta", delta="word " * 20)
        await session.connection.wait_closed()

    with (
        RealtimeStandIn(flood) as upstream,
        Relay(tmp_path, serving(upstream), slice_tokens=100) as relay,
    ):
        limit = {"x-max-cost": "1500000 nano"}
        with open_session(relay, headers=limit) as session:
            code, events = closing(session)
        assert (code, events[-1]["error"]["code"]) == (1008, "max_cost_exceeded")
        first, second = relay.calls()
        assert first["charge"] == PRICE
        assert second["verdict"] == "cut_for_max_cost"
        assert 0 < second["charge"] <= 1_500_000


def test_a_response_goes_on_when_there_is_more_money(tmp_path: Path) -> None:
    async def speak(session: Session) -> None:
        await session.say("response.created", response={})
        for _ in range(40):
            await session.say("response.output_text.delta", delta="word " * 20)
        await session.respond()
        await session.connection.wait_closed()

    with (
        RealtimeStandIn(speak) as upstream,
        Relay(tmp_path, serving(upstream), slice_tokens=100) as relay,
    ):
        with open_session(relay) as session:
            while event(session)["type"] != "response.done":
                pass
        assert relay.calls()[0]["charge"] == PRICE


def test_a_session_ends_when_the_next_response_cannot_be_held_for(tmp_path: Path) -> None:
    credit = (1_024 + 200) * 2_000
    with (
        RealtimeStandIn() as upstream,
        Relay(tmp_path, serving(upstream), credit=credit, slice_tokens=700) as relay,
    ):
        with open_session(relay) as session:
            event(session)
            for _ in range(60):
                session.send(json.dumps({"type": "response.create"}))
            code, events = closing(session)
        assert code == 1008
        assert events[-1]["error"]["code"] == "insufficient_quota"
        calls = relay.calls()
        assert sum(call["charge"] for call in calls) <= credit
        assert all(call["charge"] == PRICE for call in calls)


def test_a_client_that_leaves_in_a_response_pays_for_what_it_got(tmp_path: Path) -> None:
    async def speak(session: Session) -> None:
        await session.say("session.updated", session={"output_audio_format": "pcm16"})
        await session.say("response.created", response={})
        await session.say("response.output_audio.delta", delta="A" * 32_000)
        await session.connection.wait_closed()

    for politely in (True, False):
        path = tmp_path / str(politely)
        path.mkdir()
        with RealtimeStandIn(speak) as upstream, Relay(path, serving(upstream)) as relay:
            with open_session(relay) as session:
                for _ in range(3):
                    event(session)
                if not politely:
                    session.socket.close()
            (call,) = relay.calls()
            assert (call["verdict"], call["source"]) == ("client_gone", "estimated")
            assert (call["audio_output"], call["charge"]) == (10, 10 * 2_000 + _read(call))


def _read(call: dict[str, Any]) -> int:
    return 1_000 * int(call["input_uncached"] + call["cache_read"] + call["audio_input"])


@pytest.mark.parametrize("politely", [True, False])
def test_an_upstream_that_leaves_in_a_response(tmp_path: Path, politely: bool) -> None:
    async def leave(session: Session) -> None:
        await session.say("response.created", response={})
        await session.say("response.output_text.delta", delta="word")
        if politely:
            await session.connection.close(1011, "overloaded")
        else:
            session.connection.transport.abort()

    with RealtimeStandIn(leave) as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            code, events = closing(session)
        assert code == 1011
        assert (events[-1]["type"] == "error") is not politely
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("upstream_truncated", "estimated")
        assert call["error_code"] == "upstream_truncated"
        assert call["charge"] > 0


def test_an_upstream_that_leaves_before_the_first_hold_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leave(session: Session) -> None:
        await session.say("response.created", response={})
        await session.say("response.output_text.delta", delta="word")
        session.connection.transport.abort()

    lost, heard = UpstreamLine.connection_lost, threading.Event()

    def connection_lost(line: UpstreamLine, error: Exception | None) -> None:
        lost(line, error)
        heard.set()

    monkeypatch.setattr(UpstreamLine, "connection_lost", connection_lost)
    with (
        RealtimeStandIn(leave) as upstream,
        Relay(tmp_path, serving(upstream)) as relay,
        ThreadPoolExecutor(1) as beside,
    ):
        held = relay.hold_commits(monkeypatch)
        opening = beside.submit(open_session, relay)
        assert heard.wait(10)
        held.set()
        with opening.result(10) as session:
            code, events = closing(session)
        assert (code, events[-1]["type"]) == (1011, "error")
        (call,) = relay.calls()
        assert call["verdict"] == "upstream_truncated"


def test_an_upstream_that_closes_between_responses_ends_the_session_well(tmp_path: Path) -> None:
    async def leave(session: Session) -> None:
        await session.respond()
        await session.connection.close(1001, "60 minutes are over")

    with RealtimeStandIn(leave) as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            code, events = closing(session)
        assert (code, events[-1]["type"]) == (1001, "response.done")
        assert [call["verdict"] for call in relay.calls()] == ["complete", "complete"]


def test_what_an_upstream_said_before_it_vanished_still_passes(tmp_path: Path) -> None:
    async def vanish(session: Session) -> None:
        await session.respond()
        session.connection.transport.write_eof()
        session.connection.transport.close()

    with RealtimeStandIn(vanish) as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            code, events = closing(session)
        assert code == 1011
        assert [one["type"] for one in events[-2:]] == ["response.done", "error"]
        assert [call["charge"] for call in relay.calls()] == [PRICE, 0]


def test_an_upstream_that_repeats_its_key_is_not_repeated(tmp_path: Path) -> None:
    async def repeat(session: Session) -> None:
        await session.say("error", error={"message": "Wrong key: sk-upstream-main-0001."})
        await session.connection.wait_closed()

    with (
        RealtimeStandIn(repeat) as upstream,
        Relay(tmp_path, serving(upstream)) as relay,
        open_session(relay) as session,
    ):
        assert event(session)["error"]["message"] == "Wrong key: [redacted]."


def test_frames_of_an_upstream_that_are_none_end_the_session(tmp_path: Path) -> None:
    async def garble(session: Session) -> None:
        session.connection.transport.write(b"\xff\xff\xff")
        await session.connection.wait_closed()

    with RealtimeStandIn(garble) as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            code, events = closing(session)
        assert code == 1008
        assert events[-1]["error"]["code"] == "upstream_error"
        assert relay.calls()[0]["verdict"] == "upstream_error"


@pytest.mark.parametrize(
    ("data", "code", "error"),
    [
        (b"\x81\x02hi", 1002, "invalid_request"),
        (b"\xf1\x80abcd", 1002, "invalid_request"),
        (b"\x82\xff\x00\x00\x00\x00\x10\x00\x00\x00abcd", 1009, "request_too_large"),
    ],
)
def test_a_client_that_does_not_speak_websocket_is_told_so(
    tmp_path: Path, data: bytes, code: int, error: str
) -> None:
    with RealtimeStandIn() as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            event(session)
            session.socket.sendall(data)
            found, events = closing(session)
        assert (found, events[-1]["error"]["code"]) == (code, error)
        assert relay.calls()[0]["verdict"] == "rejected"


def transcribing(model: str) -> Any:
    async def script(session: Session) -> None:
        audio = {"input": {"transcription": {"model": model}}}
        await session.say("session.updated", session={"audio": audio})
        kind = "conversation.item.input_audio_transcription.completed"
        await session.say(kind, transcript="hello", usage={"type": "tokens", **USAGE})
        await session.say(kind, transcript="again", usage=None)
        await session.connection.wait_closed()

    return script


def test_a_transcription_is_billed_as_the_model_that_made_it(tmp_path: Path) -> None:
    script = transcribing("guess")
    with RealtimeStandIn(script) as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            for _ in range(3):
                event(session)
        _, call = sorted(relay.calls(), key=lambda call: call["charge"])
        assert (call["model"], call["charge"], call["source"]) == ("guess", PRICE, "reported")


def test_a_transcription_that_cannot_be_paid_ends_the_session(tmp_path: Path) -> None:
    with (
        RealtimeStandIn(transcribing("guess")) as upstream,
        Relay(tmp_path, serving(upstream), slice_tokens=10, credit=1_060_000) as relay,
    ):
        with open_session(relay) as session:
            code, events = closing(session)
        assert (code, events[-1]["error"]["code"]) == (1008, "insufficient_quota")
        # What the response held is free again then, and pays for it.
        assert [call["verdict"] for call in relay.calls()] == ["cut_for_balance", "complete"]
        assert [call["charge"] for call in relay.calls()] == [0, PRICE]


def test_a_model_at_work_must_have_a_price(tmp_path: Path) -> None:
    script = transcribing("whisper-1")
    with RealtimeStandIn(script) as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            code, events = closing(session)
        assert (code, events[-1]["error"]["code"]) == (1008, "model_not_priced")


def test_a_charge_that_cannot_be_written_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RealtimeStandIn() as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            event(session)
            relay.fail_commits(monkeypatch)
            session.send(json.dumps({"type": "response.create"}))
            code, events = closing(session)
        assert code == 1012
        assert events[-1]["error"]["code"] in {"settlement_unavailable", "service_unavailable"}
    assert relay.fatal


def test_a_slow_reader_makes_the_other_side_wait(tmp_path: Path) -> None:
    with (
        RealtimeStandIn() as upstream,
        Relay(tmp_path, serving(upstream)) as relay,
        open_session(relay) as session,
    ):
        event(session)
        one = the_session(relay)

        def look() -> list[bool]:
            line, connection = one.line, relay.handler._request.protocol
            assert isinstance(line, UpstreamLine)
            seen = []
            for step in (one.client_paused, one.client_resumed):
                step()
                seen.append(line._reading)
            for step in (one.line_paused, one.line_resumed):
                step()
                seen.append(connection.transport.is_reading())
            return seen

        assert relay.do(look) == [False, True, False, True]
        assert ask(session)[-1]["type"] == "response.done"
        relay.bound(write_stall_seconds_max=0.0)
        relay.do(one.line_paused)
        assert closing(session)[0] is None
