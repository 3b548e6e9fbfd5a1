"""A conversation while it is open: heartbeats, holds that grow or run out, marks."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.edge.call import Call
from proxy.edge.downstream import HEARTBEATS, Downstream
from tests.edge.harness import (
    ANN,
    CHAT,
    CONTENT,
    DONE,
    MESSAGES,
    ROLE,
    STOP,
    WORDS,
    Relay,
    answer,
    body,
    channel,
    chunk_event,
    data,
    error_of,
    message,
    plain_answer,
    price_of,
    text,
    usage,
)
from tests.integration.raw_client import parse_response, request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import (
    LAST_CHUNK,
    AwaitGone,
    Close,
    Flood,
    Pause,
    Send,
    chunk,
    plain_script,
    stream_head,
    stream_script,
)

ASK = request_bytes(CHAT, body(), key=ANN)
QUICK: dict[str, Any] = {"heartbeat_first_ms": 1, "heartbeat_ms": 1}
BEATS = {"openai": b": keep-alive\n\n", "anthropic": b'event: ping\ndata: {"type": "ping"}\n\n'}


def asked(dialect: str) -> bytes:
    target = CHAT if dialect == "openai" else MESSAGES
    return request_bytes(target, body(max_tokens=50), key=ANN)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_heartbeats_before_and_after_content(tmp_path: Path, dialect: str) -> None:
    events = [ROLE, *CONTENT, STOP, DONE] if dialect == "openai" else message()
    script = [Pause("head"), Send(stream_head()), Pause("body"),
              *[Send(chunk(event)) for event in events[:4]], Pause("rest"),
              *[Send(chunk(event)) for event in events[4:]], Send(LAST_CHUNK)]  # fmt: skip
    beat = BEATS[dialect]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url, dialect=dialect), **QUICK) as relay,
        relay.client() as client,
    ):
        client.send(asked(dialect)).read_until(lambda data: data.count(beat) >= 2)
        upstream.release("head")
        seen = client.received.count(beat)
        client.read_until(lambda data: data.count(beat) >= seen + 2)
        upstream.release("body")
        client.read_until(events[3])
        seen = client.received.count(beat)
        client.read_until(lambda data: data.count(beat) >= seen + 2)
        upstream.release("rest")
        response = client.read_response()
        assert response.body.replace(beat, b"") == b"".join(events)
        assert [call["verdict"] for call in relay.calls()] == ["complete"]
    assert set(HEARTBEATS.values()) >= set(BEATS.values())


@pytest.mark.parametrize("stream", [True, False])
def test_no_heartbeat_after_an_id_line_nor_in_a_plain_answer(tmp_path: Path, stream: bool) -> None:
    event = b"id: 7\n" + CONTENT[0]
    script = [Send(stream_head()), Send(chunk(event)), Pause("rest"), Send(chunk(STOP)),
              Send(chunk(DONE)), Send(LAST_CHUNK)]  # fmt: skip
    late = [Pause("rest"), *plain_script(plain_answer())]
    with (
        ScriptedUpstream(script if stream else late) as upstream,
        Relay(tmp_path, channel(upstream.base_url), **QUICK) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(stream=stream, max_tokens=50), key=ANN))
        call: Call = relay.call()
        if stream:
            client.read_until(event)
        started = relay.do(relay.world.loop.time)
        relay.until(lambda: relay.world.loop.time() > started + 0.05 and call.attempt is not None)
        upstream.release("rest")
        said = client.read_response().body
        # Elsewhere there may be heartbeats, where the upstream took longer than QUICK's 1 ms.
        beats = b"(?:%b)*" % re.escape(BEATS["openai"])
        parts = (b"", event + STOP, DONE) if stream else (plain_answer(),)
        assert re.fullmatch(beats.join(map(re.escape, parts)), said), said


def test_no_heartbeat_inside_an_event_too_large_to_hold(tmp_path: Path) -> None:
    large = text("x" * 10_000)
    script = [Send(stream_head()), Send(chunk(CONTENT[0])), Send(chunk(large[:6_000])),
              Pause("rest"), Send(chunk(large[6_000:])), Send(chunk(STOP + DONE)),
              Send(LAST_CHUNK)]  # fmt: skip
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), event_bytes_max=4_096, **QUICK) as relay,
        relay.client() as client,
    ):
        client.send(ASK).read_until(large[:5_000])
        started = relay.do(relay.world.loop.time)
        relay.until(lambda: relay.world.loop.time() > started + 0.05)
        upstream.release("rest")
        assert large in client.read_response().body


def test_heartbeats_then_failure_then_the_next_channel(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([Pause("fail"), Close()]) as bad,
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(
            tmp_path, channel(bad.base_url, "bad", priority=1), channel(upstream.base_url), **QUICK
        ) as relay,
        relay.client() as client,
    ):
        client.send(ASK).read_until(BEATS["openai"])
        bad.release("fail")
        response = client.read_response()
        whole = response.body.replace(BEATS["openai"], b"")
        assert whole == b"".join([ROLE, *CONTENT, STOP, DONE])


def test_heartbeats_then_failure_of_every_channel_is_told_in_band(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([Pause("fail"), Close()]) as bad,
        Relay(tmp_path, channel(bad.base_url), **QUICK) as relay,
        relay.client() as client,
    ):
        client.send(ASK).read_until(BEATS["openai"])
        bad.release("fail")
        response = client.read_response()
        assert response.status == 200
        assert response.whole
        assert DONE not in response.body
        assert error_of(response)["code"] == "upstream_truncated"
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("upstream_truncated", 0)


# The hold


def test_a_long_stream_extends_its_hold_slice_by_slice(tmp_path: Path) -> None:
    many = [text(f" word{number}") for number in range(300)]
    events = [ROLE, *many, STOP, usage(9, 700), DONE]
    with (
        ScriptedUpstream(stream_script(events)) as upstream,
        Relay(tmp_path, channel(upstream.base_url), slice_tokens=16) as relay,
    ):
        assert relay.ask(body()).body == b"".join([ROLE, *many, STOP, DONE])
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("complete", price_of(9, 700))


def test_a_wallet_that_runs_dry_ends_the_stream_in_band_at_its_last_token(tmp_path: Path) -> None:
    script = [Send(stream_head()), Flood(chunk(CONTENT[1]), 100_000)]
    credit = price_of(100, 200)
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), credit=credit, slice_tokens=16) as relay,
    ):
        response = relay.ask(body())
        assert response.whole
        assert error_of(response)["code"] == "insufficient_quota"
        (call,) = relay.calls()
        assert call["verdict"] == "cut_for_balance"
        assert 0 < call["charge"] <= credit
        assert call["balance_after"] >= 0
        assert call["output"] == response.body.count(CONTENT[1])
        upstream.wait_until(lambda up: up.visits[0].gone is not None)


@pytest.mark.parametrize("granted", [True, False])
def test_an_answer_that_comes_when_the_edge_is_reached_already_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, granted: bool
) -> None:
    """Behind a socket the keeper answers later; asked in time is then answered too late."""
    early = [text(" word") for _ in range(50)]
    late = [text(" word") for _ in range(200)]
    script = [
        Send(stream_head()),
        *[Send(chunk(event)) for event in (ROLE, *early)],
        Pause("late"),
        Send(b"".join(chunk(event) for event in (*late, STOP, usage(9, 250), DONE)) + LAST_CHUNK),
    ]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), slice_tokens=64) as relay,
    ):
        asked_for: list[tuple[int, int, Callable[[int], None]]] = []
        extend = relay.keeper.extend
        monkeypatch.setattr(relay.keeper, "extend", lambda *asked: asked_for.append(asked))
        with relay.client() as client:
            client.send(ASK)
            call = relay.call()
            relay.until(lambda: len(asked_for) == 1)
            attempt = call.attempt
            assert attempt is not None
            exchange = attempt.exchange
            assert not exchange.at_edge
            upstream.release("late")
            relay.until(lambda: exchange.at_edge)
            assert len(asked_for) == 1, "one question at a time"
            if granted:
                monkeypatch.setattr(relay.keeper, "extend", extend)
                relay.do(lambda: extend(*asked_for[0]))
                assert DONE in client.read_response().body
            else:
                relay.do(lambda: asked_for[0][2](0))
                assert error_of(client.read_response())["code"] == "insufficient_quota"
        (row,) = relay.calls()
        assert row["verdict"] == ("complete" if granted else "cut_for_balance")


def test_a_slow_client_whose_ceiling_is_held_is_not_cut_for_balance(tmp_path: Path) -> None:
    """What waits unsent counts as tokens of a byte each, but a call never costs its ceiling."""
    wide = {"obfuscation": "x" * 1_000}
    events = [chunk_event({"content": " and"}, **wide) for _ in range(1_800)]
    script = stream_script([ROLE, *events, STOP, usage(9, 1_900), DONE])
    with (
        ScriptedUpstream(script) as upstream,
        Relay(
            tmp_path, channel(upstream.base_url), credit=price_of(200, 2_100), slice_tokens=16
        ) as relay,
        relay.client(receive_buffer_bytes=4_096) as client,
    ):
        client.send(ASK)
        call = relay.call()
        relay.until(lambda: call._paused_at is not None)
        response = client.read_response()
        assert DONE in response.body
        assert [call["verdict"] for call in relay.calls()] == ["complete"]


# Cuts


def test_an_open_call_leaves_a_mark_to_settle_at(tmp_path: Path) -> None:
    script = [Send(stream_head()), *[Send(chunk(event)) for event in CONTENT], AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(ASK).read_until(CONTENT[-1])
        call = relay.call()
        relay.until(lambda: call._marked > 0)
        relay.run(relay.keeper.change(lambda connection: None))
        (row,) = relay.rows("SELECT * FROM open_call")
        assert row["source"] == "counted"
        assert row["charge"] == price_of(11, len(WORDS))


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (rb'"choices":[{"index":0,"delta":{},"finish_reason":"\ud83d"}],"usage":{', "?"),
        (rb'"choices":[],"usage":{"\ud83d":1,', None),
    ],
)
def test_half_a_character_from_an_upstream_harms_no_book(
    tmp_path: Path, last: bytes, reason: str | None
) -> None:
    # It cannot be stored: a commit would fail that has the charges of others in it.
    end = b"data: {%b" % last + b'"prompt_tokens":3,"completion_tokens":4}}\n\n'
    script = [Send(stream_head()), *map(Send, map(chunk, [*CONTENT, end, DONE])), Send(LAST_CHUNK)]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        assert client.send(ASK).read_response().body.endswith(DONE)
        (call,) = relay.calls()
        assert (call["verdict"], call["finish_reason"], call["output"]) == ("complete", reason, 4)


def test_a_stream_carries_one_status_line(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script([data({"x": 1}), *answer()])) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(ASK).read_until(b"0\r\n\r\n")
        assert len(re.findall(rb"HTTP/1\.1 ", bytes(client.received))) == 1
        assert parse_response(bytes(client.received)) is not None


@pytest.mark.parametrize("redo", [True, False], ids=["logged", "waited for"])
def test_content_is_shown_by_whoever_need_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redo: bool
) -> None:
    """Where the open row is durable at once, no turn of the loop stands before the first byte."""
    shown: list[bool] = []
    at_once = Call.show_at_once

    def noted(call: Call) -> bool:
        shown.append(at_once(call))
        return shown[-1]

    monkeypatch.setattr(Call, "show_at_once", noted)
    script = [Send(stream_head()), *[Send(chunk(event)) for event in CONTENT], AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), redo=redo) as relay,
        relay.client() as client,
    ):
        held = None if redo else relay.hold_commits(monkeypatch)
        client.send(ASK)
        relay.until(lambda: bool(shown))
        assert shown[0] is redo
        if held is not None:
            assert not client.received
            held.set()
        client.read_until(CONTENT[-1])


def test_the_first_content_is_learnt_from_when_it_is_on_its_way(tmp_path: Path) -> None:
    script = [Send(stream_head()), Send(chunk(ROLE)), Send(chunk(CONTENT[0])), AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), redo=True) as relay,
        relay.client() as client,
    ):
        client.send(ASK).read_until(CONTENT[0])
        attempt = relay.call().attempt
        assert attempt is not None
        relay.until(lambda: attempt.exchange.passes(chunk(CONTENT[1])))


def test_a_fault_of_ours_at_the_content_point_cuts_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content is shown from within the upstream's own read, where no handler could cut it."""

    def broken(client: Downstream, *_said: object) -> bool:
        client.begun = True
        raise ValueError("a fault of ours")

    monkeypatch.setattr(Downstream, "begin_prepared", broken)
    script = [Send(stream_head()), *[Send(chunk(event)) for event in CONTENT], AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), redo=True) as relay,
        relay.client() as client,
    ):
        client.send(ASK).read_all()
        assert not client.received
        relay.until(lambda: not relay.world.calls)
        assert [row["verdict"] for row in relay.calls()] == ["client_gone"]
        assert "a fault of ours" in "".join(relay.complaints)
        relay.complaints.clear()
