"""A worker's part: accepting, retiring, draining; the rest is test_wiring.py's, over one process."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.app.front import bounds_of
from proxy.app.settings import Settings
from proxy.storage.keys import set_key_enabled
from tests.app.test_wiring import KEY, STREAM, Running
from tests.edge.harness import (
    CHAT,
    CONTENT,
    DONE,
    ROLE,
    STOP,
    answer,
    body,
    channel,
    error_of,
    text,
    usage,
)
from tests.integration.raw_client import RawClient, request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import LAST_CHUNK, AwaitGone, Pause, Send, chunk, stream_script

LIST = request_bytes("/v1/models", key=KEY, method="GET")
REST = [Pause("rest"), Send(chunk(answer()[-3] + DONE) + LAST_CHUNK)]
LONG = [ROLE, *[text("hello " * 20_000)] * 8, STOP, usage(9, 7), DONE]
"""More than a client that reads nothing lets out of this process."""
LOOP_TURNS = 50
"""More than a drain takes that has nothing to wait for."""


def test_who_retires_serves_every_connection_once_more(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([*STREAM, *REST]) as upstream,
        Running(tmp_path, channel(upstream.base_url), drain_seconds=20.0) as running,
        running.client() as streaming,
        running.client() as resting,
        running.client() as silent,
    ):
        streaming.send(request_bytes(CHAT, body(), key=KEY)).read_until(CONTENT[-1])
        assert resting.send(LIST).read_response("GET").header("connection") is None
        resting.received.clear()
        retiring = running.begin(running.relay.front.retire())
        while not running.relay.front._server.retiring:
            pass
        assert resting.send(LIST).read_response("GET").header("connection") == "close"
        resting.read_all()
        assert resting.ended == "fin"
        upstream.release("rest")
        assert DONE in streaming.read_response().body
        streaming.received.clear()
        # Its head had promised to keep the connection, so it is kept, once.
        assert streaming.send(LIST).read_response("GET").header("connection") == "close"
        assert silent.send(LIST).read_response("GET").header("connection") == "close"
        retiring.result(20)


def test_time_runs_out_for_who_retires(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([*STREAM, AwaitGone()]) as upstream,
        Running(tmp_path, channel(upstream.base_url), drain_seconds=0.05) as running,
        running.client() as streaming,
        running.client() as resting,
    ):
        resting.send(LIST).read_response("GET")
        streaming.send(request_bytes(CHAT, body(), key=KEY)).read_until(CONTENT[-1])
        running.run(running.relay.front.retire())
        assert error_of(streaming.read_response())["code"] == "server_restarting"
        resting.read_all()
        assert resting.ended == "fin"


@pytest.mark.parametrize("leaving", ["retire", "drain", "cut"])
def test_what_is_queued_waits_for_the_next_who_accepts(tmp_path: Path, leaving: str) -> None:
    with Running(tmp_path, drain_seconds=0.05) as running:
        running.run(getattr(running.relay.front, leaving)())
        (listener,) = running._listeners.clients
        with RawClient(running.port):
            listener.settimeout(20)
            accepted, _ = listener.accept()
            accepted.close()


def test_each_worker_has_its_share_of_the_connections(tmp_path: Path) -> None:
    with (
        Running(tmp_path, workers=2, connections_max=2) as running,
        running.client() as first,
        running.client() as second,
    ):
        assert first.send(LIST).read_response("GET").status != 503
        assert second.read_response().status == 503


def test_listening_is_on_every_socket_that_is_given(tmp_path: Path) -> None:
    assert bounds_of(Settings()).heartbeat_ms == Settings().heartbeat_ms
    with Running(tmp_path) as running, socket.create_server(("127.0.0.1", 0)) as other:
        running.run(running.relay.front.start([other]))
        with RawClient(other.getsockname()[1]) as client:
            assert client.send(LIST).read_response("GET").status == 401


@contextmanager
def replayed(tmp_path: Path, **settings: Any) -> Iterator[tuple[Running, RawClient]]:
    """A kept answer whose client takes next to nothing of it yet."""
    ask = request_bytes(CHAT, body(), key=KEY, headers={"x-sluice-cache": "use"})
    with (
        ScriptedUpstream(stream_script(LONG)) as upstream,
        Running(
            tmp_path, channel(upstream.base_url), cache_entry_bytes_max=8 << 20, **settings
        ) as running,
        running.client() as first,
        RawClient(running.port, receive_buffer_bytes=4_096) as client,
    ):
        assert first.send(ask).read_response().whole
        client.send(ask).read_until(b"x-sluice-cache: hit")
        yield running, client


def test_a_drain_waits_for_a_kept_answer(tmp_path: Path) -> None:
    with replayed(tmp_path, drain_seconds=20.0) as (running, client):
        draining = running.begin(running.relay.front.drain())

        async def look() -> bool:
            for _ in range(LOOP_TURNS):
                await asyncio.sleep(0)
            return bool(running.relay.world.draining and not draining.done())

        assert running.run(look())
        response = client.read_response()
        assert response.whole
        assert response.body.endswith(DONE)
        draining.result(20)


def test_a_drain_cuts_a_kept_answer_in_band_when_its_time_is_over(tmp_path: Path) -> None:
    with replayed(tmp_path, drain_seconds=0.05) as (running, client):
        running.run(running.relay.front.drain())
        response = client.read_response()
        assert response.whole
        assert error_of(response)["code"] == "server_restarting"


def test_a_revoked_key_cuts_a_kept_answer_too(tmp_path: Path) -> None:
    with replayed(tmp_path) as (running, client):
        running.run(running.relay.keeper.change(lambda c: set_key_enabled(c, 1, enabled=False)))
        response = client.read_response()
        assert response.whole
        assert error_of(response)["code"] == "key_disabled"
