"""A kept answer on its way: cut as any call is, in-band, unpaid, and never after its bill."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.edge.open_call import Notice
from proxy.edge.replay import Replay, shown_events
from tests.edge.harness import (
    ANN,
    CHAT,
    DONE,
    MESSAGES,
    ROLE,
    STOP,
    Relay,
    body,
    channel,
    error_of,
    plain_answer,
    text,
    usage,
)
from tests.integration.raw_client import RawClient, RawResponse, request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import plain_script, stream_script
from tests.integration.test_responses import events, failure

USE = {"x-sluice-cache": "use"}
RESPONSES = "/v1/responses"
LONG = [ROLE, *[text("hello " * 20_000)] * 8, STOP, usage(9, 7), DONE]
"""More than a client that reads nothing lets out of this process."""
ENDS = [
    (Notice.SHUTDOWN, "cut_by_shutdown", "server_restarting", 503),
    (Notice.REVOKED, "cut_by_revocation", "key_disabled", 401),
]
BOUNDS: dict[str, Any] = {"group": {"cache_multiplier": "1"}, "cache_entry_bytes_max": 8 << 20}


def sent(target: str, *, stream: bool = True) -> bytes:
    if target == RESPONSES:
        return b'{"model":"m","input":"Say hello.","max_output_tokens":50,"stream":true}'
    return body(stream=stream, max_tokens=50)


def replay_of(relay: Relay) -> Replay:
    """The one kept answer that is on its way."""
    relay.until(lambda: len(relay.world.replays) == 1)
    (replay,) = relay.world.replays
    return replay


@contextmanager
def stuck(relay: Relay, target: str, asked: bytes) -> Iterator[RawClient]:
    """A kept answer whose client takes next to nothing of it yet."""
    assert relay.ask(asked, target, headers=USE).whole
    relay.quiet()
    with relay.client(receive_buffer_bytes=4_096) as client:
        client.send(request_bytes(target, asked, key=ANN, headers=USE))
        replay = replay_of(relay)
        relay.until(lambda: not replay.client.connection.is_drained())
        yield client


def code_of(response: RawResponse, target: str) -> object:
    """The code of the error a stream ends in, in the form of its endpoint."""
    return (failure(events(response)) if target == RESPONSES else error_of(response))["code"]


@pytest.mark.parametrize("target", [CHAT, MESSAGES, RESPONSES])
@pytest.mark.parametrize(("notice", "verdict", "code", "status"), ENDS)
def test_a_stream_that_is_cut_ends_in_its_own_forms_error_and_costs_nothing(
    tmp_path: Path, target: str, notice: Notice, verdict: str, code: str, status: int
) -> None:
    del status
    with (
        ScriptedUpstream(stream_script(LONG)) as upstream,
        Relay(tmp_path, channel(upstream.base_url), **BOUNDS) as relay,
        stuck(relay, target, sent(target)) as client,
    ):
        replay = replay_of(relay)
        for each in (notice, Notice.UNBILLED):  # the first counts
            relay.do(partial(replay.cut, each))
        response = client.read_response()
        assert (response.status, response.whole) == (200, True)
        assert code_of(response, target) == code
        before, row = relay.calls()
        assert (row["verdict"], row["error_code"], row["status"]) == (verdict, code, 200)
        assert (row["charge"], row["source"]) == (0, "none")
        assert row["balance_after"] == before["balance_after"]
        assert not relay.world.replays
        assert relay.world.metrics.counted.errors[row["endpoint"], code] == 1


@pytest.mark.parametrize(("notice", "verdict", "code", "status"), ENDS)
def test_a_plain_answer_that_is_cut_never_has_its_last_byte(
    tmp_path: Path, notice: Notice, verdict: str, code: str, status: int
) -> None:
    del status
    long = plain_answer("hello " * 100_000)
    with (
        ScriptedUpstream(plain_script(long)) as upstream,
        Relay(tmp_path, channel(upstream.base_url), **BOUNDS) as relay,
        stuck(relay, CHAT, sent(CHAT, stream=False)) as client,
    ):
        replay = replay_of(relay)
        relay.do(lambda: replay.cut(notice))
        client.read_all()
        assert not client.received.endswith(long[-1:])
        row = relay.calls()[-1]
        assert (row["verdict"], row["error_code"], row["charge"]) == (verdict, code, 0)


@pytest.mark.parametrize(("notice", "verdict", "code", "status"), ENDS)
def test_one_that_has_not_begun_is_told_by_its_status(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    notice: Notice,
    verdict: str,
    code: str,
    status: int,
) -> None:
    with (
        ScriptedUpstream(stream_script(LONG)) as upstream,
        Relay(tmp_path, channel(upstream.base_url), **BOUNDS) as relay,
    ):
        relay.ask(sent(CHAT), headers=USE)
        relay.quiet()
        held = relay.hold_commits(monkeypatch)
        with relay.client() as client:
            client.send(request_bytes(CHAT, sent(CHAT), key=ANN, headers=USE))
            replay = replay_of(relay)
            relay.do(lambda: replay.cut(notice))
            response = client.read_response()
        assert (response.status, error_of(response)["code"]) == (status, code)
        assert response.header("x-sluice-cost") == "0"
        held.set()
        row = relay.calls()[-1]
        assert (row["verdict"], row["status"], row["charge"]) == (verdict, status, 0)


def test_what_is_billed_goes_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        ScriptedUpstream(stream_script(LONG)) as upstream,
        Relay(tmp_path, channel(upstream.base_url), **BOUNDS) as relay,
    ):
        whole = relay.ask(sent(CHAT), headers=USE).body
        relay.quiet()
        settle = relay.keeper.settle
        held: list[threading.Event] = []

        def late(closing: Any) -> Any:
            held.append(relay.hold_commits(monkeypatch))
            return settle(closing)

        monkeypatch.setattr(relay.keeper, "settle", late)
        with relay.client() as client:
            client.send(request_bytes(CHAT, sent(CHAT), key=ANN, headers=USE))
            client.read_until(STOP)
            replay = replay_of(relay)
            relay.until(lambda: bool(held))
            relay.do(lambda: replay.cut(Notice.SHUTDOWN))
            held[0].set()
            response = client.read_response()
        assert (response.whole, response.body) == (True, whole)
        row = relay.calls()[-1]
        assert (row["verdict"], row["source"]) == ("complete", "cached")
        assert row["charge"] > 0


def test_whoever_left_is_told_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        ScriptedUpstream(stream_script(LONG)) as upstream,
        Relay(tmp_path, channel(upstream.base_url), **BOUNDS) as relay,
    ):
        relay.ask(sent(CHAT), headers=USE)
        relay.quiet()
        held = relay.hold_commits(monkeypatch)
        with relay.client() as client:
            client.send(request_bytes(CHAT, sent(CHAT), key=ANN, headers=USE))
            replay = replay_of(relay)
        relay.until(relay.handler.lost)
        relay.do(lambda: replay.cut(Notice.SHUTDOWN))
        held.set()
        row = relay.calls()[-1]
        assert (row["verdict"], row["charge"]) == ("cut_by_shutdown", 0)


@pytest.mark.parametrize(
    ("kept", "found"),
    [
        (b"", ("", 0)),
        (b": no data\n\n", ("", 1)),
        (b"data: no object\n\n", ("", 1)),
        (b'data: {"type":"response.output_text.delta","delta":"a"}\n\n', ("", 1)),
        (
            b'event: created\r\ndata: {"response":{"id":"resp_1"}}\r\n\r\n: more\r\n\r\n',
            ("resp_1", 2),
        ),
    ],
)
def test_what_a_failure_follows_is_read_from_what_is_kept(
    kept: bytes, found: tuple[str, int]
) -> None:
    assert shown_events(kept) == found
